"""No user makes root write, chown or delete outside of a volume or in another's run; none puts his files under another's name."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_security_reading import SECRET, saved_by
from tests_node_daemon import Daemon
from tests_security_users import ALICE, BOB, Asking, acting

NewNode = Callable[..., Daemon]
_EXCHANGE = 2
_AT_FDCWD = -100


@pytest.fixture
def cold(node: Daemon, new_node: NewNode) -> Daemon:
    """A node that has nothing of what alice's run `secret` (private) and `open` have in the remote."""
    for run, mode in (("secret", 0o700), ("open", 0o755)):
        saved_by(ALICE, node, run, 1, mode=mode)
        node.committed(run, 1)
    other = new_node()
    other.start()
    return other


def outside_of(node: Daemon) -> Path:
    """A directory of bob's to which he would have root write, and one that is root's."""
    outside = node.home / "outside"
    outside.mkdir()
    (outside / "roots").mkdir(mode=0o700)
    (outside / "bobs").mkdir()
    os.chown(outside / "bobs", BOB, BOB)
    return outside


def state_of(folder: Path) -> list[tuple[str, int, int]]:
    found = [(str(path), path.lstat().st_uid, path.lstat().st_mode) for path in sorted(folder.rglob("*"))]
    return [(str(folder), folder.lstat().st_uid, folder.lstat().st_mode), *found]


@pytest.mark.parametrize("target", ["roots", "bobs"])
def test_a_link_at_a_runs_name_leads_no_prefetch_out(cold: Daemon, target: str) -> None:
    outside = outside_of(cold)
    before = state_of(outside)
    acting(BOB, lambda: (cold.volume / "secret").symlink_to(outside / target))
    cold.ctl("prefetch", "secret@1", check=1)
    assert state_of(outside) == before


def test_a_directory_at_a_runs_name_gets_nothing_of_anothers_run(cold: Daemon) -> None:
    acting(BOB, (cold.volume / "secret").mkdir)
    said = cold.ctl("prefetch", "secret@1", check=1)
    assert f"belongs to user {BOB}" in said.stderr
    assert list((cold.volume / "secret").iterdir()) == []


def test_a_directory_of_anothers_name_gives_no_rights_to_his_run(cold: Daemon) -> None:
    acting(BOB, (cold.volume / "secret").mkdir)
    bob = Asking(cold, BOB)
    assert [row["run"] for row in bob.get("/v1/runs")] == ["open"]
    for kind in ("prefetch", "verify", "evict", "remove", "flush"):
        assert bob.start_refused(kind, "secret@1")["code"] == "not-known", kind
    acting(BOB, (cold.volume / "open").mkdir)
    assert bob.start_refused("remove", "open@1", remote=True)["code"] == "not-allowed"
    assert Asking(cold, ALICE).get("/v1/runs/secret/latest")["step"] == 1


def test_nor_does_one_that_is_made_before_this_node_has_heard_of_the_run(node: Daemon, new_node: NewNode) -> None:
    """On a watched volume nothing tells a node what others commit: whoever asks for a run has the remote asked first."""
    other = new_node()
    other.start()
    saved_by(ALICE, node, "open", 1)
    node.committed("open", 1)
    acting(BOB, (other.volume / "open").mkdir)
    bob = Asking(other, BOB)
    assert bob.start_refused("remove", "open@1", remote=True)["code"] == "not-allowed"
    assert bob.start_refused("remove", "open", remote=True)["code"] == "not-allowed"
    assert (node.remote / "open/checkpoint-1/model.bin").exists()
    saved_by(ALICE, node, "secret", 1, mode=0o700)
    node.committed("secret", 1)
    acting(BOB, (other.volume / "secret").mkdir)
    assert bob.refused("GET", "/v1/runs/secret/checkpoints")["code"] == "not-known"


def test_a_policy_that_was_set_for_a_name_does_not_count_for_whose_it_becomes(node: Daemon) -> None:
    acting(BOB, (node.volume / "llama").mkdir)
    bob = Asking(node, BOB)
    bob.send("PUT", "/v1/policies", {"pattern": "llama", "values": {"keep_hot": 0, "keep_remote": 1}})
    assert bob.get("/v1/policies/effective", run="llama")["values"]["keep_remote"] == 1
    acting(BOB, (node.volume / "llama").rmdir)
    saved_by(ALICE, node, "llama", 1)
    node.committed("llama", 1)
    alice = Asking(node, ALICE)
    assert alice.get("/v1/policies/effective", run="llama")["values"]["keep_remote"] == 0
    hot = alice.get("/v1/policies/effective", run="llama")["values"]["keep_hot"]
    alice.send("PUT", "/v1/policies", {"pattern": "llama", "values": {"keep_remote": 3}})
    found = alice.get("/v1/policies/effective", run="llama")["values"]
    assert (found["keep_remote"], found["keep_hot"]) == (3, hot), "and what bob had set besides is gone"
    assert hot > 0


def test_what_is_saved_under_anothers_name_is_not_sent(cold: Daemon) -> None:
    objects = {path: path.read_bytes() for path in (cold.remote / "open").rglob("*") if path.is_file()}
    saved_by(BOB, cold, "open", 1, content=b"bob's" * 100)
    saved_by(BOB, cold, "open", 2, content=b"bob's" * 100)
    saved_by(BOB, cold, "bobs", 1)
    cold.committed("bobs", 1)
    told = cold.until(lambda: [e for e in cold.json("events") if e["event"] == "run.foreign"], "it is told")
    assert told[0]["fields"]["run"] == "open"
    time.sleep(1)
    assert {path: path.read_bytes() for path in (cold.remote / "open").rglob("*") if path.is_file()} == objects
    assert not (cold.remote / ".ckptd/manifests/open/2").exists()
    assert json.loads(cold.ctl("drain", "--json", "--deadline", "20s").stdout)["state"] == "done", "bob holds nobody up"
    cold.ctl("flush", "open", "--timeout", "1s", check=5)


def test_a_run_that_another_node_has_just_begun_is_not_added_to(node: Daemon, new_node: NewNode) -> None:
    """This node has not heard of it yet."""
    other = new_node()
    other.start()
    saved_by(ALICE, node, "open", 1)
    node.committed("open", 1)
    saved_by(BOB, other, "open", 2, content=b"bob's" * 100)
    other.until(lambda: [e for e in other.json("events") if e["event"] == "run.foreign"], "it is told")
    assert not (node.remote / "open/checkpoint-2").exists()


def test_nobody_forges_manifests_by_saving_them(node: Daemon) -> None:
    saved_by(ALICE, node, "open", 1)
    node.committed("open", 1)
    true = (node.remote / f".ckptd/manifests/open/1/{node.node}.json").read_text()

    def forge() -> None:
        folder = node.volume / ".ckptd/manifests/open/2"
        folder.mkdir(parents=True)
        (folder / "x.json").write_text(json.dumps({**json.loads(true), "step": 2, "node": "x"}))

    acting(BOB, forge)
    saved_by(BOB, node, "bobs", 1)
    node.committed("bobs", 1)
    node.ctl("flush", "--timeout", "20s", check=None)
    assert not (node.remote / ".ckptd/manifests/open/2").exists()
    assert {path.name for path in (node.remote / ".ckptd").iterdir()} <= {"manifests", "format", "tags", "tmp"}


def racing(volume: Path, outside: Path, until: float) -> None:
    """At the names that root is about to make: links and directories come, go, and are exchanged with one another."""
    rename = ctypes.CDLL(None).renameat2
    run, link, directory = volume / "secret", volume / "bob-link", volume / "bob-directory"
    names = [os.fsencode(path) for path in (run, link, directory)]
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            link.symlink_to(outside / "roots")
        with contextlib.suppress(OSError):
            directory.mkdir()
        for one in names[1:]:
            rename(_AT_FDCWD, one, _AT_FDCWD, names[0], 1)
            rename(_AT_FDCWD, one, _AT_FDCWD, names[0], _EXCHANGE)
        for undo in (run.unlink, run.rmdir):
            with contextlib.suppress(OSError):
                undo()


@pytest.mark.slow
def test_a_race_at_a_runs_name_leads_no_prefetch_astray(cold: Daemon) -> None:
    outside = outside_of(cold)
    before = state_of(outside)
    child = os.fork()
    if child == 0:
        acting(BOB, lambda: racing(cold.volume, outside, time.monotonic() + 8))
        os._exit(0)
    try:
        end = time.monotonic() + 8
        while time.monotonic() < end:
            cold.ctl("prefetch", "secret@1", check=None)
            model = cold.volume / "secret/checkpoint-1/model.bin"
            with contextlib.suppress(OSError):
                found = os.stat(cold.volume / "secret", follow_symlinks=False)
                if found.st_uid == BOB:
                    assert not stat.S_ISDIR(found.st_mode) or not model.exists()
            cold.ctl("evict", "secret@1", check=None)
            with contextlib.suppress(OSError):
                if os.stat(cold.volume / "secret", follow_symlinks=False).st_uid == ALICE:
                    (cold.volume / "secret").rmdir()
    finally:
        os.waitpid(child, 0)
    assert state_of(outside) == before
    for name in ("secret", "bob-link", "bob-directory"):
        with contextlib.suppress(OSError):
            (cold.volume / name).unlink()
    for name in ("secret", "bob-directory"):
        with contextlib.suppress(OSError):
            (cold.volume / name).rmdir()
    cold.ctl("prefetch", "secret@1")
    assert (cold.volume / "secret/checkpoint-1/model.bin").read_bytes() == SECRET
    assert os.stat(cold.volume / "secret").st_uid == ALICE


def test_bits_that_give_rights_are_dropped_and_owners_kept(node: Daemon, new_node: NewNode) -> None:
    path = saved_by(ALICE, node, "open", 1)
    acting(ALICE, lambda: (path / "model.bin").chmod(0o6755))
    acting(ALICE, lambda: (path / "config.json").chmod(0o640))
    node.committed("open", 1)
    other = new_node()
    other.start()
    other.ctl("prefetch", "open@1")
    there = other.volume / "open/checkpoint-1"
    modes = {name: stat.S_IMODE((there / name).stat().st_mode) for name in ("model.bin", "config.json")}
    assert modes == {"model.bin": 0o755, "config.json": 0o640}
    assert {(there / name).stat().st_uid for name in modes} == {ALICE}
    assert {os.stat(other.volume / name).st_uid for name in ("open", "open/checkpoint-1")} == {ALICE}


def test_a_hard_link_to_anothers_file_takes_its_owner_along(node: Daemon, new_node: NewNode) -> None:
    """Where the kernel lets a user link what he may not read (fs.protected_hardlinks = 0)."""
    path = saved_by(ALICE, node, "open", 1)
    (path / "model.bin").chmod(0o600)
    node.committed("open", 1)
    acting(BOB, lambda: (node.volume / "bobs/checkpoint-1").mkdir(parents=True))
    os.link(path / "model.bin", node.volume / "bobs/checkpoint-1/model.bin")
    node.committed("bobs", 1)
    other = new_node()
    other.start()
    other.ctl("prefetch", "bobs@1", check=None)
    linked = other.volume / "bobs/checkpoint-1/model.bin"
    if linked.exists():
        assert (linked.stat().st_uid, stat.S_IMODE(linked.stat().st_mode)) == (ALICE, 0o600)


def test_a_restore_is_the_administrators(node: Daemon) -> None:
    saved_by(BOB, node, "bobs", 1)
    node.committed("bobs", 1)
    refused = Asking(node, BOB).start_refused("restore", "bobs@1", dest="/etc/ckptd-planted")
    assert (refused["code"], refused["exit_code"]) == ("not-allowed", 7)
    assert not Path("/etc/ckptd-planted").exists()
