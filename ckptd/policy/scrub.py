"""Which copies are to be read again, and in which order. Pure.

A copy is due a period after it was last found good: at its last check, or when it came to be (every byte is checked then).
A check speaks of one content; of another it says nothing. What is longest due goes first, a checkpoint at a time, so that
what is missing of it is found together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ckptd.domain.model import Place


@dataclass(frozen=True, slots=True)
class ScrubPolicy:
    every_s: float = 7 * 86400.0
    """Each copy is read once in so many seconds; 0: never by itself."""
    bandwidth: int = 200 << 20
    """Bytes a second read from the tiers; 0: no cap."""
    remote_bandwidth: int = 20 << 20
    """Bytes a second read from remotes; 0: objects are not read, only asked after."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A copy: which content lies where."""

    volume: str
    place: Place
    path: str


@dataclass(frozen=True, slots=True)
class Check:
    """The last time that a copy was found good."""

    crc: int
    at: float


@dataclass(frozen=True, slots=True)
class Item:
    spot: Spot
    run: str
    step: int | None
    size: int
    crc: int
    """CRC-64/NVME of the whole content."""
    since: float
    """When it came to be there, at the latest."""


@dataclass(frozen=True, slots=True)
class Portion:
    """The copies of one checkpoint (or of a run's loose files) in one place that are due."""

    volume: str
    run: str
    step: int | None
    place: Place
    items: tuple[Item, ...]
    good_at: float
    """When the one of them that waits longest was last known to be good."""

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)


def last_good(item: Item, checks: Mapping[Spot, Check]) -> float:
    check = checks.get(item.spot)
    return check.at if check is not None and check.crc == item.crc else item.since


def due(
    items: Iterable[Item], checks: Mapping[Spot, Check], every_s: float, now: float
) -> tuple[list[Portion], float | None]:
    """What is due now, longest due first, and when the next of the others will be. `every_s` 0: everything is due.

    A check from the future (the clock was set back) counts as one from now.
    """
    groups: dict[tuple[str, str, int | None, Place], list[tuple[float, Item]]] = {}
    following: float | None = None
    for item in items:
        at = min(now, last_good(item, checks))
        if at + every_s <= now:
            groups.setdefault((item.spot.volume, item.run, item.step, item.spot.place), []).append((at, item))
        elif following is None or at + every_s < following:
            following = at + every_s
    portions = [
        Portion(*key, tuple(item for _, item in found), min(at for at, _ in found)) for key, found in groups.items()
    ]
    portions.sort(key=lambda one: (one.good_at, one.volume, one.run, -1 if one.step is None else one.step, one.place))
    return portions, following
