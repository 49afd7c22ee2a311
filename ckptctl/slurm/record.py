"""What the Prolog leaves for the TaskProlog and the Epilog of the same job: two small files in `/run/ckptd-slurm`.

`<job>.env` belongs to the job's user, who alone may read it, and is printed by the TaskProlog. He can change it (it is his),
so the Epilog does not look at it: what root goes by is `<job>.json`, which is root's.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from ckptd.domain.errors import CkptdError

FOLDER = "/run/ckptd-slurm"
_LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Record:
    volume: str
    run: str
    pinned: str | None = None
    """RUN@STEP that the Prolog keeps hot for the job, and the Epilog gives free; None: nothing, or it was pinned before."""


class Records:
    def __init__(self, folder: str = FOLDER) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Raises CkptdError where somebody else could put files there."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._folder, 0o755)
            os.chmod(self._folder, 0o755)  # noqa: S103 - whatever the umask: users read their own files in it
        found = os.lstat(self._folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise CkptdError(f"{self._folder} is not a directory that only we can write", hint="remove it")

    def write(self, job: int, record: Record) -> None:
        self._put(f"{job}.json", json.dumps(asdict(record)).encode(), 0o600)

    def export(self, job: int, variables: Mapping[str, str], uid: int, gid: int | None) -> None:
        self._put(f"{job}.env", lines(variables), 0o400, uid, -1 if gid is None else gid)

    def read(self, job: int) -> Record | None:
        return self._read(f"{job}.json")

    def others(self, job: int) -> Iterator[Record]:
        """Of the other jobs that run on this node."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):
                if name.endswith(".json") and name != f"{job}.json" and (found := self._read(name)) is not None:
                    yield found

    def remove(self, job: int) -> None:
        for name in (f"{job}.json", f"{job}.env"):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, name))

    def _read(self, name: str) -> Record | None:
        try:
            file = os.open(os.path.join(self._folder, name), os.O_RDONLY | os.O_NOFOLLOW)
            with open(file, "rb") as opened:
                if os.fstat(file).st_uid != os.geteuid():
                    return None
                found = Record(**json.loads(opened.read(_LONGEST)))
        except (OSError, ValueError, TypeError):
            return None
        return found

    def _put(self, name: str, content: bytes, mode: int, uid: int = -1, gid: int = -1) -> None:
        """Whole or not at all, and with its owner from the first moment that it has its name."""
        path, hidden = os.path.join(self._folder, name), os.path.join(self._folder, f".{name}.{os.getpid()}")
        file = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(file, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fchown(file, uid if uid != os.geteuid() else -1, gid if os.geteuid() == 0 else -1)
                os.fchmod(file, mode)
            os.rename(hidden, path)
        except BaseException:
            os.unlink(hidden)
            raise


def lines(variables: Mapping[str, str]) -> bytes:
    """As slurmd reads a TaskProlog's output: `export NAME=value`, to the end of the line, without any quoting.

    So a value with a line break would be a second command; one is left out rather than changed.
    """
    kept = {name: value for name, value in variables.items() if not any(mark in value for mark in "\n\r\0")}
    return "".join(f"export {name}={value}\n" for name, value in kept.items()).encode(errors="surrogateescape")
