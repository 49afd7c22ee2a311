"""The supervisor's loop: one worker at a time, until it stops in order or is told to.

One thread and one `poll`: on signals (a wake-up pipe), on what the worker says (that it is ready, and a beat now and then), and
on its pidfd.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ckptd.domain.errors import CkptdError
from ckptd.supervisor.announce import Announcer
from ckptd.supervisor.log import Log
from ckptd.supervisor.manager import Manager
from ckptd.supervisor.mounts import Mounts
from ckptd.supervisor.process import COMMAND, Exit, Worker, error_in
from ckptd.supervisor.pulse import Pulse
from ckptd.supervisor.restarts import Restarts

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
UPGRADE_SIGNAL = signal.SIGUSR2
"""The worker asks to be replaced by one that runs the code which is installed now (`ckptctl upgrade`)."""
GRACE_S = 10.0
"""Beyond the worker's own limit for its last flush."""
FIRST_TRIES = 3
"""Deaths of a worker that never was ready, before the start is given up: there is nothing to keep alive yet."""


@dataclass(slots=True)
class Supervisor:
    settings: dict[str, Any]
    """Handed on to every worker as it is: a config file that is edited meanwhile counts from the next `up`."""
    socket_fd: int
    lock_fd: int
    stop_limit_s: float
    """How long the worker may flush after SIGTERM."""
    announcer: Announcer
    log: Log
    command: Sequence[str] = COMMAND
    manager: Manager = field(default_factory=Manager)
    mounts: Mounts = field(default_factory=Mounts)
    """Attended to whatever the worker does."""
    fronts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By volume: `front`, `reason`, and the `socket` of a mount's server. Handed on to every worker."""
    bound_log: Callable[[], None] = lambda: None
    """Called now and then."""
    clock: Callable[[], float] = time.monotonic
    restarts: Restarts = field(default_factory=Restarts)
    last_exit: str = ""
    was_ready: bool = False
    hung: str = ""
    """Why the present worker was taken for hung, and killed."""
    refusal: CkptdError | None = None
    """Why the present worker said it could not start."""
    stopping: bool = False
    upgrading: bool = False
    kill_at: float | None = None
    wake: int = -1

    def run(self) -> int:
        """Returns the process's exit code. Signals must not be handled by anybody else meanwhile."""
        with _signals() as self.wake:
            while True:
                worker = self._start()
                born = self.clock()
                ended = self._accompany(worker)
                verdict = self._verdict(ended, self.clock() - born)
                if verdict is not None:
                    return verdict
                self._rest()
                if self.stopping:
                    return 0

    def _start(self) -> Worker:
        self.refusal, self.hung = None, ""
        document = {
            "settings": self.settings,
            "socket_fd": self.socket_fd,
            "lock_fd": self.lock_fd,
            "restarts": self.restarts.total,
            "last_exit": self.last_exit,
            "fronts": self.fronts,
            "beat_s": self._pulse().every_s,
            "managed": self.manager.starts_us,
        }
        worker = Worker.start(self.command, document, keep=(self.socket_fd, self.lock_fd))
        self.log.info("worker.started", pid=worker.process.pid, restarts=self.restarts.total)
        return worker

    def _accompany(self, worker: Worker) -> Exit:
        """Until it has ended: passes signals on to it, hears it, and ends it when it hangs or its time to stop is over."""
        pulse = self._pulse()
        while True:
            patience = pulse.every_s
            if self.kill_at is not None:
                patience = min(patience, max(0.0, self.kill_at - self.clock()))
            happened = self._wait((self.wake, worker.pipe, worker.pidfd), patience)
            if beat := worker.pipe in happened:
                pulse.serves |= self._heard(worker.hear())
            self._felt(pulse, worker, beat=beat)
            if worker.pidfd in happened:
                return worker.bury()
            self._give_up_mounts(worker)
            if self.wake in happened:
                self._told(os.read(self.wake, 4096), worker)
            elif self.kill_at is not None and self.clock() >= self.kill_at:
                self.log.error("worker.killed", pid=worker.process.pid, reason="did not stop in time")
                worker.kill()
                self.kill_at = None

    def _give_up_mounts(self, worker: Worker) -> None:
        """A first start on which a mount cannot be served: whoever touches it, the worker too, would wait for ever."""
        if self.was_ready or self.refusal is not None or (volume := self.mounts.unservable(FIRST_TRIES)) is None:
            return
        self.refusal = CkptdError(
            f"the mount of volume {volume} cannot be served: its server ends as soon as it starts",
            hint="the daemon's log says how; up to then: --front watch",
        )
        worker.kill()

    def _pulse(self) -> Pulse:
        return Pulse(self.manager.silence_s, self.clock())

    def _felt(self, pulse: Pulse, worker: Worker, *, beat: bool) -> None:
        """Kills a worker that hangs. The service manager is told that all is well while it answers, or is being replaced."""
        self.bound_log()
        pulse.look(self.clock(), beat=beat)
        if beat or not pulse.serves:
            self.manager.tell("WATCHDOG=1")
        if pulse.hung and not self.hung:
            self.hung = f"it did not answer for {pulse.silent_s:.0f} s and was killed"
            self.log.error("worker.hung", pid=worker.process.pid, silent_s=round(pulse.silent_s, 1))
            worker.kill()

    def _heard(self, message: dict[str, Any] | None) -> bool:
        """Whether it says that it serves."""
        if message is None:
            return False
        if message["ok"] is not True:
            self.refusal = error_in(message)
            return False
        self.was_ready = True
        self.announcer.ready()
        self.manager.tell("READY=1")
        self.log.info("worker.ready")
        return True

    def _told(self, signals: bytes, worker: Worker) -> None:
        if self.stopping and signal.SIGINT in signals:
            self.log.warning("worker.killed", reason="interrupted twice: the rest is uploaded after the next start")
            worker.kill()
            return
        if self.stopping:
            return
        if UPGRADE_SIGNAL in signals and not set(signals) & set(STOP_SIGNALS):
            self.log.info("upgrading")
            self.upgrading = True
            worker.kill()
            return
        signals = bytes(number for number in signals if number in STOP_SIGNALS)
        self.stopping = True
        self.kill_at = self.clock() + self.stop_limit_s + GRACE_S
        self.manager.tell("STOPPING=1")
        self.log.info("stopping", signal=signal.Signals(signals[0]).name, limit_s=self.stop_limit_s)
        worker.signal(signal.SIGTERM)

    def _verdict(self, ended: Exit, uptime_s: float) -> int | None:
        """The exit code if this was the last worker, None if another one is to be started."""
        self.last_exit = self.hung or str(ended)
        if ended.code == 0:
            self.log.info("stopped")
            return 0
        if self.stopping:
            self.log.warning("stopped", worker=str(ended))
            # SIGTERM that met an interpreter still on its way up has its default effect; there was nothing to flush.
            return 0 if ended.code == -signal.SIGTERM else ended.start_error or 1
        if self.upgrading:
            self.upgrading = False
            self.restarts = replace(self.restarts, delay_s=0.0)
            return None
        self.restarts = self.restarts.died(uptime_s)
        self.log.error(
            "worker.died", reason=self.last_exit, uptime_s=round(uptime_s, 3), next_start_in_s=self.restarts.delay_s
        )
        if self.was_ready:
            # A daemon that served is never given up, whatever a restart runs into: the disk may have room again,
            # the remote may answer again, and its settings were good.
            return None
        if self.refusal is None and self.restarts.in_row < FIRST_TRIES:
            return None
        error = self.refusal or CkptdError(f"the worker cannot start: {ended}", hint="the daemon's log says more")
        self.announcer.failed(error)
        return ended.start_error or error.exit_code

    def _rest(self) -> None:
        """Waits before the next start; callers queue at the socket meanwhile."""
        until = self.clock() + self.restarts.delay_s
        while (left := until - self.clock()) > 0:
            self.manager.tell("WATCHDOG=1")
            if self.wake in self._wait((self.wake,), min(left, self._pulse().every_s)):
                if not set(os.read(self.wake, 4096)) & set(STOP_SIGNALS):
                    continue
                self.stopping = True
                self.log.info("stopped", worker="was waiting to be started again")
                return

    def _wait(self, descriptors: Sequence[int], seconds: float | None) -> frozenset[int]:
        """Of `descriptors` those that are readable, after `seconds` at the latest. The mounts are looked after meanwhile."""
        due = self.mounts.patience()
        limits = [limit for limit in (seconds, due) if limit is not None]
        happened = _poll((*descriptors, *self.mounts.pidfds), min(limits, default=None))
        self.mounts.attend(happened)
        return happened


def _poll(descriptors: Sequence[int], seconds: float | None) -> frozenset[int]:
    poll = select.poll()
    for fd in descriptors:
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    return frozenset(fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000))


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Makes the stop signals readable: yields the end of a pipe on which each arrives as one byte."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = {number: signal.signal(number, lambda *_: None) for number in (*STOP_SIGNALS, UPGRADE_SIGNAL)}
    previous = signal.set_wakeup_fd(writing)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
