"""A user with a shell on the node does not read another's checkpoint: not its files, not in the tiers, not over the API."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_node_daemon import Daemon, save
from tests_security_users import ALICE, BOB, GROUP, Asking, acting, fails

NewNode = Callable[..., Daemon]
SECRET = b"weights of alice" * 1000


def saved_by(uid: int, node: Daemon, run: str, step: int, *, mode: int = 0o755, content: bytes = SECRET) -> Path:
    """A run directory of this mode, with files that everybody might read."""

    def write() -> None:
        directory = node.volume / run
        directory.mkdir(mode=mode, exist_ok=True)
        save(directory / f"checkpoint-{step}", {"model.bin": content, "config.json": b"{}"})

    acting(uid, write)
    return node.volume / run / f"checkpoint-{step}"


def test_a_private_run_is_private_on_every_node_that_fetches_it(node: Daemon, new_node: NewNode) -> None:
    """Its files may be read by everybody; that its directory keeps others out goes with it."""
    saved_by(ALICE, node, "secret", 1, mode=0o700)
    saved_by(ALICE, node, "open", 1, mode=0o755)
    node.committed("secret", 1)
    node.committed("open", 1)
    other = new_node()
    other.start()
    for run in ("secret", "open"):
        other.ctl("prefetch", f"{run}@1")
    found = os.stat(other.volume / "secret")
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (ALICE, 0o700)
    model = other.volume / "secret/checkpoint-1/model.bin"
    assert acting(ALICE, lambda: model.read_bytes() == SECRET)
    assert fails(BOB, model.read_bytes) == "PermissionError"
    assert acting(BOB, lambda: (other.volume / "open/checkpoint-1/model.bin").read_bytes() == SECRET)
    assert Asking(other, BOB).refused("GET", "/v1/runs/secret/checkpoints")["code"] == "not-known"


def test_demoted_files_are_read_by_their_path_and_not_behind_it(new_node: NewNode) -> None:
    node = new_node(policy="keep_hot = 0")
    node.start()
    path = saved_by(ALICE, node, "secret", 1, mode=0o700)
    node.committed("secret", 1)
    node.until((path / "model.bin").is_symlink, "demoted")
    assert acting(ALICE, lambda: (path / "model.bin").read_bytes() == SECRET)
    behind = Path(os.readlink(path / "model.bin"))
    assert stat.S_IMODE(behind.stat().st_mode) == 0o644
    assert fails(BOB, (path / "model.bin").read_bytes) == "PermissionError"
    assert fails(BOB, lambda: os.listdir(behind.parent)) == "PermissionError"
    number = behind.name.partition("-")[0]
    assert fails(BOB, (behind.parent / number).read_bytes) == "FileNotFoundError"
    assert len(behind.name) >= len(number) + 33, "more than can be guessed"

    def plant() -> None:
        """A link to where the object would be, were its name its number: the daemon is to take it for the job's own."""
        (node.volume / "planted").mkdir()
        (node.volume / "planted" / "model.bin").symlink_to(behind.parent / number)

    acting(BOB, plant)
    node.ctl("ls")
    assert os.readlink(node.volume / "planted" / "model.bin") == str(behind.parent / number)


@pytest.mark.mount
def test_nobody_gets_behind_a_mount(new_node: NewNode) -> None:
    node = new_node(front="mount", policy="keep_hot = 0")
    node.start()
    path = saved_by(ALICE, node, "secret", 1, mode=0o700)
    node.committed("secret", 1)
    node.until(lambda: node.checkpoint("secret", 1)["tiers"] == ["nvme"], "demoted")  # type: ignore[index]
    assert acting(ALICE, lambda: (path / "model.bin").read_bytes() == SECRET)
    assert fails(BOB, (path / "model.bin").read_bytes) == "PermissionError"
    for hidden in (node.ram, node.home / "nvme", node.home / "nvme/volumes/ckpt/objects"):
        assert fails(BOB, lambda hidden=hidden: os.listdir(hidden)) == "PermissionError"  # type: ignore[misc]
        assert fails(BOB, lambda hidden=hidden: (hidden / "volumes").stat()) == "PermissionError"  # type: ignore[misc]


@pytest.mark.parametrize("front", ["watch", pytest.param("mount", marks=pytest.mark.mount)])
def test_what_is_the_daemons_own_is_closed(new_node: NewNode, front: str) -> None:
    node = new_node(front=front)
    node.start()
    saved_by(ALICE, node, "secret", 1, mode=0o700)
    node.committed("secret", 1)
    state = node.home / "state"
    assert fails(BOB, lambda: os.listdir(state)) == "PermissionError"
    files = [path for path in state.iterdir() if not path.is_dir()]
    assert {path.name for path in files} >= {"catalog.db", "lock"}
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    for tier in (node.ram, node.home / "nvme"):
        for folder in ("staging", "quarantine"):
            assert stat.S_IMODE((tier / folder).stat().st_mode) == 0o700
    assert stat.S_IMODE((node.home / "s").stat().st_mode) == 0o666


def test_the_api_tells_of_no_run_that_one_may_not_see(node: Daemon) -> None:
    saved_by(ALICE, node, "secret", 1, mode=0o700)
    saved_by(ALICE, node, "open", 1, mode=0o755)
    for run in ("secret", "open"):
        node.committed(run, 1)
        Asking(node, ALICE).start("verify", f"{run}@1")
    node.ctl("tag", "secret@1", "best")
    bob = Asking(node, BOB)
    assert [row["run"] for row in bob.get("/v1/runs")] == ["open"]
    assert bob.get("/v1/runs/open/latest")["step"] == 1
    for path in ("/v1/status", "/v1/operations", "/v1/events", "/v1/tags"):
        assert "secret" not in str(bob.get(path)), path
    assert b"secret" not in acting_metrics(node)
    assert [row["run"] for row in Asking(node, ALICE).get("/v1/runs")] == ["open", "secret"]
    hidden = bob.refused("GET", "/v1/runs/secret/checkpoints")
    absent = bob.refused("GET", "/v1/runs/absent/checkpoints")
    assert {k: str(v).replace("secret", "absent") for k, v in hidden.items()} == {k: str(v) for k, v in absent.items()}


def acting_metrics(node: Daemon) -> bytes:
    text: bytes = node.get("/metrics")
    return text


def test_groups_count_the_supplementary_ones_too(node: Daemon) -> None:
    def write() -> None:
        directory = node.volume / "team"
        directory.mkdir()
        os.chown(directory, -1, GROUP)
        directory.chmod(0o2750)
        save(directory / "checkpoint-1", {"model.bin": b"m" * 100})

    acting(ALICE, write, [GROUP])
    node.committed("team", 1)
    assert [row["run"] for row in Asking(node, BOB, (GROUP,)).get("/v1/runs")] == ["team"]
    assert Asking(node, BOB).get("/v1/runs") == []
    assert Asking(node, BOB, (GROUP,)).start_refused("evict", "team@1")["exit_code"] == 7
    acting(ALICE, lambda: (node.volume / "team").chmod(0o2770), [GROUP])
    Asking(node, BOB, (GROUP,)).start("evict", "team@1")


def test_members_of_the_admin_group_do_everything(new_node: NewNode) -> None:
    node = new_node(access=f'admin_group = "{GROUP}"')
    node.start()
    saved_by(ALICE, node, "secret", 1, mode=0o700)
    node.committed("secret", 1)
    admin = Asking(node, BOB, (GROUP,))
    assert [row["run"] for row in admin.get("/v1/runs")] == ["secret"]
    admin.start("flush", "secret")
    assert Asking(node, BOB).get("/v1/runs") == []


def test_an_admin_group_that_is_not_there_keeps_the_daemon_from_starting(new_node: NewNode) -> None:
    node = new_node(access='admin_group = "no-such-group"')
    _, said = node.launch()
    assert not said["ok"]
    assert "access.admin_group: there is no group 'no-such-group'" in said["message"]


def test_a_socket_for_a_group_is_closed_to_others(new_node: NewNode) -> None:
    node = new_node(access=f'users = "group"\ngroup = "{GROUP}"')
    node.start()
    assert stat.S_IMODE((node.home / "s").stat().st_mode) == 0o660
    assert Asking(node, BOB, (GROUP,)).get("/v1/health")["ok"]
    assert Asking(node, BOB).refused("GET", "/v1/health")["code"] == "not-allowed"
