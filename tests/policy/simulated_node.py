"""A node reduced to what the planner decides about, which executes plans and objects when one of them is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from ckptd.domain.model import CheckpointState, Place
from ckptd.policy.actions import Abandon, Action, Commit, Demote, Evict, Promote, Prune, Uncommit, Upload
from ckptd.policy.plan import plan
from ckptd.policy.policy import Policy, Sync
from ckptd.policy.snapshot import FileView, Snapshot, TierView, UnitView

RAM, NVME, REMOTE = Place.RAM, Place.NVME, Place.REMOTE
Key = tuple[str, int | None]
RESTORABLE = {CheckpointState.COMPLETE, CheckpointState.COMMITTED}


@dataclass
class SimulatedFile:
    id: int
    size: int
    closed_at: float
    last: bool = False
    generation: int = 1
    settled: bool = True
    local: set[Place] = field(default_factory=lambda: {RAM})
    running: Action | None = None
    retry_at: float = 0.0
    move_retry_at: float = 0.0


@dataclass
class SimulatedUnit:
    run: str
    step: int | None
    written: CheckpointState  # WRITING, COMPLETE or TORN; COMMITTED follows from the manifest
    files: dict[int, SimulatedFile] = field(default_factory=dict)
    pinned: Place | None = None
    manifest: dict[int, int] | None = None
    running: Action | None = None
    retry_at: float = 0.0

    @property
    def contents(self) -> dict[int, int]:
        return {file.id: file.generation for file in self.files.values()}


class SimulatedNode:
    def __init__(self) -> None:
        self.now = 10_000.0
        self.units: dict[Key, SimulatedUnit] = {}
        self.policies = {"a": Policy(), "b": Policy(sync=Sync.LATEST, keep_hot=1, keep_nvme=2)}
        self.budgets = {RAM: 60, NVME: 100}
        self.reserve = 0
        self.remote_ok = True
        self.objects: dict[int, int] = {}  # file id -> generation in the remote
        self.sent: set[tuple[int, int]] = set()
        self.pruned: set[int] = set()
        self.executing: list[tuple[Action, dict[int, int]]] = []  # with the unit's contents at the start
        self._ids = 0

    # -- what the planner sees

    def durable(self, file: SimulatedFile) -> bool:
        return self.objects.get(file.id) == file.generation

    def state(self, unit: SimulatedUnit) -> CheckpointState:
        whole = unit.step is not None and unit.written is CheckpointState.COMPLETE
        return CheckpointState.COMMITTED if whole and unit.manifest == unit.contents else unit.written

    def begun(self, unit: SimulatedUnit) -> bool:
        return any((f.id, f.generation) in self.sent or self.durable(f) for f in unit.files.values())

    def used(self, place: Place) -> int:
        files = [f for u in self.units.values() for f in u.files.values()]
        here = sum(f.size for f in files if place in f.local)
        return here + sum(f.size for f in files if self._target(f) is place and place not in f.local)

    def _target(self, file: SimulatedFile) -> Place | None:
        return {Demote: NVME, Promote: RAM}.get(type(file.running))

    def _file_view(self, file: SimulatedFile) -> FileView:
        return FileView(
            file.id,
            file.size,
            file.generation,
            file.settled,
            frozenset(file.local | ({REMOTE} if self.durable(file) else set())),
            busy=file.running is not None,
            uploading=isinstance(file.running, Upload),
            moving_to=self._target(file),
            leaving=isinstance(file.running, Evict),
            retry_at=file.retry_at,
            move_retry_at=file.move_retry_at,
            last=file.last,
            closed_at=file.closed_at,
        )

    def snapshot(self) -> Snapshot:
        units = tuple(
            UnitView(
                "v",
                unit.run,
                unit.step,
                self.state(unit),
                tuple(self._file_view(file) for file in unit.files.values()),
                self.policies[unit.run],
                pinned=unit.pinned,
                manifest=unit.manifest is not None,
                manifest_current=unit.manifest == unit.contents,
                upload_begun=self.begun(unit),
                remote_ok=self.remote_ok,
                busy=unit.running is not None,
                retry_at=unit.retry_at,
            )
            for unit in self.units.values()
        )
        tiers = tuple(
            TierView(place, budget, self.used(place), self.reserve if place is RAM else 0)
            for place, budget in self.budgets.items()
        )
        return Snapshot(units, tiers)

    def plan(self) -> tuple[Action, ...]:
        before = self.snapshot()
        actions = plan(before, self.now)
        assert actions == plan(before, self.now)
        self._check_whole(actions)
        return actions

    def _check_whole(self, actions: tuple[Action, ...]) -> None:
        assert len(set(actions)) == len(actions)
        files = [a.file for a in actions if isinstance(a, Upload | Demote | Promote | Evict)]
        assert len(set(files)) == len(files), "one action a file"
        for kind, place in ((Demote, NVME), (Promote, RAM)):
            moved = [self.find(a.file)[1] for a in actions if isinstance(a, kind)]
            coming = sum(f.size for f in moved if place not in f.local)
            assert not coming or self.used(place) + coming <= self.budgets[place], f"{place} would burst"
        if not self.remote_ok:
            assert sum(isinstance(a, Upload | Commit | Uncommit) for a in actions) <= 1

    # -- what happens to it

    def save(self, run: str, step: int | None, sizes: list[int], *, marker: bool, settled: bool) -> SimulatedUnit:
        unit = self.units.setdefault((run, step), SimulatedUnit(run, step, CheckpointState.WRITING))
        for number, size in enumerate(sizes):
            self._ids += 1
            last = marker and number == 0
            unit.files[self._ids] = SimulatedFile(self._ids, size, self.now + number, last=last, settled=settled)
        return unit

    def overwrite(self, unit: SimulatedUnit, file: SimulatedFile, *, settled: bool) -> None:
        file.generation += 1
        file.settled = settled
        file.closed_at = self.now
        file.local = set(sorted(file.local)[:1]) or {RAM}
        unit.written = CheckpointState.WRITING

    def find(self, file_id: int) -> tuple[SimulatedUnit, SimulatedFile]:
        return next((u, u.files[file_id]) for u in self.units.values() if file_id in u.files)

    def newer(self, unit: SimulatedUnit, states: set[CheckpointState]) -> list[SimulatedUnit]:
        assert unit.step is not None
        others = (u for u in self.units.values() if u.run == unit.run and u.step is not None)
        return [u for u in others if u.step > unit.step and self.state(u) in states]

    # -- the executor, as the engine does it: start, later finish or fail

    def start(self, action: Action) -> None:
        if isinstance(action, Upload | Demote | Promote | Evict):
            unit, file = self.find(action.file)
            assert file.settled
            assert file.running is None
            assert unit.running is None
            assert action.generation == file.generation
            file.running = action
        else:
            unit = self.units[action.run, action.step]
            assert unit.running is None
            unit.running = action
            file = None
        self._check_start(action, unit, file)
        self.executing.append((action, unit.contents))

    def _check_start(self, action: Action, unit: SimulatedUnit, file: SimulatedFile | None) -> None:
        policy, others = self.policies[unit.run], [f for f in unit.files.values() if f is not file]
        match action:
            case Upload():
                assert file
                assert not self.durable(file)
                assert file.local
                assert unit.manifest is None, "objects change under a manifest"
                if policy.sync is Sync.LATEST and unit.step is not None:
                    assert unit.written is CheckpointState.COMPLETE
                    assert self.begun(unit) or not self.newer(unit, RESTORABLE), "began a superseded checkpoint"
                if file.last and unit.step is not None:
                    assert all(self.durable(f) for f in others if not f.last), "marker before its files"
                self.sent.add((file.id, file.generation))
            case Commit():
                assert self.state(unit) is CheckpointState.COMPLETE
                assert unit.files
                assert all(self.durable(f) for f in unit.files.values()), "not everything is durable"
                assert unit.manifest is None
            case Uncommit():
                assert unit.manifest is not None
                assert unit.manifest != unit.contents
                assert unit.written is CheckpointState.COMPLETE, "the committed one goes before the new one is whole"
            case Evict():
                assert file
                assert self.durable(file), "only copy"
                assert file.local
                assert unit.step is None or unit.written is not CheckpointState.WRITING
                if unit.pinned:
                    assert RAM in file.local
                    assert self.used(RAM) > self.budgets[RAM]
            case Demote():
                assert file
                assert RAM in file.local
            case Promote():
                assert file
                assert unit.pinned is RAM
                assert RAM not in file.local
                assert NVME in file.local or self.durable(file)
            case Abandon():
                assert policy.sync is Sync.LATEST
                assert not self.begun(unit), "not a skipped one"
                assert self.newer(unit, {CheckpointState.COMMITTED})
                assert len(self.newer(unit, RESTORABLE)) >= max(policy.keep_hot, policy.keep_nvme)
                assert unit.pinned is None
            case Prune():
                assert self.state(unit) is CheckpointState.COMMITTED
                assert not any(f.local for f in unit.files.values())
                assert len(self.newer(unit, {CheckpointState.COMMITTED})) >= policy.keep_remote > 0
                assert not policy.keep_every or unit.step % policy.keep_every
                assert unit.pinned is None

    def finish(self, index: int, *, success: bool) -> None:
        action, contents = self.executing.pop(index)
        if isinstance(action, Upload | Demote | Promote | Evict):
            self._finish_file(action, success=success)
        else:
            unit = self.units[action.run, action.step]
            unit.running = None
            if not success:
                unit.retry_at = self.now + 30
            else:
                self._finish_unit(action, unit, contents)

    def _finish_file(self, action: Upload | Demote | Promote | Evict, *, success: bool) -> None:
        found = [u.files[action.file] for u in self.units.values() if action.file in u.files]
        if not found:
            return  # the job deleted it
        file = found[0]
        file.running = None
        if action.generation != file.generation:
            return  # stopped: the file changed underneath
        if not success:
            if isinstance(action, Upload):
                file.retry_at = self.now + 30
            else:
                file.move_retry_at = self.now + 30
            return
        match action:
            case Upload():
                for unit in self.units.values():
                    described = (unit.manifest or {}).get(file.id, file.generation)
                    assert described == file.generation, "a manifest describes what was replaced"
                self.objects[file.id] = file.generation
            case Demote():
                file.local = {NVME}
            case Promote():
                file.local = {RAM}
            case Evict():
                assert self.durable(file)
                file.local = set()

    def _finish_unit(self, action: Action, unit: SimulatedUnit, contents: dict[int, int]) -> None:
        match action:
            case Commit():
                assert all(self.objects.get(i) == g for i, g in contents.items()), "false durable"
                unit.manifest = contents
            case Uncommit():
                unit.manifest = None
            case Abandon():
                if not self.begun(unit) and unit.contents == contents:
                    del self.units[unit.run, unit.step]
            case Prune():
                unit.manifest = None
                for file_id in contents:
                    self.objects.pop(file_id, None)
                    if file_id in unit.files and not unit.files[file_id].local:
                        del unit.files[file_id]  # what the job wrote again meanwhile stays
                if not unit.files:
                    del self.units[unit.run, unit.step]
