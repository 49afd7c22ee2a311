"""A mover process: reads calls from the worker's socket, runs each on a thread of its lane, answers.

Where the blocking client libraries live: past the worker's GIL, and free to crash alone. Started by `pool`; ends when
the socket is closed (or the worker dies), never by a signal meant for the whole group: the worker still flushes then.

Frames to it:   {"id", "call", "with"} · {"cancel": id} · {"rate": bytes a second, 0: no cap}
Frames from it: {"hello": pid} · {"id", "bytes"} · {"id", "bytes", "answer"} · {"id", "bytes", "refused"}
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ckptd.transfer import calls, checking, copying, frames, receiving, requests, sending
from ckptd.transfer.pacing import Pacer
from ckptd.transfer.refusal import BUG, Refusal, Refused
from ckptd.transfer.registry import BackendError, Registry, refusal_of
from ckptd.transfer.task import Task

PR_SET_NAME = 15
PR_SET_PDEATHSIG = 1
CONTROL_THREADS = 4
LOCAL_THREADS = 2

_KINDS = {kind.__name__: kind for kind in calls.CALLS}


class Mover:
    def __init__(self, connection: socket.socket, threads: int) -> None:
        self._connection = connection
        self._send_lock = threading.Lock()
        self._registry = Registry()
        self._pacer = Pacer(0)
        self._tasks: dict[int, Task] = {}
        self._threads = {
            # As many again, for whom others must not keep waiting (`slots`). They are only started as they are needed.
            calls.Lane.PARTS: 2 * threads,
            calls.Lane.CONTROL: CONTROL_THREADS,
            calls.Lane.LOCAL: LOCAL_THREADS,
        }
        self._lanes: dict[tuple[calls.Lane, str], ThreadPoolExecutor] = {}
        """Each remote has its own: what hangs in one that does not answer must not keep others from theirs."""

    def serve(self) -> None:
        """Until the worker closes its end."""
        self._send({"hello": os.getpid()})
        with self._connection.makefile("rb") as stream:
            while len(head := stream.read(frames.LENGTH.size)) == frames.LENGTH.size:
                length = frames.length_of(head)
                body = stream.read(length)
                if len(body) < length:
                    return
                self._receive(frames.unpack(body))

    def _receive(self, frame: dict[str, Any]) -> None:
        if "call" in frame:
            number: int = frame["id"]
            try:
                call = frames.build(_KINDS[frame["call"]], frame["with"])
            except (KeyError, TypeError, ValueError) as error:
                refused = Refusal(BUG, f"no call a mover can read: {error!r}")
                self._send({"id": number, "bytes": 0, "refused": frames.plain(refused)})
                return
            task = Task(self._pacer, lambda count: self._send({"id": number, "bytes": count}))
            self._tasks[number] = task
            self._lane(call).submit(self._work, number, call, task)
        elif "cancel" in frame:
            if found := self._tasks.get(frame["cancel"]):
                found.cancel()
        else:
            self._pacer.set_rate(frame["rate"])

    def _lane(self, call: calls.Call[Any]) -> ThreadPoolExecutor:
        remote = getattr(call, "remote", None)
        key = call.lane, "" if remote is None else remote.name
        if key not in self._lanes:
            self._lanes[key] = ThreadPoolExecutor(self._threads[call.lane], f"{call.lane}-{key[1]}")
        return self._lanes[key]

    def _work(self, number: int, call: calls.Call[Any], task: Task) -> None:
        try:
            task.check()
            outcome = {"answer": frames.plain(perform(self._registry, call, task))}
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
            outcome = {"refused": frames.plain(_refusal(error, call, task))}
        del self._tasks[number]
        self._send({"id": number, "bytes": task.take_unreported(), **outcome})

    def _send(self, frame: dict[str, Any]) -> None:
        try:
            with self._send_lock:
                self._connection.sendall(frames.pack(frame))
        except OSError:  # nobody to tell any more
            os._exit(1)


def perform(registry: Registry, call: calls.Call[Any], task: Task) -> object:
    """Runs one call; its answer has the type `calls.CALLS` gives."""
    match call:
        case calls.Allocate():
            return receiving.allocate(call, task)
        case calls.Seal():
            return receiving.seal(call)
        case calls.SealTaken():
            return receiving.seal_taken(call)
        case calls.Sum():
            return copying.checksum(call, task)
        case calls.CheckStretch():
            return checking.check_stretch(call, task)
        case calls.Copy():
            return copying.copy(call, task)
        case calls.PutWhole():
            return sending.put_whole(registry.open(call.remote), call, task)
        case calls.PutSeveral():
            return sending.put_several(registry.open(call.remote), call, task)
        case calls.PutPart():
            return sending.put_part(registry.open(call.remote), call, task)
        case calls.Finish():
            return sending.finish(registry.open(call.remote), call)
        case calls.ReadWhole():
            return receiving.read_whole(registry.open(call.remote), call, task)
        case calls.ReadPart():
            return receiving.read_part(registry.open(call.remote), call, task)
        case calls.TakePart():
            return receiving.take_part(registry.open(call.remote), call, task)
        case calls.CheckPart():
            return receiving.check_part(registry.open(call.remote), call, task)
    return requests.perform(registry, call)


def _refusal(error: Exception, call: calls.Call[Any], task: Task) -> Refusal:
    if task.failure is not None:  # whatever a client library made of it on its way
        return task.failure.refusal
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, BackendError):
        return refusal_of(error)
    traceback.print_exception(error)
    return Refusal(BUG, f"{type(call).__name__} failed unexpectedly: {error!r}", "the daemon's log has the details")


def main() -> None:
    """`argv`: the socket's descriptor, the worker's pid, threads for parts."""
    descriptor, parent, threads = (int(argument) for argument in sys.argv[1:4])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NAME, b"ckptd-mover", 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        return
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    gc.freeze()
    with socket.socket(fileno=descriptor) as connection:
        Mover(connection, threads).serve()
    os._exit(0)  # threads may sit in a stalled socket; nothing here needs an orderly end


if __name__ == "__main__":
    main()
