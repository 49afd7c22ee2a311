"""Sources for the tests, the bytes they send, and what a caller computes about them."""

from __future__ import annotations

import os

from awscrt.checksums import crc64nvme

from backends.base import Backend, ObjectInfo, PartTag

MIB = 1 << 20
FIRST = os.urandom(5 * MIB)
SECOND = os.urandom(5 * MIB)
TAIL = b"the end"
WHOLE = FIRST + SECOND + TAIL


class Memory:
    """Bytes as a Source, without a file behind them."""

    offset = 0

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def __len__(self) -> int:
        return len(self._data)

    def read(self, size: int = -1, /) -> bytes | memoryview:
        end = len(self._data) if size < 0 else self._at + size
        block = self._data[self._at : end]
        self._at += len(block)
        return block

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = (0, self._at, len(self._data))[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        """Lets go of the memory."""
        self._data.release()

    def fileno(self) -> int:
        raise OSError("memory has no descriptor")


class Stretch(Memory):
    """A stretch of a real file, which a backend may copy inside the kernel."""

    def __init__(self, path: str, offset: int, length: int) -> None:
        super().__init__(bytes(length))
        self._descriptor = os.open(path, os.O_RDONLY)
        self.offset = offset

    def read(self, size: int = -1, /) -> bytes | memoryview:
        at = self._at
        return os.pread(self._descriptor, len(super().read(size)), self.offset + at)

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        super().close()
        os.close(self._descriptor)


def put(backend: Backend, key: str, data: bytes, **conditions: object) -> ObjectInfo:
    return backend.put(key, Memory(data), crc64nvme(data), **conditions)  # type: ignore[arg-type]


def put_part(backend: Backend, key: str, upload_id: str, number: int, offset: int, data: bytes) -> PartTag:
    return backend.put_part(key, upload_id, number, offset, Memory(data), crc64nvme(data))


def read(backend: Backend, key: str, size: int, offset: int = 0, **more: object) -> bytes:
    target = bytearray(size)
    backend.read(key, offset, memoryview(target), **more)  # type: ignore[arg-type]
    return bytes(target)


def keys(backend: Backend, prefix: str = "", **more: str) -> list[str]:
    return [found.key for found in backend.list(prefix, **more)]
