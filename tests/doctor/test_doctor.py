"""Checks against small fake /proc trees, real directories and a real file:// remote."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ckptd.doctor import machine, places
from ckptd.doctor.command import doctor
from ckptd.doctor.finding import State, readable

GIB = 1 << 30


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")
    return root


RELEASES = [("6.18.4-x", "ok"), ("5.4.0", "ok"), ("5.3.9", "failed"), ("4.18.0-553.el8", "failed")]


@pytest.mark.parametrize(("release", "state"), RELEASES)
def test_kernels_older_than_pidfds_are_refused(release: str, state: str) -> None:
    assert machine.kernel(release).state == state


def test_few_inotify_watches_are_a_warning_with_the_sysctl(tmp_path: Path) -> None:
    limits = {"max_user_watches": "8192", "max_user_instances": "128", "max_queued_events": "16384"}
    found = machine.inotify(tree(tmp_path, {f"proc/sys/fs/inotify/{name}": value for name, value in limits.items()}))
    assert found.state is State.WARNING
    assert "sysctl fs.inotify.max_user_watches" in found.fix


@pytest.mark.parametrize(("budget", "state"), [(1, "ok"), (12, "warning"), (15, "failed")])
def test_the_ram_budget_is_held_against_the_machines_memory(tmp_path: Path, budget: int, state: str) -> None:
    root = tree(tmp_path, {"proc/meminfo": f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable: {10 * GIB // 1024} kB\n"})
    assert machine.memory(root, budget * GIB).state == state


def test_the_tightest_cgroup_above_counts(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
            "sys/fs/cgroup/slurm/job_7/step_0/memory.max": "max\n",
            "sys/fs/cgroup/slurm/job_7/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/slurm/memory.max": f"{8 * GIB}\n",
        },
    )
    found = machine.cgroup(root, 2 * GIB)
    assert found.state is State.WARNING
    assert "limit 1 GiB" in found.detail


def test_swap_and_missing_pressure_are_pointed_out(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/meminfo": "MemTotal: 1 kB\nSwapTotal: 2097152 kB\n"})
    assert machine.swap(root).state is State.WARNING
    assert "psi=1" in machine.pressure(root).fix


def test_sizes_are_readable() -> None:
    assert [readable(size) for size in (0, 999, 64 << 20, 25276502016)] == ["0 B", "999 B", "64 MiB", "23.5 GiB"]


def run(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    (tmp_path / "empty.toml").write_text("[node]\n", encoding="ascii")
    state = ["--state-dir", str(tmp_path / "state"), "--config", str(tmp_path / "empty.toml")]
    done = CliRunner().invoke(doctor, [str(tmp_path / "ckpt"), *state, "--json", *arguments], catch_exceptions=False)
    return done.exit_code, {found["check"]: found for found in json.loads(done.stdout)}


def test_a_good_set_up_has_no_failed_check_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    code, found = run(tmp_path, "--remote", f"file://{tmp_path}/remote", "--ram", "1MiB")
    assert [each for each in found.values() if each["state"] == "failed"] == []
    assert code == 0
    assert found["remote of ckpt"]["state"] == "ok"
    assert found["clock of ckpt's remote"]["state"] == "ok"
    assert found["leases on tier ram"]["state"] == "ok"
    assert not [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]
    assert not (tmp_path / "state").exists()


def test_a_remote_that_cannot_work_is_a_failed_check_with_a_fix(tmp_path: Path) -> None:
    code, found = run(tmp_path, "--remote", f"file://{tmp_path}/no/such/directory")
    assert code == 1
    assert found["remote of ckpt"]["state"] == "failed"
    assert found["remote of ckpt"]["fix"]


def test_an_unknown_scheme_names_the_known_ones(tmp_path: Path) -> None:
    code, found = run(tmp_path, "--remote", "gopher://host/path")
    assert code == 1
    assert "s3://" in found["remote of ckpt"]["detail"]


def test_settings_that_do_not_validate_are_one_failed_check_among_the_others(tmp_path: Path) -> None:
    code, found = run(tmp_path, "--ram", "-3GiB")
    assert code == 1
    assert found["settings"]["state"] == "failed"
    assert "kernel" in found


def test_a_dead_daemons_socket_is_recognised(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        assert "one serves" in places.daemon(str(tmp_path / "s")).detail
    assert "left by a dead one" in places.daemon(str(tmp_path / "s")).detail
    assert "none serves" in places.daemon(str(tmp_path / "t")).detail


def test_a_directory_that_is_not_writable_even_for_root_is_a_failed_check(tmp_path: Path) -> None:
    _, found = run(tmp_path, "--nvme", "/proc/nvme:1MiB")
    assert found["tier nvme"]["state"] == "failed"
    assert "/proc/nvme" in found["tier nvme"]["detail"]


def test_it_runs_as_its_own_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ckptd", "doctor", "--json", "--state-dir", str(tmp_path / "s"), str(tmp_path / "v")],
        check=False, capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert {"check", "state", "detail", "fix"} == set(json.loads(done.stdout)[0])
