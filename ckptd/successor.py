"""Whether the code that is installed now could take over from what runs.

`python -I -m ckptd.successor` loads all that a daemon's processes run, and says in JSON which version it is and which state of a
mount its servers understand. A daemon asks this before it lets itself be replaced: an installation that does not work would end
it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ckptd import __version__
from ckptd.domain.errors import CkptdError
from ckptd.domain.model import UpgradeReport
from ckptd.engine.context import Context
from ckptd.fronts.mount.state import VERSION
from ckptd.fronts.served import Served
from ckptd.supervisor.supervise import UPGRADE_SIGNAL

COMMAND = (sys.executable, "-I", "-m", "ckptd.successor")
_LOADS_S = 60.0
_ANSWERED_S = 0.1
"""Until whoever asked for an upgrade has his answer."""


@dataclass(frozen=True, slots=True)
class Successor:
    version: str
    mount_state: int

    @property
    def serves_mounts(self) -> bool:
        """Its servers can go on with the mounts as they are; else the old ones have to."""
        return self.mount_state == VERSION


async def ask() -> Successor:
    """Raises CkptdError, with what Python said, for an installation that does not work."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        said, errors = await asyncio.wait_for(process.communicate(), _LOADS_S)
        found = json.loads(said)
        return Successor(str(found["version"]), int(found["mount_state"]))
    except TimeoutError:
        process.kill()
        await process.wait()
        reason = f"it said nothing for {_LOADS_S:.0f} s"
    except (ValueError, KeyError, TypeError):
        reason = (errors.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    raise CkptdError(
        f"the ckptd that is installed now cannot be started: {reason}",
        hint="install it again; this one goes on serving",
    )


async def upgrade(context: Context, served: Sequence[Served]) -> UpgradeReport:
    """Everything below the supervisor may be killed at any time, and is started anew: that is all that an upgrade does.

    Returns before it happens. Raises CkptdError as `ask`.
    """
    new = await ask()
    await context.event(
        "info", "daemon.upgrade", f"{__version__} is replaced by {new.version}", mounts=new.serves_mounts
    )

    async def replace() -> None:
        await asyncio.sleep(_ANSWERED_S)
        if new.serves_mounts:
            for one in served:
                await one.end()
        os.kill(os.getppid(), UPGRADE_SIGNAL)

    context.spawn(replace(), "upgrade")
    return UpgradeReport(__version__, new.version, new.serves_mounts)


def main() -> None:
    import ckptd.fronts.mount.__main__  # noqa: PLC0415 - what a server of a mount runs
    import ckptd.worker  # noqa: F401, PLC0415 - what a worker runs

    sys.stdout.write(json.dumps({"version": __version__, "mount_state": VERSION}))


if __name__ == "__main__":
    main()
