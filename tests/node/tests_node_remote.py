"""Looking at a `file://` remote from outside while a daemon works on it, and taking it away."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tests_node_daemon import Daemon


def objects(remote: Path) -> dict[str, bytes]:
    """What a job's tools would see: everything but what ckptd keeps for itself."""
    found = {}
    for directory, _, names in os.walk(remote):
        relative = os.path.relpath(directory, remote)
        for name in names:
            path = os.path.normpath(os.path.join(relative, name))
            if not path.startswith(".ckptd/"):
                with suppress(FileNotFoundError):  # deleted while we look
                    found[path] = Path(remote, path).read_bytes()
    return found


def manifest_path(daemon: Daemon, run: str, step: int) -> Path:
    return daemon.remote / f".ckptd/manifests/{run}/{step}/{daemon.node}.json"


@contextmanager
def away(daemon: Daemon) -> Iterator[None]:
    """The remote is gone, as a file system that is not mounted; back at the end."""
    hidden = daemon.remote.with_name(daemon.remote.name + ".away")
    daemon.remote.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(daemon.remote)


class Watching(threading.Thread):
    """Calls `look` over and over until stopped; the first complaint it returns is kept."""

    def __init__(self, look: Callable[[], str | None], pause_s: float = 0.003) -> None:
        super().__init__(daemon=True)
        self._look = look
        self._pause_s = pause_s
        self._over = threading.Event()
        self.looks = 0
        self.complaint: str | None = None

    def run(self) -> None:
        while not self._over.is_set() and self.complaint is None:
            try:
                self.complaint = self._look()
            except FileNotFoundError:
                pass  # it changed under our eyes: look again
            except Exception as error:  # noqa: BLE001 - shown by the test
                self.complaint = repr(error)
            self.looks += 1
            time.sleep(self._pause_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def safetensors(body: bytes) -> bytes:
    """A file of that format with one tensor of bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(body)], "data_offsets": [0, len(body)]}}).encode()
    return len(header).to_bytes(8, "little") + header + body


def flip(path: Path, at: int = 1000) -> None:
    """One bit, and the file looks as before: as memory or a disk that flips, nothing tells anybody."""
    found = path.stat()
    descriptor = os.open(path, os.O_RDWR)
    os.pwrite(descriptor, bytes([os.pread(descriptor, 1, at)[0] ^ 1]), at)
    # Before the close, which is when the daemon looks.
    os.utime(descriptor, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.close(descriptor)


def leftovers(directory: Path) -> list[str]:
    """Names that only the daemon makes, and only for a moment."""
    return [str(path) for path in directory.rglob(".ckptd-*") if path.name != ".ckptd-tier"]
