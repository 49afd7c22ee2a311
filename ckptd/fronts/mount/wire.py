"""The FUSE protocol as bytes: opcodes, flags and structures of include/uapi/linux/fuse.h (Linux 6.18, protocol 7.45).

Names are those of the header without `FUSE_`; tests compare every value and size with the header that is installed. All numbers
are little-endian here: the protocol uses the machine's order, and the machines that are supported are little-endian.
"""

from __future__ import annotations

import struct
from enum import IntEnum

KERNEL_VERSION = 7
MINOR_VERSION = 40
"""7.40 (Linux 6.9) is the first with passthrough and resend; what came later is not used."""

ROOT_ID = 1
UNIQUE_RESEND = 1 << 63
"""Set in the unique id of a request that was given out before (`FUSE_UNIQUE_RESEND`). The answer carries it as well."""


class Op(IntEnum):
    """enum fuse_opcode."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    TMPFILE = 51


# Flags of INIT; those above bit 31 travel in flags2, shifted down.
ASYNC_READ = 1 << 0
ATOMIC_O_TRUNC = 1 << 3
BIG_WRITES = 1 << 5
DO_READDIRPLUS = 1 << 13
READDIRPLUS_AUTO = 1 << 14
ASYNC_DIO = 1 << 15
PARALLEL_DIROPS = 1 << 18
MAX_PAGES = 1 << 22
HANDLE_KILLPRIV_V2 = 1 << 28
INIT_EXT = 1 << 30
PASSTHROUGH = 1 << 37
HAS_RESEND = 1 << 39

# fuse_setattr_in.valid
FATTR_MODE = 1 << 0
FATTR_UID = 1 << 1
FATTR_GID = 1 << 2
FATTR_SIZE = 1 << 3
FATTR_ATIME = 1 << 4
FATTR_MTIME = 1 << 5
FATTR_FH = 1 << 6
FATTR_ATIME_NOW = 1 << 7
FATTR_MTIME_NOW = 1 << 8
FATTR_LOCKOWNER = 1 << 9
FATTR_KILL_SUIDGID = 1 << 11

FOPEN_PASSTHROUGH = 1 << 7
OPEN_KILL_SUIDGID = 1 << 0
WRITE_KILL_SUIDGID = 1 << 2
FSYNC_FDATASYNC = 1 << 0

NOTIFY_INVAL_INODE = 2
NOTIFY_INVAL_ENTRY = 3
NOTIFY_RESEND = 7

DEV_IOC_BACKING_OPEN = (1 << 30) | (16 << 16) | (229 << 8) | 1
"""_IOW(FUSE_DEV_IOC_MAGIC, 1, struct fuse_backing_map)"""
DEV_IOC_BACKING_CLOSE = (1 << 30) | (4 << 16) | (229 << 8) | 2
"""_IOW(FUSE_DEV_IOC_MAGIC, 2, uint32_t)"""

IN_HEADER = struct.Struct("<IIQQIIIHH")
"""len opcode unique nodeid uid gid pid total_extlen padding"""
OUT_HEADER = struct.Struct("<IiQ")
"""len error unique; of a notification: len code 0"""
ATTR = struct.Struct("<QQQqqqIIIIIIIIII")
"""ino size blocks atime mtime ctime (and their ns) mode nlink uid gid rdev blksize flags. Seconds are unsigned in the header and
taken for signed by the kernel: there are times before 1970."""
ENTRY_OUT = struct.Struct("<QQQQII" + ATTR.format[1:])
"""nodeid generation entry_valid attr_valid (and their ns), fuse_attr"""
ATTR_OUT = struct.Struct("<QII" + ATTR.format[1:])
"""attr_valid (and its ns) dummy, fuse_attr"""
OPEN_OUT = struct.Struct("<QIi")
"""fh open_flags backing_id"""

INIT_IN = struct.Struct("<IIIII44x")
"""major minor max_readahead flags flags2"""
INIT_OUT = struct.Struct("<IIIIHHIIHHII24x")
"""major minor max_readahead flags max_background congestion_threshold max_write time_gran max_pages map_alignment flags2
max_stack_depth"""
FORGET_IN = struct.Struct("<Q")
BATCH_FORGET_IN = struct.Struct("<II")
FORGET_ONE = struct.Struct("<QQ")
SETATTR_IN = struct.Struct("<IIQQQqqqIIIIIIII")
"""valid padding fh size lock_owner atime mtime ctime (and their ns) mode unused uid gid unused"""
MKNOD_IN = struct.Struct("<IIII")
"""mode rdev umask padding"""
MKDIR_IN = struct.Struct("<II")
"""mode umask"""
RENAME_IN = struct.Struct("<Q")
RENAME2_IN = struct.Struct("<QII")
"""newdir flags padding"""
LINK_IN = struct.Struct("<Q")
OPEN_IN = struct.Struct("<II")
"""flags open_flags"""
CREATE_IN = struct.Struct("<IIII")
"""flags mode umask open_flags"""
RELEASE_IN = struct.Struct("<QIIQ")
"""fh flags release_flags lock_owner"""
READ_IN = struct.Struct("<QQIIQII")
"""fh offset size read_flags lock_owner flags padding (READ, READDIR, READDIRPLUS)"""
WRITE_IN = struct.Struct("<QQIIQII")
"""fh offset size write_flags lock_owner flags padding"""
WRITE_OUT = struct.Struct("<II")
FSYNC_IN = struct.Struct("<QII")
"""fh fsync_flags padding"""
SETXATTR_IN = struct.Struct("<II")
"""FUSE_COMPAT_SETXATTR_IN_SIZE, as FUSE_SETXATTR_EXT is not negotiated: size flags"""
GETXATTR_IN = struct.Struct("<II")
GETXATTR_OUT = struct.Struct("<II")
INTERRUPT_IN = struct.Struct("<Q")
FALLOCATE_IN = struct.Struct("<QQQII")
"""fh offset length mode padding"""
LSEEK_IN = struct.Struct("<QQII")
"""fh offset whence padding"""
LSEEK_OUT = struct.Struct("<Q")
COPY_FILE_RANGE_IN = struct.Struct("<QQQQQQQ")
"""fh_in off_in nodeid_out fh_out off_out len flags"""
STATFS_OUT = struct.Struct("<QQQQQIIII24x")
"""blocks bfree bavail files ffree bsize namelen frsize padding"""
DIRENT = struct.Struct("<QQII")
"""ino off namelen type; the name follows, filled up to a multiple of 8 bytes"""
BACKING_MAP = struct.Struct("<iIQ")
"""fd flags padding (of DEV_IOC_BACKING_OPEN)"""
INVAL_INODE_OUT = struct.Struct("<Qqq")
"""ino off len"""
INVAL_ENTRY_OUT = struct.Struct("<QII")
"""parent namelen flags; the name and a zero byte follow"""
