"""WebHDFS, one attempt a call: which NameNode is asked, how it is told who asks, and the way to the DataNode it names.

https://hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-hdfs/WebHDFS.html

A call goes to the NameNode that answered last; where that one is in standby, starting or away, to the next. That is not a
repetition: a standby NameNode has done nothing. OPEN, CREATE and GETFILECHECKSUM are redirected to a DataNode, with a
delegation token in the address where the cluster is secured; an HttpFS answers OPEN itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter

from .caller import WatchedSource
from .errors import BackendError, CredentialsRefused, Unavailable
from .hdfs_errors import IN_STANDBY, WIRE, Answered, from_answer, from_wire, ticket_refused
from .hdfs_options import HdfsOptions
from .hdfs_spnego import Spnego
from .translation import Where

_POOL = 64
_REDIRECTED = (307, 302)


class WebHdfs:
    """Safe for threads: requests' pool is, and the order of the NameNodes is replaced as a whole."""

    def __init__(self, url: str, options: HdfsOptions) -> None:
        self.options = options
        self.where = Where(url, options.endpoint)
        self._namenodes = options.namenodes
        self._lock = threading.Lock()
        self._session: requests.Session | None = None
        self._token = _TokenFile(options.token_file) if options.token_file else None

    def call(self, method: str, op: str, path: str, **parameters: str | int | None) -> Any:
        """The JSON of the answer; None where it has none. Redirects (of GETFILECHECKSUM) are followed."""
        with self.translating(path):
            response = self._asked(method, op, path, parameters)
            if response.status_code in _REDIRECTED:
                response = self._datanode(method, response.headers["location"])
            if not response.content:
                return None
            try:
                return response.json()
            except ValueError:
                raise Answered(response) from None

    def send(self, op: str, path: str, body: WatchedSource | Any, **parameters: str | int | None) -> None:
        """A body, to the DataNode that the NameNode names. `body` has `read` and `__len__`."""
        source = body if isinstance(body, WatchedSource) else None
        with self.translating(path, source=source):
            response = self._asked("PUT", op, path, parameters)
            if response.status_code not in _REDIRECTED:
                raise Answered(response)
            self._datanode(
                "PUT", response.headers["location"], data=body if len(body) else b"",
                headers={"Content-Type": "application/octet-stream"},
            )  # fmt: skip

    def open(self, path: str, offset: int, length: int) -> Any:
        """The urllib3 response of a stretch of a file. The caller reads it to its end or closes it."""
        with self.translating(path):
            response = self._asked("GET", "OPEN", path, {"offset": offset, "length": length}, stream=True)
            if response.status_code in _REDIRECTED:
                response.close()
                response = self._datanode("GET", response.headers["location"], stream=True)
            return response.raw

    def rpc_ports(self) -> list[tuple[str, int]]:
        """Host and RPC port of each NameNode, as far as its `/jmx` tells. A gateway tells nothing."""
        found = []
        for namenode in self.options.namenodes:
            try:
                beans = self._connected().get(
                    f"{self._scheme}://{namenode}/jmx", params={"qry": "Hadoop:service=NameNode,name=NameNodeStatus"},
                    **self._limits(),
                ).json()["beans"]  # fmt: skip
                found.append((namenode.rpartition(":")[0], int(str(beans[0]["HostAndPort"]).rpartition(":")[2])))
            except (*WIRE, ValueError, LookupError, TypeError):
                continue
        return found

    @contextmanager
    def translating(self, path: str, *, source: WatchedSource | None = None) -> Iterator[None]:
        """What the block raises comes out as a BackendError, what the caller's `source` raised as it is."""
        what = self.what(path)
        try:
            yield
        except BackendError:
            raise
        except Exception as error:
            if source is not None and source.failure is not None:
                raise source.failure from None
            if isinstance(error, Answered):
                raise from_answer(error, what, self.options) from error
            if isinstance(error, WIRE):
                host = self._host_of(error)
                known = {each.rpartition(":")[0] for each in self.options.namenodes} | set(self.options.namenodes)
                raise from_wire(error, what, host, datanode=bool(host) and host not in known) from error
            if type(error).__module__.partition(".")[0] == "gssapi":
                raise ticket_refused(error, what) from error
            raise

    def what(self, path: str) -> str:
        """An object as people know it: the remote's URL and the key."""
        return self.where.what(path.removeprefix(self.options.root).lstrip("/"))

    def close(self) -> None:
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    # How a request is made.

    @property
    def _scheme(self) -> str:
        return "https" if self.options.tls else "http"

    def _asked(
        self, method: str, op: str, path: str, parameters: dict[str, str | int | None], *, stream: bool = False
    ) -> requests.Response:
        """The first answer of a NameNode that is not in standby. Raises Answered, what requests raises, Unavailable."""
        query = {"op": op, **self._who(), **{name: value for name, value in parameters.items() if value is not None}}
        failures: list[Exception] = []
        for namenode in self._namenodes:
            try:
                response = self._connected().request(
                    method, f"{self._scheme}://{namenode}{self.options.http_path}{quote(path)}", params=query,
                    **self._limits(), allow_redirects=False,
                    stream=stream,
                )  # fmt: skip
                if response.status_code >= 400:
                    raise Answered(response)  # noqa: TRY301  (a standby's answer is one of the failures)
            except (requests.ConnectionError, requests.Timeout) as error:
                failures.append(error)
            except Answered as error:
                if error.name not in IN_STANDBY:
                    raise
                failures.append(error)
            else:
                self._namenodes = (namenode, *(each for each in self._namenodes if each != namenode))
                return response
        if len(failures) == 1:
            raise failures[0]
        said = "; ".join(f"{each}: {_short(error)}" for each, error in zip(self._namenodes, failures, strict=False))
        raise Unavailable(
            f"{self.what(path)}: no NameNode is active and reachable ({said})",
            hint="hdfs haadmin -getAllServiceState; are these their HTTP addresses (dfs.namenode.http-address)?",
        )

    def _datanode(self, method: str, location: str, **more: Any) -> requests.Response:
        response = self._connected().request(
            method, location, allow_redirects=False,
            **self._limits(), **more,
        )  # fmt: skip
        if response.status_code >= 300:
            raise Answered(response)
        return response

    def _limits(self) -> dict[str, Any]:
        """Of each request: on a session `verify` gives way to REQUESTS_CA_BUNDLE."""
        timeout = (self.options.connect_timeout, self.options.read_timeout)
        return {"timeout": timeout, "verify": self.options.verify}

    def _who(self) -> dict[str, str]:
        if self._token is not None:
            return {"delegation": self._token.read()}
        return {} if self.options.kerberos else {"user.name": self.options.user}

    def _connected(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                session = requests.Session()
                session.mount("http://", HTTPAdapter(pool_maxsize=_POOL))
                session.mount("https://", HTTPAdapter(pool_maxsize=_POOL))
                session.auth = Spnego() if self.options.kerberos else _as_it_is
                self._session = session
            return self._session

    def _host_of(self, error: Exception) -> str:
        request = getattr(error, "request", None)
        return urlsplit(getattr(request, "url", None) or "").netloc


class _TokenFile:
    """A delegation token that somebody else renews."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._read: tuple[tuple[int, int], str] | None = None

    def read(self) -> str:
        try:
            status = os.stat(self._path)
            version = (status.st_mtime_ns, status.st_ino)
            if self._read is None or self._read[0] != version:
                with open(self._path, encoding="ascii") as file:
                    self._read = version, file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsRefused(
                f"token_file '{self._path}': {error}", hint="a delegation token in its URL-safe form"
            ) from error
        return self._read[1]


def _as_it_is(request: Any) -> Any:
    """Requests adds what a ~/.netrc says where it is given no `auth` at all."""
    return request


def _short(error: Exception) -> str:
    return error.name if isinstance(error, Answered) else type(error).__name__
