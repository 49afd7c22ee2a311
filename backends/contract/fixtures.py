"""What the tests are given besides `open_store`, which is the caller's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.base import Backend


@pytest.fixture
def store(open_store: Callable[[], Backend]) -> Backend:
    """One instance; tests that need several, as several processes have, take `open_store`."""
    return open_store()
