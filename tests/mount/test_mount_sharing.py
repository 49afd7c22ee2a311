"""What one process does with a file, seen by another: mappings, O_DIRECT, users, sizes, times."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pytest
from tests_mount_served import Served

from ckptd.fronts.mount import system

pytestmark = pytest.mark.mount
MIB = 1 << 20
MAP = """
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    mapped = mmap.mmap(file.fileno(), 0)
print("mapped", flush=True)
for line in sys.stdin:
    at, value = line.split()
    at = int(at)
    if value == "?":
        print(mapped[at : at + 4].decode(), flush=True)
    else:
        mapped[at : at + 4] = value.encode()
        print("written", flush=True)
"""


class Mapper:
    """Another process that has the file mapped, and no descriptor any more."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", MAP, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._said() == "mapped"

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self, at: int, value: str = "?") -> str:
        assert self._process.stdin is not None
        print(at, value, file=self._process.stdin, flush=True)
        return self._said()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def test_what_one_writes_into_a_mapping_another_sees_at_once(either: Served) -> None:
    path = either.path / "file"
    path.write_bytes(b"0000" * MIB)
    with Mapper(path) as one, Mapper(path) as two, path.open("r+b", buffering=0) as file:
        assert one.ask(8, "ours") == "written"
        assert two.ask(8) == "ours"
        assert os.pread(file.fileno(), 4, 8) == b"ours"
        os.pwrite(file.fileno(), b"theirs", 3 * MIB)
        assert (one.ask(3 * MIB), two.ask(3 * MIB)) == ("thei", "thei")
        assert two.ask(4 * MIB - 4, "last") == "written"
        assert one.ask(4 * MIB - 4) == "last"
        path.rename(either.path / "other")
        assert one.ask(0, "more") == "written"
        os.unlink(either.path / "other")
        assert two.ask(0) == "more", "it is there for who has it mapped"
        assert os.pread(file.fileno(), 4, 0) == b"more"


def test_a_mapping_outlives_the_server(either: Served) -> None:
    """Nothing of it is open in this process: it starts the next server, and must not wait for it itself."""
    path = either.path / "file"
    path.write_bytes(b"0000" * MIB)
    with Mapper(path) as one, Mapper(path) as two:
        assert one.ask(MIB, "then") == "written"
        either.kill()
        assert one.ask(MIB, "when") == "written", "the page is there: nobody is asked"
        either.start()
        assert two.ask(MIB) == "when"
        assert two.ask(2 * MIB, "more") == "written"
        assert one.ask(2 * MIB) == "more"
    assert [path.read_bytes()[at * MIB :][:4] for at in (1, 2)] == [b"when", b"more"]


def test_what_stood_in_a_mapping_is_in_the_file_when_its_process_was_killed(either: Served) -> None:
    path = either.path / "file"
    path.write_bytes(b"0000" * MIB)
    with Mapper(path) as one:
        for at in (0, MIB, 3 * MIB):
            one.ask(at, "kept")
    assert [path.read_bytes()[at : at + 4] for at in (0, MIB, 3 * MIB)] == [b"kept"] * 3
    assert (either.backing / "file").read_bytes() == path.read_bytes()


def test_a_hole_written_through_a_mapping_is_data_for_lseek_at_the_latest_after_msync(either: Served) -> None:
    """Where the bytes go through the server, the kernel asks it where the holes are, and it has not seen the mapping."""
    with (either.path / "file").open("w+b") as file:
        os.ftruncate(file.fileno(), 4 * MIB)
        with mmap.mmap(file.fileno(), 4 * MIB) as mapped:
            mapped[2 * MIB] = 1
            mapped.flush()
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) <= 2 * MIB
            mapped[1 * MIB] = 1
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) <= MIB, "or after munmap"


def test_direct_writes_and_reads_are_as_any_other(either: Served) -> None:
    path = either.path / "file"
    with mmap.mmap(-1, MIB) as room:
        room[:] = data = os.urandom(MIB)
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
        try:
            assert os.writev(fd, [room]) == MIB
            assert path.read_bytes() == data
            with path.open("r+b") as file:
                file.write(b"new")
            assert os.preadv(fd, [memoryview(room)[:4096]], 0) == 4096
            assert room[:8] == b"new" + data[3:8]
            assert os.preadv(fd, [room], MIB) == 0
        finally:
            os.close(fd)
    assert path.stat().st_size == MIB


# ---- users


def as_user(uid: int, code: str, *arguments: Any) -> str:
    """What the code prints, or the name of its errno."""
    program = f"import os, sys, errno\ntry:\n {code}\nexcept OSError as error:\n print(errno.errorcode[error.errno])"
    words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", sys.executable, "-I", "-c", program]
    done = subprocess.run([*words, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


READ = "print(open(sys.argv[1]).read())"
MAKE = "open(sys.argv[1], 'x').write('mine')"
LIST = "print(sorted(os.listdir(sys.argv[1])))"
UNLINK = "os.unlink(sys.argv[1])"
ANNE, BERT = 1001, 1002


def test_modes_keep_users_apart(either: Served) -> None:
    either.path.chmod(0o777)
    home = either.path / "anne"
    home.mkdir(mode=0o700)
    os.chown(home, ANNE, ANNE)
    assert as_user(ANNE, MAKE, home / "secret") == ""
    assert (os.stat(home / "secret").st_uid, os.stat(home / "secret").st_gid) == (ANNE, ANNE)
    assert (
        as_user(BERT, LIST, home) == as_user(BERT, READ, home / "secret") == as_user(BERT, MAKE, home / "x") == "EACCES"
    )
    home.chmod(0o755)
    (home / "secret").chmod(0o600)
    assert as_user(BERT, LIST, home) == "['secret']"
    assert as_user(BERT, READ, home / "secret") == as_user(BERT, UNLINK, home / "secret") == "EACCES"
    assert as_user(BERT, "os.chmod(sys.argv[1], 0o666)", home / "secret") == "EPERM"
    assert as_user(BERT, "os.chown(sys.argv[1], 1002, -1)", home / "secret") == "EPERM"
    assert as_user(ANNE, "os.chown(sys.argv[1], 1002, -1)", home / "secret") == "EPERM", "nobody gives files away"
    assert as_user(ANNE, READ, home / "secret") == "mine"
    (home / "secret").chmod(0o640)
    os.chown(home / "secret", ANNE, BERT)
    assert as_user(BERT, READ, home / "secret") == "mine", "by his group"


def test_in_a_sticky_directory_only_the_owner_removes(served: Served) -> None:
    common = served.path / "common"
    common.mkdir()
    common.chmod(0o1777)
    assert as_user(ANNE, MAKE, common / "hers") == as_user(BERT, MAKE, common / "his") == ""
    assert as_user(BERT, UNLINK, common / "hers") == "EPERM"
    assert as_user(BERT, "os.rename(*sys.argv[1:])", common / "his", common / "hers") == "EPERM"
    assert as_user(BERT, READ, common / "hers") == "mine"
    assert as_user(ANNE, UNLINK, common / "hers") == ""


def test_a_directory_that_hands_its_group_on(served: Served) -> None:
    group = served.path / "group"
    group.mkdir()
    os.chown(group, ANNE, BERT)
    group.chmod(0o2777)
    assert as_user(ANNE, f"{MAKE}; os.mkdir(sys.argv[1] + '.d')", group / "file") == ""
    assert os.stat(group / "file").st_gid == os.stat(group / "file.d").st_gid == BERT
    assert os.stat(group / "file.d").st_mode & stat.S_ISGID


def test_a_write_takes_the_set_user_id_bit_away_and_it_counts_for_nothing(either: Served) -> None:
    path = either.path / "id"
    path.write_bytes(Path("/usr/bin/id").read_bytes())
    path.chmod(0o4777)
    ran = subprocess.run(
        ["setpriv", f"--reuid={ANNE}", f"--regid={ANNE}", "--clear-groups", path, "-u"], capture_output=True, check=True
    )
    assert ran.stdout == b"%d\n" % ANNE, "it runs, and as who started it"
    assert as_user(ANNE, "open(sys.argv[1], 'ab').write(b'x')", path) == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o777
    path.chmod(0o4755)
    assert as_user(BERT, "os.chown(sys.argv[1], -1, -1)", path) == "", "where a tmpfs says EPERM: docs/semantics.md"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


# ---- what else there is, and what there is not


def test_sizes_are_those_of_the_tmpfs(served: Served) -> None:
    mount, tmpfs = os.statvfs(served.path), os.statvfs(served.backing)
    assert (mount.f_blocks * mount.f_frsize, mount.f_namemax) == (tmpfs.f_blocks * tmpfs.f_frsize, 255)
    assert mount.f_blocks * mount.f_frsize == 6 << 30
    (served.path / "file").write_bytes(bytes(64 * MIB))
    os.sync()
    after = os.statvfs(served.path)
    assert (mount.f_bavail - after.f_bavail) * mount.f_frsize == 64 * MIB
    assert mount.f_ffree - after.f_ffree == 1
    assert (served.path / "file").stat().st_blocks * 512 == 64 * MIB


def test_what_is_not_there_says_so(either: Served) -> None:
    path = either.path / "file"
    path.write_bytes(b"x")

    def refused(call: Any, *arguments: Any) -> int:
        with pytest.raises(OSError) as error:  # noqa: PT011 - the errno is what counts
            call(*arguments)
        return error.value.errno or 0

    device = os.makedev(1, 3)
    assert refused(os.mknod, either.path / "null", stat.S_IFCHR | 0o666, device) == errno.EPERM
    assert refused(os.mknod, either.path / "disk", stat.S_IFBLK | 0o666, device) == errno.EPERM
    assert refused(os.open, either.path, os.O_TMPFILE | os.O_RDWR) == errno.EOPNOTSUPP
    names, whiteout = (os.fsencode(path), os.fsencode(either.path / "other")), 4
    assert refused(system.renameat2, system.AT_FDCWD, names[0], system.AT_FDCWD, names[1], whiteout) == errno.EINVAL
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", tag, 6, -1) for tag in (0x01, 0x04, 0x20))
    for name, value in (("security.x", b"v"), ("trusted.x", b"v"), ("system.posix_acl_access", acl)):
        assert refused(os.setxattr, path, name, value) == errno.EOPNOTSUPP
    ficlone, fs_ioc_setflags = 0x40049409, 0x40086602
    with path.open("r+b") as file, (either.path / "other").open("wb") as other:
        assert refused(fcntl.ioctl, other.fileno(), ficlone, file.fileno()) == errno.EOPNOTSUPP
        assert refused(fcntl.ioctl, file.fileno(), fs_ioc_setflags, bytearray(8)) == errno.ENOTTY


def test_pipes_and_sockets_are_there(served: Served) -> None:
    pipe = served.path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen([sys.executable, "-c", "import sys; open(sys.argv[1], 'wb').write(b'through')", pipe]):
        assert pipe.read_bytes() == b"through"
    os.chdir(served.path)  # a socket's path may have 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as asking:
            listening.bind("socket")
            listening.listen()
            asking.connect("socket")
        assert stat.S_ISSOCK(os.stat("socket").st_mode)
        assert stat.S_ISSOCK((served.backing / "socket").stat().st_mode)
    finally:
        os.chdir("/")


def test_appending_processes_do_not_write_over_each_other(either: Served) -> None:
    path = either.path / "log"
    code = "import os, sys\nfd = os.open(sys.argv[1], os.O_CREAT | os.O_APPEND | os.O_WRONLY)\n"
    code += "for number in range(500): os.write(fd, b'%s %d\\n' % (sys.argv[2].encode(), number))"
    writers = [subprocess.Popen([sys.executable, "-c", code, path, name]) for name in ("a", "b")]
    assert [one.wait(60) for one in writers] == [0, 0]
    lines = path.read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in "ab" for number in range(500))


def test_times_are_kept_to_the_nanosecond_and_writes_move_them(either: Served) -> None:
    path = either.path / "file"
    path.write_bytes(b"x")
    os.utime(path, ns=(1_000_000_000_123_456_789, 1_500_000_000_987_654_321))
    found = path.stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_000_123_456_789, 1_500_000_000_987_654_321)
    with path.open("r+b") as file:
        file.write(b"y")
    assert path.stat().st_mtime_ns > 1_600_000_000 * 10**9
    assert (either.backing / "file").stat().st_mtime_ns == path.stat().st_mtime_ns
