"""What jobs and other writers of the bucket do to lead the daemon out of its volume, or to keep it from working."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from tests_node_daemon import Daemon, save

from ckptd.catalog import CopyRow, FileRow
from ckptd.domain.errors import IntegrityError, SourceChanged
from ckptd.domain.model import Place, Stamp
from ckptd.engine.replacing import _set_aside
from ckptd.engine.volume import Volume
from ckptd.manifest.format import Manifest

_EXCHANGE = 2
_AT_FDCWD = -100


def replaced_by_link(directory: Path, target: Path) -> None:
    """At one moment, as a job that means harm would."""
    link = directory.with_name(".ckptd-link")
    link.symlink_to(target)
    names = os.fsencode(directory), os.fsencode(link)
    assert ctypes.CDLL(None).renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE) == 0


def test_removal_does_not_follow_a_link_in_a_directorys_place(daemon: Daemon) -> None:
    outside = daemon.home / "outside"
    outside.mkdir()
    (outside / "shadow").write_text("secret")
    directory = daemon.volume / "run-1" / "checkpoint-1"
    save(directory, {"model.bin": b"m" * 100})
    (directory / "shadow").symlink_to("model.bin")
    daemon.committed("run-1", 1)
    replaced_by_link(directory, outside)
    daemon.ctl("rm", "run-1@1", "--yes", check=None)
    assert (outside / "shadow").read_text() == "secret"


def test_a_directory_named_like_a_private_place_does_not_keep_the_daemon_from_starting(daemon: Daemon) -> None:
    save(daemon.volume / "run-1" / "checkpoint-1", {"model.bin": b"m" * 100})
    daemon.committed("run-1", 1)
    (daemon.volume / "run-1" / ".ckptd-000000000001" / "a").mkdir(parents=True)
    (daemon.volume / "run-1" / "a").mkdir()
    (daemon.volume / "run-1" / ".ckptd-x").symlink_to("/tmp")
    daemon.terminate()
    daemon.start()
    daemon.committed("run-1", 1)


def test_a_manifest_that_leads_out_of_the_volume_is_no_offer(daemon: Daemon, new_daemon: Callable[..., Daemon]) -> None:
    save(daemon.volume / "run-1" / "checkpoint-1", {"model.bin": b"m" * 100})
    daemon.committed("run-1", 1)
    path = daemon.remote / ".ckptd" / "manifests" / "run-1" / "1" / f"{daemon.node}.json"
    manifest = json.loads(path.read_text())
    link = {key: manifest["files"][0][key] for key in ("mode", "uid", "gid", "mtime_ns")}
    manifest["files"].append(link | {"key": "run-1/checkpoint-1/../../../evil", "link": "x"})
    path.write_text(json.dumps(manifest))
    other = new_daemon(remote=daemon.remote_url)
    other.start()
    worker = other.worker_pid()
    other.ctl("prefetch", "run-1@1", check=4)
    assert other.worker_pid() == worker


def manifest_of(key: str, run: str = "run-1", root: str = "run-1/checkpoint-1") -> str:
    entry = {"key": key, "mode": 0o644, "uid": 0, "gid": 0, "mtime_ns": 0, "link": "x"}
    return json.dumps({
        "version": 1, "run": run, "step": 1, "node": "n", "nodes": 1, "framework": "", "writer": "", "root": root,
        "written_at": "2026-01-01T00:00:00Z", "committed_at": "2026-01-01T00:00:00Z", "files": [entry],
    })  # fmt: skip


@pytest.mark.parametrize(
    "key",
    [
        "/etc/passwd", "run-1/../x", "run-1//x", "run-1/./x", "run-1/%2E%2E/x", "run-1%2F..%2Fx", "run-1/x%00", "",
        "run-1/", ".ckptd/format", "%2Eckptd/x", "run-2/checkpoint-1/x",
    ],
)  # fmt: skip
def test_keys_that_are_no_paths_of_the_run_are_refused(key: str) -> None:
    with pytest.raises(IntegrityError, match="key"):
        Manifest.from_json(manifest_of(key), "it")


@pytest.mark.parametrize(
    ("key", "run", "root"),
    [
        ("run-1/checkpoint-1/..x", "run-1", "run-1/checkpoint-1"),
        ("checkpoint-1/model.bin", ".", "checkpoint-1"),
        ("step_1.pt", ".", "step_1.pt"),
    ],
)
def test_keys_of_the_run_are_taken(key: str, run: str, root: str) -> None:
    assert Manifest.from_json(manifest_of(key, run, root), "it").entries[0].key == key


@pytest.mark.parametrize(
    "key", ["/etc", "run-1/../x", "run-2", ".ckptd", "run-1/.ckptd-x", "..", "", "run-1/checkpoint-2"]
)
def test_directories_that_are_none_of_the_run_are_refused(key: str) -> None:
    said = json.loads(manifest_of("run-1/checkpoint-1/x"))
    directory = {"key": "run-1/checkpoint-1", "mode": 0o750, "uid": 1, "gid": 2}
    whole = Manifest.from_json(json.dumps(said | {"directories": [directory]}), "it")
    assert whole.directories["run-1/checkpoint-1"].mode == 0o750
    for bad in (directory | {"key": key}, directory | {"mode": -1}, directory | {"uid": 1 << 32}, {"key": "run-1"}):
        with pytest.raises(IntegrityError):
            Manifest.from_json(json.dumps(said | {"directories": [bad]}), "it")


def test_a_root_outside_the_volume_is_refused() -> None:
    with pytest.raises(IntegrityError):
        Manifest.from_json(manifest_of("run-1/checkpoint-1/x", root="../../etc"), "it")


def test_only_the_very_file_that_was_found_bad_is_set_aside(tmp_path: Path) -> None:
    volume = cast("Volume", SimpleNamespace(root=str(tmp_path), locate=lambda path: str(tmp_path / path)))
    file, kept = tmp_path / "model.bin", tmp_path / "kept"
    file.write_text("bad")
    found = file.stat()
    copy = CopyRow(Place.RAM, 0, str(file), found.st_ino, found.st_mtime_ns)
    stamp = Stamp(found.st_ino, found.st_size, found.st_mtime_ns)
    row = cast("FileRow", SimpleNamespace(path="model.bin", stamp=lambda _: stamp))
    file.write_text("written again")
    with pytest.raises(SourceChanged):
        _set_aside(volume, row, copy, str(kept))
    assert file.read_text() == "written again"
    file.write_text("bad")
    os.utime(file, ns=(found.st_mtime_ns, found.st_mtime_ns))
    _set_aside(volume, row, copy, str(kept))
    assert kept.read_text() == "bad"
    assert not file.exists()
