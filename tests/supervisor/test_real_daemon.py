"""`python -m ckptd` and `ckptctl` as a user runs them: the whole daemon, killed and stopped in the ways that happen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from supervised import alive, eventually
from tests_node_daemon import clear_mounts

pytestmark = pytest.mark.timeout(180)


@dataclass
class Home:
    """A node of its own; `remote` survives it."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("CKPTD_")}
        (self.root / "empty.toml").write_text("[node]\n", encoding="ascii")
        config, state = str(self.root / "empty.toml"), str(self.root / "state")
        # Where nothing is installed (a checkout on the path), -I would not find us: a test says where we are.
        return own | {"CKPTD_CONFIG": config, "CKPTD_STATE_DIR": state, "CKPTD_TIERS_RAM_BUDGET": "64MiB"}

    @property
    def volume(self) -> Path:
        return self.root / "ckpt"

    def ctl(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ckptctl", *arguments], env=self.environment, cwd=self.root, check=False,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(self, *arguments: str) -> Any:
        return json.loads(self.ctl(*arguments, "--json"))

    def up(self) -> dict[str, Any]:
        self.ctl("up", "./ckpt", "--remote", f"file://{self.root}/remote")
        status: dict[str, Any] = self.ask("status")
        return status

    def save(self, step: int, size: int = 1 << 20) -> bytes:
        content = os.urandom(size)
        folder = self.volume / "run-1" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "model.bin").write_bytes(content)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
        return content

    def supervisor(self) -> int:
        return int((self.root / "state/lock").read_text(encoding="ascii"))

    def log(self) -> str:
        return (self.root / "state/ckptd.log").read_text(encoding="utf-8")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    (tmp_path / "remote").mkdir()
    made = Home(tmp_path)
    rows = {row["key"]: row["value"] for row in made.ask("config", "show")}
    yield made
    text = (tmp_path / "state/lock").read_text(encoding="ascii") if (tmp_path / "state/lock").exists() else ""
    if text and alive(int(text)):
        os.kill(int(text), signal.SIGTERM)
        eventually(lambda: not alive(int(text)), "the daemon ends")
    clear_mounts(made.volume, Path(rows["tiers.ram.path"]))
    shutil.rmtree(rows["tiers.ram.path"], ignore_errors=True)


def test_a_killed_worker_comes_back_with_everything_and_finishes_the_upload(home: Home) -> None:
    first = home.up()
    content = home.save(1, 8 << 20)
    os.kill(first["pid"], signal.SIGKILL)
    status = home.ask("status")  # waits in the socket's queue until the next worker answers
    assert status["restarts"] == 1
    assert status["pid"] != first["pid"]
    home.ctl("flush", "run-1", "--timeout", "60s")
    assert (home.root / "remote/run-1/checkpoint-1/model.bin").read_bytes() == content
    assert home.ask("ls", "run-1")[0]["state"] == "committed"
    assert "killed by SIGKILL" in home.log()


def test_the_log_of_a_detached_daemon_does_not_grow_without_bound(home: Home) -> None:
    log = home.root / "state/ckptd.log"
    log.parent.mkdir(mode=0o700)
    log.write_text("of an earlier life\n" * 1_000_000, encoding="ascii")
    home.up()
    eventually(lambda: log.stat().st_size < 1_000_000, "it begins anew")
    assert (home.root / "state/ckptd.log.1").read_text(encoding="utf-8").startswith("of an earlier life\n")
    os.kill(home.ask("status")["pid"], signal.SIGKILL)
    home.ask("status")
    assert "killed by SIGKILL" in home.log()
    assert "\0" not in home.log()


def test_up_is_idempotent_and_a_second_daemon_is_refused_by_pid(home: Home) -> None:
    status = home.up()
    assert home.up()["pid"] == status["pid"]
    second = subprocess.run(
        [sys.executable, "-m", "ckptd", "./other", "--socket", str(home.root / "other.sock")],
        env=home.environment, cwd=home.root, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"pid {home.supervisor()} " in second.stderr


def test_a_killed_supervisor_takes_the_worker_with_it_and_the_next_up_goes_on(home: Home) -> None:
    status = home.up()
    home.save(1)
    supervisor = home.supervisor()
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not alive(status["pid"]), "the worker ends with its supervisor")
    again = home.up()
    assert home.supervisor() != supervisor
    assert again["restarts"] == 0
    home.ctl("flush", "--timeout", "60s")
    assert home.ask("ls", "run-1")[0]["state"] == "committed"


def test_sigterm_flushes_before_the_end(home: Home) -> None:
    home.up()
    content = home.save(1, 8 << 20)
    supervisor = home.supervisor()
    os.kill(supervisor, signal.SIGTERM)
    eventually(lambda: not alive(supervisor), "the daemon ends")
    assert (home.root / "remote/run-1/checkpoint-1/model.bin").read_bytes() == content
    assert list((home.root / "remote/.ckptd/manifests/run-1/1").iterdir())
    assert not (home.root / "state/ckptd.sock").exists()


def test_an_error_at_the_start_reaches_the_caller_with_its_exit_code(home: Home) -> None:
    said = home.ctl("up", "./ckpt", "--remote", "gopher://nowhere/x", code=2)
    assert "gopher" in said
    eventually(lambda: not (home.root / "state/ckptd.sock").exists(), "nothing of it is left")


def test_a_remote_that_is_not_there_is_told_at_up(home: Home) -> None:
    said = home.ctl("up", "./ckpt", "--remote", f"file://{home.root}/no/such/place", code=1)
    assert "no/such" in said
