"""Runs a command and turns whatever it ends with into the exit code and the message of docs/cli.md."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from ckptctl.app import ckptctl
from ckptctl.session import Session
from ckptd.domain.errors import CkptdError, UsageError

INTERRUPTED = 130
"""What shells report for a program that SIGINT ended."""
NO_READER = 141
"""… and SIGPIPE."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    session = Session()
    try:
        code = ckptctl.main(arguments, prog_name="ckptctl", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except CkptdError as error:
        _report(error, session)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        session.json = session.json or "--json" in arguments
        usage = _as_usage_error(error, session)
        _report(usage, session)
        sys.exit(usage.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    except SystemExit as ended:
        # Commands return their codes; what exits inside click with 1 is its answer to a closed stdout.
        if ended.code != 1 or "_CKPTCTL_COMPLETE" in os.environ:
            raise
        sys.exit(NO_READER)
    except BrokenPipeError:
        # Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(NO_READER)
    except Exception as error:  # noqa: BLE001 - the last resort: what nobody thought of is reported as such
        unexpected = CkptdError(f"{type(error).__name__}: {error}", hint=traceback.format_exc().rstrip())
        _report(unexpected, session)
        sys.exit(unexpected.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _as_usage_error(error: click.ClickException, session: Session) -> UsageError:
    """Click's own complaint, in our form: the message, and the usage line as the hint."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and context is not None and not session.json:
        click.echo(context.get_help(), err=True)
        sys.exit(error.exit_code)
    hint = f"{context.get_usage().removeprefix('Usage: ')}   (--help says more)" if context is not None else ""
    return UsageError(error.format_message(), hint=hint)


def _report(error: CkptdError, session: Session) -> None:
    if session.json:
        detail = {"code": error.code, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        click.echo(json.dumps({"error": detail}), err=True)
        return
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error.message}", err=True)
    for line in error.hint.splitlines():
        click.echo(f"  {line}", err=True)
    if error.code == CkptdError.code:
        click.echo(f"  This should not happen. Please report it, with the daemon's log: {_log()}", err=True)


def _log() -> str:
    from ckptctl import locate  # noqa: PLC0415 - only where something went wrong

    return locate.log_path(locate.state_dir(os.environ))


if __name__ == "__main__":
    main()
