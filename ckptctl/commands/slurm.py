"""Called by the scripts in packaging/slurm, as root, around every job of the cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import syslog
from collections.abc import Callable
from types import FrameType
from typing import Any

import click

from ckptctl.app import Group
from ckptctl.arguments import TIME
from ckptctl.session import Session, current
from ckptd.domain.errors import CkptdError, NotInTime

_GRACE_S = 2.0
"""Beyond the budget, before whatever hangs is cut off."""


@click.group("slurm", cls=Group)
def slurm() -> None:
    """Prefetch before a job and flush after it: for Slurm's Prolog and Epilog.

    Both exit with 0 whatever happens, because a Prolog that fails drains the node; --strict tells what went wrong.
    """


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option("--strict", is_flag=True, help="Exit with the code of what went wrong."),
        click.option(
            "--budget", type=TIME, default=45.0, show_default="45s",
            help="Time to spend, below PrologEpilogTimeout.",
        ),
        click.option("--records", metavar="DIR", help="Where the Prolog leaves word for TaskProlog and Epilog."),
    ):  # fmt: skip
        function = decorate(function)
    return function


@slurm.command("prolog")
@_options
@click.option(
    "--ttl", type=TIME, default=86400.0, show_default="1d", help="Keep it hot for so long where no time limit is known."
)
@current
def _prolog(session: Session, budget: float, strict: bool, records: str | None, ttl: float) -> int:
    """Make the newest checkpoint of the job's run hot, within the budget; the rest comes in the background."""

    def work() -> str:
        from ckptctl.slurm.daemon import Daemon  # noqa: PLC0415 - inside what may fail
        from ckptctl.slurm.job import job_of  # noqa: PLC0415
        from ckptctl.slurm.prolog import Prolog  # noqa: PLC0415
        from ckptctl.slurm.record import FOLDER, Records  # noqa: PLC0415

        daemon = Daemon(session.socket_path, budget)
        return Prolog(job_of(os.environ), daemon, Records(records or FOLDER), budget, ttl).run()

    return _guarded(work, budget, strict)


@slurm.command("epilog")
@_options
@click.option("--evict", is_flag=True, help="Drop this node's copies of what the job wrote and is durable.")
@current
def _epilog(session: Session, budget: float, strict: bool, records: str | None, evict: bool) -> int:
    """Make durable what the job wrote, within the budget, and give free what was kept hot for it."""

    def work() -> str:
        from ckptctl.slurm.daemon import Daemon  # noqa: PLC0415 - inside what may fail
        from ckptctl.slurm.epilog import Epilog  # noqa: PLC0415
        from ckptctl.slurm.job import job_of  # noqa: PLC0415
        from ckptctl.slurm.record import FOLDER, Records  # noqa: PLC0415

        daemon = Daemon(session.socket_path, budget)
        return Epilog(job_of(os.environ), daemon, Records(records or FOLDER), evict).run()

    return _guarded(work, budget, strict)


def _guarded(work: Callable[[], str], budget_s: float, strict: bool) -> int:
    """Runs it within a hard limit of wall-clock time. Says one line, to stdout and the system's log."""
    previous = signal.signal(signal.SIGALRM, _cut_off)
    signal.setitimer(signal.ITIMER_REAL, budget_s + _GRACE_S)
    code = 0
    try:
        line = work()
    except CkptdError as error:
        line, code = " - ".join(filter(None, (error.message, error.hint))), error.exit_code
    except Exception as error:  # noqa: BLE001 - a bug of ours must not drain a node either
        line, code = f"unexpected: {type(error).__name__}: {error}", CkptdError.exit_code
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    _say(line, failed=bool(code))
    return code if strict else 0


def _cut_off(_number: int, _frame: FrameType | None) -> None:
    raise NotInTime("cut off: something did not come back", hint="is the daemon stopped?")


def _say(line: str, *, failed: bool) -> None:
    """One line, whatever names the user chose."""
    job = os.environ.get("SLURM_JOB_ID", "?")
    text = f"job {job}: " + "".join(character if character.isprintable() else "?" for character in line)
    with contextlib.suppress(OSError):  # slurmd may have closed our output
        click.echo(text.encode(errors="replace").decode())
    syslog.openlog("ckptd-slurm")
    syslog.syslog(syslog.LOG_WARNING if failed else syslog.LOG_INFO, text.encode(errors="replace").decode())
