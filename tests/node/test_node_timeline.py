"""A job that was restarted from an earlier step than the last one it wrote."""

from collections.abc import Callable

from tests_node_daemon import MIB, Daemon, save


def ls(daemon: Daemon) -> dict[int, bool]:
    return {one["step"]: one["superseded"] for one in daemon.json("ls", "run-1")}


def test_the_newer_write_wins_and_the_older_is_superseded(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(policy="keep_hot = 1\nkeep_nvme = 1")
    daemon.start()
    run = daemon.volume / "run-1"
    for step in (1000, 1200, 1100):
        save(run / f"checkpoint-{step}", {"model.bin": bytes([step // 100]) * MIB, "DONE": b""})
        daemon.committed("run-1", step)
    assert ls(daemon) == {1200: True, 1100: False, 1000: False}
    assert [one["step"] for one in daemon.json("ls", "run-1")] == [1200, 1100, 1000]
    assert daemon.json("latest", "run-1")["step"] == 1100
    daemon.until(lambda: daemon.checkpoint("run-1", 1200)["tiers"] == [], "1200 went")
    assert daemon.checkpoint("run-1", 1100)["tiers"] == ["ram"]
    second = new_daemon(remote=daemon.remote_url)
    second.start()
    second.ctl("prefetch", "run-1")
    assert (second.volume / "run-1/checkpoint-1100/model.bin").exists()
    assert not (second.volume / "run-1/checkpoint-1200").exists()
    second.ctl("prefetch", "run-1@1200")  # by its own name it is still there
    assert (second.volume / "run-1/checkpoint-1200/model.bin").read_bytes() == bytes([12]) * MIB
    assert ls(second) == ls(daemon)
    # The new timeline comes to 1200 as well: what it writes there replaces what was.
    save(run / "checkpoint-1200", {"model.bin": b"n" * MIB, "DONE": b""})
    daemon.until(lambda: (daemon.remote / "run-1/checkpoint-1200/model.bin").read_bytes() == b"n" * MIB, "sent")
    daemon.committed("run-1", 1200)
    assert ls(daemon) == {1200: False, 1100: False, 1000: False}
    assert daemon.json("latest", "run-1")["step"] == 1200
