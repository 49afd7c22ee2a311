"""What the OSS gateway keeps: the bytes in real files, what is known of them in memory."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcrc import crc64
from servers.oss_signature import Refused

MIN_PART = 100 << 10
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Stored:
    path: Path
    size: int
    etag: str
    crc: int
    modified: float
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Upload:
    key: str
    started: float
    headers: dict[str, str]
    parts: dict[int, Stored] = field(default_factory=dict)


class Store:
    """Everything of one bucket."""

    def __init__(self, folder: Path, *, versioned: bool = False) -> None:
        folder.mkdir(parents=True)
        self.folder, self.versioned = folder, versioned
        self.lock = threading.RLock()
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}

    def receive(self, source: Any, length: int, md5: str | None = None) -> Stored:
        """Writes `length` bytes. Raises EOFError when fewer come, Refused where their MD5 is another."""
        path = self.folder / uuid.uuid4().hex
        digest, crc, left, buffer = hashlib.md5(), 0, length, memoryview(bytearray(_BLOCK))
        try:
            with path.open("wb") as file:
                while left:
                    got = source.readinto(buffer[: min(left, _BLOCK)])
                    if not got:
                        raise EOFError  # noqa: TRY301  (the file is removed on the way out)
                    block = buffer[:got]
                    file.write(block)
                    digest.update(block)
                    crc = crc64.xz(block, crc)
                    left -= got
            if md5 is not None and md5 != digest.hexdigest():
                raise Refused(400, "InvalidDigest", "The MD5 you specified was invalid.")  # noqa: TRY301  (the same)
        except BaseException:
            path.unlink()
            raise
        return Stored(path, length, digest.hexdigest().upper(), crc, time.time())

    def publish(self, key: str, stored: Stored, *, forbid: bool = False) -> None:
        with self.lock:
            old = self.objects.get(key)
            if forbid and old is not None and not self.versioned:
                stored.path.unlink()
                raise Refused(
                    409, "FileAlreadyExists", "The object you specified already exists and can not be overwritten."
                )
            self.objects[key] = stored
        if old is not None:
            old.path.unlink()

    def object(self, key: str) -> Stored:
        with self.lock:
            if key not in self.objects:
                raise Refused(404, "NoSuchKey", "The specified key does not exist.", Key=key)
            return self.objects[key]

    def opened(self, key: str) -> tuple[Stored, Any]:
        """With the file open: what is replaced meanwhile can be read to its end."""
        with self.lock:
            stored = self.object(key)
            return stored, stored.path.open("rb")

    def begin(self, key: str, headers: dict[str, str]) -> str:
        with self.lock:
            upload_id = uuid.uuid4().hex.upper()
            self.uploads[upload_id] = Upload(key, time.time(), headers)
            return upload_id

    def upload(self, key: str, upload_id: str) -> Upload:
        with self.lock:
            found = self.uploads.get(upload_id)
            if found is None or found.key != key:
                raise Refused(404, "NoSuchUpload", "The specified upload does not exist.", UploadId=upload_id)
            return found

    def add_part(self, key: str, upload_id: str, number: int, stored: Stored) -> None:
        if not 1 <= number <= 10_000:
            raise Refused(400, "InvalidArgument", "Part number must be an integer between 1 and 10000.")
        with self.lock:
            parts = self.upload(key, upload_id).parts
            if number in parts:
                parts[number].path.unlink()
            parts[number] = stored

    def complete(self, key: str, upload_id: str, listed: list[tuple[int, str]], *, forbid: bool) -> Stored:
        with self.lock:
            upload = self.upload(key, upload_id)
            numbers = [number for number, _ in listed]
            if numbers != sorted(set(numbers)):
                raise Refused(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
            for number, etag in listed:
                if number not in upload.parts or upload.parts[number].etag != etag.strip('"'):
                    raise Refused(400, "InvalidPart", "One or more of the specified parts could not be found.")
            chosen = [upload.parts[number] for number in numbers]
            if any(part.size < MIN_PART for part in chosen[:-1]):
                raise Refused(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size.")
            del self.uploads[upload_id]
        path = self.folder / uuid.uuid4().hex
        size = crc = 0
        with path.open("wb") as file:
            for part in chosen:
                with part.path.open("rb") as source:
                    while block := source.read(_BLOCK):
                        crc = crc64.xz(block, crc)
                        file.write(block)
                size += part.size
        etag = hashlib.md5("".join(part.etag for part in chosen).encode()).hexdigest().upper() + f"-{len(chosen)}"
        stored = Stored(path, size, etag, crc, time.time(), upload.headers)
        self.publish(key, stored, forbid=forbid)
        for part in upload.parts.values():
            part.path.unlink()
        return stored

    def abort(self, key: str, upload_id: str) -> None:
        with self.lock:
            for part in self.upload(key, upload_id).parts.values():
                part.path.unlink()
            del self.uploads[upload_id]

    def delete(self, key: str) -> None:
        with self.lock:
            old = self.objects.pop(key, None)
        if old is not None:
            old.path.unlink()

    def keys(self, prefix: str, after: str) -> list[str]:
        """In the order of their UTF-8."""
        with self.lock:
            found = [key for key in self.objects if key.startswith(prefix) and key.encode() > after.encode()]
        return sorted(found, key=str.encode)


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0] ^ 1
        file.seek(at)
        file.write(bytes([byte]))
        os.fsync(file.fileno())
