"""From settings to a serving daemon: lock, socket, mounts, then one worker after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from ckptd.domain.errors import CkptdError
from ckptd.settings.models import Settings, VolumeSettings
from ckptd.supervisor import log, ramdisk
from ckptd.supervisor.announce import Announcer
from ckptd.supervisor.choosing import backing_of, choose, objects_of
from ckptd.supervisor.listener import Listener
from ckptd.supervisor.lock import StateLock
from ckptd.supervisor.log import Log
from ckptd.supervisor.mounts import Mount, Mounts
from ckptd.supervisor.process import COMMAND
from ckptd.supervisor.supervise import Supervisor
from ckptd.tiers.place_check import make_root


def serve(settings: Settings, announcer: Announcer, *, command: Sequence[str] = COMMAND) -> int:
    """Runs until the daemon is stopped; returns the exit code. Errors at the start are announced, not raised."""
    try:
        with _held(settings.node.state_dir, settings.node.socket) as (lock, listener):
            logger = log.configure("supervisor")
            with _mounted(settings, logger) as (mounts, fronts):
                supervisor = Supervisor(
                    settings=settings.model_dump(mode="json"),
                    socket_fd=listener.socket.fileno(),
                    lock_fd=lock.fd,
                    stop_limit_s=settings.node.shutdown_timeout,
                    announcer=announcer,
                    log=logger,
                    command=command,
                    mounts=mounts,
                    fronts=fronts,
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


@contextlib.contextmanager
def _mounted(settings: Settings, logger: Log) -> Iterator[tuple[Mounts, dict[str, dict[str, str]]]]:
    """Mounts the volumes that are to be mounted, and the RAM tier behind them. Raises ConfigError; then nothing stays mounted."""
    chosen = choose(settings)
    fronts = {name: {"front": choice.front, "reason": choice.reason, "socket": ""} for name, choice in chosen.items()}
    mounts, ram = Mounts(), settings.tiers.get("ram")
    try:
        if ram is not None and any(choice.front == "mount" for choice in chosen.values()):
            if small_pages := ramdisk.ensure(ram):
                logger.warning("tier.no_huge_pages", reason=small_pages)
            for volume in settings.volumes:
                if chosen[volume.name].front == "mount":
                    fronts[volume.name]["socket"] = _mount(settings, volume, mounts, logger)
        yield mounts, fronts
    finally:
        mounts.close()
        if ram is not None and (kept := ramdisk.give_back(ram.path)):
            logger.info("tier.kept", reason=kept)


def _mount(settings: Settings, volume: VolumeSettings, mounts: Mounts, logger: Log) -> str:
    """Returns the path of its server's socket."""
    backing, objects = backing_of(settings, volume), objects_of(settings, volume)
    make_root(backing)
    socket_path = os.path.join(settings.node.state_dir, f"mount-{volume.name}.sock")
    mount = Mount.open(volume.name, volume.path, backing, objects, socket_path, logger)
    mounts.by_volume[volume.name] = mount
    mount.start()
    return socket_path
