"""`ckptd`: the node's daemon in the foreground (`ckptctl up` starts it detached), and `ckptd doctor`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from ckptd import __version__
from ckptd.domain.errors import CkptdError
from ckptd.settings.layers import Overrides
from ckptd.settings.load import load
from ckptd.supervisor.announce import Announcer
from ckptd.supervisor.serve import serve


@click.command(name="ckptd", epilog="`ckptd doctor [--json]` checks this machine and the settings.")
@click.argument("path", required=False)
@click.option("--remote", metavar="URL", help="Where the volume's checkpoints become durable.")
@click.option("--ram", metavar="SIZE", help="Budget of the RAM tier, e.g. 64GiB or 25%.")
@click.option("--nvme", metavar="DIR[:SIZE]", help="Directory and budget of the NVMe tier.")
@click.option("--front", type=click.Choice(["auto", "mount", "watch"]), help="How the job meets the volume.")
@click.option("--config", metavar="FILE", help="A config file instead of the usual one.")
@click.option("--state-dir", metavar="DIR", help="Catalog, lock and log.")
@click.option("--socket", metavar="PATH", help="The API's Unix socket.")
@click.option(
    "--ready-fd", type=int, default=-1, help="A descriptor that gets one JSON line when it serves, or why not."
)
@click.option("--foreground", is_flag=True, help="Always so here; accepted because `ckptctl up` has it.")
@click.version_option(__version__, prog_name="ckptd")
def run(*, config: str | None, ready_fd: int, foreground: bool, **flags: str | None) -> None:
    """Serves PATH (by default ./ckpt): what is written there becomes durable in the background."""
    del foreground
    announcer = Announcer(ready_fd)
    try:
        effective = load(config=config, environ=os.environ, overrides=Overrides(**flags))
    except CkptdError as error:
        announcer.failed(error)
        sys.exit(error.exit_code)
    sys.exit(serve(effective.settings, announcer))


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["doctor"]:  # a volume of that name is written ./doctor
        from ckptd.doctor.command import doctor  # noqa: PLC0415 - the supervisor stays small without it

        doctor(arguments[1:], prog_name="ckptd doctor")
    run(arguments, prog_name="ckptd")


if __name__ == "__main__":
    main()
