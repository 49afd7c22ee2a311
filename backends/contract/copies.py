"""Bytes that stay inside the store. For backends that copy; the others are never asked."""

from __future__ import annotations

import os

import pytest
from awscrt.checksums import crc64nvme

from backends.base import Backend, Copying, Origin, PartTag
from backends.contract.sources import FIRST, MIB, SECOND, TAIL, WHOLE, Memory, put, put_part, read
from backends.errors import ChecksumMismatch, NotFound, ObjectChanged, UploadGone


class CopyingStore(Backend, Copying):
    """What a store is for which `capabilities.copies` holds."""


class _Unread(Memory):
    """Whose bytes stay where they are: for stores whose own word on a copy is a CRC64NVME, or which read it back."""

    def read(self, size: int = -1, /) -> bytes | memoryview:  # noqa: ARG002  (the interface)
        raise AssertionError("the bytes of a copy are not sent")


def _unsent(store: Backend, data: bytes) -> Memory:
    """Other stores' checksums have to be taken of it."""
    return (_Unread if store.capabilities.store_checksum in {"crc64nvme", "none"} else Memory)(data)


class TestCopies:
    """For backends that copy inside the store; the others are never asked."""

    @pytest.fixture
    def copier(self, store: Backend) -> CopyingStore:
        if not store.capabilities.copies:
            pytest.skip("this backend does not copy")
        return store  # type: ignore[return-value]

    @pytest.fixture
    def origin(self, copier: CopyingStore) -> Origin:
        """In parts, under a name that a header can only carry escaped."""
        key = "run/ö 1%0A+&?/model.bin"
        upload = copier.begin(key, len(WHOLE))
        parts = [
            put_part(copier, key, upload, number, (number - 1) * 5 * MIB, data)
            for number, data in enumerate((FIRST, SECOND, TAIL), start=1)
        ]
        return Origin(key, copier.finish(key, upload, parts, crc64nvme(WHOLE)).etag)

    @staticmethod
    def copy_part(
        store: CopyingStore, upload: str, number: int, origin: Origin, data: bytes, crc: int | None = None
    ) -> PartTag:
        meant = crc64nvme(data) if crc is None else crc
        return store.copy_part("run/new", upload, number, (number - 1) * 5 * MIB, origin, _unsent(store, data), meant)

    def test_parts_that_did_not_change_are_copied_between_parts_that_are_sent(
        self, copier: CopyingStore, origin: Origin
    ) -> None:
        changed = os.urandom(5 * MIB)
        new = FIRST + changed + TAIL
        upload = copier.begin("run/new", len(new))
        parts = [
            self.copy_part(copier, upload, 1, origin, FIRST),
            put_part(copier, "run/new", upload, 2, 5 * MIB, changed),
            self.copy_part(copier, upload, 3, origin, TAIL),
        ]
        assert [(part.size, part.crc64nvme) for part in parts] == [
            (len(data), crc64nvme(data)) for data in (FIRST, changed, TAIL)
        ]
        info = copier.finish("run/new", upload, parts, crc64nvme(new))
        assert (info.size, info.crc64nvme) == (len(new), crc64nvme(new))
        assert read(copier, "run/new", len(new), etag=info.etag) == new
        assert read(copier, origin.key, len(WHOLE), etag=origin.etag) == WHOLE

    def test_a_part_may_be_sent_after_it_was_copied(self, copier: CopyingStore, origin: Origin) -> None:
        changed = os.urandom(5 * MIB)
        upload = copier.begin("run/new", len(changed))
        self.copy_part(copier, upload, 1, origin, FIRST)
        parts = [put_part(copier, "run/new", upload, 1, 0, changed)]
        copier.finish("run/new", upload, parts, crc64nvme(changed))
        assert read(copier, "run/new", 5 * MIB) == changed

    def test_a_whole_object_is_copied(self, copier: CopyingStore) -> None:
        old = put(copier, "run/ö 1%0A+&?/small", FIRST)
        info = copier.copy("run/new", Origin(old.key, old.etag), _unsent(copier, FIRST), crc64nvme(FIRST))
        assert (info.key, info.size, info.crc64nvme) == ("run/new", len(FIRST), crc64nvme(FIRST))
        head = copier.head("run/new")
        assert head is not None
        assert (head.size, head.etag) == (info.size, info.etag)
        assert abs(head.modified - info.modified) < 5
        copier.delete([old.key])
        assert read(copier, "run/new", len(FIRST), etag=info.etag) == FIRST

    def test_an_origin_that_was_replaced_is_refused(self, copier: CopyingStore, origin: Origin) -> None:
        put(copier, origin.key, WHOLE[::-1])
        upload = copier.begin("run/new", len(FIRST))
        with pytest.raises(ObjectChanged):
            self.copy_part(copier, upload, 1, origin, FIRST)
        with pytest.raises(ObjectChanged):
            copier.copy("run/new", origin, Memory(WHOLE), crc64nvme(WHOLE))
        assert copier.head("run/new") is None
        parts = [put_part(copier, "run/new", upload, 1, 0, FIRST)]  # and the upload goes on
        copier.finish("run/new", upload, parts, crc64nvme(FIRST))

    @pytest.mark.parametrize("key", ["run/gone", "run/new/below", "run/ö 1%0A+&?"])
    def test_an_origin_that_is_gone_is_named(self, copier: CopyingStore, origin: Origin, key: str) -> None:
        upload = copier.begin("run/new", len(FIRST))
        with pytest.raises(NotFound, match="run/"):
            self.copy_part(copier, upload, 1, Origin(key, origin.etag), FIRST)
        with pytest.raises(NotFound, match="run/"):
            copier.copy("run/new", Origin(key, origin.etag), Memory(FIRST), crc64nvme(FIRST))
        copier.abort("run/new", upload)

    def test_a_range_beyond_the_end_of_the_origin_is_refused(self, copier: CopyingStore, origin: Origin) -> None:
        upload = copier.begin("run/new", 20 * MIB)
        for number in (3, 4):  # half of it, and nothing of it
            with pytest.raises(ObjectChanged):
                self.copy_part(copier, upload, number, origin, FIRST)
        copier.abort("run/new", upload)

    def test_bytes_that_are_not_the_ones_meant_are_found(self, copier: CopyingStore, origin: Origin) -> None:
        """As when what is known of the origin is wrong: its version is right, its bytes are not."""
        other = Memory(SECOND)
        upload = copier.begin("run/new", len(FIRST))
        with pytest.raises(ChecksumMismatch):
            copier.copy_part("run/new", upload, 1, 0, origin, other, crc64nvme(SECOND))
        copier.abort("run/new", upload)
        old = put(copier, "run/old", FIRST)
        with pytest.raises(ChecksumMismatch):
            copier.copy("run/new", Origin("run/old", old.etag), other, crc64nvme(SECOND))

    def test_an_origin_that_is_longer_is_no_copy_of_a_whole(self, copier: CopyingStore, origin: Origin) -> None:
        """`file://` takes what was asked for; a store that copies whole objects only has to notice."""
        try:
            info = copier.copy("run/new", origin, Memory(FIRST), crc64nvme(FIRST))
        except (ChecksumMismatch, ObjectChanged):
            return
        assert read(copier, "run/new", info.size) == FIRST

    def test_an_upload_that_is_gone_is_gone_for_copies_too(self, copier: CopyingStore, origin: Origin) -> None:
        upload = copier.begin("run/new", len(FIRST))
        copier.abort("run/new", upload)
        with pytest.raises(UploadGone):
            self.copy_part(copier, upload, 1, origin, FIRST)
