"""Tags on the command line: set, moved, listed, deleted, and used in place of a step."""

from __future__ import annotations

import pytest


def test_a_tag_is_set_moved_listed_and_deleted(node, run):
    assert run("tags").out == "no tags yet: ckptctl tag RUN@STEP NAME sets one\n"
    assert run("tag", "run-42@1200", "best").out == "run-42@1200 is tagged best\n"
    assert run("tag", "run-42@1000", "best", "--json").json == {
        "volume": "ckpt", "run": "run-42", "name": "best", "step": 1000, "by": "gpu-017", "at": "2026-11-22T10:00:00.000Z",
        "sent": True,
    }  # fmt: skip
    for listing in (("tags", "run-42"), ("tag", "run-42"), ("tags",)):
        assert [(one["name"], one["step"]) for one in run(*listing, "--json").json] == [("best", 1000)]
        assert run(*listing).out.splitlines()[1].split()[:3] == ["run-42", "best", "1000"]
    assert run("tag", "run-42", "best", "--delete").out == "best: no longer a tag of run-42\n"
    assert run("tag", "run-42@best", "best", "--delete").code == 0, "it is gone already"
    assert run("tags", "--json").json == []


def test_without_a_step_the_newest_restorable_checkpoint_is_tagged(node, run):
    assert run("tag", "run-42", "good").out == "run-42@1200 is tagged good\n"


def test_a_tag_stands_for_its_step(node, run):
    run("tag", "run-42@1000", "best")
    assert run("prefetch", "run-42@best", "--json").json["target"] == "run-42@1000"
    assert run("verify", "run-42@best").code == 0
    assert run("pin", "run-42@best").out == "run-42@1000 is pinned\n"
    assert run("tag", "run-42@best", "also").out == "run-42@1000 is tagged also\n"
    answer = run("prefetch", "run-42@worst")
    assert answer.code == 4
    assert "no tag 'worst'" in answer.err


def test_a_tag_that_the_remote_does_not_know_yet_says_so(node, run):
    node.remote_away = True
    answer = run("tag", "run-42@1200", "best")
    assert answer.code == 0
    assert "when it does" in answer.err
    assert "not sent yet" in run("tags").out
    assert run("tags", "--json").json[0]["sent"] is False


def test_deleting_with_a_step_asks_for_the_right_one(node, run):
    run("tag", "run-42@1000", "best")
    answer = run("tag", "run-42@1200", "best", "--delete")
    assert answer.code == 4
    assert "run-42@1000" in answer.err
    assert node.tagged
    assert run("tag", "run-42@1000", "best", "--delete").code == 0
    assert not node.tagged


@pytest.mark.parametrize("name", ["latest", "1200", "a/b", "..", ".x", "-x", "a b", "a" * 65, "ü", ""])
def test_what_cannot_be_a_tag_is_refused(node, run, name):
    answer = run("tag", "run-42@1200", "--", name)
    assert answer.code == 2
    assert node.tagged == {}


@pytest.mark.parametrize("name", ["a", "best_1.5-x", "_", "2nd", "a" * 64, "1e5"])
def test_what_can_be_a_tag(node, run, name):
    assert run("tag", "run-42@1200", name).code == 0
    assert run("verify", f"run-42@{name}", "--json").json["target"] == "run-42@1200"


def test_a_torn_checkpoint_is_not_tagged(node, run):
    assert run("tag", "run-42@1100", "best").code == 6


def test_a_tag_without_its_name_is_a_usage_error(node, run):
    assert run("tag", "run-42@1200").code == 2
    assert run("tag", "run-42", "--delete").code == 2
