"""Tags in the remote: one small object each, so that two nodes that set different ones never meet.

<remote>/.ckptd/tags/<run>/<name>      {"step": 1200, "by": "gpu-017", "at": "2026-11-23T09:00:00.000Z"}
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from ckptd.domain.names import RESERVED_TAG, TAG, folder_of, path_of
from ckptd.transfer.transfers import Remote, Transfers

log = structlog.get_logger()

PREFIX = ".ckptd/tags/"
_KEY = re.compile(rf"\.ckptd/tags/(?P<run>[^/]+)/(?P<name>{TAG})")
_LARGEST_STEP = 10**18 - 1
_LONGEST = 4096
"""Bytes of an object that may be a tag."""


@dataclass(frozen=True, slots=True)
class Tag:
    step: int
    by: str
    """The node that set it."""
    at: float


@dataclass(frozen=True, slots=True)
class ListedTag:
    run: str
    name: str
    version: str
    """Changes when the object does."""


class TagStore:
    def __init__(self, transfers: Transfers, remote: Remote) -> None:
        self._transfers = transfers
        self._remote = remote

    async def listing(self, run: str | None = None) -> list[ListedTag]:
        """Raises RemoteError."""
        found = []
        prefix = PREFIX if run is None else f"{PREFIX}{folder_of(run)}/"
        for item in await self._transfers.list(self._remote, prefix):
            match = _KEY.fullmatch(item.key)
            if match is not None and match["name"] != RESERVED_TAG and item.size <= _LONGEST:
                version = item.etag or f"{item.modified}/{item.size}"
                found.append(ListedTag(path_of(match["run"]), match["name"], version))
        return found

    async def read(self, run: str, name: str) -> Tag | None:
        """None when it is gone, or is none that we understand (logged). Raises RemoteError."""
        key = _key(run, name)
        raw = await self._transfers.get(self._remote, key)
        if raw is None:
            return None
        try:
            return _tag(raw)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("tag.ignored", key=key, error=repr(error))
            return None

    async def write(self, run: str, name: str, tag: Tag) -> str:
        """Whatever is there goes: the last one to write a tag decides. Returns its version. Raises RemoteError."""
        at = datetime.fromtimestamp(tag.at, UTC).isoformat().replace("+00:00", "Z")
        body = json.dumps({"step": tag.step, "by": tag.by, "at": at}).encode()
        stat = await self._transfers.put(self._remote, _key(run, name), body)
        return stat.etag or f"{stat.modified}/{stat.size}"

    async def delete(self, run: str, name: str) -> None:
        await self._transfers.delete(self._remote, [_key(run, name)])


def _tag(raw: bytes) -> Tag:
    data = json.loads(raw)
    step = data["step"]
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step <= _LARGEST_STEP:
        raise ValueError(f"step {step!r}")
    return Tag(step, str(data["by"])[:255], datetime.fromisoformat(data["at"]).timestamp())


def _key(run: str, name: str) -> str:
    return f"{PREFIX}{folder_of(run)}/{name}"
