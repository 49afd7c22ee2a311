"""An AWS S3 of the tests' own that only says no: with AWS's codes, XML and headers, for AWS's reasons, in AWS's order.

    with AwsRefusals() as aws:
        aws.clock = 3600          # seconds its own is ahead
        aws.endpoint              # as endpoint_url

It serves region `us-east-1`. Buckets: `ckptd-here`, `ckptd-elsewhere` (of eu-central-1), `ckptd-foreign` (of another account).
What it finds nothing wrong with it refuses as NotImplemented: a test that gets so far has not met what it is about. `asked` lists
what came, `odd` what no client of S3 sends.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. It checks the form of a signature, not the signature:
that, unknown keys and missing buckets a real server refuses (`s3_server`).
"""

from __future__ import annotations

import calendar
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

REGION, ELSEWHERE = "us-east-1", "eu-central-1"
BUCKETS = ("ckptd-here", "ckptd-elsewhere", "ckptd-foreign")
SKEW_S = 900
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/s3/aws4_request, "
    r"SignedHeaders=(?P<headers>[a-z0-9;-]+), Signature=[0-9a-f]{64}"
)


class Refused(Exception):
    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None, **more: str
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.headers, self.more = status, code, message, headers or {}, more


class AwsRefusals(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.clock = 0.0
        self.tokens: dict[str, str] = {}
        """Session token → the code with which it is refused."""
        self.names_region = True
        """False: a wrong region is told in words only, as some compatible stores do."""
        self.asked: list[tuple[str, str]] = []
        self.odd: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join(10)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AwsRefusals

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if self.headers.get("expect", "").lower() != "100-continue":
            self.rfile.read(length)
        self.server.asked.append((self.command, self.path))
        try:
            self._judge()
        except Refused as refused:
            self._say(refused)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815  (the names http.server asks for)

    def handle_expect_100(self) -> bool:
        return True  # refused before the body comes

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(int(time.time() + self.server.clock))

    def _judge(self) -> None:
        said = _SIGNED.fullmatch(self.headers.get("authorization", ""))
        moment, bucket = self.headers.get("x-amz-date", ""), urlsplit(self.path).path.split("/")[1]
        if said is None or not moment.startswith(said["day"]) or "host" not in said["headers"].split(";"):
            self.server.odd.append(f"{self.command} {self.path}: {dict(self.headers)}")
            raise Refused(403, "AccessDenied", "Access Denied")
        self._judge_clock(moment)
        self._judge_token()
        if bucket not in BUCKETS:
            self.server.odd.append(f"{self.command} {self.path}")
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist", BucketName=bucket)
        if said["region"] != REGION and bucket != "ckptd-elsewhere":
            words = (
                f"The authorization header is malformed; the region '{said['region']}' is wrong; expecting '{REGION}'"
            )
            region = {"Region": REGION} if self.server.names_region else {}
            raise Refused(400, "AuthorizationHeaderMalformed", words, **region)
        if bucket == "ckptd-elsewhere":
            raise Refused(
                301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified "
                "endpoint. Please send all future requests to this endpoint.", {"x-amz-bucket-region": ELSEWHERE},
                Endpoint=f"{bucket}.s3.{ELSEWHERE}.amazonaws.com", Bucket=bucket,
            )  # fmt: skip
        if bucket == "ckptd-foreign":
            raise Refused(403, "AccessDenied", "Access Denied")
        raise Refused(501, "NotImplemented", "A header you provided implies functionality that is not implemented.")

    def _judge_clock(self, moment: str) -> None:
        now = time.time() + self.server.clock
        if abs(now - calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ"))) > SKEW_S:
            raise Refused(
                403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.",
                RequestTime=moment, ServerTime=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
                MaxAllowedSkewMilliseconds=str(SKEW_S * 1000),
            )  # fmt: skip

    def _judge_token(self) -> None:
        """AWS hands the token back in its refusal."""
        token = self.headers.get("x-amz-security-token", "")
        code = self.server.tokens.get(token, "")
        if code == "ExpiredToken":
            raise Refused(400, code, "The provided token has expired.", **{"Token-0": token})
        if code:
            raise Refused(400, code, "The provided token is malformed or otherwise invalid.", **{"Token-0": token})

    def _say(self, refused: Refused) -> None:
        more: dict[str, Any] = {"RequestId": "4442587FB7D0A2F9", "HostId": "Uuag1LuByRx9e6j5Onimru9pO4ZVKnJ2Qz7"}
        told = {"Code": refused.code, "Message": refused.message} | refused.more | more
        inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in told.items())
        body = (
            b""
            if self.command == "HEAD"
            else f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inside}</Error>'.encode()
        )
        self.send_response(refused.status)
        headers = {"Content-Type": "application/xml", "x-amz-request-id": more["RequestId"]}
        for name, value in (
            headers | refused.headers | {"Content-Length": str(len(body)), "Connection": "close"}
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
