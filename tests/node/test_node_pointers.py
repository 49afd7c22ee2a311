"""Pointer files (`latest`) reach the remote after what they point to, and other nodes get them with it."""

from collections.abc import Callable

from tests_node_daemon import MIB, Daemon, save


def said(daemon: Daemon) -> bytes:
    """The pointer in the remote."""
    path = daemon.remote / "run-1/latest"
    return path.read_bytes() if path.exists() else b""


def test_a_pointer_to_a_torn_checkpoint_stays_here(daemon: Daemon) -> None:
    run = daemon.volume / "run-1"
    whole = {"mp_rank_00_model_states.pt": b"m" * MIB, "zero_pp_rank_0_mp_rank_00_optim_states.pt": b"o" * MIB}
    save(run / "global_step1", whole)
    save(run, {"latest": b"global_step1"})
    daemon.committed("run-1", 1)
    daemon.until((daemon.remote / "run-1/latest").exists, "the pointer is there")
    save(run / "global_step2", {"mp_rank_00_model_states.pt": b"n" * MIB})
    save(run, {"latest": b"global_step2"})
    daemon.until(lambda: daemon.checkpoint("run-1", 2)["state"] == "torn", "torn")
    daemon.ctl("flush", "run-1")
    assert said(daemon) == b"global_step1"
    assert daemon.json("status")["exposure"]["files"] == 0
    save(run / "global_step2", {"zero_pp_rank_0_mp_rank_00_optim_states.pt": b"o" * MIB})
    daemon.until(lambda: said(daemon) == b"global_step2", "the pointer moved")
    assert (daemon.remote / ".ckptd/manifests/run-1/2").is_dir()


def test_a_pointer_follows_its_checkpoint_to_another_node(new_daemon: Callable[..., Daemon]) -> None:
    first = new_daemon()
    first.start()
    run = first.volume / "run-1"
    for step in (1, 2):
        save(run / f"global_step{step}", {"mp_rank_00_model_states.pt": bytes([step]) * MIB})
        save(run, {"latest": b"global_step%d" % step})
        first.committed("run-1", step)
    first.until(lambda: said(first) == b"global_step2", "the pointer moved")
    second = new_daemon(remote=first.remote_url)
    second.start()
    second.ctl("prefetch", "run-1@1")
    assert not (second.volume / "run-1/latest").exists(), "it names another checkpoint"
    second.ctl("prefetch", "run-1")
    assert (second.volume / "run-1/latest").read_text() == "global_step2"
    (second.volume / "run-1/latest").write_text("global_step1")
    second.ctl("prefetch", "run-1")
    assert (second.volume / "run-1/latest").read_text() == "global_step1", "what the job wrote here stays"


def test_a_pointer_completes_its_checkpoint_unless_it_is_of_an_earlier_attempt(daemon: Daemon) -> None:
    daemon.ctl("policy", "set", "*", "settle=10m")
    run = daemon.volume / "run-1"
    save(run / "iter_0000001/mp_rank_00", {"model_optim_rng.pt": b"m" * MIB})
    save(run, {"latest_checkpointed_iteration.txt": b"1"})
    daemon.committed("run-1", 1)
    save(run / "iter_0000001/mp_rank_00", {"model_optim_rng.pt": b"n" * MIB})
    daemon.until(lambda: daemon.checkpoint("run-1", 1)["state"] != "committed", "it is being written anew")
    daemon.crash()
    daemon.start()
    daemon.until(lambda: daemon.checkpoint("run-1", 1)["state"] == "writing", "the old pointer proves nothing")
    save(run, {"latest_checkpointed_iteration.txt": b"1"})
    daemon.until(
        lambda: (daemon.remote / "run-1/iter_0000001/mp_rank_00/model_optim_rng.pt").read_bytes() == b"n" * MIB, "sent"
    )
    daemon.committed("run-1", 1)
