"""Whatever happens, in any order, and however little of a plan is executed: the promises hold and the work ends."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from simulated_node import NVME, RAM, RESTORABLE, SimulatedNode

from ckptd.domain.model import CheckpointState
from ckptd.policy.policy import Sync

RUNS = st.sampled_from("ab")
SIZES = st.lists(st.integers(0, 20), min_size=1, max_size=4)
ANY = st.integers(0, 1 << 16)


class NodeUnderThePlanner(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.node = SimulatedNode()
        self.steps = 0

    def some_unit(self, number):
        units = list(self.node.units.values())
        return units[number % len(units)] if units else None

    def some_file(self, number):
        files = [(u, f) for u in self.node.units.values() for f in u.files.values()]
        return files[number % len(files)] if files else None

    # -- the job

    @rule(run=RUNS, sizes=SIZES, marker=st.booleans())
    def save_whole(self, run, sizes, marker):
        self.steps += 1
        self.node.save(run, self.steps * 10, sizes, marker=marker, settled=True).written = CheckpointState.COMPLETE

    @rule(run=RUNS, sizes=SIZES, marker=st.booleans(), settled=st.booleans())
    def begin_save(self, run, sizes, marker, settled):
        self.steps += 1
        self.node.save(run, self.steps * 10, sizes, marker=marker, settled=settled)

    @rule(run=RUNS, sizes=SIZES, pointer=st.booleans())
    def save_loose(self, run, sizes, pointer):
        self.node.save(run, None, sizes, marker=pointer, settled=True)

    @rule(number=ANY, torn=st.booleans())
    def end_save(self, number, torn):
        unit = self.some_unit(number)
        if unit and unit.step is not None and unit.written is CheckpointState.WRITING:
            if not torn:
                for file in unit.files.values():
                    file.settled = True
            unit.written = CheckpointState.TORN if torn else CheckpointState.COMPLETE

    @rule(number=ANY, settled=st.booleans())
    def overwrite(self, number, settled):
        if found := self.some_file(number):
            self.node.overwrite(*found, settled=settled)

    @rule(number=ANY, whole=st.booleans())
    def save_the_same_step_again(self, number, whole):
        if (unit := self.some_unit(number)) and unit.step is not None:
            for file in list(unit.files.values())[: None if whole else 1]:
                self.node.overwrite(unit, file, settled=True)
            unit.written = CheckpointState.COMPLETE if whole else CheckpointState.TORN

    @rule(number=ANY)
    def delete_file(self, number):
        if found := self.some_file(number):
            unit, file = found
            del unit.files[file.id]

    # -- the engine

    @rule(picks=st.lists(ANY, max_size=6), all_of_it=st.booleans())
    def execute_some(self, picks, all_of_it):
        actions = list(self.node.plan())
        chosen = actions if all_of_it else [actions.pop(n % len(actions)) for n in picks if actions]
        for action in chosen:
            self.node.start(action)

    @rule(rounds=st.integers(1, 4))
    def all_goes_well_for_a_while(self, rounds):
        for _ in range(rounds):
            self.execute_some(picks=[], all_of_it=True)
            while self.node.executing:
                self.node.finish(0, success=True)

    @precondition(lambda self: self.node.executing)
    @rule(number=ANY, success=st.booleans())
    def something_ends(self, number, success):
        self.node.finish(number % len(self.node.executing), success=success)

    # -- the world and the operator

    @rule(ok=st.booleans())
    def remote_goes_or_comes(self, ok):
        self.node.remote_ok = ok

    @rule(factor=st.sampled_from([0.0, 0.25, 0.5, 1.0]), reserve=st.integers(0, 40))
    def pressure(self, factor, reserve):
        self.node.budgets[RAM] = int(60 * factor)
        self.node.reserve = reserve

    @rule(nvme=st.sampled_from([None, 0, 30, 100]))
    def nvme_changes(self, nvme):
        if nvme is None and self.node.used(NVME) == 0:
            self.node.budgets.pop(NVME, None)
        elif nvme is not None:
            self.node.budgets[NVME] = nvme

    @rule(number=ANY, place=st.sampled_from([None, RAM, NVME]))
    def pin(self, number, place):
        if (unit := self.some_unit(number)) and unit.step is not None:
            unit.pinned = place

    @rule(
        run=RUNS,
        sync=st.sampled_from(Sync),
        hot=st.integers(0, 3),
        nvme=st.integers(0, 4),
        remote=st.integers(0, 3),
        every=st.sampled_from([0, 20]),
    )
    def policy_set(self, run, sync, hot, nvme, remote, every):
        self.node.policies[run] = replace(
            self.node.policies[run], sync=sync, keep_hot=hot, keep_nvme=nvme, keep_remote=remote, keep_every=every
        )

    @rule(seconds=st.sampled_from([1.0, 31.0, 7200.0, -7200.0]))
    def time_passes_or_jumps(self, seconds):
        self.node.now += seconds

    # -- the promises

    @invariant()
    def nothing_is_lost(self):
        for unit in self.node.units.values():
            for file in unit.files.values():
                assert file.local or self.node.durable(file), f"file {file.id} has no copy"

    @invariant()
    def manifests_describe_what_is_there(self):
        for unit in self.node.units.values():
            for file_id, generation in (unit.manifest or {}).items():
                assert self.node.objects.get(file_id) == generation

    def teardown(self):
        """With the remote up and everything executed, the plan runs dry, and then everything is as it should be."""
        self.node.remote_ok = True
        self._run_dry()
        for unit in self.node.units.values():
            if unit.step is not None and unit.written is CheckpointState.WRITING:
                unit.written = CheckpointState.TORN  # its writer never came back
        self._run_dry()
        self._check_at_rest()

    def _run_dry(self):
        node = self.node
        for _ in range(25):
            while node.executing:
                node.finish(0, success=True)
            node.now += 31
            actions = node.plan()
            if not actions:
                return
            for action in actions:
                node.start(action)
        raise AssertionError(f"the planner goes in circles: {actions}")

    def _check_at_rest(self):
        node = self.node
        for unit in node.units.values():
            state, files, sync = node.state(unit), unit.files.values(), node.policies[unit.run].sync
            if state is CheckpointState.COMPLETE and files:
                assert sync is Sync.LATEST, "whole, but not committed"
                assert node.newer(unit, RESTORABLE), "the newest is not committed"
            if sync is Sync.ALL and state is not CheckpointState.COMMITTED and unit.manifest is None:
                others = all(node.durable(f) for f in files if not f.last)
                assert all(node.durable(f) for f in files if f.settled and (not f.last or others)), "still exposed"
            if unit.step is not None and state is CheckpointState.COMMITTED and not unit.pinned:
                rank = len(node.newer(unit, RESTORABLE))
                policy = node.policies[unit.run]
                assert rank < max(policy.keep_hot, policy.keep_nvme) or not any(f.local for f in files)
        for place, budget in node.budgets.items():
            evictable = sum(
                file.size
                for unit in node.units.values()
                for file in unit.files.values()
                if place in file.local and node.durable(file) and unit.pinned is None and file.settled
                and (unit.step is None or unit.written is not CheckpointState.WRITING)
            )  # fmt: skip
            assert node.used(place) <= budget or evictable == 0, f"{place} is over its budget for no reason"


NodeUnderThePlanner.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
test_promises_hold_whatever_happens = NodeUnderThePlanner.TestCase
