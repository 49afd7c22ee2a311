"""Who has to leave a tier, and where to. Budgets are counted forward: a plan's moves fit together, in any order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from ckptd.domain.model import RESTORABLE, CheckpointState, Place
from ckptd.policy.actions import Demote, Evict, Promote
from ckptd.policy.ranking import Standing
from ckptd.policy.snapshot import FileView, TierView, waits

Move = Demote | Evict | Promote


class Worth(IntEnum):
    """What is given up first under pressure."""

    SPARE = 0  # torn checkpoints, and durable files that belong to no step
    RANKED = 1  # checkpoints, lowest rank first
    NEEDED = 2  # being written, or loose and not durable: moved only where nothing else is left
    PINNED = 3  # only while the tier's use alone, without its reserve, is beyond the budget


class Candidate(NamedTuple):
    """A file that may be moved now. Sorts by what leaves first; a tuple because there are ten thousand of them."""

    worth: Worth
    height: int
    """Among RANKED: minus the rank."""
    closed_at: float
    id: int
    file: FileView
    standing: Standing

    @property
    def durable(self) -> bool:
        return Place.REMOTE in self.file.copies

    @property
    def evictable(self) -> bool:
        """A file vanishes from its directory then: not under a writer's hands; if pinned, as a last resort."""
        unit = self.standing.unit
        if unit.step is not None and unit.state is CheckpointState.WRITING:
            return False
        return self.durable and (unit.pinned is None or self.worth is Worth.PINNED)


class Room:
    """One plan's ledger of both tiers and the moves it has decided on. Lives for one call of `plan`."""

    def __init__(self, standings: Sequence[Standing], tiers: Mapping[Place, TierView], now: float) -> None:
        """`standings`: without the units that something else in this plan disposes of."""
        self._standings = standings
        self._ram, self._nvme = tiers.get(Place.RAM), tiers.get(Place.NVME)
        self._now = now
        self._taken: set[int] = set()
        self._nvme_free = _unused(self._nvme)  # for moves of this plan
        self._nvme_coming = 0  # freed by evictions of this plan: for moves of the next one
        self._evicted_from_nvme = 0
        self._ram_freed = 0
        self._victims: list[Candidate] | None = None
        self._victim_bytes = 0  # an upper bound, to give up early
        self.moves: list[Move] = []

    # -- what policy asks for, pressure or not

    def keep_policy(self, uploading: Collection[int]) -> None:
        """Beyond `keep_hot` to NVMe, beyond `keep_nvme` out; not what an upload is planned or running for."""
        ranked = [s for s in self._standings if s.rank is not None and s.rank >= s.unit.policy.keep_hot]
        ranked.sort(key=lambda standing: -(standing.rank or 0))
        for standing in ranked:
            unit = standing.unit
            if unit.pinned is Place.RAM or any(file.uploading for file in unit.worked_on):
                continue
            for candidate in self._movable(standing):
                file = candidate.file
                if file.id in uploading:
                    continue
                disposable = unit.state is CheckpointState.COMMITTED and unit.pinned is None and candidate.durable
                if disposable and not standing.kept:
                    self._evict(candidate)
                elif Place.RAM in file.copies:
                    went = self._demote(candidate, Worth.RANKED)
                    if disposable and not went:
                        self._evict(candidate)

    def keep_shares(self, share: int) -> None:
        """Of RAM, `share` bytes an owner at most; 0: no limit."""
        if not share:
            return
        held: Counter[int] = Counter()
        for standing in self._standings:
            held[standing.unit.owner] += sum(
                file.size
                for file in standing.unit.local
                if Place.RAM in file.copies and file.id not in self._taken and not _on_its_way_out(file)
            )
        beyond = {owner: size - share for owner, size in held.items() if size > share}
        for candidate in self._candidates(Place.RAM) if beyond else ():
            owner = candidate.standing.unit.owner
            if candidate.worth >= Worth.NEEDED or beyond.get(owner, 0) <= 0:
                continue
            if self._demote(candidate, Worth.RANKED) or self._evicted(candidate):
                beyond[owner] -= candidate.file.size

    def _evicted(self, candidate: Candidate) -> bool:
        if candidate.evictable:
            self._evict(candidate)
        return candidate.evictable

    # -- what budgets ask for

    def relieve_ram(self) -> None:
        """Until use and reserve fit; pinned files only until the use alone does."""
        if self._ram is None:
            return
        if self._nvme is not None:
            self._nvme_free += self._nvme.reserve  # what is kept free there is for this
        beyond = self._ram.used - self._ram.budget - self._on_their_way_out(Place.RAM)
        if beyond + self._ram.reserve <= self._ram_freed:
            return
        for candidate in self._candidates(Place.RAM):
            reserve = 0 if candidate.worth is Worth.PINNED else self._ram.reserve
            if beyond + reserve <= self._ram_freed:
                break
            if not self._demote(candidate, Worth.SPARE) and candidate.evictable:
                self._evict(candidate)

    def relieve_nvme(self) -> None:
        if self._nvme is None:
            return
        beyond = self._nvme.used + self._nvme.reserve - self._nvme.budget - self._on_their_way_out(Place.NVME)
        if beyond <= self._evicted_from_nvme:
            return
        for victim in self._victims_in_order():
            if beyond <= self._evicted_from_nvme:
                break
            if victim.file.id not in self._taken:
                self._evict(victim)

    # -- what pins ask for

    def fulfil_pins(self) -> None:
        """Checkpoints wanted in RAM come back to it while they fit beside the reserve."""
        free = _unused(self._ram)
        for standing in self._standings:
            unit = standing.unit
            if unit.pinned is not Place.RAM or unit.busy or unit.state not in RESTORABLE:
                continue
            for file in unit.files:
                if self._promotable(file, remote_ok=unit.remote_ok) and file.size <= free:
                    free -= file.size
                    self._taken.add(file.id)
                    self.moves.append(Promote(file.id, file.generation))

    def _promotable(self, file: FileView, *, remote_ok: bool) -> bool:
        if Place.RAM in file.copies or file.id in self._taken or file.busy or not file.settled:
            return False
        if waits(file.move_retry_at, self._now):
            return False
        return Place.NVME in file.copies or (
            Place.REMOTE in file.copies and remote_ok and not waits(file.retry_at, self._now)
        )

    # -- the ledger

    def _demote(self, candidate: Candidate, lowest_victim: Worth) -> bool:
        """Plans the move, or the evictions on NVMe that make way for it in the next plan. False: no room to be had."""
        file = candidate.file
        if self._nvme is None:
            return False
        cost = 0 if Place.NVME in file.copies else file.size
        if cost <= self._nvme_free:
            self._nvme_free -= cost
            self._take(candidate)
            self.moves.append(Demote(file.id, file.generation))
            return True
        return self._make_way(candidate, cost, lowest_victim)

    def _make_way(self, candidate: Candidate, cost: int, lowest_victim: Worth) -> bool:
        """A durable file displaces what is worth less; one that is not durable displaces anything durable."""
        assert self._nvme is not None
        if cost > self._nvme.budget:
            return False
        victims = self._victims_for(candidate, cost - self._nvme_free - self._nvme_coming, lowest_victim)
        if victims is None:
            return False
        for victim in victims:
            self._evict(victim)
        from_free = min(cost, max(self._nvme_free, 0))
        self._nvme_free -= from_free
        self._nvme_coming -= cost - from_free
        self._take(candidate)
        return True

    def _victims_for(self, candidate: Candidate, lacking: int, lowest: Worth) -> list[Candidate] | None:
        """The least worthy ones that free `lacking` bytes of NVMe; None if there are not enough."""
        found: list[Candidate] = []
        if lacking <= 0:
            return found
        victims = self._victims_in_order()
        if lacking > self._victim_bytes:
            return None
        for victim in victims:
            if victim.file.id in self._taken or victim.worth < lowest:
                continue
            if candidate.durable and (victim.worth, victim.height) >= (candidate.worth, candidate.height):
                return None
            found.append(victim)
            lacking -= victim.file.size
            if lacking <= 0:
                return found
        return None

    def _evict(self, candidate: Candidate) -> None:
        assert candidate.durable
        file = candidate.file
        if Place.NVME in file.copies:
            self._victim_bytes -= file.size
            self._nvme_coming += file.size
            self._evicted_from_nvme += file.size
        self._take(candidate)
        self.moves.append(Evict(file.id, file.generation))

    def _take(self, candidate: Candidate) -> None:
        self._taken.add(candidate.file.id)
        if Place.RAM in candidate.file.copies:
            self._ram_freed += candidate.file.size

    # -- who could go

    def _victims_in_order(self) -> list[Candidate]:
        """Evictable files on NVMe, the least worthy first."""
        if self._victims is None:
            self._victims = [c for c in self._candidates(Place.NVME) if c.evictable and c.worth < Worth.NEEDED]
            self._victim_bytes = sum(victim.file.size for victim in self._victims)
        return self._victims

    def _candidates(self, place: Place) -> list[Candidate]:
        found = [c for s in self._standings for c in self._movable(s) if place in c.file.copies]
        found.sort()
        return found

    def _on_their_way_out(self, place: Place) -> int:
        return sum(
            file.size
            for standing in self._standings
            for file in standing.unit.worked_on
            if place in file.copies and (file.leaving or (place is Place.RAM and _on_its_way_out(file)))
        )

    def _movable(self, standing: Standing) -> Iterator[Candidate]:
        unit = standing.unit
        if unit.busy:
            return
        for file in unit.local:
            if file.busy or not file.settled or waits(file.move_retry_at, self._now) or file.id in self._taken:
                continue
            worth, height = _worth(standing, file)
            yield Candidate(worth, height, file.closed_at, file.id, file, standing)


def _on_its_way_out(file: FileView) -> bool:
    """Of RAM."""
    return file.leaving or file.moving_to is Place.NVME


def _worth(standing: Standing, file: FileView) -> tuple[Worth, int]:
    unit = standing.unit
    if unit.pinned is not None and (unit.pinned is Place.RAM or Place.RAM not in file.copies):
        return Worth.PINNED, 0
    if standing.rank is not None:
        return Worth.RANKED, -standing.rank
    if unit.step is None:
        return (Worth.SPARE if Place.REMOTE in file.copies else Worth.NEEDED), 0
    return (Worth.NEEDED if unit.state is CheckpointState.WRITING else Worth.SPARE), 0


def _unused(tier: TierView | None) -> int:
    """Bytes that moves may fill; negative in a tier that is over its budget."""
    return 0 if tier is None else tier.budget - tier.used - tier.reserve
