"""Start and stop the node's daemon."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from ckptctl import figures
from ckptctl.app import command
from ckptctl.arguments import TIME, daemon_flags
from ckptctl.client import Client
from ckptctl.session import Session, current
from ckptd.domain.errors import DaemonUnreachable, UsageError
from ckptd.domain.names import key_of

if TYPE_CHECKING:
    from ckptd.settings import Effective

Status = dict[str, Any]


@command("up")
@daemon_flags
@click.option("--foreground", is_flag=True, help="Do not detach; logs go to stderr.")
@current
def up(session: Session, /, foreground: bool, config: str | None, **flags: str | None) -> None:
    """Start the node's daemon, wait until it serves, print where to write.

    Idempotent. Without arguments: ./ckpt, a directory as remote, no root, no server, no config file.
    """
    from ckptctl import start  # noqa: PLC0415 - settings models take a tenth of a second; `down` does without
    from ckptd.settings import Overrides, load  # noqa: PLC0415 - as above

    effective = load(config=config, overrides=Overrides(**flags, socket=session.socket))
    node = effective.settings.node
    running = _running(node.socket)
    if running is None:
        given = {**flags, "config": config, "socket": session.socket}
        if foreground:
            start.foreground(given)
        running = start.detached(given, node.state_dir, lambda: _running(node.socket), session.note)
        already = running is not None
        running = running or Client(node.socket).get("/v1/status")
    else:
        already = True
    if already:
        _same(effective, running)
    _announce(session, effective, running, already=already)


def _running(socket_path: str) -> Status | None:
    """What a daemon there reports; None when none listens."""
    try:
        found: Status = Client(socket_path).get("/v1/status")
    except DaemonUnreachable:
        if _listening(socket_path):
            raise
        return None
    return found


def _listening(socket_path: str) -> bool:
    import socket  # noqa: PLC0415 - only in doubt

    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        return probe.connect_ex(socket_path) == 0


def _same(effective: Effective, running: Status) -> None:
    """UsageError where the daemon that runs serves something else than what was asked for by name."""
    for number, volume in enumerate(effective.settings.volumes):
        for key, wanted in (("path", key_of(volume.path)), ("remote", volume.remote)):
            asked = effective.origin(("volumes", number, key)) != "default"
            served = [str(one[key]) for one in running["volumes"]]
            if asked and not any(_equal(wanted, one) for one in served):
                raise UsageError(
                    f"a daemon runs already (pid {_pid(running)}) and serves other volumes: {_served(running)}",
                    hint="to change it: ckptctl down, then ckptctl up again; to run a second one: --state-dir DIR",
                )


def _equal(wanted: str, served: str) -> bool:
    return wanted.rstrip("/") == served.rstrip("/")


def _served(running: Status) -> str:
    return "; ".join(f"{volume['path']} with {volume['remote']}" for volume in running["volumes"])


def _pid(running: Status) -> int:
    return int(running.get("supervisor_pid") or running["pid"])


def _announce(session: Session, effective: Effective, running: Status, *, already: bool) -> None:
    from ckptctl import locate  # noqa: PLC0415 - as in `up`

    node = effective.settings.node
    elsewhere = locate.socket_path(os.environ) != node.socket
    if session.json:
        keys = ("name", "path", "remote", "front")
        volumes = [{key: volume[key] for key in keys} for volume in running["volumes"]]
        session.show(
            {
                "already": already, "pid": _pid(running), "socket": node.socket, "state_dir": node.state_dir,
                "log": locate.log_path(node.state_dir), "volumes": volumes, "tiers": running["tiers"],
            }
        )  # fmt: skip
        return
    tiers = ", ".join(f"{tier['name'].upper()} tier {figures.size(tier['budget_bytes'])}" for tier in running["tiers"])
    for volume in running["volumes"]:
        state = "is up already" if already else "is up"
        command_ = f"CKPTD_SOCKET={node.socket} ckptctl status" if elsewhere else "ckptctl status"
        click.echo(
            f"ckptd {state}: write to {volume['path']}   (remote {volume['remote']}; {tiers}; status: {command_})"
        )


@command("down")
@click.option("--timeout", type=TIME, help="How long to flush (node.shutdown_timeout); then it goes on, exit code 5.")
@click.option("--no-flush", is_flag=True, help="Stop at once; what is not durable is uploaded after the next start.")
@click.option("--evict", is_flag=True, help="Drop the local copies of all that is durable, leaving the node empty.")
@click.option("--force", is_flag=True, help="Unmount also what somebody has open: their reads and writes fail then.")
@current
def down(session: Session, timeout: float | None, no_flush: bool, evict: bool, force: bool) -> None:
    """Flush, stop, unmount; say what is still exposed if it cannot."""
    from ckptctl import stop  # noqa: PLC0415 - `up` does without

    stop.down(session, timeout=timeout, flush=not no_flush, evict=evict, force=force)


@command("upgrade")
@click.option("--timeout", type=TIME, default="60s", help="How long to wait for the new processes; then exit code 5.")
@current
def upgrade(session: Session, timeout: float) -> None:
    """Go on with the ckptd that is installed now. Jobs, mounts and files that are open stay.

    After an update of the package. Uploads that are running go on where they were.
    """
    from ckptctl import renew  # noqa: PLC0415 - `up` does without

    renew.upgrade(session, timeout)
