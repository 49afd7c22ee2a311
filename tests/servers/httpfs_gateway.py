"""An HttpFS for the tests: its protocol (Hadoop 2.7, HttpFSServer.java) before the real NameNode and DataNode.

There is no HttpFS among Hadoop's jars on PyPI: it is a web application of its own. What differs from a NameNode is done here as
there: it answers OPEN, CREATE and GETFILECHECKSUM itself, wants uploads with `data=true` and as application/octet-stream, has no
`fileId`, renames only where nothing is, knows only the parameters that its classes name, and has no /jmx.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from servers.certificates import Certificate
from servers.hdfs_cluster import HdfsCluster

_PREFIX = "/webhdfs/v1"
_KNOWN = {
    "GET": {"OPEN", "GETFILESTATUS", "LISTSTATUS", "GETCONTENTSUMMARY", "GETFILECHECKSUM"},
    "PUT": {"CREATE", "MKDIRS", "RENAME"},
    "POST": {"CONCAT"},
    "DELETE": {"DELETE"},
}
_PARAMETERS = {
    "OPEN": {"offset", "length"}, "CREATE": {"overwrite", "replication", "blocksize", "permission"},
    "MKDIRS": {"permission"}, "RENAME": {"destination"}, "CONCAT": {"sources"}, "DELETE": {"recursive"},
}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def _answer(self) -> None:
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query))
        op = query.get("op", "").upper()
        if not address.path.startswith(_PREFIX) or op not in _KNOWN[self.command]:
            self._say(404 if not address.path.startswith(_PREFIX) else 400, {})
            return
        path, data = unquote(address.path.removeprefix(_PREFIX)), None
        if op == "CREATE":
            if query.get("data") != "true":
                host = self.headers["host"]
                again = urlencode({**query, "data": "true"})
                scheme = "https" if self.server.certificate else "http"
                self._send(307, b"", {"Location": f"{scheme}://{host}{address.path}?{again}"})
                return
            if self.headers.get("content-type") != "application/octet-stream":
                self._say(
                    400,
                    {
                        "RemoteException": {
                            "exception": "HttpFSException",
                            "message": "Data upload requests must have content-type",
                        }
                    },
                )
                return
            data = self.rfile.read(int(self.headers["content-length"]))
        if op in {"OPEN", "GETFILECHECKSUM"}:
            path = self._by_number(path)
        known = {name: query[name] for name in _PARAMETERS.get(op, set()) if name in query}
        answer = self.server.cluster.webhdfs(
            self.command, path, op, user=query.get("user.name", ""), data=data, **known
        )
        self.server.asked.append(op)
        content = answer.content
        if op in {"GETFILESTATUS", "LISTSTATUS"} and answer.ok:
            content = json.dumps(_without_numbers(answer.json())).encode()
        self._send(
            answer.status_code, content, {"Content-Type": answer.headers.get("content-type", "application/json")}
        )

    def _by_number(self, path: str) -> str:
        """An HttpFS asks the NameNode by RPC; the DataNode's HTTP of Hadoop 2, by which we ask, decodes odd names wrongly."""
        found = self.server.cluster.webhdfs("GET", path, "GETFILESTATUS").json().get("FileStatus")
        return f"/.reserved/.inodes/{found['fileId']}" if found else path

    do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815  (http.server's names)

    def _say(self, status: int, what: dict[str, Any]) -> None:
        self._send(status, json.dumps(what).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def _without_numbers(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {
            name: _without_numbers(value) for name, value in answer.items() if name not in {"fileId", "childrenNum"}
        }
    return [_without_numbers(each) for each in answer] if isinstance(answer, list) else answer


class Gateway(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, cluster: HdfsCluster, certificate: Certificate | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cluster, self.certificate = cluster, certificate
        self.asked: list[str] = []
        """Operations that the cluster was asked for."""
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.cert, certificate.key)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@contextlib.contextmanager
def running(cluster: HdfsCluster, certificate: Certificate | None = None) -> Iterator[Gateway]:
    gateway = Gateway(cluster, certificate)
    thread = threading.Thread(target=gateway.serve_forever, daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        gateway.shutdown()
        gateway.server_close()
        thread.join()
