"""What Prolog and Epilog read and write, without a cluster: environments, comments, host lists, `scontrol`, exports."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptctl.slurm import as_user
from ckptctl.slurm.choosing import of_name
from ckptctl.slurm.comment import Named, named
from ckptctl.slurm.job import SlurmJob, first_of, job_of
from ckptctl.slurm.record import Record, Records, lines
from ckptctl.slurm.scontrol import parsed
from ckptctl.slurm.spread import delay
from ckptd.domain.errors import CkptdError, UsageError

BASIC = {"SLURM_JOB_ID": "7", "SLURM_JOB_UID": "1000"}


def job(**environ: str) -> SlurmJob:
    return job_of(BASIC | environ)


def test_the_environment_of_a_prolog() -> None:
    found = job(
        SLURM_JOB_GID="100", SLURM_JOB_COMMENT="ckpt=a", SLURMD_NODENAME="n1", SLURM_NODELIST="n[1-4]", SLURM_JOB_NUM_NODES="4",
        SLURM_JOB_RESTART_COUNT="2", SLURM_JOB_STDERR="/home/me/%j.err",
    )  # fmt: skip
    assert (found.id, found.uid, found.gid, found.nodes, found.first, found.restarts) == (7, 1000, 100, 4, True, 2)
    assert found.stderr == "/home/me/7.err"
    assert job(SLURM_JOB_STDERR="/home/me/%x.err").stderr is None  # only scontrol can say
    assert not job(SLURM_NODELIST="n[1-4]", SLURMD_NODENAME="n2").first


@pytest.mark.parametrize(
    "environ", [{}, {"SLURM_JOB_ID": "7"}, BASIC | {"SLURM_JOB_UID": "-1"}, BASIC | {"SLURM_JOB_ID": "7;x"}]
)
def test_outside_of_a_prolog(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        job_of(environ)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("gpu-[003-007,9],head", "gpu-003"), ("n[1-2]-ib,x", "n1-ib"), ("", "")],
)
def test_the_first_host_of_a_list(hosts: str, first: str) -> None:
    assert first_of(hosts) == first


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("", None),
        ("run-42", None),
        ("xckpt=run-42", None),
        ("ckpt=run-42", Named(None, "run-42")),
        ("night shift, ckpt=run-42;x", Named(None, "run-42")),
        ("ckpt=vol:run-42@1200", Named("vol", "run-42@1200")),
        ("ckpt=run@best", Named(None, "run@best")),
        ("ckpt=v:a:b", Named("v", "a:b")),
        ("ckpt=run-%a-%j-%%a", Named(None, "run-3-7-%a")),
        ("ckpt=a ckpt=b", Named(None, "a")),
        ("ckpt=$(x)", Named(None, "$(x)")),  # a name like any other: it goes to the API, never to a shell
        ("ckpt=模型", Named(None, "模型")),
        ("ckpt=a\udcff", Named(None, "a%FF")),
    ],
)
def test_what_a_comment_names(comment: str, found: Named | None) -> None:
    assert named(comment, {"a": "3", "j": "7"}) == found


@pytest.mark.parametrize(
    "word", ["", "..", ".", "a/b", "../x", "-rf", "a\x00", "a\x1b", "%A", "x" * 600, "a@b@c@", "@1", "a@latest"]
)
def test_what_names_no_run(word: str) -> None:
    with pytest.raises(UsageError):
        named(f"ckpt={word}", {"a": "3"})


@given(st.text())
def test_any_comment_is_a_name_or_a_usage_error(comment: str) -> None:
    try:
        found = named(f"ckpt={comment}", {})
    except UsageError:
        return
    assert found is not None
    assert "/" not in found.target
    assert "\n" not in found.target


def test_what_scontrol_tells() -> None:
    text = (
        "JobId=6 ArrayJobId=6 ArrayTaskId=1-2 JobName=other StdErr=/x\n"
        "JobId=7 ArrayJobId=6 ArrayTaskId=3 JobName=train it now UserId=me(1000) Comment=ckpt=a "
        "StdErr=/home/m e/7.err StdIn=/dev/null \n"
    )
    found = parsed(job(), text)
    assert (found.name, found.array_job, found.array_task, found.stderr) == ("train it now", 6, 3, "/home/m e/7.err")
    assert parsed(job(), "") == job()


def test_the_last_job_of_that_name_and_task() -> None:
    rows = [
        {"volume": "ckpt", "run": "c", "job": 3, "name": "train", "task": 2},
        {"volume": "ckpt", "run": "b", "job": 2, "name": "train", "task": None},
        {"volume": "ckpt", "run": "a", "job": 1, "name": "train", "task": None},
    ]
    assert of_name(rows, job(SLURM_JOB_NAME="train")) == Named("ckpt", "b")
    assert of_name(rows, job(SLURM_JOB_NAME="train", SLURM_ARRAY_TASK_ID="2")) == Named("ckpt", "c")
    assert of_name(rows, job(SLURM_JOB_NAME="")) is None
    odd = [{"volume": "ckpt", "run": "d", "job": 4, "name": "tr?in", "task": None}]
    assert of_name(odd, job(SLURM_JOB_NAME="tr\x07in")) == Named("ckpt", "d")


def test_nodes_begin_one_after_the_other_within_a_quarter_of_the_budget() -> None:
    delays = [delay(7, f"gpu-{number:03}", 1000, 45) for number in range(1000)]
    assert max(delays) <= 45 / 4
    assert delays == [delay(7, f"gpu-{number:03}", 1000, 45) for number in range(1000)]
    seconds = [sum(second <= one < second + 1 for one in delays) for second in range(11)]
    assert max(seconds) < 130  # of 1000; all at once it would be all of them
    assert delay(7, "n1", 1, 45) == 0


@given(st.dictionaries(st.sampled_from(["CKPTD_RUN", "CKPTD_LATEST"]), st.text()))
def test_an_export_is_one_line_or_none(variables: dict[str, str]) -> None:
    try:
        text = lines(variables)
    except UnicodeEncodeError:  # a lone surrogate that no file name can have
        return
    for line in text.split(b"\n")[:-1]:
        assert line.startswith((b"export CKPTD_RUN=", b"export CKPTD_LATEST="))


def test_records_are_not_written_where_others_can_write(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("open", "link"):
        with pytest.raises(CkptdError):
            Records(str(tmp_path / name)).prepare()
    records = Records(str(tmp_path / "own"))
    records.prepare()
    records.write(7, Record("ckpt", "run-42", "run-42@1"))
    assert records.read(7) == Record("ckpt", "run-42", "run-42@1")
    assert list(records.others(8)) == [Record("ckpt", "run-42", "run-42@1")]
    (tmp_path / "own/9.json").write_text("{}")
    assert records.read(9) is None
    records.remove(7)
    assert records.read(7) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_work_as_another_user_gives_root_up_and_ends_in_time(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    assert as_user.may_read([str(secret)], 0)
    assert not as_user.may_read([str(secret)], 65534)
    assert not as_user.as_user(65534, None, lambda: os.setuid(0) is None)
    began = time.monotonic()
    assert not as_user.as_user(65534, None, lambda: signal.pause() is None, patience_s=0.2)
    assert time.monotonic() - began < 2


def test_a_line_is_added_to_a_plain_file_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert not as_user.append(str(log), "x\n", os.getuid())  # it is not made
    log.write_text("a\n")
    assert as_user.append(str(log), "b\n", os.getuid())
    assert log.read_text() == "a\nb\n"
    (tmp_path / "link").symlink_to(log)
    assert not as_user.append(str(tmp_path / "link"), "c\n", os.getuid())
    os.mkfifo(tmp_path / "pipe")
    assert not as_user.append(str(tmp_path / "pipe"), "c\n", os.getuid())
    assert log.read_text() == "a\nb\n"
