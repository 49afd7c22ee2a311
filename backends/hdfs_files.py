"""Files of HDFS as wholes: what is known of one, how its bytes go and come, how it gets its name, how names go away.

The bytes take the native way where there is one and WebHDFS otherwise; everything else is asked of WebHDFS.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .base import ObjectInfo
from .checksum import require_equal
from .errors import (
    BackendError,
    BucketMissing,
    ChecksumMismatch,
    NoSpace,
    NotFound,
    NotSupported,
    PreconditionFailed,
    Unavailable,
)
from .hdfs_checksum import CheckedSource, StoredSum, Sums, sums_of
from .hdfs_native import NativeData, connect
from .hdfs_options import HdfsOptions
from .hdfs_webhdfs import WebHdfs
from .http_body import receive

_UNNAMED = "/.reserved/.inodes/"
"""A file by its number: another one that took its name is not it, and no DataNode decodes an odd name wrongly."""


@dataclass(frozen=True, slots=True)
class Status:
    length: int
    folder: bool
    number: int
    """The inode's; 0 where an HttpFS does not tell."""
    modified_ms: int

    @property
    def etag(self) -> str:
        """A version: every content is written to a file of its own."""
        return f"{self.modified_ms:x}-{self.length:x}-{self.number:x}"

    def info(self, key: str, crc64nvme: int | None = None) -> ObjectInfo:
        return ObjectInfo(key, self.length, self.etag, self.modified_ms / 1000, crc64nvme)


def status_of(answer: dict[str, Any]) -> Status:
    """Of one FileStatus. (HttpFS of Hadoop 2 has no `fileId`.)"""
    return Status(
        int(answer["length"]), answer["type"] == "DIRECTORY", int(answer.get("fileId") or 0),
        int(answer["modificationTime"]),
    )  # fmt: skip


class HdfsFiles:
    """Safe for threads."""

    def __init__(self, web: WebHdfs, options: HdfsOptions) -> None:
        self.web = web
        self._options = options
        self._lock = threading.Lock()
        self._native: NativeData | None = None
        self._looked = options.data == "webhdfs"

    def status(self, path: str) -> Status | None:
        try:
            return status_of(self.web.call("GET", "GETFILESTATUS", path)["FileStatus"])
        except NotFound:
            return None

    def entries(self, path: str) -> Iterator[tuple[str, Status]]:
        """Names in a folder, in the order of their UTF-8. Nothing where it is not there."""
        try:
            found = self.web.call("GET", "LISTSTATUS", path)["FileStatuses"]["FileStatus"]
        except NotFound:
            return
        for each in sorted(found, key=lambda one: one["pathSuffix"].encode()):
            if each["pathSuffix"]:  # a file lists itself, without a name
                yield each["pathSuffix"], status_of(each)

    def make_folder(self, path: str) -> None:
        """And those above it."""
        answer = self.web.call("PUT", "MKDIRS", path)
        if not (answer or {}).get("boolean"):
            raise Unavailable(f"{self.web.what(path)}: the folder could not be made")

    def write(self, path: str, source: CheckedSource, block_size: int | None) -> Sums | None:
        """A new file in a folder that is there, compared with HDFS's own checksum; its `Sums`.

        None where HDFS gives none that is known here: then it was read back. And by the native way, unless `always` is
        asked for: there a DataNode compares the CRC-32C of each packet before it acknowledges it. By HTTP it computes its
        own. Raises ChecksumMismatch, NotFound where the folder is gone.
        """
        replication = self._options.replication
        if (native := self.native()) is not None:
            source.summing = self._options.always_compared
            native.write(path, source, block_size=block_size, replication=replication)
        else:
            self.web.send(
                "CREATE", path, source, overwrite="false", permission="644", blocksize=block_size,
                replication=replication, createparent="false",
            )  # fmt: skip
        return self._compared(path, source, block_size)

    def _compared(self, path: str, source: CheckedSource, block_size: int | None) -> Sums | None:
        """Hadoop 2 answers 201 to a CREATE that failed in the DataNode: what is there decides, never the answer."""
        what, size = self.web.what(path), len(source)
        status = self.status(path)
        if status is None or status.length != size:
            raise self._short(what, size, status)
        if not size or not source.summing:
            return None  # each packet was compared by the DataNode before it was acknowledged
        sums, stored = source.sums, self.stored_sum(path)
        if stored is None:
            self.require_content(path, size, source.meant)
            return None
        if (stored.chunk, stored.kind) != (512, "CRC32C") and stored.chunk:
            sums = sums_of(source, block_size or size, stored)
        if not sums.matches(stored):
            raise ChecksumMismatch(f"{what}: HDFS's checksum of what it stored is not that of what was sent")
        return sums

    def _short(self, what: str, size: int, status: Status | None) -> BackendError:
        """Why, as far as it can be asked: the quota of the remote's own folder, which counts whole blocks and copies."""
        said = f"{what}: HDFS has {status.length if status else 'none'} of the {size} bytes that were sent"
        try:
            found = self.web.call("GET", "GETCONTENTSUMMARY", self._options.root or "/")["ContentSummary"]
        except BackendError:
            found = {}
        if int(found.get("spaceQuota", -1)) > 0:
            return NoSpace(
                f"{said}; its folder has used {found['spaceConsumed']} of a quota of {found['spaceQuota']} bytes",
                hint="raise it (hdfs dfsadmin -setSpaceQuota) or delete old checkpoints (keep_remote)",
            )
        return Unavailable(
            said,
            hint="are DataNodes full or away (hdfs dfsadmin -report), or is there a quota above (hdfs dfs -count -q)?",
        )

    def stored_sum(self, path: str) -> StoredSum | None:
        try:
            found = self.web.call("GET", "GETFILECHECKSUM", path)["FileChecksum"]
        except NotSupported:
            return None
        return StoredSum.parse(str(found["algorithm"]), str(found["bytes"]))

    def require_content(self, path: str, size: int, crc64nvme: int) -> None:
        """Reads it back. Raises ChecksumMismatch."""
        from awscrt.checksums import crc64nvme as crc64nvme_of  # noqa: PLC0415  (rarely needed)

        window, found = memoryview(bytearray(1 << 20)), 0

        def arrived(block: memoryview) -> None:
            nonlocal found
            found = int(crc64nvme_of(block, found))

        self.receive(path, 0, size, lambda done: window[: size - done], arrived)
        require_equal(crc64nvme, found, self.web.what(path))

    def receive(
        self, path: str, offset: int, length: int, place: Callable[[int], memoryview],
        arrived: Callable[[memoryview], None],
    ) -> None:  # fmt: skip
        if (native := self.native()) is not None:
            native.receive(path, offset, length, place, arrived)
        else:
            receive(self.web.open(path, offset, length), length, place, arrived, self.web.what(path))

    def readable(self, path: str, status: Status) -> str:
        return f"{_UNNAMED}{status.number}" if status.number else path

    def rename(self, path: str, target: str, *, overwrite: bool) -> None:
        """Atomic, its folder made where it is missing. Raises PreconditionFailed where there is one already.

        An HttpFS knows no overwriting: there the old one is deleted first, which leaves a gap.
        """
        folder = target.rpartition("/")[0]
        for last in (False, False, True):
            try:
                answer = self.web.call(
                    "PUT", "RENAME", path, destination=target, renameoptions="OVERWRITE" if overwrite else "NONE"
                )
            except (NotFound, BackendError) as error:
                if last or error.code not in {"not-found", "backend"} or self.status(folder) is not None:
                    raise
                self.make_folder(folder)  # it was missing, or a delete has removed the emptied one just now
                continue
            if answer is None or answer.get("boolean"):
                return
            # Only the older call, without options, answers with a boolean.
            there = self.status(target)
            if there is None:
                self.make_folder(folder)
            elif overwrite and not there.folder:
                self.delete(target)
            else:
                raise PreconditionFailed(f"{self.web.what(target)}: there is one already")
        raise Unavailable(f"{self.web.what(target)}: it could not be renamed into place")

    def delete(self, path: str, *, recursive: bool = False) -> bool:
        """Whether there was one."""
        try:
            answer = self.web.call("DELETE", "DELETE", path, recursive="true" if recursive else "false")
        except NotFound:
            return False
        return bool((answer or {}).get("boolean"))

    def root_missing(self, root: str) -> BucketMissing:
        return BucketMissing(
            f"{self.web.where.url}: there is no folder '{root}' in this HDFS",
            hint=f"make it: hdfs dfs -mkdir -p '{root}' && hdfs dfs -chown {self._options.user} '{root}'",
        )

    def native(self) -> NativeData | None:
        """Looked for once. BadConfiguration-like refusal where it was asked for by name and is not to be had."""
        with self._lock:
            if not self._looked:
                self._native = connect(self._options, self._options.rpc or self._rpc_found())
                self._looked = self._native is not None or self._options.data != "native"
            if self._options.data == "native" and self._native is None:
                raise Unavailable(
                    f'{self.web.where.url}: data = "native", and no NameNode answers by RPC',
                    hint="pip install 'ckptd[hdfs]'; set rpc = \"nn1:8020\" (dfs.namenode.rpc-address)",
                )
            return self._native

    def _rpc_found(self) -> tuple[str, ...]:
        """The hosts as the URL names them, for they are known to be reachable; the ports as they say."""
        return tuple(f"{host}:{port}" for host, port in self.web.rpc_ports())
