"""Files move between RAM, NVMe and the remote, and a job that uses them notices nothing."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import Watching, away, leftovers, objects

from ckptctl.client import Client

TIGHT = "keep_hot = 1\nkeep_nvme = 3"


def model(run: Path, step: int) -> Path:
    return run / f"checkpoint-{step}/model.bin"


def saved(daemon: Daemon, *steps: int, size: int = 2 * MIB, owner: int = -1) -> dict[int, bytes]:
    """Saves and waits until each is committed."""
    contents = {}
    for step in steps:
        contents[step] = os.urandom(size)
        save(daemon.volume / f"run-1/checkpoint-{step}", {"model.bin": contents[step], "other.bin": b"%d" % step})
        os.chmod(model(daemon.volume / "run-1", step), 0o640)
        os.chown(model(daemon.volume / "run-1", step), owner, -1)
        os.utime(model(daemon.volume / "run-1", step), ns=(step * 10**9 + 7, step * 10**9 + 7))
        daemon.committed("run-1", step)
    return contents


def tiers(daemon: Daemon) -> dict[int, list[str]]:
    return {one["step"]: one["tiers"] for one in daemon.get("/v1/runs/run-1/checkpoints")}


def tiers_become(daemon: Daemon, expected: dict[int, list[str]]) -> None:
    daemon.until(lambda: tiers(daemon) == expected, f"tiers {expected}, last {tiers(daemon)}", timeout=20)


def test_older_checkpoints_move_down_and_stay_readable(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=TIGHT)
    daemon.start()
    run = daemon.volume / "run-1"
    first = saved(daemon, 1)

    def look() -> str | None:
        try:
            content = model(run, 1).read_bytes()
        except FileNotFoundError:
            return None if tiers(daemon).get(1) == [] else "it was not there"
        return None if content == first[1] else "other content"

    with Watching(look) as watching:
        contents = first | saved(daemon, 2, 3, 4, 5)
        tiers_become(daemon, {5: ["ram"], 4: ["nvme"], 3: ["nvme"], 2: [], 1: []})
    assert watching.complaint is None
    for step in (3, 4):
        path = model(run, step)
        assert path.is_symlink()
        assert path.resolve().is_relative_to(daemon.home / "nvme")
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, step * 10**9 + 7)
        assert path.read_bytes() == contents[step]
    assert not model(run, 5).is_symlink()
    assert not model(run, 1).exists()
    shown = {one["step"]: one for one in daemon.json("ls", "run-1")}
    assert {step: one["tiers"] for step, one in shown.items()} == tiers(daemon)
    assert all(one["state"] == "committed" for one in shown.values())
    assert shown[1]["hot_bytes"] == 0 == shown[2]["hot_bytes"]
    used = {tier["name"]: tier["used_bytes"] for tier in daemon.json("status")["tiers"]}
    assert used == {"ram": 2 * MIB + 1, "nvme": 4 * MIB + 2}
    assert leftovers(daemon.volume.resolve()) == []


def test_a_file_that_is_open_is_not_taken_away(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy="keep_hot = 1\nkeep_nvme = 1")
    daemon.start()
    run = daemon.volume / "run-1"
    contents = saved(daemon, 1)
    holding = subprocess.Popen(
        # (With a time before the later checkpoints', which would be superseded else.)
        [sys.executable, "-c", "import os, sys; f = open(sys.argv[1], 'r+b'); print('open', flush=True); "
         "at = os.stat(f.fileno()).st_mtime_ns + 1; "
         "sys.stdin.readline(); f.seek(0); f.write(b'changed'); f.flush(); os.utime(f.fileno(), ns=(at, at)); "
         "f.close(); print('closed', flush=True)", model(run, 1)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holding.stdin is not None
    assert holding.stdout is not None
    try:
        assert holding.stdout.readline() == "open\n"
        saved(daemon, 2, 3)
        daemon.until(lambda: not (run / "checkpoint-1/other.bin").exists(), "what is not open goes")
        time.sleep(1.5)
        assert model(run, 1).read_bytes() == contents[1]
        assert len(daemon.log) < 20_000, "it tries again and again"
        holding.stdin.write("\n")
        holding.stdin.flush()
        assert holding.stdout.readline() == "closed\n"
    finally:
        holding.kill()
        holding.wait()
        holding.stdin.close()
        holding.stdout.close()
    expected = b"changed" + contents[1][7:]
    daemon.until(lambda: objects(daemon.remote)["run-1/checkpoint-1/model.bin"] == expected, "the new content")
    daemon.committed("run-1", 1)
    tiers_become(daemon, {3: ["ram"], 2: [], 1: []})
    daemon.ctl("prefetch", "run-1@1")
    assert model(run, 1).read_bytes() == expected
    assert (run / "checkpoint-1/other.bin").read_bytes() == b"1"


def test_what_is_written_through_the_link_of_a_demoted_file_becomes_durable(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=TIGHT)
    daemon.start()
    run = daemon.volume / "run-1"
    contents = saved(daemon, 1, 2, 3)
    tiers_become(daemon, {3: ["ram"], 2: ["nvme"], 1: ["nvme"]})
    with model(run, 1).open("ab") as file:
        file.write(b"more")
    model(run, 2).write_bytes(b"other content")
    (run / "checkpoint-2/new").write_bytes(b"replaced")
    (run / "checkpoint-2/new").rename(run / "checkpoint-2/other.bin")
    expected = {
        "run-1/checkpoint-1/model.bin": contents[1] + b"more",
        "run-1/checkpoint-2/model.bin": b"other content",
        "run-1/checkpoint-2/other.bin": b"replaced",
    }
    daemon.until(lambda: objects(daemon.remote).items() >= expected.items(), "new contents in the remote")
    for step in (1, 2):
        daemon.committed("run-1", step)
    daemon.ctl("evict", "run-1@1")
    daemon.ctl("prefetch", "run-1@1")
    assert model(run, 1).read_bytes() == contents[1] + b"more"
    assert model(run, 2).read_bytes() == b"other content"


def test_prefetch_puts_files_back_as_they_were(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy=TIGHT)
    daemon.start()
    run = daemon.volume / "run-1"
    owner = 12345 if os.geteuid() == 0 else os.geteuid()
    contents = saved(daemon, 1, owner=owner)
    saved(daemon, 2)
    daemon.ctl("evict", "run-1@1")
    assert not model(run, 1).exists()
    done = daemon.json("prefetch", "run-1@1")
    assert (done["state"], done["bytes_total"], done["bytes_done"]) == ("done", 2 * MIB + 1, 2 * MIB + 1)
    assert {"id", "kind", "state", "bytes_total", "bytes_done", "seconds", "error"} <= done.keys()
    found = model(run, 1).lstat()
    assert stat.S_ISREG(found.st_mode)
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_mtime_ns) == (0o640, owner, 10**9 + 7)
    assert model(run, 1).read_bytes() == contents[1]
    assert daemon.json("prefetch", "run-1@1")["seconds"] < 5  # it is there
    daemon.ctl("evict", "run-1@1")
    daemon.ctl("prefetch", "run-1@1", "--to", "nvme")
    assert model(run, 1).is_symlink()
    found = model(run, 1).stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_mtime_ns) == (0o640, owner, 10**9 + 7)
    assert model(run, 1).read_bytes() == contents[1]
    daemon.ctl("evict", "run-1@1")
    daemon.ctl("prefetch", "run-1@1", "--match", "other*")
    assert not model(run, 1).exists()
    assert (run / "checkpoint-1/other.bin").read_bytes() == b"1"
    assert daemon.checkpoint("run-1", 1)["hot_bytes"] == 1
    daemon.ctl("prefetch", "run-1@1")
    assert model(run, 1).read_bytes() == contents[1]
    daemon.ctl("prefetch", "run-1@7", check=4)
    daemon.ctl("prefetch", "run-7", check=4)


def test_a_prefetched_checkpoint_stays_for_its_time(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy="keep_hot = 1\nkeep_nvme = 1")
    daemon.start()
    saved(daemon, 1, 2, 3)
    tiers_become(daemon, {3: ["ram"], 2: [], 1: []})
    daemon.ctl("prefetch", "run-1@1", "--ttl", "4s")
    begun = time.monotonic()
    saved(daemon, 4)
    assert tiers(daemon)[1] == ["ram"] or time.monotonic() - begun > 3.5
    tiers_become(daemon, {4: ["ram"], 3: [], 2: [], 1: []})


def test_a_pin_without_an_end_is_not_taken_for_a_temporary_one(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    daemon.start()
    saved(daemon, 1)
    client = Client(str(daemon.home / "s"))
    unpin = {"target": "run-1@1", "on": False, "temporary": True}
    daemon.ctl("prefetch", "run-1@1", "--ttl", "1h")
    assert daemon.checkpoint("run-1", 1)["pinned"]  # type: ignore[index]
    assert not client.send("PUT", "/v1/pins", unpin)["pinned"]
    daemon.ctl("prefetch", "run-1@1", "--ttl", "1h")
    daemon.ctl("pin", "run-1@1")
    assert client.send("PUT", "/v1/pins", unpin)["pinned"]
    assert not client.send("PUT", "/v1/pins", unpin | {"temporary": False})["pinned"]


def test_pins_hold_and_let_go(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy="keep_hot = 1\nkeep_nvme = 1")
    daemon.start()
    contents = saved(daemon, 1)
    assert daemon.json("pin", "run-1@1")["pinned"] is True
    saved(daemon, 2, 3)
    tiers_become(daemon, {3: ["ram"], 2: [], 1: ["ram"]})
    assert daemon.json("status")["tiers"][0]["pinned_bytes"] == 2 * MIB + 1
    daemon.ctl("pin", "run-1@2")
    tiers_become(daemon, {3: ["ram"], 2: ["ram"], 1: ["ram"]})
    daemon.ctl("unpin", "run-1@1")
    tiers_become(daemon, {3: ["ram"], 2: ["ram"], 1: []})
    daemon.ctl("evict", "run-1@2")
    tiers_become(daemon, {3: ["ram"], 2: [], 1: []})
    daemon.ctl("pin", "run-1@9", check=4)
    daemon.ctl("prefetch", "run-1@1")
    assert model(daemon.volume / "run-1", 1).read_bytes() == contents[1]


def test_budgets_hold_while_a_job_writes_more_than_fits(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(ram_budget="20MiB", nvme_budget="16MiB", policy="keep_hot = 20\nkeep_nvme = 20")
    daemon.start()

    def look() -> str | None:
        nvme = daemon.get("/v1/status")["tiers"][1]
        on_disk = sum(path.stat().st_size for path in (daemon.home / "nvme").rglob("*") if path.is_file())
        if nvme["used_bytes"] > nvme["budget_bytes"] or on_disk > nvme["budget_bytes"] + 64:
            return f"{nvme} with {on_disk} on disk"
        return None

    with Watching(look, pause_s=0.05) as watching:
        contents = saved(daemon, *range(1, 11), size=4 * MIB)
        daemon.until(lambda: daemon.get("/v1/status")["tiers"][0]["used_bytes"] <= 20 * MIB, "RAM within its budget")
    assert watching.complaint is None
    assert watching.looks > 5
    for step, content in contents.items():
        path = model(daemon.volume / "run-1", step)
        assert content == (
            path.read_bytes() if path.exists() else objects(daemon.remote)[f"run-1/checkpoint-{step}/model.bin"]
        )
    found = tiers(daemon)
    assert found[10] == ["ram"]
    assert ["nvme"] in found.values()
    assert [] in found.values()


def test_a_prefetch_that_fits_no_tier_says_so(new_daemon: Callable[..., Daemon], daemon: Daemon) -> None:
    saved(daemon, 1, size=6 * MIB)
    small = new_daemon(remote=daemon.remote_url, ram_budget="4MiB", nvme_budget="5MiB")
    small.start()
    refused = small.ctl("prefetch", "run-1", check=8)
    assert "4194304" in refused.stderr
    assert tiers(small) == {1: []}
    middling = new_daemon(remote=daemon.remote_url, ram_budget="4MiB", nvme_budget="8MiB")
    middling.start()
    middling.ctl("prefetch", "run-1")
    assert model(middling.volume / "run-1", 1).is_symlink()


def test_memory_pressure_shrinks_the_ram_tier(new_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    pressure = tmp_path / "pressure"

    def say(some: float) -> None:
        pressure.with_suffix(".new").write_text(
            f"some avg10={some} avg60=0 avg300=0 total=1\nfull avg10=0.00 total=1\n"
        )
        pressure.with_suffix(".new").rename(pressure)

    say(0.0)
    daemon = new_daemon(
        ram_budget="24MiB", policy="keep_hot = 20\nkeep_nvme = 20", environment={"CKPTD_PSI_FILE": str(pressure)}
    )
    daemon.start()
    contents = saved(daemon, 1, 2, 3, 4, size=4 * MIB)
    time.sleep(1.5)
    assert tiers(daemon) == {step: ["ram"] for step in (1, 2, 3, 4)}
    say(40.0)
    status = daemon.until(
        lambda: (s := daemon.get("/v1/status"))["tiers"][0]["effective_budget_bytes"] == 18 * MIB and s, "shrunk"
    )
    assert status["tiers"][0]["budget_bytes"] == 24 * MIB
    daemon.until(lambda: tiers(daemon)[1] == ["nvme"], "the oldest moved to NVMe")
    assert daemon.get("/v1/status")["tiers"][0]["used_bytes"] <= 18 * MIB
    assert model(daemon.volume / "run-1", 1).read_bytes() == contents[1]
    assert "tier.pressure" in {event["event"] for event in daemon.json("events")}
    pressure.unlink()  # nobody tells any more: no pressure is known
    daemon.until(lambda: daemon.get("/v1/status")["tiers"][0]["effective_budget_bytes"] == 24 * MIB, "grown again")


def test_a_copied_link_of_a_demoted_file_outlives_the_original(new_daemon: Callable[..., Daemon]) -> None:
    """`cp -a` copies links as links: two files of the volume then share one object."""
    daemon = new_daemon(policy=TIGHT)
    daemon.start()
    run = daemon.volume / "run-1"
    contents = saved(daemon, 1, 2)
    tiers_become(daemon, {2: ["ram"], 1: ["nvme"]})
    subprocess.run(["cp", "-a", run / "checkpoint-1", daemon.volume / "kept"], check=True)
    kept = daemon.volume / "kept/model.bin"
    assert kept.is_symlink()
    daemon.until((daemon.remote / "kept/model.bin").exists, "the copy is durable under its own name")
    subprocess.run(["rm", "-r", run / "checkpoint-1"], check=True)
    daemon.ctl("flush")
    assert kept.read_bytes() == contents[1]
    kept.unlink()
    (daemon.volume / "kept/other.bin").unlink()
    demoted = daemon.home / "nvme/volumes/ckpt/objects"
    daemon.until(lambda: not list(demoted.iterdir()), "objects that nobody's link leads to are gone")


def test_a_tier_that_nothing_may_leave_is_told_with_what_holds_it(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(ram_budget="8MiB", nvme_budget="1MiB")
    daemon.start()
    with away(daemon):
        save(daemon.volume / "run-1/checkpoint-1", {"model.bin": os.urandom(12 * MIB), "DONE": b""})
        told = daemon.until(
            lambda: [event for event in daemon.json("events") if event["event"] == "tier.full"],
            "it is told",
            timeout=20,
        )
    assert "12MiB" in told[0]["message"]
    assert "run-1" in told[0]["message"]
    daemon.committed("run-1", 1)
