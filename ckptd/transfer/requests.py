"""Short requests to a store: manifests, listings, deletions, the ends of multipart uploads."""

from __future__ import annotations

import io
from contextlib import suppress
from itertools import islice
from typing import Any

from awscrt.checksums import crc64nvme

from ckptd.transfer import calls
from ckptd.transfer.refusal import CHECKSUM, OBJECT_CHANGED, UNAVAILABLE, Refusal, Refused
from ckptd.transfer.registry import Backend, BackendError, Registry, stat_of


class Bytes(io.BytesIO):
    """A small object as a `backends.base.Source`; it has no descriptor, as BytesIO says itself."""

    offset = 0

    def __len__(self) -> int:
        return self.getbuffer().nbytes


def perform(registry: Registry, call: calls.Call[Any]) -> object:
    match call:
        case calls.Describe():
            return _describe(registry.open(call.remote))
        case calls.Probe():
            registry.open(call.remote).probe()
        case calls.Begin():
            return _begin(registry.open(call.remote), call)
        case calls.Abort():
            registry.open(call.remote).abort(call.key, call.upload_id)
        case calls.Get():
            return _get(registry.open(call.remote), call.key)
        case calls.Put():
            backend = registry.open(call.remote)
            return stat_of(backend.put(call.key, Bytes(call.data), crc64nvme(call.data), if_absent=call.if_absent))
        case calls.ListPage():
            return _page(registry.open(call.remote), call)
        case calls.Head():
            info = registry.open(call.remote).head(call.key)
            return calls.Found(stat_of(info) if info else None)
        case calls.Delete():
            registry.open(call.remote).delete(call.keys)
        case _:
            raise TypeError(f"{type(call).__name__} is no call of this mover")
    return calls.Done()


def _describe(backend: Backend) -> calls.Features:
    has = backend.capabilities
    return calls.Features(has.conditional_put, has.store_checksum, has.min_part_size, has.max_parts)


def _get(backend: Backend, key: str) -> calls.Data:
    """The object as it was at one moment; a writer in between is another try."""
    info = backend.head(key)
    if info is None:
        return calls.Data(found=False)
    data = bytearray(info.size)
    if data:
        with memoryview(data) as target:
            _read(backend, key, target, info.etag or None)
    if info.crc64nvme is not None and crc64nvme(bytes(data)) != info.crc64nvme:
        raise Refused(
            Refusal(CHECKSUM, f"'{key}' came with other bytes than the store's checksum says", retryable=True)
        )
    return calls.Data(found=True, data=bytes(data))


def _read(backend: Backend, key: str, target: memoryview, etag: str | None) -> None:
    try:
        backend.read(key, 0, target, etag=etag)
    except BackendError as error:
        if error.code != OBJECT_CHANGED:
            raise
        raise Refused(Refusal(UNAVAILABLE, f"'{key}' was replaced while it was read", retryable=True)) from error


def _page(backend: Backend, call: calls.ListPage) -> calls.Page:
    found = [stat_of(info) for info in islice(backend.list(call.prefix, start_after=call.start_after), call.limit + 1)]
    return calls.Page(tuple(found[: call.limit]), more=len(found) > call.limit)


def _begin(backend: Backend, call: calls.Begin) -> calls.Begun:
    """Where the answer got lost the store may have begun an upload that nobody knows the id of: it is freed at once.

    Should another node be sending to the same key, it is told that its upload is gone and begins again.
    """
    try:
        return calls.Begun(backend.begin(call.key, call.size))
    except BackendError as error:
        if error.retryable:
            with suppress(BackendError):
                for found in backend.pending(call.key):
                    if found.key == call.key:
                        backend.abort(found.key, found.upload_id)
        raise
