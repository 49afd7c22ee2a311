"""Finds and opens the backend of a remote. The only module of ckptd that imports `backends`.

Backends register under the entry-point group `ckptd.backends`, the name being the URL scheme; ours like anybody's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from importlib import metadata

import backends
from backends.base import Backend, Copying, ObjectInfo, Origin, PartTag, Source
from backends.errors import BackendError
from ckptd.transfer.calls import ObjectStat, Remote
from ckptd.transfer.refusal import BUG, CONFIGURATION, UNKNOWN_SCHEME, Refusal, Refused

__all__ = [
    "Backend", "BackendError", "Copying", "Origin", "PartTag", "Registry", "Source", "refusal_of", "stat_of",
]  # fmt: skip

GROUP = "ckptd.backends"


class Registry:
    """The opened backends of one process; each is shared by its threads, as the interface promises."""

    def __init__(self, entry_points: Iterable[metadata.EntryPoint] | None = None) -> None:
        found = metadata.entry_points(group=GROUP) if entry_points is None else entry_points
        self._entries = {each.name: each for each in found}
        self._opened: dict[tuple[str, tuple[tuple[str, str], ...]], Backend] = {}
        self._lock = threading.Lock()

    def open(self, remote: Remote) -> Backend:
        """Raises Refused: unknown scheme, a backend that cannot be loaded, a URL or option that cannot work."""
        identity = (remote.url, remote.options)
        with self._lock:
            if identity not in self._opened:
                self._opened[identity] = self._make(remote)
            return self._opened[identity]

    def _make(self, remote: Remote) -> Backend:
        ensure_ours()
        scheme = remote.url.partition("://")[0] if "://" in remote.url else ""
        entry = self._entries.get(scheme)
        if entry is None:
            raise Refused(self._unknown(remote, scheme))
        try:
            kind: type[Backend] = entry.load()
        except (ImportError, AttributeError) as error:
            message = f"the backend for {scheme}:// ({entry.value}) cannot be loaded: {error}"
            raise Refused(Refusal(CONFIGURATION, message, "reinstall the package that provides it")) from error
        try:
            return kind.from_url(remote.url, dict(remote.options))
        except BackendError as error:
            raise Refused(refusal_of(error)) from error

    def _unknown(self, remote: Remote, scheme: str) -> Refusal:
        if not self._entries:
            hint = "ckptd is not installed here, only lying about: pip install -e . (or pip install ckptd)"
            return Refusal(UNKNOWN_SCHEME, f"no backend at all is registered, so not for '{remote.url}'", hint)
        known = ", ".join(f"{name}://" for name in sorted(self._entries))
        what = f"no backend for {scheme}://" if scheme else f"'{remote.url}' is no URL"
        hint = f"use one of these, or install a package with an entry point '{scheme or 'SCHEME'}' in the group {GROUP}"
        return Refusal(UNKNOWN_SCHEME, f"{what} (known: {known})", hint)

    def close(self) -> None:
        with self._lock:
            for backend in self._opened.values():
                backend.close()
            self._opened.clear()


def ensure_ours() -> None:
    """`backends` is a common name: another distribution's would shadow ours, or ours be replaced by it."""
    if getattr(backends, "OWNER", None) != "ckptd":
        where = getattr(backends, "__file__", None) or next(iter(backends.__path__), "?")
        message = f"the Python package 'backends' that was found is not ckptd's but {where}"
        raise Refused(Refusal(CONFIGURATION, message, "install ckptd into an environment of its own"))


def refusal_of(error: BackendError) -> Refusal:
    code = error.code if error.code != "backend" else BUG
    return Refusal(code, error.message, error.hint, error.retryable, error.retry_after)


def stat_of(info: ObjectInfo) -> ObjectStat:
    return ObjectStat(info.key, info.size, info.etag, info.modified, info.crc64nvme)
