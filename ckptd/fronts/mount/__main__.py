"""`python -I -m ckptd.fronts.mount`: serves one mount. Started by the holder, which keeps /dev/fuse, the state and the mount."""

from __future__ import annotations

import argparse
import os
import sys

from ckptd.fronts.mount import system
from ckptd.fronts.mount.control import Controls
from ckptd.fronts.mount.server import Server


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    system.keep_capabilities()
    state_fd = options.state_fd
    if state_fd is None:
        state_fd = os.open(options.state, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    server = Server(
        fuse_fd=options.fuse_fd,
        state_fd=state_fd,
        backing=os.fsencode(options.backing),
        objects=None if options.objects is None else os.fsencode(options.objects),
        passthrough=not options.no_passthrough,
        controls=Controls(holder_fd=options.control_fd, listen_fd=options.listen_fd),
    )
    server.serve()
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ckptd.fronts.mount", description=__doc__)
    parser.add_argument("--backing", required=True, metavar="DIR", help="the tree that is served")
    parser.add_argument("--objects", metavar="DIR", help="links into it are shown as files")
    parser.add_argument("--fuse-fd", required=True, type=int, metavar="N", help="/dev/fuse, mounted")
    state = parser.add_mutually_exclusive_group(required=True)
    state.add_argument("--state-fd", type=int, metavar="N", help="file or memfd, empty for a new mount")
    state.add_argument("--state", metavar="FILE", help="the same by its name")
    parser.add_argument("--control-fd", type=int, metavar="N", help="one end of a socketpair (SOCK_SEQPACKET)")
    parser.add_argument("--listen-fd", type=int, metavar="N", help="a listening socket of the same kind")
    parser.add_argument("--no-passthrough", action="store_true", help="all bytes go through the server")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
