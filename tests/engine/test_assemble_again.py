"""A look that takes over what did not change says the same as one that judges everything anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ckptd.catalog import CopyRow, FileRow, UnitName
from ckptd.catalog.nodes import Withdrawal
from ckptd.domain.launch import Launch
from ckptd.domain.model import Attributes, Checksums, Place
from ckptd.engine.known import Committed
from ckptd.engine.unit import Unit
from ckptd.engine.units import assemble_units
from ckptd.layouts import locate
from ckptd.manifest import Manifest, ManifestEntry
from ckptd.policy.policy import Policy

BEGIN = 1_000_000.0
RUN = ("v", "run")
NAMES = (
    "model.safetensors", "trainer_state.json", "rng_state_0.pth", "rng_state_1.pth", "__0_0.distcp", "__1_0.distcp",
    ".metadata", "model.pt.tmp",
)  # fmt: skip
steps = st.sampled_from((1, 2, 3, 4))
names = st.sampled_from(NAMES)
nodes = st.sampled_from(("here", "there"))


def said(unit: Unit) -> Mapping[str, object]:
    """All that a unit tells others, and nothing of how it came to know it."""
    told = (
        "key", "state", "reason", "framework", "root", "wake_at", "manifest_current", "names", "pointed", "outlived",
        "written", "superseded", "part", "part_committed", "rewrites", "mine", "aside", "withdrawn", "before", "launch",
        "went", "taken", "files", "bytes", "hot_bytes", "durable_bytes", "hot", "exposed", "open_rows", "tiers", "written_at",
        "begun", "cold", "summed", "addition", "added",
    )  # fmt: skip
    return {name: getattr(unit, name) for name in told} | {"rows": tuple(unit.rows)}


class LookingAgain(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN
        self.ids = 0
        self.rows: dict[UnitName, tuple[FileRow, ...]] = {}
        self.known: dict[tuple[str, str, int], Committed] = {}
        self.went: dict[tuple[str, str, int], Mapping[str, Withdrawal]] = {}
        self.launches: dict[tuple[str, str, int], Launch] = {}
        self.policy = Policy(settle_s=2.0)
        self.before: dict[UnitName, Unit] = {}

    def _row(self, path: str, content: int, *, closed: bool, size: int = 10, points_to: int | None = None) -> None:
        self.ids += 1
        where = locate(path)
        sums = Checksums(size, 1 << 20, (content,), content) if closed else None
        row = FileRow(
            self.ids, "v", path, where.run, where.step, None, 1, closed, size, Attributes(0o644, 0, 0, int(self.now * 1e9)),
            self.now, None, sums, {Place.RAM: CopyRow(Place.RAM, 1, f"/{path}")} if closed else {}, points_to,
        )  # fmt: skip
        others = [one for one in self.rows.get(row.unit, ()) if one.path != path]
        self.rows[row.unit] = (*others, row)

    def _replace(self, unit: UnitName, rows: list[FileRow]) -> None:
        if rows:
            self.rows[unit] = tuple(rows)
        else:
            self.rows.pop(unit, None)

    @rule(step=steps, some=st.sets(names, min_size=1), content=st.sampled_from((1, 2)), closed=st.booleans())
    def write(self, step: int, some: set[str], content: int, closed: bool) -> None:
        for name in sorted(some):
            self._row(f"run/checkpoint-{step}/{name}", content, closed=closed, size=100 if "model" in name else 10)

    @rule(step=steps, name=names)
    def delete_one(self, step: int, name: str) -> None:
        unit = (*RUN, step)
        self._replace(unit, [row for row in self.rows.get(unit, ()) if not row.path.endswith(f"/{name}")])

    @rule(step=steps)
    def evict(self, step: int) -> None:
        self.rows.pop((*RUN, step), None)

    @rule(step=steps)
    def lose_copies(self, step: int) -> None:
        unit = (*RUN, step)
        self._replace(unit, [replace(row, copies={}) for row in self.rows.get(unit, ())])

    @rule(step=steps)
    def upload(self, step: int) -> None:
        unit = (*RUN, step)
        remote = CopyRow(Place.REMOTE, 1, "key")
        self._replace(
            unit, [replace(row, copies={**row.copies, Place.REMOTE: remote}) for row in self.rows.get(unit, ())]
        )

    @rule(step=steps)
    def point(self, step: int) -> None:
        self._row("run/latest", step, closed=True, points_to=step)

    @rule(step=steps, node=nodes, count=st.sampled_from((0, 1, 1, 2)), anew=st.booleans())
    def commit(self, step: int, node: str, count: int, anew: bool) -> None:
        rows = [row for row in self.rows.get((*RUN, step), ()) if row.checksums and not locate(row.path).temporary]
        if not rows:
            return
        committed = self.known.get((*RUN, step), Committed())
        replaces = {name: old.written_at for name, old in committed.by_node.items() if name != node} if anew else {}
        manifest = Manifest(
            "run", step, node, count, "hf-trainer", "test", f"run/checkpoint-{step}", max(row.changed_at for row in rows),
            self.now, tuple(ManifestEntry(row.path, row.attributes, row.checksums) for row in rows), (), replaces,
        )  # fmt: skip
        self.known[(*RUN, step)] = replace(committed, by_node={**committed.by_node, node: manifest})

    @rule(step=steps, node=nodes, ours=st.booleans())
    def withdraw(self, step: int, node: str, ours: bool) -> None:
        key = (*RUN, step)
        committed = self.known.get(key)
        if committed is None or node not in committed.by_node:
            return
        gone = committed.by_node[node]
        self.went[key] = {**self.went.get(key, {}), node: Withdrawal(round(gone.written_at, 3), ours)}
        del self.known[key]
        if left := {name: manifest for name, manifest in committed.by_node.items() if name != node}:
            self.known[key] = replace(committed, by_node=left)

    @rule(step=steps, count=st.sampled_from((1, 2)))
    def launch(self, step: int, count: int) -> None:
        self.launches[(*RUN, step)] = Launch(count, 2 * count, 2, "torchrun")

    @rule(count=st.sampled_from((0, 1, 2)), settle_s=st.sampled_from((0.5, 2.0)))
    def set_policy(self, count: int, settle_s: float) -> None:
        self.policy = replace(self.policy, nodes=count, settle_s=settle_s)

    @rule(seconds=st.sampled_from((0.001, 0.3, 1.0, 3.0, 200.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_same_is_said(self) -> None:
        again, anew = self._look(self.before), self._look({})
        assert [said(unit) for unit in again] == [said(unit) for unit in anew]
        self.before = {unit.key: unit for unit in again}

    def _look(self, before: Mapping[UnitName, Unit]) -> list[Unit]:
        return assemble_units(
            self.rows, self.known.items(), {RUN: self.policy}, self.now, before, node="here", launches=self.launches,
            withdrawn=self.went,
        )  # fmt: skip


LookingAgain.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLookingAgain = LookingAgain.TestCase
