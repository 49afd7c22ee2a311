"""`hdfs://namenode:port/prefix`: HDFS, by WebHDFS, and by its own protocol for the bytes where `hdfs-native` is installed.

One attempt a call; the engine above repeats. A part is a file of its own, compared with the checksum that the DataNode keeps
of it; the parts are joined by CONCAT and the whole is renamed into place, so an object is there whole or not at all.
HDFS has no copies inside the store. What it promises by its answer is that the DataNodes of the pipeline have the bytes
(`dfs.datanode.synconclose` decides whether on the disk or in the memory of each).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Self

from .base import Capabilities, ObjectInfo, PartTag, PendingUpload, Source
from .checksum import combined, require_equal
from .errors import BackendError, ChecksumMismatch, NotFound, ObjectChanged, PreconditionFailed, UploadGone
from .folders import STAGING, new_upload_id, upload_path
from .hdfs_checksum import CheckedSource, Sums
from .hdfs_files import HdfsFiles, Status
from .hdfs_join import Joining, StoredPart, block_size_of
from .hdfs_names import MEANT_FOR, new_part_name, path_of, unescaped
from .hdfs_options import HdfsOptions
from .hdfs_probe import prove
from .hdfs_webhdfs import WebHdfs

_STRETCH = 512 << 10
_SMALL_BLOCK = 1 << 20


class HdfsBackend:
    """See `backends.base.Backend`."""

    def __init__(self, url: str, options: HdfsOptions) -> None:
        self._options = options
        self._root = options.root
        self._web = WebHdfs(url, options)
        self._files = HdfsFiles(self._web, options)
        self._staged = False
        self.capabilities = Capabilities(
            conditional_put=True, store_checksum="md5crc32c", min_part_size=_SMALL_BLOCK,
            max_parts=10_000 if options.concat else 1, conditional_replace=False,
        )  # fmt: skip

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, str]) -> Self:
        return cls(url, HdfsOptions.parse(url, options))

    def probe(self) -> None:
        """Makes the folder if only its last part is missing; writes, reads, renames and deletes a file in it."""
        root = self._root or "/"
        if self._files.status(root) is None:
            above = self._root.rpartition("/")[0] or "/"
            if self._files.status(above) is None:
                raise self._files.root_missing(root)
            self._files.make_folder(root)
        prove(self._files, self._staging(), time.time())

    def put(
        self, key: str, source: Source, crc64nvme: int, *, if_absent: bool = False, if_match: str | None = None
    ) -> ObjectInfo:
        path = path_of(self._root, key)
        staged = f"{self._staging()}/put-{new_upload_id()}"
        block_size = block_size_of(-(-max(len(source), 1) // _SMALL_BLOCK) * _SMALL_BLOCK, self._options.block_size)
        try:
            self._write(staged, source, crc64nvme, block_size, key)
            status = self._files.status(staged)
            self._require(status, path, len(source), if_match, key)
            self._rename(staged, path, overwrite=not if_absent)
        except BaseException:
            with suppress(BackendError):
                self._files.delete(staged)
            raise
        assert status is not None
        return status.info(key, crc64nvme)

    def begin(self, key: str, size: int) -> str:  # noqa: ARG002  (HDFS does not reserve)
        path = path_of("", key)
        upload_id = new_upload_id()
        self._files.make_folder(f"{upload_path(self._root, upload_id)}/{MEANT_FOR}{path}")
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, offset: int, source: Source, crc64nvme: int) -> PartTag:
        folder = upload_path(self._root, upload_id)
        path = f"{folder}/{new_part_name(number)}"
        block_size = block_size_of(len(source) if number == 1 else offset // (number - 1), self._options.block_size)
        what = f"{key}, part {number}"
        gone = UploadGone(f"{key}: upload {upload_id} is not known any more")
        if self._files.status(f"{folder}/{MEANT_FOR}") is None:  # WebHDFS would make the folder
            raise gone
        try:
            sums = self._write(path, source, crc64nvme, block_size, what)
        except NotFound as error:
            raise gone from error
        status = self._files.status(path)
        if status is None:
            raise gone
        if status.length != len(source):
            raise ChecksumMismatch(f"{what}: {status.length} bytes were stored where {len(source)} were sent")
        return PartTag(number, len(source), StoredPart(path.rpartition("/")[2], status.number, sums).text(), crc64nvme)

    def finish(self, key: str, upload_id: str, parts: Sequence[PartTag], crc64nvme: int) -> ObjectInfo:
        ordered = sorted(parts, key=lambda part: part.number)
        require_equal(crc64nvme, combined(ordered), key)
        path, folder = path_of(self._root, key), upload_path(self._root, upload_id)
        joining = Joining(self._files, folder, ordered, key)
        try:
            if self._files.status(f"{folder}/{MEANT_FOR}") is None:
                raise UploadGone(f"{key}: upload {upload_id} is not known any more")  # noqa: TRY301  (answered below)
            staged, status = joining.run(crc64nvme)
        except UploadGone:
            # Perhaps this very call succeeded before and its caller died before it heard.
            return self._confirmed(key, path, joining, crc64nvme)
        self._rename(staged, path, overwrite=True)
        self._files.delete(folder, recursive=True)
        return status.info(key, crc64nvme)

    def abort(self, key: str, upload_id: str) -> None:  # noqa: ARG002  (the id says it all)
        with suppress(UploadGone):
            self._files.delete(upload_path(self._root, upload_id), recursive=True)

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        staging = f"{self._root}/{STAGING}"
        for name, status in self._files.entries(staging):
            if status.folder and (found := self._pending(staging, name)) is not None and found.key.startswith(prefix):
                yield found

    def head(self, key: str) -> ObjectInfo | None:
        status = self._files.status(path_of(self._root, key))
        if status is None:
            self._require_root()
            return None
        return None if status.folder else status.info(key)

    def read(
        self, key: str, offset: int, target: memoryview, *, etag: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        def arrived(stretch: memoryview) -> None:
            if on_bytes is not None:
                on_bytes(len(stretch))

        self._receive(key, offset, len(target), lambda done: target[done : done + _STRETCH], arrived, etag)

    def stream(
        self, key: str, offset: int, length: int, window: memoryview, on_block: Callable[[memoryview], None], *,
        etag: str | None = None,
    ) -> None:  # fmt: skip
        self._receive(key, offset, length, lambda done: window[: length - done], on_block, etag)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        if self._files.status(path_of(self._root, folder) if folder else self._root or "/") is None:
            self._require_root()
            return
        for key, status in self._walk(folder, prefix, start_after.encode()):
            yield status.info(key)

    def delete(self, keys: Sequence[str]) -> None:
        folders: set[str] = set()
        for key in keys:
            path = path_of(self._root, key)
            if self._files.delete(path):
                folders.add(path.rpartition("/")[0])
        for folder in folders:
            self._remove_emptied(folder)
        if keys and not folders:
            self._require_root()

    def close(self) -> None:
        self._web.close()

    # What the methods above share.

    def _write(self, path: str, source: Source, crc64nvme: int, block_size: int | None, what: str) -> Sums | None:
        """What a failure leaves is deleted: it has no name that anybody looks for."""
        checked = CheckedSource(source, crc64nvme, block_size or max(len(source), 1), what)
        try:
            return self._files.write(path, checked, block_size)
        except BaseException:
            with suppress(BackendError):
                self._files.delete(path)
            raise

    def _require(self, staged: Status | None, path: str, size: int, if_match: str | None, key: str) -> None:
        if staged is None or staged.length != size:
            raise ChecksumMismatch(f"{key}: HDFS has {staged.length if staged else 'none'} of the {size} bytes sent")
        if if_match is not None:
            current = self._files.status(path)
            if current is None or current.etag != if_match:
                raise PreconditionFailed(f"{key}: somebody else wrote it first")

    def _rename(self, staged: str, path: str, *, overwrite: bool) -> None:
        try:
            self._files.rename(staged, path, overwrite=overwrite)
        except PreconditionFailed as error:
            if overwrite:  # a folder has this name
                raise BackendError(
                    error.message, hint="one object's name is another one's folder; HDFS cannot hold both"
                ) from error
            raise

    def _staging(self) -> str:
        staging = f"{self._root}/{STAGING}"
        if not self._staged:
            self._files.make_folder(staging)
            self._staged = True
        return staging

    def _confirmed(self, key: str, path: str, joining: Joining, crc64nvme: int) -> ObjectInfo:
        """The object is the very file that part 1 became; where HDFS does not number files, has the same bytes."""
        status = self._files.status(path)
        gone = UploadGone(f"{key}: the upload is not known any more")
        if status is None or status.folder or status.length != joining.size:
            raise gone
        if not status.number or status.number != joining.first.number:
            try:
                self._files.require_content(path, status.length, crc64nvme)
            except BackendError as error:
                raise gone from error
        return status.info(key, crc64nvme)

    def _pending(self, staging: str, name: str) -> PendingUpload | None:
        """Down the folders that spell the key: each has one entry."""
        key, at, started = "", f"{staging}/{name}/{MEANT_FOR}", 0.0
        while (found := next(iter(self._files.entries(at)), None)) is not None:
            key, at = f"{key}/{found[0]}", f"{at}/{found[0]}"
            started = started or found[1].modified_ms / 1000
        return PendingUpload(unescaped(key[1:]), name, started) if key else None

    def _receive(
        self, key: str, offset: int, length: int, place: Callable[[int], memoryview],
        arrived: Callable[[memoryview], None], etag: str | None,
    ) -> None:  # fmt: skip
        """Of one version. Where none was asked for by name, one that was replaced before its first byte came is no error."""
        came = False

        def passed_on(stretch: memoryview) -> None:
            nonlocal came
            came = True
            arrived(stretch)

        path = path_of(self._root, key)
        for last in (False, False, True):
            status = self._version(key, path, etag, offset + length)
            try:
                if length:
                    self._files.receive(self._files.readable(path, status), offset, length, place, passed_on)
            except NotFound as error:
                if last or came or etag is not None:
                    raise ObjectChanged(f"{key}: it was replaced while it was read") from error
                continue
            if not status.number and self._files.status(path) != status:
                raise ObjectChanged(f"{key}: it was replaced while it was read")
            return

    def _version(self, key: str, path: str, etag: str | None, end: int) -> Status:
        status = self._files.status(path)
        if status is None or status.folder:
            self._require_root()
            raise NotFound(f"{key}: no such object")
        if etag is not None and status.etag != etag:
            raise ObjectChanged(f"{key}: it is not the version that was asked for any more")
        if end > status.length:
            raise ObjectChanged(f"{key}: it has {status.length} bytes, {end} were expected")
        return status

    def _walk(self, folder: str, prefix: str, after: bytes) -> Iterator[tuple[str, Status]]:
        path = path_of(self._root, folder) if folder else self._root or "/"
        above = f"{folder}/" if folder else ""
        named = [
            (f"{above}{unescaped(name)}{'/' if status.folder else ''}", status)
            for name, status in self._files.entries(path)
        ]
        for key, status in sorted(named, key=lambda pair: pair[0].encode()):
            if status.folder:
                if key == STAGING + "/" or not (key.startswith(prefix) or prefix.startswith(key)):
                    continue
                if key.encode() > after or after.startswith(key.encode()):
                    yield from self._walk(key[:-1], prefix, after)
            elif key.startswith(prefix) and key.encode() > after:
                yield key, status

    def _remove_emptied(self, folder: str) -> None:
        """Folders that hold nothing any more, up to the root."""
        while folder != self._root:
            try:
                self._files.delete(folder)
            except BackendError as error:
                if error.retryable:
                    raise
                return  # it holds something, or is not ours to remove
            folder = folder.rpartition("/")[0]

    def _require_root(self) -> None:
        if self._files.status(self._root or "/") is None:
            raise self._files.root_missing(self._root or "/")
