"""`diff`: a table with totals, JSON, and checksums taken where they are missing."""

from __future__ import annotations


def test_diff_shows_what_differs_and_the_totals(node, run):
    answer = run("diff", "run-42@1000", "run-42@1200")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].split() == ["FILE", "run-42@1000", "run-42@1200", "DIFFERS", "IN"]
    assert lines[1].split() == ["checkpoint-{n}/model.pt", "differs", "4.0", "MiB", "4.0", "MiB", "1.0", "MiB", "(25%)"]
    assert lines[2].split() == ["checkpoint-{n}/new.pt", "only", "in", "run-42@1200", "-", "1.0", "MiB"]
    assert lines[3] == "1 of 3 files are equal; 1.0 MiB of 4.0 MiB (25%) differ; 1.0 MiB only in run-42@1200"
    assert "config.json" not in answer.out
    assert "config.json" in run("diff", "run-42@1000", "run-42@1200", "--all").out
    assert node.ops == {}


def test_diff_json_and_tags(node, run):
    run("tag", "run-42@1000", "old")
    found = run("diff", "run-42@old", "run-42", "--json").json
    assert (found["one"], found["other"]) == ("run-42@1000", "run-42@1200")
    assert found["files"][0] == {
        "name": "checkpoint-{n}/model.pt", "state": "differs", "one_bytes": 4 << 20, "other_bytes": 4 << 20,
        "equal_bytes": 3 << 20, "differing_bytes": 1 << 20,
    }  # fmt: skip


def test_missing_checksums_are_taken_first(node, run):
    node.unchecked = 2
    assert run("diff", "run-42@1000", "run-42@1200", "--json").json["unchecked"] == 0
    assert [op.target for op in node.ops.values()] == ["run-42@1000", "run-42@1200"]


def test_diff_of_what_is_not_there_exits_4(node, run):
    assert run("diff", "run-42@1000", "run-42@7").code == 4
    assert run("diff", "run-42@1000").code == 2
