"""The systemd units: read by systemd's own tools, and what they take from the daemon taken from a real one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sandboxed import setting
from tests_node_daemon import MIB, Daemon, save
from tests_node_fixtures import new_daemon

__all__ = ["new_daemon"]

PACKAGING = Path(__file__).parents[2] / "packaging"
UNIT, USER_UNIT = PACKAGING / "systemd/ckptd.service", PACKAGING / "systemd/user/ckptd.service"
MOST_EXPOSED = 55
"""Tenths of systemd-analyze's scale; 9.6 is a service without any sandbox. A third of what is left are mounts and paths."""
OWN_MOUNTS = (
    "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateIPC", "ProtectSystem", "ProtectHome", "ProtectProc", "ProcSubset",
    "ProtectControlGroups", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "MountFlags", "MountAPIVFS",
    "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "BindPaths", "BindReadOnlyPaths",
    "TemporaryFileSystem", "RootDirectory", "RootImage", "MountImages", "ExtensionImages", "ExtensionDirectories", "DynamicUser",
    "LogNamespace", "CacheDirectory",
)  # fmt: skip
"""Each gives a service a mount namespace: systemd.exec(5). (A few only together with others.)"""

analyzed = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed (make packagers)"
)


def analyze(tmp_path: Path, unit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Of the unit with an interpreter that is here in place of the package's."""
    copy = tmp_path / "ckptd.service"
    copy.write_text(unit.read_text(encoding="utf-8").replace("/opt/ckptd/bin/python", sys.executable), encoding="utf-8")
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        ["systemd-analyze", *words, str(copy)], capture_output=True, text=True, check=False, env=environment
    )


@analyzed
@pytest.mark.packagers
@pytest.mark.parametrize(("unit", "whose"), [(UNIT, "--system"), (USER_UNIT, "--user")])
def test_systemd_reads_the_unit_without_a_complaint(unit: Path, whose: str, tmp_path: Path) -> None:
    done = analyze(tmp_path, unit, whose, "verify", "--man=no")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@analyzed
@pytest.mark.packagers
def test_systemd_reads_the_unit_for_spot_notices_without_a_complaint(tmp_path: Path) -> None:
    spot = tmp_path / "ckptd-spot@aws.service"
    text = (PACKAGING / "systemd/ckptd-spot@.service").read_text(encoding="utf-8")
    spot.write_text(text.replace("/opt/ckptd/bin/python", sys.executable), encoding="utf-8")
    assert analyze(tmp_path, UNIT, "--system", "verify", "--man=no", str(spot)).stderr == ""


@pytest.mark.parametrize("unit", [UNIT, USER_UNIT, PACKAGING / "systemd/ckptd-spot@.service"])
def test_no_unit_is_given_up_and_each_runs_the_packages_interpreter(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    assert setting(text.partition("[Service]")[0], "StartLimitIntervalSec") == "0"
    assert setting(text, "ExecStart").startswith("/opt/ckptd/bin/python -I -m ")


@analyzed
@pytest.mark.packagers
def test_the_unit_is_not_more_exposed_than_mounting_asks_for(tmp_path: Path) -> None:
    done = analyze(tmp_path, UNIT, "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", "--no-pager")
    assert done.returncode == 0, done.stdout


def test_no_setting_gives_the_service_a_mount_namespace_of_its_own() -> None:
    unit = UNIT.read_text(encoding="utf-8")
    assert [key for key in OWN_MOUNTS if re.search(rf"^{key}=", unit, re.MULTILINE)] == []


def test_the_daemon_is_bounded_and_stays_killable() -> None:
    unit = UNIT.read_text(encoding="utf-8")
    assert int(setting(unit, "OOMScoreAdjust")) >= -500
    assert setting(unit, "MemoryMax").endswith("%")
    assert setting(unit, "OOMPolicy") == "continue"
    assert int(setting(unit, "FileDescriptorStoreMax")) >= 2 * 16  # two a volume


@analyzed
@pytest.mark.mount
@pytest.mark.xdist_group("test_units")
def test_a_daemon_under_the_units_sandbox_does_all_that_it_does_otherwise(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    sandbox = [sys.executable, str(Path(__file__).parent / "sandboxed.py"), str(UNIT)]
    daemon = new_daemon(front="mount", remote=f"file://{tmp_path}/remote", prefix=sandbox, policy="keep_hot = 1")
    daemon.start()
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text(encoding="ascii")
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", status, re.MULTILINE)
    assert daemon.json("status")["volumes"][0]["passthrough"]
    # Another user's job, whose group's bit on a directory and whose file's owner are kept.
    run = daemon.volume / "run-1"
    run.mkdir()
    os.chown(run, 65534, 65534)
    job = f"""
import os
os.chdir({str(run)!r}); os.setgid(65534); os.setuid(65534)
for step in (1, 2, 3):
    os.mkdir(f"checkpoint-{{step}}"); os.chmod(f"checkpoint-{{step}}", 0o2755)
    with open(f"checkpoint-{{step}}/model.bin", "wb") as file:
        file.write(bytes([step]) * {8 * MIB})
    with open(f"checkpoint-{{step}}/trainer_state.json", "w") as file:
        file.write("{{}}")
"""
    subprocess.run([sys.executable, "-c", job], check=True)
    daemon.ctl("flush", "run-1", "--timeout", "60s")
    assert (run / "checkpoint-1").stat().st_mode & 0o7777 == 0o2755
    daemon.until(lambda: daemon.checkpoint("run-1", 1)["tiers"] == ["nvme"], "the oldest is demoted")  # type: ignore[index]
    daemon.ctl("evict", "run-1@1")
    daemon.ctl("prefetch", "run-1@1")
    found = run / "checkpoint-1/model.bin"
    assert found.read_bytes() == b"\1" * 8 * MIB
    assert found.stat().st_uid == 65534
    daemon.ctl("verify", "run-1", "--remote")
    daemon.ctl("upgrade")
    save(daemon.volume / "run-2/checkpoint-1", {"model.bin": b"m", "trainer_state.json": b"{}"})
    daemon.committed("run-2", 1)
    assert daemon.terminate() == 0
    assert "not permitted" not in daemon.log
