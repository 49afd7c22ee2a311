"""The faster way for the bytes: Hadoop's own protocol, by `hdfs-native` (Rust), straight to the DataNodes.

WebHDFS sends everything through a second HTTP server inside the DataNode, which writes it as a client of its own. Measured on
one node: docs/benchmarks.md. It is an extra (`ckptd[hdfs]`), needs the NameNode's RPC port, and only moves bytes: names,
checksums and joins are asked of WebHDFS.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from .caller import WatchedSource
from .errors import BackendError, CredentialsRefused, NoSpace, NotFound, PreconditionFailed, Unavailable
from .hdfs_options import HdfsOptions

_BLOCK = 1 << 20
_SERVICE = "ckptd"
_naming = threading.Lock()
_named: list[str] = []


def connect(options: HdfsOptions, rpc: tuple[str, ...]) -> NativeData | None:
    """None where it is not installed, or no NameNode answers there."""
    try:
        import hdfs_native  # noqa: PLC0415  (an extra, and only movers of hdfs:// need it)
    except ImportError:
        return None
    if not rpc or options.token_file:
        return None  # the library takes no token from us; asking a secured NameNode without one was seen to hang
    if not options.kerberos and not _is_user(options.user):
        return None
    config = {"hadoop.security.authentication": "kerberos" if options.kerberos else "simple"}
    if options.protection:
        config["dfs.data.transfer.protection"] = options.protection
    if len(rpc) == 1:
        url = f"hdfs://{rpc[0]}"
    else:
        url = f"hdfs://{_SERVICE}"
        config["dfs.nameservices"] = _SERVICE
        config[f"dfs.ha.namenodes.{_SERVICE}"] = ",".join(f"nn{n}" for n in range(len(rpc)))
        for number, address in enumerate(rpc):
            config[f"dfs.namenode.rpc-address.{_SERVICE}.nn{number}"] = address
    try:
        client = hdfs_native.Client(url, config)
        client.get_file_info("/")
    except Exception:  # noqa: BLE001 - whatever it is, the other way is there, and says what is wrong if that fails too
        return None
    return NativeData(hdfs_native, client)


def _is_user(user: str) -> bool:
    """The library asks the environment at every new connection. So one process has one user; another's goes by WebHDFS."""
    with _naming:
        if not _named:
            _named.append(user)
            os.environ["HADOOP_USER_NAME"] = user
        return _named[0] == user


class NativeData:
    """Safe for threads: the client is, each file has a reader or writer of its own."""

    def __init__(self, module: Any, client: Any) -> None:
        self._module = module
        self._client = client

    def write(self, path: str, source: WatchedSource, *, block_size: int | None, replication: int | None) -> None:
        """A new file. Raises FileNotFoundError-like NotFound where its folder is gone."""
        options = self._module.WriteOptions(
            block_size=block_size, replication=replication, overwrite=False, create_parent=False
        )
        try:
            writer = self._client.create(path, options)
            try:
                while block := source.read(_BLOCK):
                    writer.write(bytes(block))  # of another buffer it takes one byte after the other: 9 times the CPU
            finally:
                writer.close()
        except Exception as error:
            if source.failure is not None:
                raise source.failure from None
            raise _translated(error, path) from error

    def receive(
        self, path: str, offset: int, length: int, place: Callable[[int], memoryview],
        arrived: Callable[[memoryview], None],
    ) -> None:  # fmt: skip
        """As `http_body.receive`: `place(done)` is where the next bytes go."""
        done = filled = 0
        stretches, room = self._stretches(path, offset, length), place(0)
        while (stretch := _next(stretches, path)) is not None:
            view = memoryview(stretch)
            # They come in packets of 64 KiB: too small a stretch to write at a time.
            while view:
                size = min(len(room) - filled, len(view))
                room[filled : filled + size] = view[:size]
                view, filled = view[size:], filled + size
                if filled == len(room) or done + filled == length:
                    done += filled
                    arrived(room[:filled])
                    filled = 0
                    room = place(done)
        if done < length:
            raise Unavailable(f"{path}: the stream ended after {done} of {length} bytes")

    def _stretches(self, path: str, offset: int, length: int) -> Any:
        try:
            return iter(self._client.read(path).read_range_stream(offset, length))
        except Exception as error:
            raise _translated(error, path) from error


def _next(stretches: Any, path: str) -> bytes | None:
    try:
        return next(stretches, None)
    except Exception as error:
        raise _translated(error, path) from error


def _translated(error: Exception, path: str) -> BackendError:
    """By the text: the library raises ValueError, OSError and RuntimeError with Hadoop's words."""
    # Java's trace follows, its line ends escaped where the library shows an error of the RPC's whole.
    words = str(error).partition("\n")[0].partition("\\n")[0]
    said, text = f"{path}: {words}", f"{type(error).__name__} {words}"
    if isinstance(error, FileNotFoundError) or "FileNotFoundException" in text or "not found" in text.lower():
        return NotFound(said)
    if isinstance(error, FileExistsError) or "AlreadyExists" in text:
        return PreconditionFailed(said)
    if "QuotaExceeded" in text:
        return NoSpace(
            said, hint="raise the quota (hdfs dfsadmin -setSpaceQuota) or delete old checkpoints (keep_remote)"
        )
    if isinstance(error, PermissionError) or "AccessControlException" in text:
        return CredentialsRefused(said, hint="this user must be able to write there")
    return Unavailable(said, hint=_hint(text))


def _hint(text: str) -> str:
    if "safe mode" in text.lower() or "SafeMode" in text:
        return "the NameNode is in safe mode until its DataNodes have reported; or hdfs dfsadmin -safemode leave"
    if "could only be replicated" in text or "could only be written" in text or "No new datanode" in text:
        return "no DataNode takes the block: are they up, reachable and not full (hdfs dfsadmin -report)?"
    return 'is the DataNode up and reachable from here? `data = "webhdfs"` goes by HTTP instead'
