"""Two users of one cluster: neither gets at the other's runs through root's Prolog and Epilog."""

from __future__ import annotations

import os
import pwd

import pytest
from tests_slurm_site import Site

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

GAMES, NEWS = (pwd.getpwnam(name).pw_uid for name in ("games", "news"))


def test_each_users_job_is_told_of_his_own_run_only(site: Site) -> None:
    site.checkpoint("n1", "secret", 100, owner=NEWS, mode=0o700)
    shows = 'echo "${CKPTD_RUN-none} ${CKPTD_LATEST##*/}"; cat "$CKPTD_LATEST/trainer_state.json"'
    owner = site.slurm.batch(shows, "--nodelist=n1", "--comment=ckpt=secret", user="news")
    site.slurm.until_ended(owner)
    assert site.slurm.output(owner) == "secret checkpoint-100\n{}"
    other = site.slurm.batch('echo "${CKPTD_RUN-none}"', "--nodelist=n1", "--comment=ckpt=secret", user="games")
    site.slurm.until_ended(other)
    assert site.slurm.output(other) == "none\n"
    assert f"user {GAMES} may not read run 'secret'" in site.slurm.said("prolog", other, "n1")
    assert not site.pinned("n1", "secret", 100)


def test_a_run_that_is_only_in_the_remote_is_not_fetched_for_who_may_not_read_it(site: Site) -> None:
    site.checkpoint("n2", "secret", 100, owner=NEWS, mode=0o700)
    job = site.slurm.batch('echo "${CKPTD_RUN-none}"', "--nodelist=n1", "--comment=ckpt=secret", user="games")
    site.slurm.until_ended(job)
    assert site.slurm.output(job) == "none\n"
    assert f"user {GAMES} may not read run 'secret'" in site.slurm.said("prolog", job, "n1")
    assert site.records("n1") == []
    assert not site.pinned("n1", "secret", 100)
    assert site.daemons["n1"].checkpoint("secret", 100)["hot_bytes"] == 0  # type: ignore[index]


def test_a_run_that_the_user_may_only_read_is_told_of_and_not_steered(site: Site) -> None:
    """Root would do it for him."""
    site.defaults("n1", CKPTD_EPILOG_EVICT=1)
    site.checkpoint("n1", "shared", 100, owner=NEWS)
    job = site.slurm.batch('echo "${CKPTD_LATEST##*/}"', "--nodelist=n1", "--comment=ckpt=shared", user="games")
    site.slurm.until_ended(job)
    assert site.slurm.output(job) == "checkpoint-100\n"
    assert site.slurm.output(f"{job}.err") == "ckptd: shared is durable, newest 100\n"
    assert {one["kind"] for one in site.daemons["n1"].get("/v1/operations")} == {"prefetch"}
    assert site.hot("n1", "shared", 100)
    assert not site.pinned("n1", "shared", 100)


def test_the_prologs_word_is_for_the_jobs_user_alone_and_the_epilog_does_not_believe_it(site: Site) -> None:
    site.checkpoint("n1", "mine", 1, owner=GAMES)
    site.checkpoint("n1", "other", 1, owner=NEWS, mode=0o700)
    site.daemons["n1"].ctl("pin", "other@1")
    folder = site.daemons["n1"].home / "records"
    forge = f"""
        chmod 600 {folder}/$SLURM_JOB_ID.env; echo 'export CKPTD_RUN=other' >{folder}/$SLURM_JOB_ID.env
        echo '{{"volume": "ckpt", "run": "other", "pinned": "other@1"}}' >{folder}/$SLURM_JOB_ID.json || echo refused
        rm {folder}/$SLURM_JOB_ID.json || echo refused
        echo started; sleep 3
        """
    job = site.slurm.batch(forge, "--nodelist=n1", "--comment=ckpt=mine", user="games")
    site.slurm.until_said(job, "started")
    assert site.slurm.run("cat", str(folder / f"{job}.env"), user="news", check=False).returncode != 0
    site.slurm.until_ended(job)
    assert site.slurm.output(job).count("refused") == 2
    assert site.pinned("n1", "other", 1)
    (event,) = site.events("n1", "slurm.epilog")
    assert event["fields"]["runs"] == "mine"


@pytest.mark.parametrize("kind", ["link", "pipe", "roots"])
def test_the_line_in_the_log_is_written_with_the_users_rights(site: Site, kind: str) -> None:
    """His log is whatever he made of it when the Epilog comes."""
    site.checkpoint("n1", "mine", 1, owner=GAMES)
    victim = site.base / "victim"
    victim.write_text("untouched")
    victim.chmod(0o644)
    log = site.slurm.folder / "out" / f"log-{kind}"
    planted = {
        "link": f"ln -s {victim} {log}",
        "pipe": f"mkfifo {log}",
        "roots": f"ln {victim} {log} || ln -s {victim} {log}",
    }
    job = site.slurm.batch(
        f"rm {log}; {planted[kind]}", "--nodelist=n1", "--comment=ckpt=mine", f"--error={log}", user="games"
    )
    site.slurm.until_ended(job)
    assert victim.read_text() == "untouched"
    assert site.slurm.calls("epilog", job)[0][2] == 0
    assert "mine is durable, newest 1" in site.slurm.said("epilog", job, "n1")


def test_a_job_cannot_claim_another_users_job(site: Site) -> None:
    """Its number and name in the environment are its user's word; whose process it is is not."""
    volume = site.daemons["n1"].volume
    forged = f"""
        export SLURM_JOB_ID=1 SLURM_JOB_NAME=train; mkdir -p {volume}/trap/checkpoint-9
        exec 3>{volume}/trap/checkpoint-9/model.bin; sleep 2
        """
    job = site.slurm.batch(forged, "--nodelist=n1", user="games")
    site.slurm.until_ended(job)
    site.daemons["n1"].until(lambda: site.daemons["n1"].get("/v1/jobs", uid=GAMES), "the writer was seen")
    assert {one["uid"] for one in site.daemons["n1"].get("/v1/jobs", uid=GAMES)} == {GAMES}
    assert site.daemons["n1"].get("/v1/jobs", uid=NEWS) == []
    victim = site.slurm.batch('echo "${CKPTD_RUN-none}"', "--nodelist=n1", "--job-name=train", user="news")
    site.slurm.until_ended(victim)
    assert site.slurm.output(victim) == "none\n"
    assert os.path.exists(volume / "trap")
