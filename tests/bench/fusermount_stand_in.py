"""What fusermount3 does for root: mounts and hands /dev/fuse to whoever called, or unmounts. For machines without fuse3.

    fusermount3 [-u [-z]] [-o OPTIONS] [--] MOUNTPOINT

The caller's socket is in _FUSE_COMMFD (libfuse's mount_util and fusermount.c). The library's own options `fsname` and
`subtype` become the source and the type; `rw` and the like become flags; the rest is the kernel's (fuse_parse_param).
"""

from __future__ import annotations

import argparse
import array
import os
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from ckptd.fronts.mount import mounting, system

KERNELS = {"allow_other", "default_permissions", "max_read", "blksize"}


def main() -> int:
    options = parse()
    target = os.fsencode(os.path.realpath(options.mountpoint))
    if options.unmount:
        system.umount2(target, mounting.MNT_DETACH if options.lazy else 0)
        return 0
    asked = dict(word.partition("=")[::2] for word in options.options.split(",") if word)
    kernels = "".join(f",{key}={value}" if value else f",{key}" for key, value in asked.items() if key in KERNELS)
    fd = mounting.open_device()
    kind, source = f"fuse.{asked.get('subtype', 'bench')}", asked.get("fsname", "bench")
    data = f"fd={fd},rootmode=40000,user_id=0,group_id=0{kernels}"
    system.mount(source.encode(), target, kind.encode(), mounting.MS_NOSUID | mounting.MS_NODEV, data.encode())
    with socket.socket(fileno=int(os.environ["_FUSE_COMMFD"])) as caller:
        caller.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-u", dest="unmount", action="store_true")
    parser.add_argument("-z", dest="lazy", action="store_true")
    parser.add_argument("-o", dest="options", default="")
    parser.add_argument("mountpoint")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
