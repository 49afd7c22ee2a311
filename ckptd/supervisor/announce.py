"""How a start that succeeded or failed is told: one JSON line to whoever waits (`ckptctl up`), one in the log."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass

from ckptd.domain.errors import CkptdError

_STDERR = 2


@dataclass(slots=True)
class Announcer:
    """Speaks once on `fd` (-1: nobody waits), then closes it."""

    fd: int = -1

    def ready(self) -> None:
        self._say({"ok": True})

    def failed(self, error: CkptdError) -> None:
        """To the waiting `fd` as JSON, and to standard error, which is the log of a detached daemon."""
        line = {
            "ok": False,
            "message": error.message,
            "hint": error.hint,
            "code": error.code,
            "exit_code": error.exit_code,
        }
        self._say(line)
        with contextlib.suppress(OSError):  # the log's disk may be what is full; past buffers that would fail at exit
            os.write(_STDERR, json.dumps(line).encode() + b"\n")

    def _say(self, line: dict[str, object]) -> None:
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        with contextlib.suppress(BrokenPipeError):  # whoever waited has gone: nobody to tell
            os.write(fd, json.dumps(line).encode() + b"\n")
        os.close(fd)
