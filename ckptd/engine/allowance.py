"""How much one user may ask of a node. Administrators may ask for anything; so may everybody of a daemon of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from ckptd.catalog import Catalog, PinRow
from ckptd.domain.access import Identity
from ckptd.domain.errors import TooMuch
from ckptd.engine.operations import Operations
from ckptd.engine.unit import Unit
from ckptd.settings.quantities import format_size

OPERATIONS = 16
"""Running at a time."""
PINS = 256
TAGS = 64
"""On one run."""
POLICIES = 64
"""Of runs by their names."""


UnitKey = tuple[str, str, int | None]


@dataclass(slots=True)
class Allowance:
    pinned_bytes: int = 0
    """What a user's pins, and prefetches whose time is not over, may hold together; 0: no limit."""
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from a question to what follows from its answer."""
    fetching: dict[int, UnitKey] = field(default_factory=dict)
    """Prefetches that were begun, by operation: they pin a little later."""

    def operation(self, by: Identity, operations: Operations) -> None:
        """Raises TooMuch."""
        running = sum(one.uid == by.uid for one in operations.running())
        if not by.administrator and running >= OPERATIONS:
            raise TooMuch(f"{running} operations of yours run already", hint="wait for them, or ckptctl cancel ID")

    async def pin(
        self, by: Identity, unit: Unit, units: Mapping[UnitKey, Unit], catalog: Catalog, operations: Operations
    ) -> None:
        """Before `unit` is pinned (or prefetched). Raises TooMuch."""
        if by.administrator:
            return
        running = {one.id: one.uid for one in operations.running()}
        self.fetching = {number: key for number, key in self.fetching.items() if number in running}
        fetching = {key for number, key in self.fetching.items() if running[number] == by.uid}
        mine = {_key(pin) for pin in await catalog.wishes.pins() if pin.uid == by.uid}
        mine = (mine | fetching) - {unit.key}
        if len(mine) >= PINS:
            raise TooMuch(f"{len(mine)} checkpoints are pinned by you already", hint="ckptctl unpin RUN@STEP first")
        held = sum(units[key].bytes for key in mine if key in units)
        if self.pinned_bytes and held + unit.bytes > self.pinned_bytes:
            raise TooMuch(
                f"{unit.run}@{unit.step} has {format_size(unit.bytes)}; you have pinned {format_size(held)} "
                f"of the {format_size(self.pinned_bytes)} that one user may pin, prefetched checkpoints included",
                hint="ckptctl unpin RUN@STEP first (ckptctl ls shows what is pinned), or ask for a larger [access] user_pins",
            )

    async def policy(self, by: Identity, volume: str, pattern: str, catalog: Catalog) -> None:
        """Raises TooMuch."""
        mine = await catalog.wishes.policies_by(volume, by.uid)
        if not by.administrator and pattern not in mine and len(mine) >= POLICIES:
            raise TooMuch(f"you have set policies for {len(mine)} runs", hint="ckptctl policy unset RUN first")

    async def tag(self, by: Identity, volume: str, run: str, name: str, catalog: Catalog) -> None:
        """Raises TooMuch."""
        there = {row.name for row in await catalog.tags.all(volume, run) if row.step is not None}
        if not by.administrator and name not in there and len(there) >= TAGS:
            raise TooMuch(f"run '{run}' has {len(there)} tags", hint=f"ckptctl tag {run} NAME --delete first")


def _key(pin: PinRow) -> UnitKey:
    return pin.volume, pin.run, pin.step
