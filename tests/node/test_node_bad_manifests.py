"""What other writers of a remote may put among its manifests: none of it is offered, none of it harms anything else."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_node_daemon import Daemon, save

from ckptd.domain.errors import IntegrityError, StateUnusable
from ckptd.manifest.checks import MANIFEST_LIMIT
from ckptd.manifest.format import Manifest
from ckptd.manifest.packed import PackedEntries

Change = Callable[[dict[str, Any]], None]


def entry(key: str | None = "run-1/checkpoint-1/model.bin", **more: Any) -> dict[str, Any]:
    return {
        "key": key, "mode": 0o644, "uid": 0, "gid": 0, "mtime_ns": 1, "size": 100, "crc64nvme": "00000000000000ff",
        "part_size": 64, "parts": ["00000000000000aa"] * 2, "etag": "e",
    } | more  # fmt: skip


def manifest(*files: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": 1, "run": "run-1", "step": 1, "node": "n", "nodes": 1, "framework": "torch", "writer": "ckptd 0.1.0",
        "root": "run-1/checkpoint-1", "written_at": "2026-01-01T00:00:00Z", "committed_at": "2026-01-01T00:00:00Z",
        "files": list(files) or [entry()],
    }  # fmt: skip


LIES = [
    entry(size=-1), entry(size=1 << 70), entry(size=1e400), entry(size="many"), entry(part_size=0), entry(part_size=-64),
    entry(parts=[]), entry(parts=["aa"]), entry(parts=["aa"] * 3), entry(parts=["xyz"] * 2), entry(parts=["-1", "aa"]),
    entry(crc64nvme="1" * 17), entry(size=0, parts=["aa"]), entry(size=64, parts=["aa"]),
    entry(uid=-1), entry(gid=(1 << 32) - 1), entry(mode=1 << 20), entry(mtime_ns=1 << 63), entry(key=None),
    entry(key="run-1/" + "x" * 256), entry(key="run-1/" + "x/" * 3000 + "x"), entry(key="run-1/.ckptd-x"),
    entry(key="run-1/.ckptd-x/model.bin"), entry(key=".ckptd-open/model.bin"), entry(key="run-1/%2Eckptd-x"),
    entry(link=""), entry(link="a\0b"),
    entry(link="x" * 5000), entry(link=7),
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=repr)
def test_a_lie_about_a_file_is_found(lie: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="is not a manifest"):
        Manifest.from_json(json.dumps(manifest(lie)), "it")


@pytest.mark.parametrize(
    "change",
    [
        {"node": "../x"}, {"node": ""}, {"nodes": -1}, {"nodes": 10**9}, {"step": -1}, {"step": 10**18}, {"files": None},
        {"framework": "\x1b]0;owned\x07"}, {"writer": "x" * 1000}, {"written_at": "yesterday"}, {"version": "one"},
        {"root": "/etc"}, {"run": "run-2"}, {"files": [entry(), entry()]}, {"lacks": 5}, {"replaces": []},
        {"files": [entry(), entry("run-1/checkpoint-1/model.bin/x")]},
        {"files": [entry("run-1/checkpoint-1/d", link="x"), entry("run-1/checkpoint-1/d/e/f")]},
    ],
    ids=repr,
)  # fmt: skip
def test_a_lie_about_the_whole_is_found(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        Manifest.from_json(json.dumps(manifest() | change), "it")


@pytest.mark.parametrize(
    "job",
    [
        {"id": "1", "uid": 0, "name": "", "task": None}, {"id": 1, "uid": -1, "name": "", "task": None},
        {"id": 1, "uid": 0, "name": "\x1b]0;owned\x07", "task": None}, {"id": 1, "uid": 0, "name": "x" * 256, "task": None},
        {"id": 1 << 70, "uid": 0, "name": "", "task": None}, {"id": 1}, 5, [1], "job", False,
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("trusted", [False, True])
def test_a_lie_about_the_job_is_ignored(job: Any, trusted: bool) -> None:
    """It only helps a requeued job to find its run: the checkpoint is as good without."""
    found = Manifest.from_json(json.dumps(manifest() | {"job": job}), "it", trusted=trusted)
    assert found.job is None
    assert found == Manifest.from_json(json.dumps(manifest()), "it")


def test_a_manifest_that_is_cut_short_or_deep_or_of_the_future() -> None:
    text = json.dumps(manifest())
    for end in range(len(text)):
        with pytest.raises(IntegrityError):
            Manifest.from_json(text[:end], "it")
    for nonsense in ("[" * 200_000, '{"version":' + "[" * 100_000, "null", "[]", "1", '"x"', '{"version": 1e999}'):
        with pytest.raises(IntegrityError):
            Manifest.from_json(nonsense, "it")
    with pytest.raises(StateUnusable, match="knows up to"):
        Manifest.from_json(json.dumps(manifest() | {"version": 2}), "it")
    assert Manifest.from_json(text, "it").size == 100


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(["../x", "/x", "a/b", ".."]),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=400)
@given(st.data())
def test_whatever_is_changed_it_is_refused_or_safe(data: st.DataObject) -> None:
    body = manifest(entry(), entry("run-1/checkpoint-1/b", link="model.bin"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from([body, *body["files"]] if isinstance(body.get("files"), list) else [body]))
        if isinstance(at, dict):
            at[data.draw(st.sampled_from(sorted(at)))] = data.draw(_VALUES)
    try:
        text = json.dumps(body)
        found = Manifest.from_json(text, "it")
    except (IntegrityError, StateUnusable):
        with pytest.raises((IntegrityError, StateUnusable)):
            Manifest.from_json(text, "it", entries=PackedEntries.of_json)
        return
    assert list(Manifest.from_json(text, "it", entries=PackedEntries.of_json).entries) == list(found.entries)
    for one in found.entries:
        parts = one.path.split("/")
        assert parts[0] == found.run
        assert not {"", ".", ".."} & set(parts)
        assert one.checksums is None or len(one.checksums.parts) == -(-one.size // one.checksums.part_size)
        assert 0 <= one.attributes.uid < (1 << 32) - 1
        assert abs(one.attributes.mtime_ns) <= 1 << 63


def at(daemon: Daemon, step: int, node: str = "") -> Path:
    path = daemon.remote / ".ckptd/manifests/run-1" / str(step) / f"{node or daemon.node}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_bad_manifests_harm_nothing_else(daemon: Daemon, new_daemon: Callable[..., Daemon]) -> None:
    for step in (1, 2):
        save(daemon.volume / "run-1" / f"checkpoint-{step}", {"model.bin": b"m" * 100, "DONE": b""})
        daemon.committed("run-1", step)
    good = at(daemon, 2).read_text()
    at(daemon, 3).write_text(good)  # says that it is of step 2
    at(daemon, 4).write_text(good[:200])
    with at(daemon, 5).open("wb") as huge:
        huge.truncate(MANIFEST_LIMIT + 1)
    at(daemon, 6).write_text(good.replace('"version":1', '"version":99').replace('"step":2', '"step":6'))
    other = new_daemon(remote=daemon.remote_url)
    other.start()
    assert [one["step"] for one in other.json("ls", "run-1")] == [2, 1]
    other.ctl("prefetch", "run-1")
    assert (other.volume / "run-1/checkpoint-2/model.bin").read_bytes() == b"m" * 100
    other.ctl("ls", "run-1")
    refused = [one for one in other.json("events") if one["event"] == "manifest.refused"]
    assert sorted(one["fields"]["step"] for one in refused) == ["3", "4", "5", "6"], "each once"
    assert "upgrade ckptd" in next(one["fields"]["hint"] for one in refused if one["fields"]["step"] == "6")


def test_modes_and_links_from_a_remote_give_nobody_anything(daemon: Daemon, new_daemon: Callable[..., Daemon]) -> None:
    run = daemon.volume / "run-1"
    save(run / "checkpoint-1", {"model.bin": b"m" * 100, "DONE": b""})
    (run / "checkpoint-1/same").symlink_to("model.bin")
    daemon.committed("run-1", 1)
    daemon.until(lambda: "same" in at(daemon, 1).read_text(), "the link is in the manifest")
    body = json.loads(at(daemon, 1).read_text())
    model = next(one for one in body["files"] if one["key"].endswith("model.bin"))
    model["mode"] = 0o6755
    link = next(one for one in body["files"] if one["key"].endswith("same"))
    body["files"].append(link | {"key": "run-1/checkpoint-1/out", "link": "/etc/passwd"})
    body["files"].append(link | {"key": "run-1/checkpoint-1/up", "link": "../../../up"})
    at(daemon, 1).write_text(json.dumps(body))
    other = new_daemon(remote=daemon.remote_url)
    other.start()
    other.ctl("prefetch", "run-1@1")
    there = other.volume / "run-1/checkpoint-1"
    assert stat.S_IMODE((there / "model.bin").stat().st_mode) == 0o755
    assert os.readlink(there / "same") == "model.bin"
    assert not any(os.path.lexists(there / name) for name in ("out", "up"))
    assert sum(one["event"] == "link.refused" for one in other.json("events")) >= 2
