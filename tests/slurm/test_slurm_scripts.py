"""The scripts of packaging/slurm by themselves, in the shells that /bin/sh may be: they exit with 0 whatever a site has set."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGING = Path(__file__).parents[2] / "packaging/slurm"
SCRIPTS = {"prolog": "prolog.d/50-ckptd", "epilog": "epilog.d/50-ckptd"}
SHELLS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed"))
    for name in ("dash", "bash")
]
RECORDS = '#!/bin/sh\necho "$@" >"${0%/*}/called"\nexit 3\n'
"""A ckptctl that tells how it was called, and fails."""


@pytest.fixture
def ckptctl(tmp_path: Path) -> Path:
    path = tmp_path / "ckptctl"
    path.write_text(RECORDS)
    path.chmod(0o755)
    return path


def run(shell: str, script: str, ckptctl: Path, defaults: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (ckptctl.parent / "defaults").write_text(defaults)
    named = {"CKPTD_DEFAULTS": f"{ckptctl.parent}/defaults", "SLURM_JOB_ID": "1", "PATH": "/usr/bin:/bin"}
    # bash takes functions from its environment: what would go to syslog.
    named["BASH_FUNC_logger%%"] = f'() {{ echo "$@" >>{ckptctl.parent}/syslog; }}'
    return subprocess.run(
        [str(shutil.which(shell)), str(PACKAGING / script)], env=named | environment,
        capture_output=True, text=True, check=False, timeout=30, cwd=ckptctl.parent,
    )  # fmt: skip


def called(ckptctl: Path) -> str:
    path = ckptctl.with_name("called")
    return path.read_text() if path.exists() else ""


def syslog(ckptctl: Path) -> str:
    path = ckptctl.with_name("syslog")
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize(
    ("budget", "seconds"),
    [("7", 7), ("7s", 7), ("0", 0), ("45 s", 45), ("1m", 45), ("", 45), ("s", 45), ("-1", 45), ("089", 45), ("9" * 30, 45),
     ("7ss", 45), ("x[$(touch planted)]", 45)],
)  # fmt: skip
def test_a_budget_is_seconds_or_the_default(shell: str, kind: str, budget: str, seconds: int, ckptctl: Path) -> None:
    name = f"CKPTD_{kind.upper()}_BUDGET"
    done = run(shell, SCRIPTS[kind], ckptctl, f"CKPTCTL={ckptctl}\n{name}='{budget}'\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert called(ckptctl).startswith(f"slurm {kind} --strict --budget {seconds}s ")
    if shell == "bash":
        assert (name in syslog(ckptctl)) == (budget not in ("7", "7s", "0"))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize(("strict", "code"), [("0", 0), ("1", 3), ("yes", 0)])
def test_a_failure_is_an_exit_code_only_where_that_is_asked_for(
    shell: str, kind: str, strict: str, code: int, ckptctl: Path
) -> None:
    done = run(shell, SCRIPTS[kind], ckptctl, f"CKPTCTL={ckptctl}\nCKPTD_STRICT={strict}\n")
    assert done.returncode == code
    assert called(ckptctl)


BROKEN = {"quote": "CKPTD_SOCKET='x\n", "if": "if true\n", "paren": "CKPTD_SOCKET=(\n)(\n", "dollar": 'X="${"\n'}
ENDS = [
    "exit 5\n",
    "set -u\n: $NO_SUCH_NAME\n",
    "set -e\nfalse\n",
    "readonly CKPTD_PROLOG_BUDGET CKPTD_EPILOG_BUDGET\n",
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_is_no_shell_script_is_ignored_and_told_of(shell: str, kind: str, what: str, ckptctl: Path) -> None:
    done = run(shell, SCRIPTS[kind], ckptctl, f"CKPTCTL={ckptctl}\nCKPTD_STRICT=1\n{BROKEN[what]}")
    assert done.returncode == 0, done.stderr
    assert called(ckptctl) == ""
    if shell == "bash":
        assert "defaults is ignored" in syslog(ckptctl)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("script", [*SCRIPTS.values(), "task_prolog.sh"])
@pytest.mark.parametrize("lines", [*BROKEN.values(), *ENDS])
def test_whatever_the_file_does_the_job_runs(shell: str, script: str, lines: str, ckptctl: Path) -> None:
    done = run(shell, script, ckptctl, f"CKPTCTL={ckptctl}\n{lines}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_task_prolog_asks_a_ckptctl_that_can_be_run(shell: str, ckptctl: Path) -> None:
    ckptctl.write_text(RECORDS.replace("exit 3", "echo /ckpt/run-1/checkpoint-1"))
    for named, found in ((ckptctl, True), (ckptctl.with_name("defaults"), False), ("/no/such/ckptctl", False)):
        ckptctl.with_name("called").unlink(missing_ok=True)
        done = run(shell, "task_prolog.sh", ckptctl, f"CKPTCTL={named}\n", CKPTD_RUN="run-1")
        assert (done.returncode, done.stderr) == (0, "")
        assert (done.stdout == "export CKPTD_LATEST=/ckpt/run-1/checkpoint-1\n") is found
    # One that is on the user's own path stands in.
    path = f"{ckptctl.parent}:/usr/bin:/bin"
    done = run(shell, "task_prolog.sh", ckptctl, "CKPTCTL=/no/such/ckptctl\n", CKPTD_RUN="run-1", PATH=path)
    assert done.stdout == "export CKPTD_LATEST=/ckpt/run-1/checkpoint-1\n"
