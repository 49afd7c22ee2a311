"""Looking at an `s3://` remote from outside while daemons work on it."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

from botocore.exceptions import ClientError
from tests_node_daemon import MIB, Daemon

from backends.base import Backend
from backends.contract.sources import read

PART = 5 * MIB
"""S3 takes no smaller ones."""
TRANSFER = 'parallel = 4\npart_size = "5MiB"'
QUICK = {"read_timeout": "2", "connect_timeout": "2"}


def content_of(store: Backend, key: str) -> bytes:
    """Of an object in any store."""
    head = store.head(key)
    assert head is not None, key
    return read(store, key, head.size)


class Bucket:
    """One prefix, seen with a client of its own, straight at the server."""

    def __init__(self, server: Any, url: str) -> None:
        self._client = server.client()
        parts = urlsplit(url)
        self.bucket, self.prefix = parts.netloc, parts.path.strip("/") + "/"

    def names(self) -> list[str]:
        """All of them, ckptd's own too."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        return [entry["Key"].removeprefix(self.prefix) for page in pages for entry in page.get("Contents", ())]

    def get(self, key: str) -> bytes:
        body: bytes = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()
        return body

    def head(self, key: str) -> Any:
        return self._client.head_object(Bucket=self.bucket, Key=self.prefix + key, ChecksumMode="ENABLED")

    def put(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=body)

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def manifests(self) -> dict[str, Any]:
        return {key: json.loads(self.get(key)) for key in self.names() if key.startswith(".ckptd/manifests/")}

    def unfinished(self) -> list[str]:
        """Keys of uploads in parts that were begun and neither finished nor aborted."""
        found = self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix)
        return [entry["Key"].removeprefix(self.prefix) for entry in found.get("Uploads", ())]

    def complaint(self) -> str | None:
        """Whether a manifest speaks of an object that is not there, or is of another size or checksum."""
        for key in self.names():
            if not key.startswith(".ckptd/manifests/"):
                continue
            try:
                text = self.get(key)
            except ClientError:
                continue  # taken back since it was listed
            for entry in json.loads(text)["files"]:
                wrong = self._wrong(entry)
                if wrong and self._still(key, text):
                    return f"{key} speaks of {entry['key']}: {wrong}"
        return None

    def _wrong(self, entry: dict[str, Any]) -> str | None:
        if "link" in entry:
            return None
        try:
            found = self.head(entry["key"])
        except ClientError as error:
            return str(error)
        if found["ContentLength"] != entry["size"] or found["ETag"] != entry["etag"]:
            return f"{found['ContentLength']} bytes {found['ETag']} instead of {entry['size']} {entry['etag']}"
        return None

    def _still(self, key: str, text: bytes) -> bool:
        try:
            return self.get(key) == text
        except ClientError:
            return False

    def clear(self) -> None:
        for key in self.names():
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)
        self.close()

    def close(self) -> None:
        self._client.close()


def options(remote: Any, **more: str) -> str:
    """The volume's options in the configuration file."""
    return "\n".join(f'{name} = "{value}"' for name, value in (remote.options | QUICK | more).items())


def parts_sent(requests: list[tuple[str, str]]) -> Counter[int]:
    """How often each part was sent, by number."""
    asked = [parse_qs(urlsplit(path).query) for method, path in requests if method == "PUT"]
    return Counter(int(query["partNumber"][0]) for query in asked if "partNumber" in query)


def stretches(ranges: list[tuple[str, str]], name: str) -> Counter[int]:
    """How often each stretch of the object was asked for, by its first byte."""
    found = [re.fullmatch(r"bytes=(\d+)-\d+", asked) for path, asked in ranges if path.endswith(name)]
    return Counter(int(match[1]) for match in found if match)


def events(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """The newest of each kind."""
    return {event["event"]: event for event in daemon.json("events")}


def exposed(daemon: Daemon) -> int:
    return int(daemon.get("/v1/status")["exposure"]["bytes"])


def remote_ok(daemon: Daemon) -> bool:
    return bool(daemon.get("/v1/status")["volumes"][0]["remote_ok"])
