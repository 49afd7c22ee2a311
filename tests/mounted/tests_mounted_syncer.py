"""A job that writes a file and waits for its fsync; says how far it is, and goes on when it is told.

python tests_mounted_syncer.py PATH SIZE [dir]     dir: closes the file first, and syncs its directory
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> None:
    path, size, directory = sys.argv[1], int(sys.argv[2]), "dir" in sys.argv[3:]
    signal.signal(signal.SIGUSR1, _interrupted)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(file, os.urandom(size))
    meant = file
    if directory:
        os.close(file)
        meant = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    _say("written")
    try:
        os.fsync(meant)
    except OSError as error:
        _say(f"failed {error.errno}")
    else:
        _say("synced")
    for line in sys.stdin:
        if line == "more\n":
            os.write(meant, b"more")
            os.fsync(meant)
            _say("synced more")
        else:
            os.close(meant)
            _say("closed")


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise InterruptedError(4, "interrupted")


def _say(what: str) -> None:
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
