"""Real files, real mover processes, a directory as the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from transfer_world import PART, MemoryJournal, content

from ckptd.transfer.backoff import Backoff
from ckptd.transfer.transfers import Remote, Transfers


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def remote(store: Path) -> Remote:
    return Remote("ckpt", f"file://{store}")


@pytest.fixture
def make(journal: MemoryJournal) -> Callable[..., Transfers]:
    """Transfers with small parts and short waits; what is given overrides."""

    def build(**given: object) -> Transfers:
        settings = {
            "parallel": 4, "part_size": PART, "bandwidth": 0, "movers": 2, "journal": journal,
            "backoff": Backoff(tries=4, first_s=0.01, most_s=0.05),
        }  # fmt: skip
        return Transfers(**(settings | given))  # type: ignore[arg-type]

    return build


@pytest.fixture
async def transfers(make: Callable[..., Transfers]) -> AsyncIterator[Transfers]:
    async with make() as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Path]:
    def write(size: int, seed: int = 1, name: str = "source") -> Path:
        path = tmp_path / name
        path.write_bytes(content(size, seed))
        return path

    return write
