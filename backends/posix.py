"""`file://`: a directory as the store. Local disks, NFS, Lustre, any POSIX file system.

Nothing but names and bytes is asked of it: no extended attributes, no locks. An object is written under `.ckptd/tmp` of
the same file system, synced, read back against its checksum, and renamed into place; its folders are synced too.
What the kernel can copy itself (`copy_file_range`: reflinks, NFS 4.2 and Lustre inside the server) never enters memory.

`if_absent` is `link(2)`, which decides atomically on every file system that has hard links. `if_match` compares the
version just before the rename: a writer in between is overwritten (`Capabilities.conditional_replace` is False).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from .base import Capabilities, ObjectInfo, Origin, PartTag, PendingUpload, Source
from .caller import WatchedSource
from .checksum import combined, require_equal
from .errors import BadConfiguration, ChecksumMismatch, NoSpace, NotFound, ObjectChanged, Unavailable, UploadGone
from .folders import STAGING, new_upload_id, upload_path
from .posix_copy import BLOCK, checksum_back, copy_between, copy_in, make_directories, sync_directory
from .posix_errors import root_missing, translated
from .posix_paths import etag_of, info_of, path_of, root_of, walk
from .posix_publish import prove_and_sweep, publish, sync_emptied


@dataclass(frozen=True, slots=True)
class Conditions:
    """Of a `put`."""

    if_absent: bool = False
    if_match: str | None = None


class PosixBackend:
    """See `backends.base.Backend`. Safe for threads, processes and nodes: every write has a file of its own."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.capabilities = Capabilities(
            conditional_put=True, store_checksum="none", min_part_size=1, max_parts=1 << 31, conditional_replace=False,
            copies=True,
        )  # fmt: skip

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, str]) -> Self:
        for option in options:
            raise BadConfiguration(f"'{option}' is no option of a file:// remote", hint="it has none")
        return cls(root_of(url))

    def probe(self) -> None:
        """Makes the directory if only its last part is missing, then writes, links and deletes a file in it."""
        with translated(self.root, self.root):
            try:
                os.mkdir(self.root)
            except FileExistsError:
                pass
            except FileNotFoundError:
                raise root_missing(self.root) from None
            else:
                sync_directory(os.path.dirname(self.root))
            if not os.path.isdir(self.root):
                raise BadConfiguration(f"{self.root} is not a directory", hint="a file:// remote is a directory")
            os.scandir(self.root).close()
            prove_and_sweep(self._staging(STAGING))

    def put(
        self, key: str, source: Source, crc64nvme: int, *, if_absent: bool = False, if_match: str | None = None
    ) -> ObjectInfo:
        watched = WatchedSource(source)
        conditions = Conditions(if_absent, if_match)
        return self._put(key, watched, crc64nvme, lambda target: copy_in(watched, target, 0), conditions)

    def copy(self, key: str, origin: Origin, source: Source, crc64nvme: int) -> ObjectInfo:
        watched = WatchedSource(source)

        def fill(target: int) -> None:
            with self._origin(origin, len(source)) as descriptor:
                copy_between(descriptor, target, 0, len(source), watched.seek)

        return self._put(key, watched, crc64nvme, fill, Conditions())

    def begin(self, key: str, size: int) -> str:
        path_of(self.root, key)
        upload_id = new_upload_id()
        staged = f"{self._staging(key)}/{upload_id}"
        with translated(key, self.root):
            room = os.statvfs(os.path.dirname(staged))
            if room.f_blocks and room.f_bavail * room.f_frsize < size:
                raise NoSpace(f"{key}: {size} bytes do not fit on the file system", hint=f"make room under {self.root}")
            with open(f"{staged}.key", "x", encoding="utf-8", errors="surrogateescape") as note:
                json.dump({"key": key, "size": size}, note)
            os.close(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
            sync_directory(os.path.dirname(staged))
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, offset: int, source: Source, crc64nvme: int) -> PartTag:
        watched, size = WatchedSource(source), len(source)
        with translated(key, self.root, watched):
            return self._put_part(
                key, upload_id, number, offset, size, crc64nvme, lambda target: copy_in(watched, target, offset)
            )

    def copy_part(
        self, key: str, upload_id: str, number: int, offset: int, origin: Origin, source: Source, crc64nvme: int
    ) -> PartTag:
        watched, size = WatchedSource(source), len(source)
        with translated(key, self.root, watched), self._origin(origin, offset + size) as descriptor:
            return self._put_part(
                key, upload_id, number, offset, size, crc64nvme,
                lambda target: copy_between(descriptor, target, offset, size, watched.seek),
            )  # fmt: skip

    def finish(self, key: str, upload_id: str, parts: Sequence[PartTag], crc64nvme: int) -> ObjectInfo:
        ordered = sorted(parts, key=lambda part: part.number)
        size = _contiguous(key, ordered)
        require_equal(crc64nvme, combined(ordered), key)
        path, staged = path_of(self.root, key), upload_path(self.root, upload_id)
        with translated(key, self.root):
            try:
                descriptor = self._open_staged(key, upload_id)
            except UploadGone:
                # Perhaps this very call succeeded before and its caller died before it heard.
                return self._confirmed(key, path, size, crc64nvme)
            try:
                status = os.fstat(descriptor)
                if status.st_size != size:
                    raise ChecksumMismatch(f"{key}: {status.st_size} bytes were stored where {size} were meant")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            publish(self.root, staged, path, key, if_absent=False, if_match=None)
            with suppress(FileNotFoundError):
                os.unlink(f"{staged}.key")
        return info_of(key, status, crc64nvme)

    def abort(self, key: str, upload_id: str) -> None:
        with suppress(UploadGone), translated(key, self.root):
            staged = upload_path(self.root, upload_id)
            for path in (staged, f"{staged}.key"):
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        with translated(STAGING, self.root):
            if not os.path.isdir(self.root):
                raise root_missing(self.root)
            try:
                names = sorted(os.listdir(f"{self.root}/{STAGING}"))
            except FileNotFoundError:
                return
        for name in names:
            if name.endswith(".key") and (found := self._pending(name)) is not None and found.key.startswith(prefix):
                yield found

    def head(self, key: str) -> ObjectInfo | None:
        path = path_of(self.root, key)
        with translated(key, self.root):
            try:
                status = os.stat(path)
            except NotADirectoryError:
                return None
            except FileNotFoundError:
                if not os.path.isdir(self.root):
                    raise root_missing(self.root) from None
                return None
        return None if os.path.isdir(path) else info_of(key, status)

    def read(
        self, key: str, offset: int, target: memoryview, *, etag: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        def arrived(stretch: memoryview) -> None:
            if on_bytes is not None:
                on_bytes(len(stretch))

        self._receive(key, offset, len(target), lambda done: target[done : done + BLOCK], arrived, etag)

    def stream(
        self, key: str, offset: int, length: int, window: memoryview, on_block: Callable[[memoryview], None], *,
        etag: str | None = None,
    ) -> None:  # fmt: skip
        self._receive(key, offset, length, lambda done: window[: length - done], on_block, etag)

    def _receive(
        self, key: str, offset: int, length: int, place: Callable[[int], memoryview],
        arrived: Callable[[memoryview], None], etag: str | None,
    ) -> None:  # fmt: skip
        descriptor = self._open_object(key)
        try:
            self._require_version(key, descriptor, etag, offset + length)
            done = 0
            while done < length:
                room = place(done)
                with translated(key, self.root):
                    got = os.preadv(descriptor, [room], offset + done)
                if got == 0:
                    raise Unavailable(f"{key}: the file ended after {offset + done} bytes while it was read")
                done += got
                arrived(room[:got])
            self._require_version(key, descriptor, etag, 0)
        finally:
            os.close(descriptor)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        with translated(prefix or self.root, self.root):
            for key, status in walk(self.root, prefix, start_after):
                yield info_of(key, status)

    def delete(self, keys: Sequence[str]) -> None:
        folders: set[str] = set()
        for key in keys:
            with translated(key, self.root), suppress(FileNotFoundError, NotADirectoryError):
                path = path_of(self.root, key)
                os.unlink(path)
                folders.add(os.path.dirname(path))
        # Synced before the call returns, so that a manifest deleted first does not come back without its files.
        for folder in folders:
            with translated(folder, self.root):
                sync_emptied(folder, self.root)
        if not folders and not os.path.isdir(self.root):
            raise root_missing(self.root)

    def close(self) -> None:
        """Nothing is held open between calls."""

    # What the methods above share.

    def _put(
        self, key: str, source: WatchedSource, crc64nvme: int, fill: Callable[[int], None], conditions: Conditions
    ) -> ObjectInfo:
        """A new file that `fill` has written, read back before it gets its name."""
        path = path_of(self.root, key)
        staged = f"{self._staging(key)}/put-{new_upload_id()}"
        try:
            with translated(key, self.root, source):
                descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                try:
                    fill(descriptor)
                    os.fsync(descriptor)
                    require_equal(crc64nvme, checksum_back(descriptor, 0, len(source)), key)
                    status = os.fstat(descriptor)
                finally:
                    os.close(descriptor)
                publish(self.root, staged, path, key, if_absent=conditions.if_absent, if_match=conditions.if_match)
        finally:
            with suppress(OSError):
                os.unlink(staged)
        return info_of(key, status, crc64nvme)

    def _put_part(
        self, key: str, upload_id: str, number: int, offset: int, size: int, crc64nvme: int, fill: Callable[[int], None]
    ) -> PartTag:
        descriptor = self._open_staged(key, upload_id)
        try:
            fill(descriptor)
            # A part is reported done only when a power cut cannot take it back: the journal may outlive the cache.
            os.fdatasync(descriptor)
            require_equal(crc64nvme, checksum_back(descriptor, offset, size), f"{key}, part {number}")
        finally:
            os.close(descriptor)
        return PartTag(number, size, f"{offset:x}", crc64nvme)

    @contextmanager
    def _origin(self, origin: Origin, end: int) -> Iterator[int]:
        """A descriptor of the version that is meant, checked before and after it is used."""
        descriptor = self._open_object(origin.key)
        try:
            self._require_version(origin.key, descriptor, origin.etag, end)
            yield descriptor
            self._require_version(origin.key, descriptor, origin.etag, end)
        finally:
            os.close(descriptor)

    def _open_object(self, key: str) -> int:
        with translated(key, self.root):
            try:
                return os.open(path_of(self.root, key), os.O_RDONLY | os.O_CLOEXEC)
            except NotADirectoryError:
                raise NotFound(f"{key}: no such object") from None

    def _staging(self, key: str) -> str:
        path = f"{self.root}/{STAGING}"
        with translated(key, self.root):
            make_directories(path, self.root)
        return path

    def _open_staged(self, key: str, upload_id: str) -> int:
        try:
            return os.open(upload_path(self.root, upload_id), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if not os.path.isdir(self.root):
                raise root_missing(self.root) from None
            raise UploadGone(f"{key}: upload {upload_id} is not known any more") from None

    def _confirmed(self, key: str, path: str, size: int, crc64nvme: int) -> ObjectInfo:
        gone = UploadGone(f"{key}: the upload is not known any more")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise gone from None
        try:
            status = os.fstat(descriptor)
            if status.st_size != size or checksum_back(descriptor, 0, size) != crc64nvme:
                raise gone
            return info_of(key, status, crc64nvme)
        finally:
            os.close(descriptor)

    def _pending(self, name: str) -> PendingUpload | None:
        path = f"{self.root}/{STAGING}/{name}"
        try:
            started = os.stat(path).st_mtime
            with open(path, encoding="utf-8", errors="surrogateescape") as note:
                key = str(json.load(note)["key"])
        except (OSError, ValueError, KeyError):
            return None  # finished or aborted meanwhile, or torn by a crash before the upload began
        return PendingUpload(key, name.removesuffix(".key"), started)

    def _require_version(self, key: str, descriptor: int, etag: str | None, end: int) -> None:
        with translated(key, self.root):
            status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise NotFound(f"{key}: no such object")
        if etag is not None and etag_of(status) != etag:
            raise ObjectChanged(f"{key}: it is not the version that was asked for any more")
        if end > status.st_size:
            raise ObjectChanged(f"{key}: it has {status.st_size} bytes, {end} were expected")


def _contiguous(key: str, parts: Sequence[PartTag]) -> int:
    """The size of the object; the tags hold the offsets the parts were written at."""
    end = 0
    for part in parts:
        if int(part.tag, 16) != end:
            raise ChecksumMismatch(
                f"{key}: part {part.number} begins at {int(part.tag, 16)}, the one before ends at {end}"
            )
        end += part.size
    return end
