"""A program that behaves at its start and end as `ckptd` does, with a scripted node inside. Started by `up` in tests.

What it does wrong is said by the PLAYED variable: `refuse` (announces an error), `die` (without a word), `deaf` (serves
nothing, holds the lock). The lock and the line on `--ready-fd` are those of the real daemon.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[1] / "api"))

from scripted_node import ScriptedNode, listen, run_server

from ckptd.domain.model import VolumeReport


@click.command()
@click.argument("path", required=False)
@click.option("--remote", default="file:///remote")
@click.option("--state-dir")
@click.option("--socket")
@click.option("--ready-fd", type=int, default=-1)
@click.option("--ram")
@click.option("--nvme")
@click.option("--front")
@click.option("--config")
def play(path, remote, state_dir, socket, ready_fd, **_flags):
    played = os.environ.get("PLAYED", "")
    state_dir = state_dir or os.environ["CKPTD_STATE_DIR"]
    os.makedirs(state_dir, exist_ok=True)
    lock = open(os.path.join(state_dir, "lock"), "w")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    if played == "die":
        sys.exit("out of luck")
    if played == "refuse":
        refusal = {"ok": False, "message": "the bucket is missing", "hint": "make it", "code": "config", "exit_code": 2}
        os.write(ready_fd, json.dumps(refusal).encode() + b"\n")
        sys.exit(2)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if played == "deaf":
        os.write(ready_fd, b'{"ok": true}\n')
        stop.wait()
        return
    node = ScriptedNode()
    node.supervisor_pid = os.getpid()
    node.volumes = (VolumeReport("ckpt", path or "/ckpt", remote, "watch", False, "", True, "", None, 0, 0),)
    with run_server(node, listen(socket or os.environ["CKPTD_SOCKET"])):
        print("serving", flush=True)
        os.write(ready_fd, b'{"ok": true}\n')
        os.close(ready_fd)
        while not stop.is_set() and not node.stopped.wait(0.05):
            pass


if __name__ == "__main__":
    play()
