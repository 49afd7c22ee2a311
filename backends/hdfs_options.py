"""What `hdfs://` takes: its URL and its options.

    hdfs://nn1:9870,nn2:9870/prefix   the NameNodes' *HTTP* addresses (dfs.namenode.http-address), all of an HA pair, or an
                                      HttpFS or Knox gateway; without a port: 9870, with `tls` 9871

    user               the Hadoop user; default: HADOOP_USER_NAME, else who the daemon runs as
    auth               simple | kerberos (SPNEGO with the ticket that is there: `pip install 'ckptd[kerberos]'`)
    token_file         file with a delegation token in its URL-safe form; read again whenever it changes
    tls                true | false
    verify_tls         true | false
    ca_bundle          file with the certificates to trust
    http_path          default `/webhdfs/v1`; Knox: `/gateway/default/webhdfs/v1`
    data               auto | native | webhdfs: how the bytes go; auto: native where `hdfs-native` is installed and the
                       NameNode's RPC port answers
    data_transfer_protection  authentication | integrity | privacy: the cluster's dfs.data.transfer.protection, for native with
                       Kerberos; default: as HADOOP_CONF_DIR has it, else none
    rpc                `nn1:8020,nn2:8020`; default: asked of the NameNodes themselves (`/jmx`)
    join               concat | stream: where no CONCAT is possible (encryption zones) a file goes up in one stream
    checksum           auto | always: whether HDFS's checksum of a file is compared also where the protocol compared each packet
    replication        copies of each block; default: the cluster's
    block_size         bytes, or as `128MiB`; default: the size of a part
    connect_timeout    seconds, default 30; also bounds how long one block may wait to be sent
    read_timeout       seconds without a byte from the server, default 60

Tokens and passwords are no options: tickets come from Kerberos' own cache, tokens from a file.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from .errors import BadConfiguration
from .option_texts import check_values, seconds

_CHOICES = {
    "auth": ("simple", "kerberos"),
    "tls": ("true", "false"),
    "verify_tls": ("true", "false"),
    "data": ("auto", "native", "webhdfs"),
    "data_transfer_protection": ("authentication", "integrity", "privacy"),
    "join": ("concat", "stream"),
    "checksum": ("auto", "always"),
}
_FREE = (
    "user", "token_file", "ca_bundle", "http_path", "rpc", "replication", "block_size", "connect_timeout", "read_timeout",
)  # fmt: skip
_SECRETS = {"token", "delegation", "password", "keytab_password"}
_HTTP_PORT, _HTTPS_PORT, _RPC_PORT = 9870, 9871, 8020
"""Hadoop 3's (hdfs-default.xml). Hadoop 2 has 50070 and 50470."""
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_USER_OF_ENVIRONMENT = os.environ.get("HADOOP_USER_NAME")
"""As it was at the start: `hdfs_native` sets it for the library."""
_CHUNK = 512
"""`dfs.bytes-per-checksum`: a block is a multiple of it."""


@dataclass(frozen=True, slots=True)
class HdfsOptions:
    namenodes: tuple[str, ...]
    """`host:port` of HTTP."""
    root: str
    """Absolute, without a slash at its end: empty for `/` itself."""
    user: str
    kerberos: bool
    token_file: str | None
    tls: bool
    verify: bool | str
    """As requests takes it: a file of certificates, or whether to look at all."""
    http_path: str
    data: str
    protection: str | None
    """Of what goes to DataNodes by the native protocol: dfs.data.transfer.protection."""
    rpc: tuple[str, ...]
    concat: bool
    always_compared: bool
    replication: int | None
    block_size: int | None
    """Bytes."""
    connect_timeout: float
    read_timeout: float

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.tls else 'http'}://{','.join(self.namenodes)}"

    @classmethod
    def parse(cls, url: str, options: Mapping[str, str]) -> Self:
        """Raises BadConfiguration, with a hint, for what can never work."""
        for name in options:
            if name in _SECRETS:
                raise BadConfiguration(
                    f"'{name}' is no option: secrets do not belong into configuration files",
                    hint='name a token_file, or use auth = "kerberos"',
                )
        check_values(options, _FREE, _CHOICES, "an hdfs:// remote")
        tls = options.get("tls") == "true"
        namenodes, root = _namenodes_and_root(url, _HTTPS_PORT if tls else _HTTP_PORT)
        ca_bundle = options.get("ca_bundle") or None
        if ca_bundle is not None and not os.path.exists(ca_bundle):
            raise BadConfiguration(f"ca_bundle '{ca_bundle}' does not exist", hint="a PEM file of trusted certificates")
        http_path = options.get("http_path", "/webhdfs/v1")
        if not http_path.startswith("/"):
            raise BadConfiguration(f"http_path = '{http_path}'", hint="begins with a slash, as /webhdfs/v1")
        return cls(
            namenodes=namenodes,
            root=root,
            user=options.get("user") or _USER_OF_ENVIRONMENT or getpass.getuser(),
            kerberos=options.get("auth") == "kerberos",
            token_file=options.get("token_file") or None,
            tls=tls,
            verify=(ca_bundle or True) if options.get("verify_tls", "true") == "true" else False,
            http_path=http_path.rstrip("/"),
            data=options.get("data", "auto"),
            protection=options.get("data_transfer_protection"),
            rpc=tuple(_address(text, _RPC_PORT, "rpc") for text in options.get("rpc", "").split(",") if text.strip()),
            always_compared=options.get("checksum") == "always",
            concat=options.get("join", "concat") == "concat",
            replication=_replication(options.get("replication", "")),
            block_size=_block_size(options.get("block_size", "")),
            connect_timeout=seconds(options, "connect_timeout", 30.0),
            read_timeout=seconds(options, "read_timeout", 60.0),
        )


def _namenodes_and_root(url: str, port: int) -> tuple[tuple[str, ...], str]:
    scheme, _, rest = url.partition("://")
    if scheme != "hdfs":
        raise BadConfiguration(f"'{url}' is not an hdfs:// URL")
    hosts, _, path = rest.partition("/")
    if not hosts:
        raise BadConfiguration(f"'{url}' names no NameNode", hint="hdfs://nn1:9870,nn2:9870/prefix")
    if "@" in hosts:
        raise BadConfiguration(f"'{url}' names a user", hint='set the option user = "…"')
    segments = [segment for segment in unquote(path).split("/") if segment]
    if any(segment in {".", ".."} or ":" in segment for segment in segments):
        raise BadConfiguration(f"'{url}' is no folder of HDFS", hint="no '.', '..' or ':' in its names")
    namenodes = tuple(_address(text, port, url) for text in hosts.split(","))
    return namenodes, "".join(f"/{segment}" for segment in segments)


def _address(text: str, port: int, where: str) -> str:
    found = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?", text.strip())
    if found is None or not 0 < int(found[2] or port) < 65536:
        raise BadConfiguration(f"'{text}' in {where} is no address", hint="host:port, several with commas between them")
    return f"{found[1]}:{found[2] or port}"


def _replication(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 512:
        raise BadConfiguration(f"replication = '{text}'", hint="copies of each block, 1 to 512")
    return int(text)


def _block_size(text: str) -> int | None:
    if not text:
        return None
    found = re.fullmatch(r"(\d+)\s*([kmg]?)(i?b)?", text.strip().lower())
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if size < 1 << 20 or size % _CHUNK:
        raise BadConfiguration(f"block_size = '{text}'", hint=f"1MiB or more, a multiple of {_CHUNK} bytes")
    return size
