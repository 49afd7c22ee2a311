"""A server that is killed at a chosen line of what it does for one call, and a process that makes the calls."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests_mount_served import Served

SERVER = """
import os, signal, sys
from ckptd.fronts.mount import __main__ as program, server, wire

op, line = int(sys.argv[1]), int(sys.argv[2])
count = 0

def trace(frame, event, _):
    global count
    if event == "line" and "/fronts/mount/" in frame.f_code.co_filename:
        count += 1
        if count == line:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace

handle = server.Server._handle

def traced(self, message, *more):
    if wire.IN_HEADER.unpack_from(message)[1] != op:
        return handle(self, message, *more)
    sys.settrace(trace)
    try:
        return handle(self, message, *more)
    finally:
        sys.settrace(None)

server.Server._handle = traced
sys.exit(program.main(sys.argv[3:]))
"""
ACTOR = """
import json, os, sys
held = {}
for line in sys.stdin:
    words = json.loads(line)
    try:
        if words[0] == "open":
            held[words[1]] = os.open(words[1], getattr(os, words[2]) if isinstance(words[2], str) else words[2], 0o640)
            said = "ok"
        elif words[0] == "close":
            os.close(held.pop(words[1]))
            said = "ok"
        elif words[0] == "write":
            said = os.pwrite(held[words[1]], words[2].encode(), 0)
        elif words[0] == "read":
            said = os.pread(held[words[1]], 100, 0).decode()
        else:
            getattr(os, words[0])(*words[1:])
            said = "ok"
    except OSError as error:
        said = os.strerror(error.errno)
    print(json.dumps(said), flush=True)
"""


class Killed(Served):
    """`dying(op, line)` starts a server that dies there; `start` one that does not."""

    def dying(self, op: int, line: int) -> None:
        self.program = [sys.executable, "-c", SERVER, str(op), str(line)]
        self.start()
        self._expected = True
        self.program = None

    def has_died(self) -> bool:
        assert self.server is not None
        return self.server.poll() is not None

    def stop(self) -> None:
        self.kill()


class Actor:
    """Calls go through a process of its own: whoever starts servers must have nothing of their mount open."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ACTOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
        )

    def begin(self, *words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def end(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def do(self, *words: Any) -> Any:
        self.begin(*words)
        return self.end()

    def close(self) -> None:
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def kept(backing: Path) -> list[str]:
    """What is open without a name."""
    folder = backing / ".ckptd-open"
    return os.listdir(folder) if folder.exists() else []
