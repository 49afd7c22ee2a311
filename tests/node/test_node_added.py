"""Files that somebody adds to a checkpoint long after it was committed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests_node_daemon import Daemon, save


def test_weights_converted_after_the_commit_leave_it_committed(
    new_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = new_daemon(remote=f"file://{tmp_path}/remote", policy='sync = "all"')
    daemon.start()
    directory = daemon.volume / "run" / "checkpoint-5"
    save(directory, {"model.bin": os.urandom(3000), "optimizer.pt": os.urandom(100), "trainer_state.json": b"{}"})
    daemon.committed("run", 5)
    manifest = next((daemon.remote / ".ckptd/manifests/run/5").iterdir()).read_bytes()
    save(directory, {"merged/pytorch_model.bin": os.urandom(3000)})
    sent = daemon.remote / "run/checkpoint-5/merged/pytorch_model.bin"
    daemon.until(sent.exists, "the conversion is in the remote too")
    assert daemon.checkpoint("run", 5)["state"] == "committed"  # type: ignore[index]
    assert next((daemon.remote / ".ckptd/manifests/run/5").iterdir()).read_bytes() == manifest
