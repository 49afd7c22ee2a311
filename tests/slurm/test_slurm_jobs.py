"""Jobs of a real Slurm: they start with their checkpoint hot, and end with it durable."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests_slurm_site import SAVE, Site

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

SHOW = 'echo "run=$CKPTD_RUN volume=$CKPTD_VOLUME latest=$CKPTD_LATEST"; wc -c < "$CKPTD_LATEST/model.bin"'


def test_a_job_starts_with_its_checkpoint_hot_and_is_told_where_it_is(site: Site) -> None:
    site.checkpoint("n2", "run-42", 100)
    job = site.slurm.batch(SHOW, "--nodelist=n1", "--comment=night shift, ckpt=run-42")
    site.slurm.until_ended(job)
    volume = site.daemons["n1"].volume
    expected = f"run=run-42 volume={volume} latest={volume}/run-42/checkpoint-100\n{1 << 20}\n"
    assert site.slurm.output(job) == expected, site.slurm.said("prolog", job, "n1")
    assert "run-42@100 is hot" in site.slurm.said("prolog", job, "n1")
    assert site.hot("n1", "run-42", 100)
    # The Epilog has given it free, left word in the job's log and in the daemon's events, and nothing of its own.
    assert not site.pinned("n1", "run-42", 100)
    assert site.slurm.output(f"{job}.err") == "ckptd: run-42 is durable, newest 100\n"
    assert [event["fields"]["job"] for event in site.events("n1", "slurm.epilog")] == [str(job)]
    assert site.records("n1") == []


def test_while_the_job_runs_its_checkpoint_is_kept_hot(site: Site) -> None:
    site.checkpoint("n2", "run-42", 100)
    job = site.slurm.batch("echo started; sleep 60", "--nodelist=n1", "--comment=ckpt=run-42")
    site.slurm.until_said(job, "started")
    assert site.pinned("n1", "run-42", 100)
    assert site.records("n1") == [f"{job}.env", f"{job}.json"]
    site.slurm.run("scancel", str(job))
    site.slurm.until_ended(job, "CANCELLED")
    assert not site.pinned("n1", "run-42", 100)
    assert site.records("n1") == []


def test_a_pin_that_a_user_set_outlives_the_job(site: Site) -> None:
    site.checkpoint("n1", "run-42", 100)
    site.daemons["n1"].ctl("pin", "run-42@100")
    job = site.slurm.batch("true", "--nodelist=n1", "--comment=ckpt=run-42")
    site.slurm.until_ended(job)
    assert site.pinned("n1", "run-42", 100)


def test_a_pin_that_a_user_sets_while_the_job_runs_outlives_it(site: Site) -> None:
    site.checkpoint("n1", "run-42", 100)
    job = site.slurm.batch("echo started; sleep 60", "--nodelist=n1", "--comment=ckpt=run-42")
    site.slurm.until_said(job, "started")
    site.daemons["n1"].ctl("pin", "run-42@100")
    site.slurm.run("scancel", str(job))
    site.slurm.until_cleared(job, "n1")
    assert site.pinned("n1", "run-42", 100)


def test_two_jobs_of_one_run_on_a_node_give_it_free_when_both_have_ended(site: Site) -> None:
    site.checkpoint("n1", "run-42", 100)
    first = site.slurm.batch("echo started; sleep 60", "--nodelist=n1", "--comment=ckpt=run-42")
    second = site.slurm.batch("echo started; sleep 60", "--nodelist=n1", "--comment=ckpt=run-42")
    site.slurm.until_said(first, "started")
    site.slurm.until_said(second, "started")
    site.slurm.run("scancel", str(first))
    site.slurm.until_cleared(first, "n1")
    assert site.pinned("n1", "run-42", 100)
    site.slurm.run("scancel", str(second))
    site.slurm.until_cleared(second, "n1")
    assert not site.pinned("n1", "run-42", 100)


def test_a_new_run_is_fine(site: Site) -> None:
    job = site.slurm.batch(
        'echo "$CKPTD_VOLUME/$CKPTD_RUN ${CKPTD_LATEST-none}"', "--nodelist=n1", "--comment=ckpt=new"
    )
    site.slurm.until_ended(job)
    assert site.slurm.output(job) == f"{site.daemons['n1'].volume}/new none\n"
    assert site.slurm.said("prolog", job, "n1") == f"job {job}: new has no checkpoint yet: a new run\n"


def test_a_step_or_a_tag_may_be_named_and_one_that_is_not_there_is_no_new_run(site: Site) -> None:
    for step in (100, 200):
        site.checkpoint("n1", "run-42", step)
    site.daemons["n1"].ctl("tag", "run-42@100", "best")
    shows = 'CKPTD_LATEST=${CKPTD_LATEST-none}; echo "${CKPTD_LATEST##*/} $CKPTD_VOLUME_NAME:$CKPTD_TARGET"'
    there = "checkpoint-100 ckpt:run-42@100"
    for name, found in (("run-42@best", there), ("run-42@100", there), ("run-42@999", "none :")):
        job = site.slurm.batch(shows, "--nodelist=n1", f"--comment=ckpt={name}")
        site.slurm.until_ended(job)
        assert site.slurm.output(job) == f"{found}\n"
    assert "there is no checkpoint run-42@999" in site.slurm.said("prolog", job, "n1")


def test_a_job_that_names_nothing_is_left_alone(site: Site) -> None:
    job = site.slurm.batch('echo "${CKPTD_RUN-none}"', "--nodelist=n1")
    site.slurm.until_ended(job)
    assert site.slurm.output(job) == "none\n"
    assert "names no run" in site.slurm.said("prolog", job, "n1")
    assert site.events("n1", "slurm.epilog") == []


def test_a_mounted_volume(new_site: Callable[..., Site]) -> None:
    site = new_site(front="mount")
    site.checkpoint("n2", "run-42", 100)
    job = site.slurm.batch(SHOW, "--nodelist=n1", "--comment=ckpt=run-42")
    site.slurm.until_ended(job)
    assert site.slurm.output(job).endswith(f"/run-42/checkpoint-100\n{1 << 20}\n")
    assert site.hot("n1", "run-42", 100)


def test_what_a_job_wrote_to_a_mounted_volume_is_flushed_although_it_named_nothing(
    new_site: Callable[..., Site],
) -> None:
    site = new_site(front="mount")
    job = site.slurm.batch(SAVE + f"save {site.daemons['n1'].volume}/mine/checkpoint-5", "--nodelist=n1", user="games")
    site.slurm.until_ended(job)
    assert "mine is durable, newest 5" in site.slurm.said("epilog", job, "n1")
    assert site.daemons["n1"].checkpoint("mine", 5)["state"] == "committed"  # type: ignore[index]


def test_a_job_over_two_nodes_is_prefetched_on_both(site: Site) -> None:
    site.checkpoint("n1", "run-42", 100)
    site.cold("n1", "run-42", 100)
    job = site.slurm.batch("srun -N2 sh -c 'wc -c <$CKPTD_LATEST/model.bin'", "--nodes=2", "--comment=ckpt=run-42")
    site.slurm.until_ended(job)
    assert site.slurm.output(job) == f"{1 << 20}\n" * 2, site.slurm.output(f"{job}.err")
    assert site.hot("n1", "run-42", 100)
    assert site.hot("n2", "run-42", 100)
    # The line in the log comes from the node that has the script.
    assert site.slurm.output(f"{job}.err").count("ckptd:") == 1


def test_each_task_of_an_array_has_its_own_run(site: Site) -> None:
    for task in (1, 2):
        site.checkpoint("n2", f"run-{task}", 100 * task)
    job = site.slurm.batch(
        'echo "$SLURM_ARRAY_TASK_ID $CKPTD_RUN ${CKPTD_LATEST##*/}"',
        "--nodelist=n1",
        "--array=1-3",
        "--comment=ckpt=run-%a",
    )
    ids = range(job, job + 3)
    for each in ids:
        site.slurm.until_said(each, "run-")
    site.slurm.until_ended(job)
    said = {site.slurm.output(each).strip() for each in ids}
    assert said == {"1 run-1 checkpoint-100", "2 run-2 checkpoint-200", "3 run-3"}


def test_what_a_cancelled_job_saved_last_is_durable_when_its_epilog_has_ended(site: Site) -> None:
    script = SAVE + 'save "$CKPTD_VOLUME/$CKPTD_RUN/checkpoint-5"; echo saved; sleep 60'
    job = site.slurm.batch(script, "--nodelist=n1", "--comment=ckpt=run-5")
    site.slurm.until_said(job, "saved")
    site.slurm.run("scancel", str(job))
    site.slurm.until_cleared(job, "n1")
    found = site.daemons["n1"].checkpoint("run-5", 5)
    assert found is not None
    assert found["state"] == "committed"
    assert "run-5 is durable, newest 5" in site.slurm.output(f"{job}.err")


def requeued_on_n2(site: Site, job: int) -> None:
    """From n1; until it has ended there."""
    site.slurm.run("scontrol", "requeuehold", str(job))
    site.slurm.until_cleared(job, "n1")
    site.slurm.until(lambda: "PENDING" in site.slurm.job(job)["JobState"], "held")
    site.slurm.run("scontrol", "update", f"jobid={job}", "reqnodelist=n2")
    site.slurm.run("scontrol", "release", str(job))
    site.slurm.until_said(job, "start", 2)
    site.slurm.until_ended(job)


def test_a_requeued_job_resumes_on_another_node_from_what_it_wrote(site: Site) -> None:
    script = (
        SAVE
        + """
        echo "start ${CKPTD_LATEST##*/}"
        [ -n "$CKPTD_LATEST" ] || { save "$CKPTD_VOLUME/$CKPTD_RUN/checkpoint-7"; echo ready; sleep 60; }
        """
    )
    job = site.slurm.batch(script, "--nodelist=n1", "--requeue", "--open-mode=append", "--comment=ckpt=run-7")
    site.slurm.until_said(job, "ready")
    requeued_on_n2(site, job)
    assert site.slurm.output(job) == "start \nready\nstart checkpoint-7\n"
    assert site.hot("n2", "run-7", 7)


def test_a_requeued_job_that_names_nothing_finds_its_run_on_another_node_too(site: Site) -> None:
    """By the manifest of what it had committed."""
    script = (
        SAVE
        + f"""
        echo "start $CKPTD_RUN ${{CKPTD_LATEST##*/}}"
        [ -n "$CKPTD_LATEST" ] || {{ save {site.daemons["n1"].volume}/theirs/checkpoint-7; echo ready; sleep 60; }}
        """
    )
    job = site.slurm.batch(script, "--nodelist=n1", "--requeue", "--open-mode=append")
    site.slurm.until_said(job, "ready")
    site.daemons["n1"].committed("theirs", 7)
    requeued_on_n2(site, job)
    assert site.slurm.output(job) == "start  \nready\nstart theirs checkpoint-7\n"


def test_a_requeued_job_that_names_nothing_finds_the_run_that_it_wrote(site: Site) -> None:
    script = (
        SAVE
        + f"""
        echo "start $CKPTD_RUN ${{CKPTD_LATEST##*/}}"
        [ -n "$CKPTD_LATEST" ] || {{ save {site.daemons["n1"].volume}/mine/checkpoint-7; echo ready; sleep 60; }}
        """
    )
    job = site.slurm.batch(script, "--nodelist=n1", "--requeue", "--open-mode=append", user="games")
    site.slurm.until_said(job, "ready")
    site.slurm.run("scontrol", "requeue", str(job))
    site.slurm.until_said(job, "start", 2)
    site.slurm.until_ended(job)
    assert site.slurm.output(job) == "start  \nready\nstart mine checkpoint-7\n"


def test_a_job_of_the_same_name_finds_it_hot_and_is_told_nothing(site: Site) -> None:
    volume = site.daemons["n1"].volume
    first = site.slurm.batch(SAVE + f"save {volume}/mine/checkpoint-7", "--nodelist=n1", "--job-name=train it")
    site.slurm.until_ended(first)
    site.daemons["n1"].committed("mine", 7)
    site.cold("n1", "mine", 7)
    second = site.slurm.batch('echo "${CKPTD_RUN-none}"', "--nodelist=n1", "--job-name=train it")
    site.slurm.until_ended(second)
    assert site.slurm.output(second) == "none\n"
    assert site.hot("n1", "mine", 7)


def test_the_jobs_own_environment_is_seen_by_the_task_prolog_only(site: Site) -> None:
    site.checkpoint("n1", "run-42", 100)
    job = site.slurm.batch('echo "${CKPTD_LATEST##*/}"', "--nodelist=n1", environment={"CKPTD_RUN": "run-42"})
    site.slurm.until_ended(job)
    assert "CKPTD_RUN" not in site.slurm.seen("prolog", job, "n1")
    assert site.slurm.output(job) == "checkpoint-100\n"
