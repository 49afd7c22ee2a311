"""An OSS of the tests' own: it checks every signature, keeps real files, speaks OSS's XML, errors and checksums.

    python oss_gateway.py FOLDER        prints its port; ends when its standard input is closed

Buckets: `ckptd-test` (region cn-test), `ckptd-versions` (with versions: forbids no overwriting), `ckptd-elsewhere` (of
another region), `ckptd-foreign` (of another account). `POST /-/control` with JSON, from the tests only, changes `keys`,
`clock` (seconds its own is ahead) and `quirks` (`no-part-crc`: as if a copied part had none; `encrypted`: ETags are no MD5).

What it does not do: virtual-host addressing, ACLs, versions themselves, callbacks, tagging.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sys
import threading
import time
import uuid
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from servers.oss_signature import Refused, Request, verify
from servers.oss_store import Store, Stored

REGION = "cn-test"
_KEPT = (
    "x-oss-storage-class", "x-oss-tagging", "x-oss-server-side-encryption", "x-oss-server-side-encryption-key-id",
)  # fmt: skip
"""Headers of a request that begins an object, told again by GET and HEAD (OSS itself tells tags by a call of their own)."""
KEYS: dict[str, dict[str, Any]] = {"ckptd-test": {"secret": "ckptd-test-secret"}}


class Gateway(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.buckets = {
            "ckptd-test": Store(folder / "test"),
            "ckptd-versions": Store(folder / "versions", versioned=True),
        }
        self.control: dict[str, Any] = {"keys": dict(KEYS), "clock": 0.0, "quirks": []}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rbufsize = 1 << 16
    server: Gateway

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815  (the names http.server asks for)

    def _answer(self) -> None:
        self.left = int(self.headers.get("content-length", 0))
        self.request_id = uuid.uuid4().hex[:24].upper()
        parts = urlsplit(self.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            if parts.path == "/-/control":
                self.server.control |= json.loads(self._body())
                self._send(200)
                return
            bucket, _, key = parts.path.removeprefix("/").partition("/")
            self.bucket_name, self.key = unquote(bucket), unquote(key)
            self.said = {name.lower(): value for name, value in self.headers.items()}
            self._check()
            self.store = self.server.buckets[self.bucket_name]
            (self._object if self.key else self._bucket)()
        except EOFError:
            self.close_connection = True  # the client went away in the middle: nothing is stored
        except Refused as refused:
            self._refuse(refused)

    def _check(self) -> None:
        control = self.server.control
        query = list(self.query.items())
        request = Request(self.command, self.bucket_name, self.key, query, self.said)
        verify(request, control["keys"], REGION, time.time() + control["clock"])
        if self.bucket_name == "ckptd-elsewhere":
            raise Refused(
                403, "AccessDenied", "The bucket you are attempting to access must be addressed using the specified "
                "endpoint. Please send all future requests to this endpoint.", Endpoint="oss-cn-other.aliyuncs.com",
            )  # fmt: skip
        if self.bucket_name == "ckptd-foreign":
            raise Refused(403, "AccessDenied", "The bucket you access does not belong to you.")
        if self.bucket_name not in self.server.buckets:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.", BucketName=self.bucket_name)
        if len(self.key.encode()) > 1023:
            raise Refused(400, "InvalidObjectName", "The specified object is not valid.")

    # Calls of a bucket.

    def _bucket(self) -> None:
        match self.command:
            case "GET" if "uploads" in self.query:
                self._list_uploads()
            case "GET" if self.query.get("list-type") == "2":
                self._list()
            case "POST" if "delete" in self.query:
                self._delete_many()
            case _:
                raise Refused(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")

    def _list(self) -> None:
        token = self.query.get("continuation-token") or ""
        after = base64.b64decode(token).decode() if token else self.query.get("start-after", "")
        most = int(self.query.get("max-keys", 100))
        if not 1 <= most <= 1000:
            raise Refused(400, "InvalidArgument", "Argument maxKeys must be an integer between 1 and 1000.")
        keys = self.store.keys(self.query.get("prefix", ""), after)
        page = keys[:most]
        rows = []
        for key in page:
            try:
                stored = self.store.object(key)
            except Refused:
                continue
            rows.append(
                f"<Contents><Key>{quote(key)}</Key><LastModified>{_iso(stored.modified)}</LastModified>"
                f'<ETag>"{stored.etag}"</ETag><Type>Normal</Type><Size>{stored.size}</Size>'
                "<StorageClass>Standard</StorageClass></Contents>"
            )
        more = len(keys) > most
        after_page = base64.b64encode(page[-1].encode()).decode() if more else ""
        tail = f"<NextContinuationToken>{after_page}</NextContinuationToken>" if more else ""
        self._xml(
            "ListBucketResult",
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{tail}{''.join(rows)}",
        )

    def _list_uploads(self) -> None:
        prefix, most = self.query.get("prefix", ""), int(self.query.get("max-uploads", 1000))
        marker = (self.query.get("key-marker", ""), self.query.get("upload-id-marker", ""))
        with self.store.lock:
            found = sorted(
                (upload.key, upload_id, upload.started)
                for upload_id, upload in self.store.uploads.items()
                if upload.key.startswith(prefix) and (upload.key, upload_id) > marker
            )
        page, more = found[:most], len(found) > most
        rows = "".join(
            f"<Upload><Key>{quote(key)}</Key><UploadId>{upload_id}</UploadId><Initiated>{_iso(started)}</Initiated></Upload>"
            for key, upload_id, started in page
        )
        last_key, last_id = (page[-1][0], page[-1][1]) if more else ("", "")
        self._xml(
            "ListMultipartUploadsResult",
            f"<EncodingType>url</EncodingType><NextKeyMarker>{quote(last_key)}</NextKeyMarker>"
            f"<NextUploadIdMarker>{last_id}</NextUploadIdMarker><IsTruncated>{str(more).lower()}</IsTruncated>{rows}",
        )

    def _delete_many(self) -> None:
        body = self._body()
        if self.said.get("content-md5") != base64.b64encode(_md5(body)).decode():
            raise Refused(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        keys = [node.text or "" for node in ET.fromstring(body).iter("Key")]
        if not 1 <= len(keys) <= 1000:
            raise Refused(400, "MalformedXML", "The XML you provided was not well-formed.")
        for key in keys:
            self.store.delete(key)
        rows = "".join(f"<Deleted><Key>{quote(key)}</Key></Deleted>" for key in keys)
        self._xml("DeleteResult", f"<EncodingType>url</EncodingType>{rows}")

    # Calls of an object.

    def _object(self) -> None:
        upload_id = self.query.get("uploadId")
        match self.command:
            case "PUT" if upload_id is not None:
                self._put_part(upload_id)
            case "PUT" if "x-oss-copy-source" in self.said:
                self._copy()
            case "PUT":
                self._put()
            case "POST" if "uploads" in self.query:
                started = self.store.begin(self.key, self._kept_headers())
                self._xml("InitiateMultipartUploadResult", f"<UploadId>{started}</UploadId>")
            case "POST" if upload_id is not None:
                self._complete(upload_id)
            case "DELETE" if upload_id is not None:
                self.store.abort(self.key, upload_id)
                self._send(204)
            case "DELETE":
                self.store.delete(self.key)
                self._send(204)
            case "GET" if upload_id is not None:
                self._list_parts(upload_id)
            case "GET" | "HEAD":
                self._get()
            case _:
                raise Refused(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")

    def _kept_headers(self) -> dict[str, str]:
        return {name: self.said[name] for name in _KEPT if name in self.said}

    def _received(self) -> Stored:
        if self.left > 5 << 30:
            raise Refused(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
        if "content-length" not in self.said:
            raise Refused(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        wanted = self.said.get("content-md5")
        length, self.left = self.left, 0
        return self.store.receive(self.rfile, length, base64.b64decode(wanted).hex() if wanted else None)

    def _put(self) -> None:
        stored = replace(self._received(), headers=self._kept_headers())
        self.store.publish(self.key, stored, forbid=self.said.get("x-oss-forbid-overwrite") == "true")
        self._send(200, {"ETag": f'"{stored.etag}"', "x-oss-hash-crc64ecma": str(stored.crc)})

    def _put_part(self, upload_id: str) -> None:
        self.store.upload(self.key, upload_id)
        number = int(self.query["partNumber"])
        if "x-oss-copy-source" not in self.said:
            stored = self._received()
            self.store.add_part(self.key, upload_id, number, stored)
            self._send(200, {"ETag": f'"{stored.etag}"', "x-oss-hash-crc64ecma": str(stored.crc)})
            return
        stored = self._copied()
        if "encrypted" in self.server.control["quirks"]:
            stored = replace(stored, etag=uuid.uuid4().hex.upper())
        self.store.add_part(self.key, upload_id, number, stored)
        crc = {} if "no-part-crc" in self.server.control["quirks"] else {"x-oss-hash-crc64ecma": str(stored.crc)}
        self._xml("CopyPartResult", f'<ETag>"{stored.etag}"</ETag>', {"ETag": f'"{stored.etag}"'} | crc)

    def _list_parts(self, upload_id: str) -> None:
        after, most = int(self.query.get("part-number-marker") or 0), int(self.query.get("max-parts", 1000))
        with self.store.lock:
            found = sorted(item for item in self.store.upload(self.key, upload_id).parts.items() if item[0] > after)
        page, more = found[:most], len(found) > most
        rows = "".join(
            f'<Part><PartNumber>{number}</PartNumber><ETag>"{part.etag}"</ETag><Size>{part.size}</Size>'
            f"<LastModified>{_iso(part.modified)}</LastModified></Part>"
            for number, part in page
        )
        last = page[-1][0] if page else 0
        self._xml(
            "ListPartsResult",
            f"<NextPartNumberMarker>{last}</NextPartNumberMarker><IsTruncated>{str(more).lower()}</IsTruncated>{rows}",
        )

    def _copied(self) -> Stored:
        """Of `x-oss-copy-source`, its range and its condition."""
        bucket, _, key = unquote(self.said["x-oss-copy-source"]).removeprefix("/").partition("/")
        store = self.server.buckets[bucket]
        origin, file = store.opened(key)
        with file:
            if self.said.get("x-oss-copy-source-if-match", origin.etag) != origin.etag:
                raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
            first, last = 0, origin.size - 1
            if asked := self.said.get("x-oss-copy-source-range"):
                first, last = map(int, asked.removeprefix("bytes=").split("-"))
            if not first <= last < origin.size:
                raise Refused(416, "InvalidRange", "The requested range is not satisfiable.")
            file.seek(first)
            return self.store.receive(file, last + 1 - first)

    def _copy(self) -> None:
        stored = replace(self._copied(), headers=self._kept_headers())
        self.store.publish(self.key, stored, forbid=self.said.get("x-oss-forbid-overwrite") == "true")
        self._xml("CopyObjectResult", f'<ETag>"{stored.etag}"</ETag>', {"ETag": f'"{stored.etag}"'})

    def _complete(self, upload_id: str) -> None:
        try:
            root = ET.fromstring(self._body())
            listed = [
                (int(node.findtext("PartNumber") or 0), node.findtext("ETag") or "") for node in root.iter("Part")
            ]
        except ET.ParseError:
            raise Refused(400, "MalformedXML", "The XML you provided was not well-formed.") from None
        forbid = self.said.get("x-oss-forbid-overwrite") == "true"
        stored = self.store.complete(self.key, upload_id, listed, forbid=forbid)
        headers = {"ETag": f'"{stored.etag}"', "x-oss-hash-crc64ecma": str(stored.crc)}
        self._xml("CompleteMultipartUploadResult", f'<ETag>"{stored.etag}"</ETag>', headers)

    def _get(self) -> None:
        stored, file = self.store.opened(self.key)
        with file:
            headers = {
                "ETag": f'"{stored.etag}"', "Last-Modified": formatdate(stored.modified, usegmt=True),
                "x-oss-hash-crc64ecma": str(stored.crc), "x-oss-object-type": "Normal", "Accept-Ranges": "bytes",
            } | stored.headers  # fmt: skip
            first, count, status = 0, stored.size, 200
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.said.get("range", ""))
            if asked:
                first, last = int(asked[1]), int(asked[2] or stored.size - 1)
                if first < stored.size and last < stored.size:
                    count, status = last + 1 - first, 206
                elif self.said.get("x-oss-range-behavior") != "standard":
                    first = 0  # so it is: a range that is not there is no range
                elif first >= stored.size:
                    raise Refused(416, "InvalidRange", "The requested range is not satisfiable.")
                else:
                    count, status = stored.size - first, 206
                if status == 206:
                    headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{stored.size}"
            self._head(status, count, headers)
            if self.command != "HEAD" and count:
                self.wfile.flush()
                self.connection.sendfile(file, first, count)

    # Answering.

    def _body(self) -> bytes:
        length, self.left = self.left, 0
        body = self.rfile.read(length)
        if len(body) < length:
            raise EOFError
        return body

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("x-oss-request-id", self.request_id)
        if status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(int(time.time() + self.server.control["clock"]))

    def _send(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self._head(status, len(body), headers or {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _xml(self, root: str, inside: str, headers: dict[str, str] | None = None) -> None:
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{inside}</{root}>'.encode()
        self._send(200, {"Content-Type": "application/xml"} | (headers or {}), body)

    def _refuse(self, refused: Refused) -> None:
        """Reads off what is still coming, so that the client sees the answer and no reset."""
        while self.left > 0:
            got = len(self.rfile.read(min(self.left, 1 << 20)))
            if not got:
                self.close_connection = True
                return
            self.left -= got
        details = {"Code": refused.code, "Message": refused.message, "RequestId": self.request_id} | refused.details
        inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in details.items())
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inside}</Error>'.encode()
        headers = {"Content-Type": "application/xml"}
        if self.command == "HEAD":
            headers["x-oss-err"] = base64.b64encode(body).decode()
        self._send(refused.status, headers, b"" if self.command == "HEAD" else body)


def _iso(stamp: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stamp))


def _md5(body: bytes) -> bytes:
    import hashlib

    return hashlib.md5(body).digest()


def main() -> None:
    gateway = Gateway(Path(sys.argv[1]))
    threading.Thread(target=gateway.serve_forever, daemon=True).start()
    print(gateway.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
