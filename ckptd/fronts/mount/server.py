"""The loop: one request after the other, each answered before the next is read, but for those that wait.

One thread does everything that changes anything; that is what makes one journal record enough. A second one only sends
invalidations, because the kernel keeps their sender waiting while somebody has the directory locked, which may be somebody who
waits for us.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from ckptd.fronts.mount import wire
from ckptd.fronts.mount.ahead import Ahead
from ckptd.fronts.mount.channel import Channel, Request, Unmounted
from ckptd.fronts.mount.context import Context, Fetching, Syncing
from ckptd.fronts.mount.control import Control, Controls
from ckptd.fronts.mount.dispatch import Answer, Dispatch
from ckptd.fronts.mount.expected import Expected
from ckptd.fronts.mount.negotiation import MAX_WRITE, negotiate
from ckptd.fronts.mount.outcomes import Outcomes
from ckptd.fronts.mount.passthrough import Passthrough
from ckptd.fronts.mount.placing import NeedsRoom, Placing
from ckptd.fronts.mount.state import JOURNAL_AT, State
from ckptd.fronts.mount.streams import Streams
from ckptd.fronts.mount.tree import Tree
from ckptd.fronts.mount.waiting import Waiting

_log = logging.getLogger("ckptd.mount")


class Server:
    """`controls`: who may ask. Raises OSError and ValueError for what it cannot serve."""

    def __init__(
        self,
        *,
        fuse_fd: int,
        state_fd: int,
        backing: bytes,
        objects: bytes | None = None,
        passthrough: bool = True,
        controls: Controls | None = None,
    ) -> None:
        self._channel = Channel(fuse_fd, MAX_WRITE)
        self._state = State(state_fd)
        self._wants_passthrough = passthrough
        self._fetcher: Control | None = None
        self._controls = Controls() if controls is None else controls
        tree = Tree(self._state, backing, objects)
        self._outcomes = Outcomes(self._state.map, JOURNAL_AT)
        self._passthrough = Passthrough(fuse_fd, self._state, tree.nodes, self._refused())
        self._expected = Expected()
        self._ahead = Ahead(tree, self._expected)
        placing = Placing(tree, self._ahead, self._expected)
        self._streams = Streams()
        self._context = Context(
            tree, tree.nodes, self._outcomes, self._passthrough, self._ahead, placing, self._streams, self._want,
            fsync_asks=lambda: self._state.fsync_asks,
        )  # fmt: skip
        self._waiting = Waiting()
        self._request = Request()
        self._requests = 0
        self._resent = 0
        self._resends = True
        self._sent: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._dispatch = Dispatch(self._context, {wire.Op.INIT: self._init, wire.Op.INTERRUPT: self._interrupt})

    def _refused(self) -> str | None:
        if not self._wants_passthrough:
            return "switched off"
        agreed = self._state.negotiated
        return None if agreed is None or agreed.passthrough else "the kernel does not offer it"

    # ---- the loop

    def serve(self) -> None:
        """Until the mount is gone, or the holder asks for the end."""
        os.umask(0)  # modes come with the caller's applied
        os.set_blocking(self._channel.fd, False)
        threading.Thread(target=self._send, daemon=True, name="invalidations").start()
        threading.Thread(target=self._learn, daemon=True, name="sizes").start()
        if self._state.fresh:
            self._context.tree.sweep()
        else:
            self._dispatch.files.take_over()
            self._resends = self._channel.resend()
        poller = select.poll()
        poller.register(self._channel.fd, select.POLLIN)
        for fd in self._controls.fds():
            poller.register(fd, select.POLLIN)
        try:
            while self._turn(poller):
                pass
        except Unmounted:
            return

    def _turn(self, poller: select.poll) -> bool:
        for fd, _ in poller.poll(self._patience_ms()):
            if fd == self._channel.fd:
                self._read()
            elif not self._controls.readable(fd, self, poller):
                return False
        for message in self._waiting.due():
            self._handle(message)
        for message, until in self._waiting.due_for_room():
            self._handle(message, until)
        self._ahead.look()
        return True

    def _patience_ms(self) -> int | None:
        waits = [ms for ms in (self._waiting.timeout_ms(), self._ahead.timeout_ms()) if ms is not None]
        return min(waits) if waits else None

    def _read(self) -> None:
        message = self._channel.read()
        if message is not None:
            self._handle(message)

    def _handle(self, message: memoryview, until: float | None = None) -> None:
        """`until`: it has waited for room, and may do so until then."""
        request = self._request
        self._context.patient = until is None or time.monotonic() < until
        request.fill(message)
        self._requests += 1
        try:
            if request.resent and self._replay(request):
                return
            handler = self._dispatch.handler(request.op)
            if handler is None:
                self._channel.refuse(request, errno.ENOSYS)
                return
            answer = handler(request)
        except Fetching as wanted:
            self._fetch(wanted.path, message)
        except NeedsRoom as wanted:
            self._wait_for_room(wanted, message, until)
        except Syncing as wanted:
            self._waiting.for_remote(request, message, wanted)
            self._ask_to_sync(request.unique, wanted)
        except BlockingIOError:
            self._waiting.for_lease(request, message)
        except OSError as error:
            self._fail(request, error.errno or errno.EIO)
        except Exception:  # noqa: BLE001 - a defect: one call fails; a server that ended would leave it to the next, for ever
            _log.exception("mount.defect op=%d node=%d", request.op, request.nodeid)
            self._fail(request, errno.EIO)
        else:
            self._answer(request, answer)

    def _fail(self, request: Request, error: int) -> None:
        if self._outcomes.open:
            self._outcomes.finish(error, b"")
        self._channel.refuse(request, error)

    def _answer(self, request: Request, answer: Answer) -> None:
        if isinstance(answer, bytes):
            if self._outcomes.open:
                self._outcomes.finish(0, answer)
            self._channel.answer(request, answer)
        elif answer is not None:
            self._channel.answer_long(request, answer)

    def _replay(self, request: Request) -> bool:
        """Answers a resent request that was executed."""
        self._resent += 1
        found = self._outcomes.outcome(request.unique)
        if found is None:
            return False
        error, answer = found
        if error:
            self._channel.refuse(request, error)
        else:
            self._channel.answer(request, answer)
        return True

    def _init(self, request: Request) -> bytes:
        agreed, answer = negotiate(request.body, passthrough=self._wants_passthrough)
        self._state.negotiated = agreed
        self._passthrough.refused = self._refused()
        return answer

    # ---- what waits

    def _fetch(self, path: bytes, message: memoryview) -> None:
        self._outcomes.open = False
        self._want(path)
        self._waiting.for_file(path, self._request, message)

    def _want(self, path: bytes) -> None:
        if self._waiting.want(path) and self._fetcher is not None:
            self._fetcher.send({"fetch": os.fsdecode(path)})

    def _wait_for_room(self, wanted: NeedsRoom, message: memoryview, until: float | None) -> None:
        self._outcomes.open = False
        if until is None:
            until = time.monotonic() + wanted.patience_s
            if self._fetcher is not None:
                self._fetcher.send({"room": wanted.size, "seconds": wanted.patience_s})
        self._waiting.for_room(self._request, message, until)

    def fetched(self, path: bytes, error: int) -> None:
        """A fetch has ended, with 0 or an errno: whoever waited for it goes on."""
        self._streams.end(path)
        for message in self._waiting.arrived(path):
            if error:
                self._request.fill(message)
                self._channel.refuse(self._request, error)
            else:
                self._handle(message)

    def partly(self, path: bytes, staged: bytes, offset: int, length: int) -> None:
        """Bytes of a file that is being fetched have come."""
        if not self._waiting.wants(path):
            return
        with contextlib.suppress(OSError):  # it has its name by now
            self._streams.part(path, staged, offset, length)
        for message in self._waiting.partly(path):
            self._handle(message)

    def _ask_to_sync(self, unique: int, wanted: Syncing) -> None:
        if self._fetcher is not None:
            self._fetcher.send({"fsync": unique, "path": os.fsdecode(wanted.path), "directory": wanted.directory})

    def synced(self, unique: int, error: int) -> None:
        """The remote has what an fsync waits for (0), or cannot have it (an errno)."""
        message = self._waiting.synced(unique)
        if message is not None:
            self._request.fill(message)
            self._channel.refuse(self._request, error)

    def fsync_asks(self, asks: bool) -> None:
        self._state.fsync_asks = asks

    def _interrupt(self, request: Request) -> None:
        """Ctrl-C on a call that waits for a fetch, which goes on, or for the remote. INTERRUPT itself is not answered."""
        unique = wire.INTERRUPT_IN.unpack_from(request.body)[0] & ~wire.UNIQUE_RESEND
        message = self._waiting.withdraw(unique)
        if message is None and (message := self._waiting.synced(unique)) is not None and self._fetcher is not None:
            self._fetcher.send({"unsync": unique})
        if message is not None:
            self._request.fill(message)
            self._channel.refuse(self._request, errno.EINTR)

    def fetcher(self, control: Control) -> None:
        """The daemon's worker is there (again): it is told what is waited for."""
        self._fetcher = control
        for path in self._waiting.files():
            control.send({"fetch": os.fsdecode(path)})
        for unique, wanted in self._waiting.remote():
            self._ask_to_sync(unique, wanted)

    def left(self, control: Control) -> None:
        if control is self._fetcher:
            self._fetcher = None  # whoever opens a cold file waits for the next one

    # ---- what the holder asks for

    def status(self) -> dict[str, Any]:
        agreed = self._state.negotiated
        modes = self._passthrough.modes
        return {
            "pid": os.getpid(),
            "protocol": None if agreed is None else f"{wire.KERNEL_VERSION}.{agreed.minor}",
            "passthrough": self._passthrough.refused is None,
            "passthrough_refused": self._passthrough.refused,
            "opens_passthrough": modes.passthrough,
            "opens_mediated": modes.mediated,
            "mediated_because": dict(modes.reasons),
            "resend": self._resends and (agreed is None or agreed.resend),
            "nodes": len(self._context.nodes.by_id),
            "requests": self._requests,
            "resent": self._resent,
            "waiting": len(self._waiting),
            "spilled": self._context.placing.spilled,
            "time": time.time(),
        }

    def invalidate(self, path: bytes) -> None:
        """The daemon put something else at a path (relative to the volume), or took it away."""
        *above, name = path.split(b"/")
        tree, nodes = self._context.tree, self._context.nodes
        try:
            stat = os.stat(b"/".join(above) or b".", dir_fd=tree.root_fd)
        except OSError:
            return  # the kernel finds out by itself that the directory is gone
        parent = nodes.by_identity.get((stat.st_ino, stat.st_dev))
        if parent is not None:
            id = parent.id
            self._sent.put(lambda: self._channel.forget_entry(id, name))

    def _send(self) -> None:
        while True:
            self._sent.get()()

    def _learn(self) -> None:
        with contextlib.suppress(OSError):
            self._expected.learn(self._context.tree.sizes())
