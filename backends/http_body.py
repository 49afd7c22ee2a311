"""From the socket into the target's page, without a stop on the Python heap.

What client libraries offer makes bytes of everything, and urllib3's `readinto` copies what its `read` made. The `http.client`
response underneath reads with `recv_into`; measured: 1 GiB down in 1.6-2.3 s of CPU instead of 4.6-5.9.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Any

import urllib3.exceptions

from .errors import Unavailable

_STRETCH = 512 << 10


def pour(body: Any, target: memoryview, on_bytes: Callable[[int], None] | None, what: str) -> None:
    """Fills `target` from a urllib3 response. What `on_bytes` raises comes out; the connection is dropped then.

    Raises Unavailable when the stream stops or ends early.
    """

    def arrived(stretch: memoryview) -> None:
        if on_bytes is not None:
            on_bytes(len(stretch))

    receive(body, len(target), lambda done: target[done : done + _STRETCH], arrived, what)


def flow(body: Any, length: int, window: memoryview, on_block: Callable[[memoryview], None], what: str) -> None:
    """Like `pour`, but everything passes through the same small window."""
    receive(body, length, lambda done: window[: length - done], on_block, what)


def receive(
    body: Any, length: int, place: Callable[[int], memoryview], arrived: Callable[[memoryview], None], what: str
) -> None:
    whole = False
    try:
        reader = _reader(body)
        done = 0
        while done < length:
            room = place(done)
            try:
                got = reader.readinto(room)
            except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
                raise Unavailable(f"{what}: the connection failed after {done} of {length} bytes: {error}") from error
            if not got:
                raise Unavailable(f"{what}: the connection ended after {done} of {length} bytes")
            done += got
            arrived(room[:got])
        # A store that ignored the range's end has more to say: that connection cannot serve another request.
        whole = bool(getattr(reader, "isclosed", bool)())
    finally:
        _give_back(body, reusable=whole)


def _reader(body: Any) -> Any:
    """The `http.client.HTTPResponse` inside; the body itself should the libraries ever hide it."""
    inner = getattr(body, "_original_response", None)
    return inner if isinstance(inner, http.client.HTTPResponse) else body


def _give_back(body: Any, *, reusable: bool) -> None:
    """A connection whose answer was read to its end serves the next request; any other is closed."""
    release = getattr(body, "release_conn", None)
    if reusable and release is not None:
        release()
    else:
        body.close()
