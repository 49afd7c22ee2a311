"""What doctor says of a Slurm set-up: files as an administrator writes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ckptd.doctor import slurm
from ckptd.doctor.finding import Finding

PACKAGING = Path(__file__).parents[2] / "packaging/slurm"
GOOD = """
# our cluster
Prolog=prolog.d/*
Epilog=epilog.d/*
TaskProlog=/etc/slurm/task_prolog.sh
PrologFlags=Alloc
PrologEpilogTimeout=60   # seconds
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup,task/affinity
NodeName=n[1-2] CPUs=8 \\
    RealMemory=1000
"""


def found(root: Path, text: str, *, cgroup: str = "", defaults: str = "", front: str = "watch") -> dict[str, Finding]:
    folder = root / "etc/slurm"
    for kind in ("prolog.d", "epilog.d"):
        shutil.copytree(PACKAGING / kind, folder / kind, dirs_exist_ok=True)
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text(cgroup)
    (root / "etc/default").mkdir(exist_ok=True)
    (root / "etc/default/ckptd").write_text(defaults)
    return {finding.check: finding for finding in slurm.checks(root, {}, {"ckpt": front})}


def test_nothing_is_said_where_there_is_no_slurm(tmp_path: Path) -> None:
    assert list(slurm.checks(tmp_path, {}, {})) == []
    (named,) = slurm.checks(tmp_path, {"SLURM_CONF": str(tmp_path / "absent")}, {})
    assert named.state == "skipped"


def test_a_good_set_up_is_good(tmp_path: Path) -> None:
    assert {finding.state for finding in found(tmp_path, GOOD).values()} == {"ok"}


def test_the_example_of_the_package_is_good(tmp_path: Path) -> None:
    example = (PACKAGING / "slurm.conf.example").read_text()
    states = {
        name: one.state
        for name, one in found(tmp_path, example.replace("/etc/slurm", str(tmp_path / "etc/slurm"))).items()
    }
    assert set(states.values()) == {"ok"}, states


@pytest.mark.parametrize(
    ("before", "after", "check", "says"),
    [
        ("Prolog=prolog.d/*\n", "", "slurm scripts", "Prolog of"),
        ("Epilog=epilog.d/*", "Epilog=/bin/true", "slurm scripts", "Epilog of"),
        ("TaskProlog=", "#", "slurm scripts", "CKPTD_LATEST"),
        ("PrologFlags=Alloc", "PrologFlags=NoHold", "slurm prolog flags", "Alloc"),
        ("PrologEpilogTimeout=60", "PrologEpilogTimeout=30", "slurm time limits", "drains the node"),
        ("proctrack/cgroup", "proctrack/linuxproc", "slurm process tracking", "environment"),
        ("NodeName", "JobContainerType=job_container/tmpfs\nNodeName", "slurm job_container", "/dev/shm"),
    ],
)
def test_each_trap_is_named_with_its_way_out(tmp_path: Path, before: str, after: str, check: str, says: str) -> None:
    assert before in GOOD
    bad = [one for one in found(tmp_path, GOOD.replace(before, after)).values() if one.state != "ok"]
    assert [one.check for one in bad] == [check]
    assert bad[0].state == "warning"
    assert says in bad[0].detail
    assert bad[0].fix


def test_a_memory_limit_counts_on_a_watched_volume_only(tmp_path: Path) -> None:
    limited = {"cgroup": "ConstrainRAMSpace=yes\n"}
    assert "--mem" in found(tmp_path, GOOD, **limited)["slurm memory limits"].fix
    assert found(tmp_path, GOOD, front="mount", **limited)["slurm memory limits"].state == "ok"
    without = GOOD.replace("task/cgroup,", "")
    assert found(tmp_path, without, **limited)["slurm memory limits"].state == "ok"


def test_a_private_shm_does_not_matter_to_a_mount(tmp_path: Path) -> None:
    text = GOOD + "JobContainerType=job_container/tmpfs\n"
    assert found(tmp_path, text, front="mount")["slurm job_container"].state == "ok"


@pytest.mark.parametrize(
    ("defaults", "state"), [("CKPTD_PROLOG_BUDGET=300\n", "warning"), ("CKPTD_EPILOG_BUDGET='20'\n", "ok")]
)
def test_the_budgets_of_this_site_count(tmp_path: Path, defaults: str, state: str) -> None:
    assert found(tmp_path, GOOD, defaults=defaults)["slurm time limits"].state == state


def test_included_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "etc/slurm").mkdir(parents=True)
    (tmp_path / "etc/slurm/more.conf").write_text("PrologFlags=Contain\nInclude more.conf\n")
    text = GOOD.replace("PrologFlags=Alloc", "include more.conf")
    assert found(tmp_path, text)["slurm prolog flags"].state == "ok"
