"""Tier → store: stretches of a file, checksummed and then sent from the same small buffer.

Where the store holds the same bytes already (`calls.Held`) it is asked to copy them. What goes wrong with that is told to
the worker beside the answer, and they are sent in the same call: a copy never fails an upload, nor the remote's health.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from ckptd.domain.model import PartDone
from ckptd.transfer import calls
from ckptd.transfer.reading import BLOCK, checksum_of, joined, opened, read_block
from ckptd.transfer.refusal import CHECKSUM, UPLOAD_GONE, Refusal, Refused
from ckptd.transfer.registry import Backend, BackendError, Copying, Origin, PartTag, refusal_of
from ckptd.transfer.task import Task

Made = TypeVar("Made")


class Stretch:
    """A `backends.base.Source` over `length` bytes of an open file.

    `read` gives at most BLOCK bytes, in a buffer that the next `read` of this thread overwrites. What goes wrong in it
    is remembered by the task, because client libraries wrap errors of a body in their own.
    """

    def __init__(
        self, descriptor: int, path: str, offset: int, length: int, task: Task, *, sent: bool = True
    ) -> None:  # fmt: skip
        """`sent`: False where only a checksum is taken of it, which is neither paced nor counted."""
        self._descriptor = descriptor
        self._path = path
        self._offset = offset
        self._length = length
        self._task = task
        self._sent = sent
        self._at = 0

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1, /) -> bytes | memoryview:
        left = self._length - self._at
        count = min(left, BLOCK if size < 0 else size)
        if not count:
            return b""
        try:
            view = read_block(self._descriptor, self._path, self._offset + self._at, count)
        except Refused as refused:
            self._task.stop(refused.refusal)
        if self._sent:
            self._task.moved(len(view))
        else:
            self._task.check()
        self._at += len(view)
        return view

    def seek(self, offset: int, whence: int = 0, /) -> int:
        target = offset + (0, self._at, self._length)[whence]
        target = max(0, min(target, self._length))
        if not self._sent:
            self._task.check()
        elif target < self._at:
            self._task.count(target - self._at)
        elif target > self._at:  # the kernel copied this far by itself
            self._task.moved(target - self._at)
        self._at = target
        return target

    def tell(self) -> int:
        return self._at

    def fileno(self) -> int:
        return self._descriptor

    @property
    def offset(self) -> int:
        return self._offset


def put_whole(backend: Backend, call: calls.PutWhole, task: Task) -> calls.Stored:
    size = call.stamp.size
    with opened(call.path, call.stamp) as descriptor:
        crc = checksum_of(descriptor, call.path, 0, size, task.check)
        same = Stretch(descriptor, call.path, 0, size, task, sent=False)
        info, trouble = _copied(
            backend, call.held, crc, lambda copying, origin: copying.copy(call.key, origin, same, crc)
        )
        copied = info is not None
        if info is None:
            info = backend.put(call.key, Stretch(descriptor, call.path, 0, size, task), crc)
    _ensure_size(call.key, info.size, size)
    return calls.Stored(info.etag, crc, copied, trouble)


def put_several(backend: Backend, call: calls.PutSeveral, task: Task) -> calls.SeveralStored:
    """What changed meanwhile is passed over. After a refusal of the store the rest is left: whoever asks again waits first."""
    stored: list[calls.Stored | None] = []
    refusal: Refusal | None = None
    for file in call.files:
        one = None
        if refusal is None or not refusal.by_store:
            try:
                one = put_whole(backend, calls.PutWhole(call.remote, file.key, file.path, file.stamp), task)
            except (Refused, BackendError) as error:
                task.check()  # cancelled
                refused = error.refusal if isinstance(error, Refused) else refusal_of(error)
                refusal = refused if refusal is None or refused.by_store else refusal
        stored.append(one)
    return calls.SeveralStored(tuple(stored), refusal)


def put_part(backend: Backend, call: calls.PutPart, task: Task) -> calls.PartStored:
    where = call.key, call.upload_id, call.number, call.offset
    with opened(call.path, call.stamp) as descriptor:
        crc = checksum_of(descriptor, call.path, call.offset, call.length, task.check)
        same = Stretch(descriptor, call.path, call.offset, call.length, task, sent=False)
        tag, trouble = _copied(
            backend, call.held, crc, lambda copying, origin: copying.copy_part(*where, origin, same, crc)
        )
        copied = tag is not None
        if tag is None:
            source = Stretch(descriptor, call.path, call.offset, call.length, task)
            tag = backend.put_part(*where, source, crc)
    return calls.PartStored(PartDone(tag.number, tag.size, tag.tag, tag.crc64nvme), copied, trouble)


def _copied(
    backend: Backend, held: calls.Held | None, crc64nvme: int, copy: Callable[[Copying, Origin], Made]
) -> tuple[Made | None, Refusal | None]:
    """What the store made of its own bytes, or why it did not; (None, None) where they are others."""
    if held is None or held.crc64nvme != crc64nvme or not backend.capabilities.copies:
        return None, None
    try:
        return copy(cast("Copying", backend), Origin(held.key, held.etag)), None
    except BackendError as error:
        if error.code == UPLOAD_GONE:
            raise
        return None, refusal_of(error)


def finish(backend: Backend, call: calls.Finish) -> calls.Stored:
    """The stamp is compared once more: nothing may become visible that the file was at no single moment."""
    whole = joined([part.crc64nvme for part in call.parts], call.stamp.size, call.parts[0].size)
    tags = tuple(PartTag(part.number, part.size, part.tag, part.crc64nvme) for part in call.parts)
    with opened(call.path, call.stamp):
        try:
            info = backend.finish(call.key, call.upload_id, tags, whole)
        except BackendError as error:
            # Perhaps it was finished and the answer got lost, or its reader died before it could write that down.
            found = backend.head(call.key) if error.code == UPLOAD_GONE else None
            if found is None or (found.size, found.crc64nvme) != (call.stamp.size, whole):
                raise
            info = found
    _ensure_size(call.key, info.size, call.stamp.size)
    return calls.Stored(info.etag, whole)


def _ensure_size(key: str, got: int, meant: int) -> None:
    if got != meant:
        raise Refused(Refusal(CHECKSUM, f"the store holds {got} bytes at '{key}', {meant} were sent", retryable=True))
