"""The backing tree: from nodes to descriptors and names relative to them, and from names to what stands there.

Every file is reached as (descriptor of its directory, last name): a rename higher up changes nothing, no path is ever joined, and
the walk is one step long. Directories keep an O_PATH descriptor for as long as their node lives.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat as modes

from ckptd.fronts.mount import attributes
from ckptd.fronts.mount.nodes import COLD, IS_KEPT, KEPT, PRIVATE, WRITABLE, Node, Nodes
from ckptd.fronts.mount.state import State
from ckptd.tiers import stub

DIRECTORY_ONLY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
RESERVED = 4096
"""Descriptors that directories leave to open files."""


class Tree:
    """`objects`: directory of the objects that links of demoted files lead to. Raises OSError when `backing` is no directory."""

    def __init__(self, state: State, backing: bytes, objects: bytes | None = None) -> None:
        self.root_fd = os.open(backing, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stat = os.fstat(self.root_fd)
        self.home = stat.st_dev
        self.nodes = Nodes(state, stat)
        self.nodes.root.fd = self.root_fd
        self.objects = None if objects is None else objects.rstrip(b"/") + b"/"
        self._kept_fd = -1
        self._room = _raise_limit() - RESERVED
        self._directories: dict[Node, None] = {}
        """Those with a descriptor, the oldest first."""

    # ---- directories

    def node(self, id: int) -> Node:
        try:
            return self.nodes.by_id[id]
        except KeyError:
            raise OSError(errno.ESTALE, "no such node") from None

    def directory(self, id: int) -> int:
        """The descriptor of a directory node. Raises ESTALE when it is not where it was."""
        node = self.node(id)
        return node.fd if node.fd >= 0 else self._open_directory(node)

    def _open_directory(self, node: Node) -> int:
        fd = self._open_checked(node, DIRECTORY_ONLY)
        while len(self._directories) >= self._room:
            self.close(next(iter(self._directories)))
        node.fd = fd
        self._directories[node] = None
        return fd

    def _open_checked(self, node: Node, flags: int) -> int:
        dir_fd, name = self.place(node)
        try:
            fd = os.open(name, flags, dir_fd=dir_fd)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                raise OSError(errno.ESTALE, "not there any more") from None
            raise
        stat = os.fstat(fd)
        if (stat.st_ino, stat.st_dev) != (node.ino, node.dev):
            os.close(fd)
            raise OSError(errno.ESTALE, "another file")
        return fd

    def kept(self) -> int:
        """The directory of files that are open without a name."""
        if self._kept_fd < 0:
            with contextlib.suppress(FileExistsError):
                os.mkdir(KEPT, 0o700, dir_fd=self.root_fd)
            self._kept_fd = os.open(KEPT, DIRECTORY_ONLY, dir_fd=self.root_fd)
        return self._kept_fd

    # ---- names

    def place(self, node: Node) -> tuple[int, bytes]:
        """Where a node's name is. For the object of a demoted file the path of the object (which ignores the descriptor)."""
        if node.flags & IS_KEPT:
            return self.kept(), node.name
        if node.target is not None:
            return self.root_fd, node.target
        return self.directory(node.parent), node.name

    def visible(self, parent: int, name: bytes) -> bool:
        return parent != 1 or not name.startswith(PRIVATE)

    def look(self, dir_fd: int, name: bytes) -> tuple[os.stat_result, bytes | None]:
        """What a name shows, and what our own link there leads to: of a demoted file the object's stat and path; of a cold one
        what it will be, and its stub; of everything else the file itself and None.
        """
        stat = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if modes.S_ISLNK(stat.st_mode):
            target = os.readlink(name, dir_fd=dir_fd)
            if self._is_object(target):
                try:
                    return os.stat(target), target
                except FileNotFoundError:
                    # Its disk is gone. A job that is told ENOENT would think that there never was a checkpoint.
                    raise OSError(errno.EIO, "the tier below has lost it") from None
            cold = stub.read(target)
            if cold is not None:
                return attributes.pretend(cold, stat), target
        return stat, None

    def _is_object(self, target: bytes) -> bool:
        if self.objects is None or not target.startswith(self.objects):
            return False
        last = target[len(self.objects) :]
        return bool(last) and b"/" not in last

    def is_ours(self, target: bytes) -> bool:
        """A link to this is shown as a file: nobody else may make one."""
        return self._is_object(target) or stub.read(target) is not None

    def holds_cold(self, dir_fd: int, name: bytes) -> bool:
        """Whether a name is a cold file, or a directory with one in it."""
        stat = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if modes.S_ISLNK(stat.st_mode):
            return stub.read(os.readlink(name, dir_fd=dir_fd)) is not None
        if not modes.S_ISDIR(stat.st_mode):
            return False
        return any(
            stub.read(os.readlink(file, dir_fd=fd)) is not None
            for _, _, files, fd in os.fwalk(name, dir_fd=dir_fd)
            for file in files
            if modes.S_ISLNK(os.stat(file, dir_fd=fd, follow_symlinks=False).st_mode)
        )

    def status(self, node: Node) -> os.stat_result:
        """What stat(2) says of a node, wherever it is now. Raises ESTALE."""
        if node.fd >= 0:
            return os.fstat(node.fd)
        if (node.opens or node.flags & IS_KEPT) and not node.flags & COLD:
            return os.fstat(self.opened(node))
        return self._found(node)

    def _found(self, node: Node) -> os.stat_result:
        """By name, in the tree: the object if it was demoted. Raises ESTALE."""
        try:
            stat, target = self.look(self.directory(node.parent), node.name)
        except (FileNotFoundError, NotADirectoryError):
            raise OSError(errno.ESTALE, "not there any more") from None
        if (stat.st_ino, stat.st_dev) != (node.ino, node.dev):
            raise OSError(errno.ESTALE, "another file")
        node.target = target
        return stat

    def path(self, node: Node) -> bytes:
        """From the root of the volume, without a slash in front."""
        parts = []
        while node.id != 1:
            parts.append(node.name)
            node = self.node(node.parent)
        return b"/".join(reversed(parts))

    def path_in(self, parent: int, name: bytes) -> bytes:
        return name if parent == 1 else self.path(self.node(parent)) + b"/" + name

    def sizes(self) -> list[tuple[bytes, int]]:
        """Paths and sizes of all files, the youngest first, cold and demoted ones too. Takes a while; runs beside the loop."""
        found = []
        for folder, directories, names, fd in os.fwalk(b".", dir_fd=self.root_fd):
            if folder == b".":
                directories[:] = [name for name in directories if not name.startswith(PRIVATE)]
            for name in names:
                with contextlib.suppress(OSError):
                    stat, _ = self.look(fd, name)
                    if modes.S_ISREG(stat.st_mode):
                        found.append((stat.st_mtime_ns, os.path.normpath(folder + b"/" + name), stat.st_size))
        found.sort(reverse=True)
        return [(path, size) for _, path, size in found]

    # ---- descriptors of open files

    def opened(self, node: Node, *, write: bool = False) -> int:
        """A descriptor to a file's bytes. A file that is open keeps it (a new server opens it again); else the caller's `close`.

        O_NONBLOCK: where the daemon has a lease on the file this raises BlockingIOError, and the lease is being broken.
        """
        if node.fd >= 0 and (node.flags & WRITABLE or not write):
            return node.fd
        if not node.ino:
            raise OSError(errno.ESTALE, "gone")
        write = write or bool(node.flags & WRITABLE)
        if node.target is None and self.objects is not None and not node.flags & IS_KEPT:
            self._found(node)  # it may have been demoted, and this server may be a new one
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = self._open_checked(node, flags)
        if node.fd >= 0:
            os.close(node.fd)
        node.fd = fd
        if write:
            self.nodes.flag(node, node.flags | WRITABLE)
        return fd

    def close(self, node: Node) -> None:
        """Drops the descriptor. Of a file, with what is remembered for one that is open."""
        self._directories.pop(node, None)
        if node.fd >= 0 and node.id != 1:
            os.close(node.fd)
            node.fd = -1
        if node.flags & WRITABLE:
            self.nodes.flag(node, node.flags & ~WRITABLE)

    # ---- files that lose their name

    def keep(self, node: Node, dir_fd: int, name: bytes) -> None:
        """Before a name of an open file goes: another one in the private directory, if it is the one by which we know it."""
        if node.flags & IS_KEPT or node.target is not None:
            return
        with contextlib.suppress(FileExistsError):  # linked by the server that was killed
            os.link(name, b"%x" % node.id, src_dir_fd=dir_fd, dst_dir_fd=self.kept(), follow_symlinks=False)
        # The flag first: a server that is started in between knows by it what the name is.
        self.nodes.flag(node, node.flags | IS_KEPT)
        self.nodes.rename(node, 0, b"%x" % node.id)

    def release(self, node: Node) -> None:
        """After the last close of a kept file."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(b"%x" % node.id, dir_fd=self.kept())
        self.nodes.flag(node, node.flags & ~IS_KEPT)
        self.nodes.lose(node)

    def sweep(self) -> None:
        """At a new mount: what a machine that went down left in the private directory."""
        for name in os.listdir(b"/proc/self/fd/%d" % self.kept()):
            os.unlink(name, dir_fd=self.kept())


def _raise_limit() -> int:
    """As many descriptors as the limit of the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 1 << 20 if hard == resource.RLIM_INFINITY else max(hard, 2 * RESERVED)
