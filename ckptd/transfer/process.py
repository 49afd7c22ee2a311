"""One mover process as the worker sees it: start it, ask it, notice its end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import structlog

from ckptd.transfer import frames
from ckptd.transfer.calls import CALLS, Call, Lane
from ckptd.transfer.refusal import MOVER_DIED, Refusal, Refused

Answer = TypeVar("Answer")

# A mover finds exactly what the worker finds: the same interpreter, isolated, with the worker's import path (as
# multiprocessing's spawn does it), be it an installation, a virtual environment or a checkout.
_BOOT = "import json,sys; sys.path[:]=json.loads(sys.argv.pop(1)); from ckptd.transfer.mover import main; main()"
_STOP_S = 2.0
_START_S = 60.0
_LET_GO_S = 60.0
"""Longer than a backend's own time-outs: only what has none is killed."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Pending:
    call: Call[Any]
    future: asyncio.Future[Any]
    on_bytes: Callable[[int], None] | None
    error: Exception | None = None
    """What `on_bytes` raised: the call is cancelled, and this is its outcome."""


class MoverProcess:
    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pending: dict[int, _Pending] = {}
        self._numbers = count(1)
        self._process: asyncio.subprocess.Process
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self, lane: Lane) -> int:
        """Calls of a lane that it has to do or does."""
        return sum(pending.call.lane is lane for pending in self._pending.values())

    async def start(self) -> None:
        """Returns when it is ready. Raises Refused when it ended (or said nothing for a minute) instead."""
        ours, theirs = socket.socketpair()
        path = json.dumps([entry or os.getcwd() for entry in sys.path])
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", _BOOT, path, str(theirs.fileno()), str(os.getpid()), str(self._threads),
                pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL,
                # Every malloc arena of glibc keeps what its threads once needed; two are enough here.
                env={"MALLOC_ARENA_MAX": "2", **os.environ},
            )  # fmt: skip
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        try:
            async with asyncio.timeout(_START_S):
                await self._frame()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            status = await self.stop()
            message = f"a mover process ended at its start with status {status}"
            raise Refused(
                Refusal(MOVER_DIED, message, "its own words are in the daemon's log", retryable=True)
            ) from error
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def run(self) -> int:
        """Hands out answers until the process is gone; returns its exit status (negative: the signal)."""
        try:
            while True:
                self._receive(await self._frame())
        except (asyncio.IncompleteReadError, ConnectionError):
            return await self.stop()

    async def ask(self, call: Call[Answer], on_bytes: Callable[[int], None] | None) -> Answer:
        """Raises Refused. Cancelled, it tells the mover; a call that writes to a store is waited for all the same."""
        number = next(self._numbers)
        pending = _Pending(call, asyncio.get_running_loop().create_future(), on_bytes)
        self._pending[number] = pending
        self._send({"id": number, "call": type(call).__name__, "with": frames.plain(call)})
        try:
            await asyncio.wait([pending.future])
        except asyncio.CancelledError:
            pending.on_bytes = None
            pending.future.add_done_callback(lambda future: future.exception())
            self._send({"cancel": number})
            if call.writes and await self._ended(pending.future):
                self._undo(pending)
            raise
        answer: Answer = pending.future.result()
        return answer

    def _undo(self, pending: _Pending) -> None:
        if pending.future.exception() is None:
            undo = pending.call.undone_by(pending.future.result())
            if undo is not None:
                self._send({"id": next(self._numbers), "call": type(undo).__name__, "with": frames.plain(undo)})

    async def _ended(self, future: asyncio.Future[Any]) -> bool:
        """Waits for a cancelled call; a mover that does not let go of it (a hung mount) is killed."""
        done, _ = await asyncio.wait([future], timeout=_LET_GO_S)
        if not done:
            _log.warning("mover.stuck", pid=self.pid)
            self._process.kill()
        return bool(done)

    def set_rate(self, rate: float) -> None:
        self._send({"rate": rate})

    async def stop(self) -> int:
        """Closes the socket, which ends the process; kills it if not."""
        self._writer.close()
        self._fail_all()
        try:
            async with asyncio.timeout(_STOP_S):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    def _send(self, frame: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(frames.pack(frame))

    async def _frame(self) -> dict[str, Any]:
        head = await self._reader.readexactly(frames.LENGTH.size)
        return frames.unpack(await self._reader.readexactly(frames.length_of(head)))

    def _receive(self, frame: dict[str, Any]) -> None:
        pending = self._pending.get(frame["id"])
        if pending is None:
            return
        if pending.on_bytes and frame["bytes"]:
            try:
                pending.on_bytes(frame["bytes"])
            except Exception as error:  # noqa: BLE001 - it is the caller's, and must not end the other callers' mover
                self._send({"cancel": frame["id"]})
                pending.on_bytes = None
                pending.error = error
        if pending.error is not None and ("answer" in frame or "refused" in frame):
            pending.future.set_exception(pending.error)
        elif "answer" in frame:
            pending.future.set_result(frames.build(CALLS[type(pending.call)], frame["answer"]))
        elif "refused" in frame:
            pending.future.set_exception(Refused(frames.build(Refusal, frame["refused"])))
        else:
            return
        del self._pending[frame["id"]]

    def _fail_all(self) -> None:
        for pending in self._pending.values():
            if not pending.future.done():
                refusal = Refusal(MOVER_DIED, "the mover process that did it ended", retryable=True)
                pending.future.set_exception(Refused(refusal))
        self._pending.clear()
