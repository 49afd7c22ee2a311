"""A backend that fails on command, around a real one. It wraps every method of the interface (a test sees to that).

store = FaultyStore(PosixBackend.from_url(url, {}))
store.fail("put_part", Unavailable("injected"), times=2)          # before anything is done
store.fail("finish", Unavailable("injected"), done=True)          # it was done, but its answer is lost
store.fail("read", after_bytes=MIB, error=Unavailable("broke off"))
store.corrupt("read")                                             # one bit of the next result
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from backends.base import Backend, Capabilities, ObjectInfo, Origin, PartTag, PendingUpload, Source


@dataclass
class _Failure:
    method: str
    error: BaseException | None
    times: int
    done: bool
    after_bytes: int | None
    when: Callable[[str], bool]
    block: threading.Event | None


class FaultyStore:
    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.calls: list[tuple[str, str]] = []
        """(method, key or prefix) of every call, in order."""
        self._failures: list[_Failure] = []
        self._lock = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    @capabilities.setter
    def capabilities(self, value: Capabilities) -> None:
        self.inner.capabilities = value

    def fail(
        self, method: str, error: BaseException, *, times: int = 1, done: bool = False,
        after_bytes: int | None = None, when: Callable[[str], bool] = lambda _: True,
    ) -> None:  # fmt: skip
        """`when` gets the key; `done`: the inner call succeeds first; `after_bytes`: once so much of a body passed."""
        self._failures.append(_Failure(method, error, times, done, after_bytes, when, None))

    def corrupt(self, method: str, *, times: int = 1) -> None:
        """`read`: flips a bit of what came."""
        self._failures.append(
            _Failure(method, None, times, done=True, after_bytes=None, when=lambda _: True, block=None)
        )

    def hold(self, method: str) -> threading.Event:
        """The next call waits, before anything is done, until the event is set."""
        event = threading.Event()
        self._failures.append(_Failure(method, None, 1, done=False, after_bytes=None, when=lambda _: True, block=event))
        return event

    def heal(self) -> None:
        with self._lock:
            self._failures.clear()

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, str]) -> Self:
        from backends.posix import PosixBackend

        return cls(PosixBackend.from_url(url, options))

    def probe(self) -> None:
        self._run("probe", "", self.inner.probe)

    def put(
        self, key: str, source: Source, crc64nvme: int, *, if_absent: bool = False, if_match: str | None = None
    ) -> ObjectInfo:
        def send() -> ObjectInfo:
            body = self._breaking("put", source)
            return self.inner.put(key, body, crc64nvme, if_absent=if_absent, if_match=if_match)

        return self._run("put", key, send)

    def begin(self, key: str, size: int) -> str:
        return self._run("begin", key, lambda: self.inner.begin(key, size))

    def put_part(self, key: str, upload_id: str, number: int, offset: int, source: Source, crc64nvme: int) -> PartTag:
        return self._run(
            "put_part", key,
            lambda: self.inner.put_part(key, upload_id, number, offset, self._breaking("put_part", source), crc64nvme),
        )  # fmt: skip

    def copy(self, key: str, origin: Origin, source: Source, crc64nvme: int) -> ObjectInfo:
        return self._run("copy", key, lambda: self.inner.copy(key, origin, source, crc64nvme))  # type: ignore[attr-defined]

    def copy_part(
        self, key: str, upload_id: str, number: int, offset: int, origin: Origin, source: Source, crc64nvme: int
    ) -> PartTag:
        return self._run(
            "copy_part", key,
            lambda: self.inner.copy_part(key, upload_id, number, offset, origin, source, crc64nvme),  # type: ignore[attr-defined]
        )  # fmt: skip

    def finish(self, key: str, upload_id: str, parts: Sequence[PartTag], crc64nvme: int) -> ObjectInfo:
        return self._run("finish", key, lambda: self.inner.finish(key, upload_id, parts, crc64nvme))

    def abort(self, key: str, upload_id: str) -> None:
        self._run("abort", key, lambda: self.inner.abort(key, upload_id))

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        return self._run("pending", prefix, lambda: iter(list(self.inner.pending(prefix))))

    def head(self, key: str) -> ObjectInfo | None:
        return self._run("head", key, lambda: self.inner.head(key))

    def read(
        self, key: str, offset: int, target: memoryview, *, etag: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        breaking = self._take("read", key, body=True)
        if breaking is not None:
            assert breaking.after_bytes is not None
            self.calls.append(("read", key))
            self.inner.read(key, offset, target[: breaking.after_bytes], etag=etag, on_bytes=on_bytes)
            assert breaking.error is not None
            raise breaking.error
        flipped = self._run("read", key, lambda: self.inner.read(key, offset, target, etag=etag, on_bytes=on_bytes))
        if flipped is _FLIP and len(target):
            target[0] ^= 1

    def stream(
        self, key: str, offset: int, length: int, window: memoryview, on_block: Callable[[memoryview], None], *,
        etag: str | None = None,
    ) -> None:  # fmt: skip
        breaking = self._take("stream", key, body=True)
        if breaking is not None:
            assert breaking.after_bytes is not None
            self.calls.append(("stream", key))
            self.inner.stream(key, offset, min(length, breaking.after_bytes), window, on_block, etag=etag)
            assert breaking.error is not None
            raise breaking.error
        passed: list[bytearray] = []

        def keep(block: memoryview) -> None:
            passed.append(bytearray(block))

        flipped = self._run("stream", key, lambda: self.inner.stream(key, offset, length, window, keep, etag=etag))
        if flipped is _FLIP and passed:
            passed[0][0] ^= 1
        for block in passed:
            on_block(memoryview(block))

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        return self._run("list", prefix, lambda: iter([*self.inner.list(prefix, start_after=start_after)]))

    def delete(self, keys: Sequence[str]) -> None:
        self._run("delete", keys[0] if keys else "", lambda: self.inner.delete(keys))

    def close(self) -> None:
        self._run("close", "", self.inner.close)

    def _take(self, method: str, key: str, *, body: bool = False) -> _Failure | None:
        with self._lock:
            for failure in self._failures:
                fits = failure.method == method and failure.times and (failure.after_bytes is not None) == body
                if fits and failure.when(key):
                    failure.times -= 1
                    return failure
        return None

    def _run(self, method: str, key: str, call: Callable[[], Any]) -> Any:
        self.calls.append((method, key))
        failure = self._take(method, key)
        if failure is None:
            return call()
        if failure.block is not None:
            failure.block.wait()
            return call()
        if not failure.done:
            assert failure.error is not None
            raise failure.error
        call()
        if failure.error is None:
            return _FLIP
        raise failure.error

    def _breaking(self, method: str, source: Source) -> Source:
        failure = self._take(method, "", body=True)
        return source if failure is None else _Breaking(source, failure)  # type: ignore[return-value]


_FLIP = object()


class _Breaking:
    """A source that fails after so many bytes, as a connection would."""

    def __init__(self, source: Source, failure: _Failure) -> None:
        self._source, self._failure = source, failure

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def fileno(self) -> int:
        raise OSError("the bytes have to pass here")

    def read(self, size: int = -1, /) -> bytes | memoryview:
        assert self._failure.after_bytes is not None
        assert self._failure.error is not None
        left = self._failure.after_bytes - self._source.tell()
        if left <= 0:
            raise self._failure.error
        return self._source.read(left if size < 0 else min(size, left))
