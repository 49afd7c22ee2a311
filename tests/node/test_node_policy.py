"""What the policy asks for happens, at once when it changes, and never to what is not safe."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import Watching, away, manifest_path, objects, safetensors


def saved(daemon: Daemon, *steps: int) -> None:
    for step in steps:
        save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": b"%d" % step * 1000, "DONE": b""})
        daemon.committed("run-1", step)


def tiers(daemon: Daemon) -> dict[int, list[str]]:
    return {one["step"]: one["tiers"] for one in daemon.get("/v1/runs/run-1/checkpoints")}


def test_while_the_remote_is_away_nothing_is_let_go_and_it_recovers_by_itself(
    new_daemon: Callable[..., Daemon],
) -> None:
    daemon = new_daemon(policy="keep_hot = 1\nkeep_nvme = 1")
    daemon.start()
    saved(daemon, 1)
    before = time.time()
    with away(daemon):
        for step in (2, 3):
            save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": b"%d" % step * MIB, "DONE": b""})
        daemon.state_is("run-1", 3, "complete")
        status = daemon.until(
            lambda: not (s := daemon.json("status"))["volumes"][0]["remote_ok"] and s, "the remote is known to be away"
        )
        assert status["volumes"][0]["remote_error"]
        assert status["volumes"][0]["remote_since"].startswith(time.strftime("%Y-%m-%dT", time.gmtime(before)))
        assert "unreachable" in daemon.ctl("status").stdout
        assert status["exposure"]["files"] == 4
        assert status["exposure"]["bytes"] == 2 * MIB
        assert status["exposure"]["oldest_s"] > 0
        older = status["exposure"]["oldest_s"]
        assert daemon.json("status")["exposure"]["oldest_s"] > older
        assert "not durable" in daemon.ctl("evict", "run-1@2", check=6).stderr
        timed_out = daemon.ctl("flush", "run-1", "--timeout", "1s", "--json", check=5)
        assert '"state": "timeout"' in timed_out.stdout
        for step in (2, 3):
            assert (daemon.volume / f"run-1/checkpoint-{step}/model.bin").read_bytes() == b"%d" % step * MIB
        assert not daemon.remote.exists()
    for step in (2, 3):
        daemon.committed("run-1", step, timeout=15)
    daemon.until(lambda: daemon.json("status")["volumes"][0]["remote_ok"], "the remote is back")
    assert daemon.json("status")["exposure"] == {"bytes": 0, "files": 0, "oldest_s": None}
    daemon.until(lambda: tiers(daemon) == {3: ["ram"], 2: [], 1: []}, "what the policy asks for")
    happened = [event["event"] for event in daemon.json("events")]
    assert happened.count("remote.unreachable") == 1
    assert happened.count("remote.back") == 1


def test_an_empty_directory_in_place_of_the_remote_is_not_taken_for_it(new_daemon: Callable[..., Daemon]) -> None:
    """As a file system that is not mounted leaves it: neither at run time nor at a start is anything written there."""
    daemon = new_daemon()
    daemon.start()
    saved(daemon, 1)
    with away(daemon):
        save(daemon.volume / "run-1/checkpoint-2", {"model.bin": b"2", "DONE": b""})
        daemon.until(lambda: not daemon.get("/v1/status")["volumes"][0]["remote_ok"], "known to be away")
        daemon.remote.mkdir()
        time.sleep(3)
        assert not daemon.get("/v1/status")["volumes"][0]["remote_ok"]
        daemon.ctl("down", "--no-flush")
        assert daemon.process is not None
        daemon.process.wait(10)
        _, said = daemon.launch()
        assert said["ok"] is False
        assert ".ckptd/format" in said["message"]
        assert "mount" in said["hint"]
        assert list(daemon.remote.iterdir()) == []
        daemon.process.wait(10)
        daemon.remote.rmdir()
    daemon.start()
    daemon.committed("run-1", 2)


def test_sync_latest_sends_only_the_newest_of_what_piled_up(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy='sync = "latest"\nkeep_hot = 1\nkeep_nvme = 1')
    daemon.start()
    saved(daemon, 1)
    with away(daemon):
        for step in (2, 3, 4):
            save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": b"%d" % step * 1000, "DONE": b""})
            daemon.state_is("run-1", step, "complete")
    daemon.committed("run-1", 4, timeout=15)
    daemon.until(lambda: tiers(daemon) == {4: ["ram"], 1: []}, "skipped ones are abandoned", timeout=15)
    assert {path.split("/")[1] for path in objects(daemon.remote)} == {"checkpoint-1", "checkpoint-4"}
    assert not (daemon.volume / "run-1/checkpoint-2").exists()
    assert "checkpoint.abandoned" in {event["event"] for event in daemon.json("events")}
    daemon.ctl("flush", "run-1")


def test_a_policy_takes_effect_when_it_is_set(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy="keep_hot = 3\nkeep_nvme = 4")
    daemon.start()
    saved(daemon, 1, 2, 3)
    assert tiers(daemon) == {3: ["ram"], 2: ["ram"], 1: ["ram"]}
    daemon.ctl("policy", "set", "run-*", "keep_hot=1")
    daemon.until(lambda: tiers(daemon) == {3: ["ram"], 2: ["nvme"], 1: ["nvme"]}, "demoted")
    daemon.ctl("policy", "set", "run-1", "keep_nvme=2")
    daemon.until(lambda: tiers(daemon) == {3: ["ram"], 2: ["nvme"], 1: []}, "evicted")
    shown = daemon.json("policy", "show", "run-1")
    assert (shown["values"]["keep_hot"], shown["values"]["keep_nvme"]) == (1, 2)
    assert (shown["sources"]["keep_hot"], shown["sources"]["keep_nvme"]) == ("run-*", "run-1")
    daemon.ctl("policy", "unset", "run-*")
    assert daemon.json("policy", "show", "run-1")["values"]["keep_hot"] == 3
    daemon.ctl("policy", "unset", "run-*", check=4)
    daemon.ctl("policy", "set", "run-1", "keep_hott=1", check=2)
    daemon.ctl("policy", "set", "run-1", "keep_hot=-1", check=2)
    daemon.ctl("policy", "set", "run-1", "sync=often", check=2)
    saved(daemon, 4)
    daemon.until(lambda: tiers(daemon) == {4: ["ram"], 3: ["ram"], 2: ["nvme"], 1: []}, "as set now")


def test_old_checkpoints_leave_the_remote_manifest_first(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy="keep_hot = 1\nkeep_nvme = 1\nkeep_remote = 2\nkeep_every = 10")
    daemon.start()

    def look() -> str | None:
        for step in range(9, 14):
            manifest = manifest_path(daemon, "run-1", step)
            before = manifest.exists()
            whole = (daemon.remote / f"run-1/checkpoint-{step}/model.bin").exists()
            if before and not whole and manifest.exists():
                return f"step {step}: a manifest without its file"
        return None

    with Watching(look) as watching:
        saved(daemon, 9, 10, 11, 12, 13)
        expected = {f"run-1/checkpoint-{step}/{name}" for step in (10, 12, 13) for name in ("model.bin", "DONE")}
        daemon.until(lambda: set(objects(daemon.remote)) == expected, "only what is kept")
    assert watching.complaint is None
    assert sorted(tiers(daemon)) == [10, 12, 13]
    assert not manifest_path(daemon, "run-1", 9).exists()
    daemon.ctl("prefetch", "run-1@10")
    assert (daemon.volume / "run-1/checkpoint-10/model.bin").read_bytes() == b"10" * 1000


def test_a_writer_that_is_killed_leaves_a_torn_checkpoint_that_is_never_offered(daemon: Daemon) -> None:
    run = daemon.volume / "run-1"
    whole = safetensors(b"w" * MIB)
    save(run / "checkpoint-1", {"model.safetensors": whole})
    daemon.committed("run-1", 1)
    path = run / "checkpoint-2/model.safetensors"
    path.parent.mkdir()
    writer = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; f = open(sys.argv[1], 'wb', 0); f.write(sys.stdin.buffer.read()); "
         "print('written', flush=True); time.sleep(60)", path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(whole[: len(whole) // 2])
    writer.stdin.close()
    assert writer.stdout.readline() == b"written\n"
    daemon.state_is("run-1", 2, "writing")
    assert daemon.ctl("latest", "run-1").stdout.strip() == str(run / "checkpoint-1")
    writer.kill()
    writer.wait()
    writer.stdout.close()
    found = daemon.state_is("run-1", 2, "torn")
    assert "model.safetensors" in found["reason"]
    assert daemon.ctl("latest", "run-1").stdout.strip() == str(run / "checkpoint-1")
    refused = daemon.ctl("prefetch", "run-1@2", check=6)
    assert "torn" in refused.stderr
    daemon.ctl("restore", "run-1@2", str(daemon.home / "out"), check=6)
    daemon.ctl("flush", "run-1")
    assert not manifest_path(daemon, "run-1", 2).exists()
    path.write_bytes(whole)
    daemon.committed("run-1", 2)
    assert daemon.ctl("latest", "run-1").stdout.strip() == str(run / "checkpoint-2")
    assert objects(daemon.remote)["run-1/checkpoint-2/model.safetensors"] == whole


def test_a_checkpoint_without_the_marker_that_others_have_is_torn(daemon: Daemon) -> None:
    run = daemon.volume / "run-1"
    save(run / "checkpoint-1", {"model.bin": b"1" * 1000, "trainer_state.json": b"{}"})
    daemon.committed("run-1", 1)
    save(run / "checkpoint-2", {"model.bin": b"2" * 1000})
    assert "trainer_state.json" in daemon.state_is("run-1", 2, "torn")["reason"]
    assert daemon.json("latest", "run-1")["step"] == 1
    save(run / "checkpoint-2", {"trainer_state.json": b"{}"})
    daemon.committed("run-1", 2)
    found = daemon.json("latest", "run-1")
    assert found == {"run": "run-1", "step": 2, "path": str(run / "checkpoint-2"), "state": "committed", "hot": True}


def test_a_rewrite_that_dies_half_way_never_harms_what_is_committed(daemon: Daemon) -> None:
    place = daemon.volume / "run-1/checkpoint-1"
    files = {"model.safetensors": safetensors(b"a" * MIB), "optimizer.bin": b"a" * 1000, "DONE": b""}
    save(place, files)
    daemon.committed("run-1", 1)
    time.sleep(0.5)
    save(place, {"model.safetensors": safetensors(b"b" * MIB)[: MIB // 2]})
    daemon.state_is("run-1", 1, "torn")
    assert manifest_path(daemon, "run-1", 1).exists()
    assert objects(daemon.remote / "run-1/checkpoint-1") == files
    daemon.ctl("flush", "run-1", "--timeout", "10s")
    again = {"model.safetensors": safetensors(b"c" * MIB), "optimizer.bin": b"c" * 1000, "DONE": b""}
    save(place, again)
    daemon.committed("run-1", 1)
    assert objects(Path(daemon.remote, "run-1/checkpoint-1")) == again


def test_a_dry_run_says_what_setting_the_policy_does_then(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy="keep_hot = 2\nkeep_nvme = 3")
    daemon.start()
    saved(daemon, 1, 2, 3, 4)
    at_rest = {4: ["ram"], 3: ["ram"], 2: ["nvme"], 1: []}
    daemon.until(lambda: tiers(daemon) == at_rest, "at rest")
    assert daemon.json("policy", "set", "run-*", "keep_hot=2", "--dry-run")["runs"] == []
    found = daemon.json("policy", "set", "run-*", "keep_hot=1", "keep_nvme=1", "keep_remote=2", "--dry-run")
    size = 1000
    assert {one["step"]: (one["actions"], one["freed"]) for one in found["runs"][0]["checkpoints"]} == {
        1: (["prune"], {"ram": 0, "nvme": 0, "remote": size}),
        2: (["evict", "prune"], {"ram": 0, "nvme": size, "remote": size}),
        3: (["evict"], {"ram": size, "nvme": 0, "remote": 0}),
    }
    assert found["freed"] == {"ram": size, "nvme": size, "remote": 2 * size}
    assert "off the remote" in daemon.ctl("policy", "set", "run-*", "keep_remote=2", "-n").stdout
    time.sleep(1)
    assert tiers(daemon) == at_rest
    assert daemon.json("policy", "show") == []
    daemon.ctl("policy", "set", "run-*", "keep_hot=1", "keep_nvme=1", "keep_remote=2")
    daemon.until(lambda: tiers(daemon) == {4: ["ram"], 3: []}, "as it was foreseen")
    daemon.ctl("policy", "set", "run-*", "keep_hot=x", "--dry-run", check=2)
