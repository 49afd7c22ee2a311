"""`Files` against a dictionary: random sequences of what fronts and the engine do to it, rolled back or not."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ckptd.catalog import Catalog, CopyRow, FileRow
from ckptd.catalog.files import NewContent, Relocation
from ckptd.domain.model import Attributes, Checksums, Place

VOLUMES = ("ckpt", "other")
PATHS = ("run-1/step-1/a", "run-1/step-1/\udcff b", "run-1/loose", "run-2/step-2/%41\n", "run-2/x0", "run-2/x/y")
SUMS = Checksums(7, 4, (2**64 - 1, 5), 2**63)
PLACES = st.sampled_from(list(Place))


class Undone(Exception):
    """Ends a transaction without committing it."""


def content(path: str, size: int, number: int, *, copied: bool, link: bool, id_: int | None) -> NewContent:
    copy = CopyRow(Place.RAM, 0, f"/ram/{path}", number, number * 10) if copied and not link else None
    run, _, rest = path.partition("/")
    step = int(rest[5]) if rest.startswith("step-") else None
    attributes = Attributes(0o600 + number % 8, number, number, number * 1000)
    target = "elsewhere/\udcfe" if link else None
    return NewContent(
        path,
        run,
        step,
        target,
        copied or link,
        size,
        attributes,
        float(number),
        "cut" if number % 5 == 0 else None,
        copy,
        id_,
        requires=frozenset({"a", "\u00fc b"}) if number % 3 == 0 else frozenset(),
        began_at=None if number % 4 == 0 else number - 0.5,
    )


class FilesMachine(RuleBasedStateMachine):
    """`model` is what the catalog must say: rows by id. Inside a transaction `before` keeps what a rollback returns to."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name, "catalog.db")
        self.catalog = self.wait(Catalog.open(self.path))
        self.model: dict[int, FileRow] = {}
        self.number = 0

    def teardown(self) -> None:
        self.wait(self.catalog.close())
        self.directory.cleanup()
        self.loop.close()

    def wait(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def row_at(self, volume: str, path: str) -> FileRow | None:
        return next((row for row in self.model.values() if (row.volume, row.path) == (volume, path)), None)

    async def apply(self, *, undo: bool, look: bool, work: Any) -> None:
        """Does `work`; with `undo` in a transaction that is rolled back, with `look` asking for all rows in its middle."""
        before = dict(self.model)
        try:
            async with self.catalog.transaction():
                await work()
                if look:
                    assert {row.id: row for row in await self.catalog.files.all()} == self.model
                if undo:
                    raise Undone  # noqa: TRY301 - the way to have it rolled back
        except Undone:
            self.model = before

    @rule(
        volume=st.sampled_from(VOLUMES), paths=st.sets(st.sampled_from(PATHS), min_size=1), size=st.integers(0, 9),
        copied=st.booleans(), link=st.booleans(), undo=st.booleans(), look=st.booleans(), with_id=st.booleans(),
    )  # fmt: skip
    def settle(
        self,
        volume: str,
        paths: set[str],
        size: int,
        *,
        copied: bool,
        link: bool,
        undo: bool,
        look: bool,
        with_id: bool,
    ) -> None:
        self.number += 1
        found = []
        for path in sorted(paths):
            row = self.row_at(volume, path)
            id_ = row.id if row is not None and with_id else None
            found.append(content(path, size, self.number, copied=copied, link=link, id_=id_))

        async def work() -> None:
            await self.catalog.files.settle(volume, found)
            for new in found:
                fresh = await self.catalog.files.at(volume, new.path)
                assert fresh is not None
                old = self.row_at(volume, new.path)
                assert old is None or old.id == fresh.id
                self.model[fresh.id] = self.settled(volume, new, old, fresh.id)

        self.wait(self.apply(undo=undo, look=look, work=work))

    @staticmethod
    def settled(volume: str, new: NewContent, old: FileRow | None, id_: int) -> FileRow:
        generation = 1 if old is None else old.generation + 1
        anew = old is None or (old.closed and (not new.closed or new.changed_at - old.changed_at > 0.25))
        copies = {} if old is None else dict(old.copies)
        if new.copy is not None:
            copies[new.copy.place] = replace(new.copy, generation=generation)
        return FileRow(
            id_, volume, new.path, new.run, new.step, new.link, generation, new.closed, new.size, new.attributes,
            new.changed_at, new.defect, None, copies, requires=new.requires,
            began_at=new.began_at if anew else old.began_at,
        )  # fmt: skip

    def any_row(self, data: st.DataObject) -> FileRow:
        return self.model[data.draw(st.sampled_from(sorted(self.model)))]

    @precondition(lambda self: self.model)
    @rule(data=st.data(), place=PLACES, current=st.booleans(), undo=st.booleans(), look=st.booleans())
    def put_copy(self, data: st.DataObject, place: Place, *, current: bool, undo: bool, look: bool) -> None:
        row = self.any_row(data)
        copy = CopyRow(place, row.generation + (0 if current else 1), "k\udcff", 3, 4, "etag")

        async def work() -> None:
            assert await self.catalog.files.put_copy(row.id, copy) is current
            if current:
                self.model[row.id] = replace(row, copies=row.copies | {place: copy})

        self.wait(self.apply(undo=undo, look=look, work=work))

    @precondition(lambda self: self.model)
    @rule(data=st.data(), place=PLACES, undo=st.booleans())
    def drop_copy(self, data: st.DataObject, place: Place, *, undo: bool) -> None:
        row = self.any_row(data)

        async def work() -> None:
            await self.catalog.files.drop_copy(row.id, place)
            self.model[row.id] = replace(
                row, copies={key: copy for key, copy in row.copies.items() if key is not place}
            )

        self.wait(self.apply(undo=undo, look=False, work=work))

    @precondition(lambda self: self.model)
    @rule(data=st.data(), current=st.booleans(), undo=st.booleans(), look=st.booleans())
    def set_checksums(self, data: st.DataObject, *, current: bool, undo: bool, look: bool) -> None:
        row = self.any_row(data)
        sums = replace(SUMS, size=row.size)

        async def work() -> None:
            await self.catalog.files.set_checksums(row.id, row.generation if current else row.generation + 1, sums)
            if current:
                self.model[row.id] = replace(row, checksums=sums)

        self.wait(self.apply(undo=undo, look=look, work=work))

    @precondition(lambda self: self.model)
    @rule(data=st.data(), undo=st.booleans())
    def reopened_and_grown(self, data: st.DataObject, *, undo: bool) -> None:
        row = self.any_row(data)

        async def work() -> None:
            await self.catalog.files.opened(row.id, 77.0)
            await self.catalog.files.grew([(99, row.id)])
            await self.catalog.files.set_attributes(row.id, Attributes(0o644, 1, 2, 3))
            self.model[row.id] = replace(
                row, closed=False, changed_at=77.0, began_at=77.0 if row.closed else row.began_at, size=99,
                attributes=Attributes(0o644, 1, 2, 3),
                checksums=None if row.checksums is None else replace(row.checksums, size=99),
            )  # fmt: skip

        self.wait(self.apply(undo=undo, look=False, work=work))

    @precondition(lambda self: self.model)
    @rule(data=st.data(), path=st.sampled_from(PATHS), moves=st.booleans(), undo=st.booleans(), look=st.booleans())
    def relocate(self, data: st.DataObject, path: str, *, moves: bool, undo: bool, look: bool) -> None:
        row = self.any_row(data)
        there = self.row_at(row.volume, path)
        location = f"/ram/{path}" if moves else None

        async def work() -> None:
            if there is not None and there.id != row.id:  # what is there is replaced, as by rename(2)
                await self.catalog.files.delete([there.id])
                del self.model[there.id]
            needs = frozenset({path})
            moved = Relocation(row.id, path, "r", 5, 9.5, None, None, location, needs)
            await self.catalog.files.relocate([moved], Place.RAM)
            copies = dict(row.copies)
            copies.pop(Place.REMOTE, None)
            if location is not None and Place.RAM in copies:
                copies[Place.RAM] = replace(copies[Place.RAM], location=location)
            self.model[row.id] = replace(
                row, path=path, run="r", step=5, changed_at=9.5, defect=None, copies=copies, requires=needs
            )

        self.wait(self.apply(undo=undo, look=look, work=work))

    @precondition(lambda self: self.model)
    @rule(data=st.data(), undo=st.booleans(), look=st.booleans())
    def delete(self, data: st.DataObject, *, undo: bool, look: bool) -> None:
        row = self.any_row(data)

        async def work() -> None:
            await self.catalog.files.delete([row.id])
            del self.model[row.id]

        self.wait(self.apply(undo=undo, look=look, work=work))

    @rule()
    def restart(self) -> None:
        self.wait(self.catalog.close())
        self.catalog = self.wait(Catalog.open(self.path))
        assert self.catalog.kept is None

    @rule()
    def look(self) -> None:
        """What is kept equals the model; rows that did not change are the same objects."""
        rows = self.wait(self.catalog.files.all())
        assert {row.id: row for row in rows} == self.model
        assert all(one is other for one, other in zip(rows, self.wait(self.catalog.files.all()), strict=True))
        units = dict(self.wait(self.catalog.files.by_unit()))
        assert units == {unit: tuple(row for row in rows if row.unit == unit) for unit in {row.unit for row in rows}}
        again = self.wait(self.catalog.files.by_unit())
        assert all(again[unit] is its for unit, its in units.items())

    @invariant()
    def every_way_of_reading_agrees(self) -> None:
        if not hasattr(self, "catalog"):
            return
        files = self.catalog.files
        for row in self.model.values():
            assert self.wait(files.get(row.id)) == row
        assert [row.id for row in self.wait(files.all("ckpt"))] == [
            id_ for id_ in sorted(self.model) if self.model[id_].volume == "ckpt"
        ]
        under = {row.id for row in self.wait(files.under("ckpt", "run-2/x"))}
        assert under == {
            id_ for id_, row in self.model.items() if row.volume == "ckpt" and row.path.startswith("run-2/x/")
        }


FilesMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, derandomize=True, database=None
)
TestFiles = FilesMachine.TestCase
