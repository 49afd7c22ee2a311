"""What the tests of packages need from Debian: `make packagers`. Does nothing where it is there already.

A clean Debian is made by debootstrap; units, completions, man pages and alert rules are read by the programs that will read them.
And fio, which verifies what it wrote to a mount.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers.debian_packages import install, missing

PROGRAMS = {
    "debootstrap": "debootstrap", "systemd-analyze": "systemd", "man": "man-db", "groff": "groff", "zsh": "zsh", "fish": "fish",
    "promtool": "prometheus", "fio": "fio",
}  # fmt: skip

if __name__ == "__main__":
    install(missing(PROGRAMS), "what reads ckptd's packages", "packagers")
