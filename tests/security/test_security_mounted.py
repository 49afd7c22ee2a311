"""The same on a mounted volume, where cold files are in sight and an open fetches them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import pytest
from test_security_reading import SECRET, saved_by
from tests_node_daemon import Daemon
from tests_security_users import ALICE, BOB, Asking, acting, fails

NewNode = Callable[..., Daemon]
pytestmark = pytest.mark.mount


@pytest.fixture
def cold(new_node: NewNode) -> Daemon:
    """A mounted node whose remote has alice's runs `secret` (private) and `open`."""
    first = new_node(front="mount")
    first.start()
    for run, mode in (("secret", 0o700), ("open", 0o755)):
        saved_by(ALICE, first, run, 1, mode=mode)
        first.committed(run, 1)
    first.end()
    return new_node(front="mount")


def test_cold_files_are_in_sight_of_whom_their_directory_lets_in(cold: Daemon) -> None:
    cold.start()
    secret, public = (cold.volume / run / "checkpoint-1/model.bin" for run in ("secret", "open"))
    cold.until(lambda: public.exists() and secret.exists(), "cold files are shown")
    found = os.stat(cold.volume / "secret")
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (ALICE, 0o700)
    assert fails(BOB, secret.read_bytes) == "PermissionError"
    assert fails(BOB, lambda: os.listdir(cold.volume / "secret")) == "PermissionError"
    assert fails(BOB, public.unlink) == "PermissionError"
    assert acting(BOB, lambda: public.read_bytes() == SECRET)
    assert acting(ALICE, lambda: secret.read_bytes() == SECRET)
    assert [row["run"] for row in Asking(cold, BOB).get("/v1/runs")] == ["open"]


def test_no_cold_files_are_shown_in_a_directory_of_another_user(new_node: NewNode) -> None:
    """He was there first, when the remote had no such run yet."""
    first, second = new_node(front="mount"), new_node(front="mount")
    first.start()
    second.start()
    acting(BOB, (second.volume / "secret").mkdir)
    for run in ("secret", "open"):
        saved_by(ALICE, first, run, 1)
        first.committed(run, 1)
    second.ctl("ls")
    second.until((second.volume / "open/checkpoint-1/model.bin").exists, "what has a place is shown")
    assert list((second.volume / "secret").iterdir()) == []
    acting(BOB, (second.volume / "secret").rmdir)
    second.ctl("prefetch", "secret@1")
    assert os.stat(second.volume / "secret").st_uid == ALICE


def test_nobody_makes_links_to_objects_by_name(cold: Daemon) -> None:
    cold.start()
    objects = cold.home / "nvme/volumes/ckpt/objects"
    acting(BOB, (cold.volume / "bobs").mkdir)
    assert fails(BOB, lambda: (cold.volume / "bobs/planted").symlink_to(objects / "1")) == "PermissionError"


def test_an_fsync_that_waits_for_the_remote_replaces_nothing_of_anothers_run(new_node: NewNode) -> None:
    first, second = new_node(front="mount"), new_node(front="mount", policy='fsync = "remote"')
    first.start()
    second.start()
    acting(BOB, (second.volume / "open").mkdir)
    saved_by(ALICE, first, "open", 1)
    first.committed("open", 1)
    objects = {path: path.read_bytes() for path in (first.remote / "open").rglob("*") if path.is_file()}

    def write_and_sync(name: str) -> None:
        path = second.volume / "open" / name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(b"bob's")
            file.flush()
            os.fsync(file.fileno())

    for name in ("checkpoint-1/model.bin", "notes.txt"):
        assert fails(BOB, lambda name=name: write_and_sync(name)) == "OSError", name
    assert {path: path.read_bytes() for path in (first.remote / "open").rglob("*") if path.is_file()} == objects
