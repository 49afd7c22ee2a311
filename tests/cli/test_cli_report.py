"""`report`: what was measured beside what is estimated, for people and for programs."""

from __future__ import annotations

import pytest

MIB = 1 << 20


def test_report_shows_what_was_measured_beside_the_estimate(node, run):
    answer = run("report", "run-42", "--gpus", "64")
    assert answer.code == 0
    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert lines[0] == "run-42 in volume ckpt, as gpu-017 saw it"
    assert lines[1] == (
        "3 saves, 3.0 GiB (768.0 MiB copied inside the remote), from 2026-11-22T10:16:38Z to 2026-11-22T10:20:00Z,"
        " one every 1m 40s"
    )
    assert "save (the job waits) 2 s 2 s 6 s 10 s 10 s 31 s" in lines
    assert "durable after it 12 s 12 s 36 s at once" in lines
    assert "resume 4 s 4 s 4 s 5.1 s 5.1 s 5.1 s" in lines
    assert "saved 25 s that the job did not wait in saves: 0.4 GPU-hours on 64 GPUs" in lines
    assert any(
        line.startswith("save every 9m 47s by Daly's rule (Young: 9m 48s), where a save costs 2 s") for line in lines
    )
    assert lines[-1] == (
        "The remote alone is an estimate: 64.0 MiB written at 100.0 MiB/s and read at 200.0 MiB/s in one stream,"
        " on 2026-11-22T09:00:00Z."
    )


def test_report_json_has_every_number(node, run):
    found = run("report", "run-42", "--json", "--mtbf", "12h").json
    assert set(found) == {
        "volume", "run", "node", "since", "until", "saves", "bytes", "copied_bytes", "every_s", "save", "durable", "resume",
        "resumes_hot", "mtbf_s", "gpus", "interval", "remote_alone",
    }  # fmt: skip
    assert found["save"] == {"count": 3, "median_s": 2.0, "p95_s": 2.0, "total_s": 6.0}
    assert (found["mtbf_s"], found["gpus"]) == (43200.0, None)
    assert found["interval"]["young_s"] == pytest.approx((2 * 2.0 * 43200) ** 0.5)
    alone = found["remote_alone"]
    assert set(alone) == {
        "probed_at", "probe_bytes", "write_bytes_per_s", "read_bytes_per_s", "save", "resume", "saved_s", "gpu_hours", "interval",
    }  # fmt: skip
    assert (alone["probe_bytes"], alone["gpu_hours"]) == (64 * MIB, None)


def test_without_a_probe_nothing_is_estimated(node, run):
    node.probe = None
    answer = run("report", "run-42")
    assert "The remote was not probed yet" in answer.out
    assert "estimate" not in answer.out
    assert "GPU-hours" not in run("report", "run-42", "--gpus", "8").out
    assert run("report", "run-42", "--json").json["remote_alone"] is None


def test_a_run_that_this_node_did_not_see_being_saved(node, run):
    node.saves, node.resumes = [], []
    answer = run("report", "run-42")
    assert answer.code == 0
    assert "no save was seen on this node" in answer.out


def test_report_refuses_what_makes_no_sense(node, run):
    assert run("report", "run-9").code == 4
    for wrong in (("--gpus", "0"), ("--mtbf", "0s"), ("--mtbf", "soon")):
        assert run("report", "run-42", *wrong).code == 2
