"""The numbers and structures of `wire` are those of the kernel's header, as a C compiler sees them.

CPATH chooses another header than the installed one. What a header is too old to know is not compared, and is named in the output.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from ckptd.fronts.mount import wire

COMPILER = shutil.which("gcc") or shutil.which("cc")
HEADER = "#include <linux/fuse.h>\n"
ATTR = "ino size blocks atime mtime ctime atimensec mtimensec ctimensec mode nlink uid gid rdev blksize flags"
IN_ATTR = " ".join(f"attr.{field}" for field in ATTR.split())
READ = "fh offset size read_flags lock_owner flags padding"
STRUCTS = {
    "IN_HEADER": ("fuse_in_header", "len opcode unique nodeid uid gid pid total_extlen padding"),
    "OUT_HEADER": ("fuse_out_header", "len error unique"),
    "ATTR": ("fuse_attr", ATTR),
    "ENTRY_OUT": (
        "fuse_entry_out",
        f"nodeid generation entry_valid attr_valid entry_valid_nsec attr_valid_nsec {IN_ATTR}",
    ),
    "ATTR_OUT": ("fuse_attr_out", f"attr_valid attr_valid_nsec dummy {IN_ATTR}"),
    "OPEN_OUT": ("fuse_open_out", "fh open_flags backing_id"),
    "INIT_IN": ("fuse_init_in", "major minor max_readahead flags flags2"),
    "INIT_OUT": (
        "fuse_init_out",
        "major minor max_readahead flags max_background congestion_threshold max_write time_gran max_pages map_alignment"
        " flags2 max_stack_depth",
    ),
    "FORGET_IN": ("fuse_forget_in", "nlookup"),
    "BATCH_FORGET_IN": ("fuse_batch_forget_in", "count dummy"),
    "FORGET_ONE": ("fuse_forget_one", "nodeid nlookup"),
    "SETATTR_IN": (
        "fuse_setattr_in",
        "valid padding fh size lock_owner atime mtime ctime atimensec mtimensec ctimensec mode unused4 uid gid unused5",
    ),
    "MKNOD_IN": ("fuse_mknod_in", "mode rdev umask padding"),
    "MKDIR_IN": ("fuse_mkdir_in", "mode umask"),
    "RENAME_IN": ("fuse_rename_in", "newdir"),
    "RENAME2_IN": ("fuse_rename2_in", "newdir flags padding"),
    "LINK_IN": ("fuse_link_in", "oldnodeid"),
    "OPEN_IN": ("fuse_open_in", "flags open_flags"),
    "CREATE_IN": ("fuse_create_in", "flags mode umask open_flags"),
    "RELEASE_IN": ("fuse_release_in", "fh flags release_flags lock_owner"),
    "READ_IN": ("fuse_read_in", READ),
    "WRITE_IN": ("fuse_write_in", READ.replace("read_flags", "write_flags")),
    "WRITE_OUT": ("fuse_write_out", "size padding"),
    "FSYNC_IN": ("fuse_fsync_in", "fh fsync_flags padding"),
    "SETXATTR_IN": ("", "size flags"),
    "GETXATTR_IN": ("fuse_getxattr_in", "size padding"),
    "GETXATTR_OUT": ("fuse_getxattr_out", "size padding"),
    "INTERRUPT_IN": ("fuse_interrupt_in", "unique"),
    "FALLOCATE_IN": ("fuse_fallocate_in", "fh offset length mode padding"),
    "LSEEK_IN": ("fuse_lseek_in", "fh offset whence padding"),
    "LSEEK_OUT": ("fuse_lseek_out", "offset"),
    "COPY_FILE_RANGE_IN": ("fuse_copy_file_range_in", "fh_in off_in nodeid_out fh_out off_out len flags"),
    "STATFS_OUT": (
        "fuse_statfs_out",
        " ".join(
            f"st.{f}" for f in ["blocks", "bfree", "bavail", "files", "ffree", "bsize", "namelen", "frsize", "padding"]
        ),
    ),
    "DIRENT": ("fuse_dirent", "ino off namelen type"),
    "BACKING_MAP": ("fuse_backing_map", "fd flags padding"),
    "INVAL_INODE_OUT": ("fuse_notify_inval_inode_out", "ino off len"),
    "INVAL_ENTRY_OUT": ("fuse_notify_inval_entry_out", "parent namelen flags"),
}
NOT_NAMED_FUSE = ("FATTR_", "FOPEN_")
OURS = {"MINOR_VERSION"}
"""The protocol that is asked for, not the header's."""

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (gcc, cc)")


class Header:
    """What the compiler reads. `text`: comments gone, macros still there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        found = self._compile("-E", "-dD")
        if found.returncode:
            pytest.skip(f"no <linux/fuse.h>: {found.stderr.splitlines()[0]}")
        self.text = found.stdout
        (self.minor,) = map(int, re.findall(r"#define FUSE_KERNEL_MINOR_VERSION (\d+)", self.text))

    def _compile(self, *arguments: str, program: str = HEADER) -> subprocess.CompletedProcess[str]:
        (self._folder / "it.c").write_text(program)
        command = [str(COMPILER), *arguments, str(self._folder / "it.c")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def knows(self, name: str) -> bool:
        return re.search(rf"\b{name}\b", self.text) is not None

    def fields(self, name: str) -> set[str]:
        body = re.search(rf"struct {name} \{{([^}}]*)\}}", self.text)
        return set(re.findall(r"(\w+)(?:\[[^\]]*\])?;", body[1])) if body else set()

    def values(self, expressions: list[str]) -> list[int]:
        """Of C expressions, all at once."""
        lines = "".join(f'printf("%lld\\n", (long long)({one}));\n' for one in expressions)
        program = (
            f"#include <stdio.h>\n#include <stddef.h>\n#include <sys/ioctl.h>\n{HEADER}int main(void){{\n{lines}}}"
        )
        built = self._compile("-o", str(self._folder / "it"), program=program)
        assert built.returncode == 0, built.stderr
        run = subprocess.run([self._folder / "it"], capture_output=True, text=True, check=True)
        return [int(line) for line in run.stdout.split()]


@pytest.fixture
def header(tmp_path: Path) -> Header:
    return Header(tmp_path)


def constants() -> dict[str, int]:
    """By the names of the header."""
    plain = {name: value for name, value in vars(wire).items() if name.isupper() and isinstance(value, int)}
    plain |= {op.name: op.value for op in wire.Op}
    return {
        name if name.startswith(NOT_NAMED_FUSE) else f"FUSE_{name}": int(value)
        for name, value in plain.items()
        if name not in OURS
    }


def compare(header: Header, expected: dict[str, int]) -> int:
    """C expressions and what `wire` takes them for."""
    seen = header.values(list(expected))
    wrong = [
        f"{expression}: {is_} in the header, {ours} in wire"
        for (expression, ours), is_ in zip(expected.items(), seen, strict=True)
        if is_ % 2**64 != ours % 2**64
    ]
    assert wrong == []
    return len(seen)


def lacking(header: Header, names: list[str]) -> None:
    print(f"protocol 7.{header.minor} does not know:", names)
    assert not names or header.minor < wire.MINOR_VERSION, "a header that is new enough knows them all"


def test_every_number_is_the_kernels(header: Header) -> None:
    expected = constants()
    unknown = [name for name in expected if not header.knows(name)]
    lacking(header, unknown)
    assert compare(header, {name: value for name, value in expected.items() if name not in unknown}) > 60


def test_every_field_lies_where_the_kernel_has_it(header: Header) -> None:
    ours = {name: made for name, made in vars(wire).items() if isinstance(made, struct.Struct)}
    assert set(ours) == set(STRUCTS)
    expected, unknown = {}, []
    for name, (kind, fields) in STRUCTS.items():
        if not kind:
            expected["FUSE_COMPAT_SETXATTR_IN_SIZE"] = ours[name].size
            continue
        if not header.knows(kind):
            unknown.append(kind)
            continue
        expected[f"sizeof(struct {kind})"] = ours[name].size
        for field, (at, size) in zip(fields.split(), places(ours[name].format), strict=True):
            if "." not in field and field not in header.fields(kind):
                unknown.append(f"{kind}.{field}")
                continue
            expected[f"offsetof(struct {kind}, {field})"] = at
            expected[f"sizeof(((struct {kind} *)0)->{field})"] = size
    lacking(header, unknown)
    assert compare(header, expected) > 300


def places(form: str) -> list[tuple[int, int]]:
    """Offset and size of each field of a struct format without repetitions."""
    order, items = form[0], re.findall(r"(\d*)([a-zA-Z])", form)
    found, at = [], 0
    for count, letter in items:
        size = struct.calcsize(order + letter)
        if letter != "x":
            assert not count
            found.append((at, size))
        at += size * int(count or 1)
    return found


def test_the_size_of_an_ioctl_is_in_its_number() -> None:
    """_IOW(229, n, size), whatever a header that is too old for them knows."""
    assert 0x40000000 | wire.BACKING_MAP.size << 16 | 229 << 8 | 1 == wire.DEV_IOC_BACKING_OPEN
    assert 0x40000000 | struct.calcsize("I") << 16 | 229 << 8 | 2 == wire.DEV_IOC_BACKING_CLOSE
