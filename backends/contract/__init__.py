"""What every backend promises, as tests that a third party runs against its own.

    # conftest.py or the test module itself
    from backends.contract import *

    @pytest.fixture
    def open_store():
        opened = []

        def opener():
            opened.append(MyBackend.from_url("mine://…", {}))  # the same fresh, empty remote each time
            return opened[-1]

        yield opener
        ...  # delete what is left, close all of `opened`

It needs pytest, and nothing of ckptd but `backends`. `docs/backends.md` has a whole example.
"""

# ruff: noqa: E402  (asserts are rewritten only in modules that are imported after this)

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in ("copies", "listing", "parts", "putting", "reading")))

from .copies import TestCopies
from .fixtures import store
from .listing import TestDeleting, TestListing
from .parts import TestParts, test_no_part_is_copied_onto_the_python_heap
from .putting import TestConditions, TestPut, test_probe_finds_the_store_fit_and_leaves_nothing_behind
from .reading import TestReading

__all__ = [
    "TestConditions", "TestCopies", "TestDeleting", "TestListing", "TestParts", "TestPut", "TestReading", "store",
    "test_no_part_is_copied_onto_the_python_heap", "test_probe_finds_the_store_fit_and_leaves_nothing_behind",
]  # fmt: skip
