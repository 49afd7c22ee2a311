"""From settings to a serving daemon: lock, socket, mounts, then one worker after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial

from ckptd.domain.errors import CkptdError
from ckptd.fronts.mount import mounting
from ckptd.fronts.mount.state import understands
from ckptd.settings.models import Settings, VolumeSettings
from ckptd.supervisor import log, logfile, ramdisk
from ckptd.supervisor.announce import Announcer
from ckptd.supervisor.choosing import backing_of, choose, objects_of
from ckptd.supervisor.groups import gid_of
from ckptd.supervisor.listener import Listener
from ckptd.supervisor.lock import StateLock
from ckptd.supervisor.log import Log
from ckptd.supervisor.manager import Manager
from ckptd.supervisor.mounts import Mount, Mounts
from ckptd.supervisor.process import COMMAND
from ckptd.supervisor.supervise import Supervisor
from ckptd.tiers.filesystem import mounted_at
from ckptd.tiers.place_check import make_root


def serve(settings: Settings, announcer: Announcer, *, command: Sequence[str] = COMMAND) -> int:
    """Runs until the daemon is stopped; returns the exit code. Errors at the start are announced, not raised."""
    manager = Manager.from_environment(os.environ)
    try:
        with _held(settings) as (lock, listener):
            logger = log.configure("supervisor")
            with _mounted(settings, logger, manager) as (mounts, fronts):
                supervisor = Supervisor(
                    settings=settings.model_dump(mode="json"),
                    socket_fd=listener.socket.fileno(),
                    lock_fd=lock.fd,
                    stop_limit_s=settings.node.shutdown_timeout,
                    announcer=announcer,
                    log=logger,
                    command=command,
                    manager=manager,
                    mounts=mounts,
                    fronts=fronts,
                    bound_log=partial(logfile.bound, os.path.join(settings.node.state_dir, logfile.NAME)),
                )
                return supervisor.run()
    except CkptdError as error:
        announcer.failed(error)
        return error.exit_code


@contextlib.contextmanager
def _held(settings: Settings) -> Iterator[tuple[StateLock, Listener]]:
    lock = StateLock.acquire(settings.node.state_dir)
    try:
        # Root's daemon serves others too; which peers may do what is decided by the API from their credentials.
        access, root = settings.access, os.geteuid() == 0
        gid = gid_of(access.group, "access.group") if access.users == "group" else None
        mode = (0o666 if access.users == "everyone" else 0o660) if root else 0o600
        listener = Listener.open(settings.node.socket, mode=mode, gid=gid)
        try:
            yield lock, listener
        finally:
            listener.close()
    finally:
        lock.release()


@contextlib.contextmanager
def _mounted(settings: Settings, logger: Log, manager: Manager) -> Iterator[tuple[Mounts, dict[str, dict[str, str]]]]:
    """Mounts the volumes that are to be mounted, and the RAM tier behind them. Raises ConfigError; then nothing stays mounted."""
    outlived = _outlived(settings, manager)
    chosen = choose(settings, outlived)
    fronts = {name: {"front": choice.front, "reason": choice.reason, "socket": ""} for name, choice in chosen.items()}
    mounts, ram = Mounts(), settings.tiers.get("ram")
    try:
        if ram is not None and any(choice.front == "mount" for choice in chosen.values()):
            if small_pages := ramdisk.ensure(ram):
                logger.warning("tier.no_huge_pages", reason=small_pages)
            for volume in settings.volumes:
                if chosen[volume.name].front == "mount":
                    mount = _mount(settings, volume, logger, outlived.get(volume.name))
                    mounts.by_volume[volume.name] = mount
                    mount.start()
                    fronts[volume.name]["socket"] = mount.socket_path
                    for name, fd in zip(_names(volume), (mount.fuse_fd, mount.state_fd), strict=True):
                        manager.keep(name, fd)
        manager.close()
        yield mounts, fronts
    finally:
        mounts.close()
        for volume in settings.volumes:
            for name in _names(volume):
                manager.drop(name)
        if ram is not None and (kept := ramdisk.give_back(ram.path)):
            logger.info("tier.kept", reason=kept)


def _mount(settings: Settings, volume: VolumeSettings, logger: Log, outlived: tuple[int, int] | None) -> Mount:
    backing, objects = backing_of(settings, volume), objects_of(settings, volume)
    make_root(backing)
    socket_path = os.path.join(settings.node.state_dir, f"mount-{volume.name}.sock")
    if outlived is None:
        return Mount.open(volume.name, volume.path, backing, objects, socket_path, logger)
    logger.info("mount.outlived", volume=volume.name, path=volume.path)
    return Mount.adopt(volume.name, volume.path, backing, objects, socket_path, logger, outlived)


def _outlived(settings: Settings, manager: Manager) -> dict[str, tuple[int, int]]:
    """By volume: /dev/fuse and state of mounts that the service manager kept, and that are still where they are wanted.

    Nothing looks at their paths: without a server, whoever does waits.
    """
    found = {}
    for volume in settings.volumes:
        fuse_fd, state_fd = (manager.take(name) for name in _names(volume))
        mount = mounted_at(volume.path) if fuse_fd >= 0 and state_fd >= 0 else None
        ours = mount is not None and (mount.kind, mount.source) == (mounting.TYPE.decode(), f"ckptd:{volume.name}")
        if ours and volume.front != "watch" and understands(state_fd):
            found[volume.name] = fuse_fd, state_fd
            continue
        for fd in (fuse_fd, state_fd):  # with the last copy of /dev/fuse the mount is stale, and is replaced or left
            if fd >= 0:
                os.close(fd)
    return found


def _names(volume: VolumeSettings) -> tuple[str, str]:
    """Of its two descriptors with the service manager."""
    return f"fuse-{volume.name}", f"state-{volume.name}"
