"""What is listed of a remote that others have filled: how much at most, and what is passed over."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ckptd.catalog import Catalog
from ckptd.domain.errors import RemoteError
from ckptd.domain.model import Place
from ckptd.engine.actions import Actions
from ckptd.engine.context import Context
from ckptd.engine.known import KnownManifests
from ckptd.engine.plain import PlainObjects
from ckptd.engine.volume import Front, Volume
from ckptd.manifest import ManifestStore
from ckptd.manifest.format import FORMAT_KEY
from ckptd.policy.policy import Policy
from ckptd.transfer.transfers import Remote, Transfers

PAGE = 999


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store/.ckptd").mkdir(parents=True)
    (tmp_path / "store" / FORMAT_KEY).write_text("{}")
    return tmp_path / "store"


@pytest.fixture
async def context(tmp_path: Path, store: Path) -> AsyncIterator[Context]:
    catalog = await Catalog.open(tmp_path / "catalog.db")
    (tmp_path / "root").mkdir()
    remote = Remote("v", f"file://{store}")
    async with Transfers(parallel=2, part_size=1 << 20, bandwidth=0, movers=1, journal=catalog.journal) as transfers:
        manifests = ManifestStore(transfers, remote)
        volume = Volume(
            "v", "/v", str(tmp_path / "root"), Place.RAM, None, remote, Policy(), manifests, Front("mount", "", "")
        )
        known = KnownManifests(catalog)
        yield Context("n", "ckptd", catalog, transfers, known, {"v": volume}, {}, time.time)
    await catalog.close()


def listing(context: Context, **limits: int) -> PlainObjects:
    return PlainObjects(context, context.volumes["v"], Actions(context).moving, **limits)


async def events(context: Context) -> list[str]:
    return [record.event for record in await context.catalog.events.since(0, 100)]


async def test_no_more_than_the_limit_is_shown_and_it_is_said_once(context: Context, store: Path) -> None:
    for number in range(2 * PAGE):
        (store / f"{number:05}.txt").touch()
    plain = listing(context, most_shown=500)
    await plain.refresh()
    await plain.refresh()
    assert plain.shown is not None
    assert len(plain.shown) == PAGE - 1, "the page in which it was reached (ckptd's mark is in it), and no other"
    assert await events(context) == ["listing.cut"]
    for number in range(400, 2 * PAGE):
        (store / f"{number:05}.txt").unlink()
    await plain.refresh()
    assert len(plain.shown) == 400
    for number in range(2 * PAGE):
        (store / f"{number:05}.txt").touch()
    await plain.refresh()
    assert await events(context) == ["listing.cut"] * 2


async def test_no_more_than_the_limit_is_looked_at(context: Context, store: Path) -> None:
    """Also of what is not shown: a bucket with millions of objects must not be listed to its end."""
    for number in range(3 * PAGE):
        (store / f"{number:05}.txt").touch()
    (store / ".ckptd-x").touch()
    asked = 0
    pages = context.transfers.pages

    async def counted(remote, prefix):
        nonlocal asked
        async for page in pages(remote, prefix):
            asked += 1
            yield page

    context.transfers.pages = counted
    await listing(context, most_listed=PAGE).refresh()
    assert asked == 2


async def test_what_is_about_to_be_deleted_is_not_shown(context: Context, store: Path) -> None:
    for name in ("left.txt", "going.txt", "there.txt"):
        (store / name).touch()
    await context.catalog.manifests.leave("v", ["left.txt"])
    context.deleting.add("going.txt")
    plain = listing(context)
    await plain.refresh()
    assert plain.shown is not None
    assert list(plain.shown) == ["there.txt"]


async def test_a_checkpoint_in_which_the_listing_was_cut_is_not_shown(context: Context, store: Path) -> None:
    """A part of it would look like one of fewer files."""
    for step, files in ((1, 10), (2, 2 * PAGE)):
        (store / f"run-1/checkpoint-{step}").mkdir(parents=True)
        for number in range(files):
            (store / f"run-1/checkpoint-{step}/{number:05}.bin").touch()
    context.clock = lambda: time.time() + 3600
    plain = listing(context, most_shown=500)
    await plain.refresh()
    assert plain.shown is not None
    assert {path.split("/")[1] for path in plain.shown} == {"checkpoint-1"}


async def test_an_empty_directory_in_the_remotes_place_says_nothing(context: Context, store: Path) -> None:
    """A file system that is not mounted: what was shown stays, what was fetched all the more."""
    (store / "a.txt").touch()
    plain = listing(context)
    await plain.refresh()
    before = plain.shown
    store.rename(store.with_name("away"))
    store.mkdir()
    with pytest.raises(RemoteError):
        await plain.refresh()
    assert plain.shown is before
