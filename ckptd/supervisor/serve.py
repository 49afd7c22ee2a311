"""From settings to a serving daemon: lock, socket, then one worker after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from ckptd.domain.errors import CkptdError
from ckptd.settings.models import Settings
from ckptd.supervisor import log
from ckptd.supervisor.announce import Announcer
from ckptd.supervisor.listener import Listener
from ckptd.supervisor.lock import StateLock
from ckptd.supervisor.process import COMMAND
from ckptd.supervisor.supervise import Supervisor


def serve(settings: Settings, announcer: Announcer, *, command: Sequence[str] = COMMAND) -> int:
    """Runs until the daemon is stopped; returns the exit code. Errors at the start are announced, not raised."""
    try:
        with _held(settings.node.state_dir, settings.node.socket) as (lock, listener):
            supervisor = Supervisor(
                settings=settings.model_dump(mode="json"),
                socket_fd=listener.socket.fileno(),
                lock_fd=lock.fd,
                stop_limit_s=settings.node.shutdown_timeout,
                announcer=announcer,
                log=log.configure("supervisor"),
                command=command,
            )
            return supervisor.run()
    except CkptdError as error:
        announcer.failed(error)
        return error.exit_code


@contextlib.contextmanager
def _held(state_dir: str, socket_path: str) -> Iterator[tuple[StateLock, Listener]]:
    lock = StateLock.acquire(state_dir)
    try:
        # The root daemon serves its group too; which peers may do what is decided by the API from their credentials.
        listener = Listener.open(socket_path, mode=0o660 if os.geteuid() == 0 else 0o600)
        try:
            yield lock, listener
        finally:
            listener.close()
    finally:
        lock.release()
