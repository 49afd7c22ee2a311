"""What the tests of packages need from Debian: `make packagers`. Does nothing where it is there already.

A clean Debian is made by debootstrap; units, completions, man pages and alert rules are read by the programs that will read them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_PACKAGES = {
    "debootstrap": "debootstrap", "systemd-analyze": "systemd", "man": "man-db", "groff": "groff", "zsh": "zsh", "fish": "fish",
    "promtool": "prometheus",
}  # fmt: skip


def main() -> None:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [package for program, package in _PACKAGES.items() if not shutil.which(program, path=path)]
    if not missing:
        return
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        why = "there is no apt-get here" if apt is None else "only root can install them"
        print(f"Debian's {' '.join(missing)} are missing and {why}: the tests that need them are skipped")
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = [apt, "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
    print(f"installing Debian's {' '.join(missing)}", flush=True)
    install = [*command, "--no-install-recommends", "install", *missing]
    if subprocess.run(install, env=environment, capture_output=True, check=False).returncode == 0:
        return
    # The lists of a fresh machine are empty, those of an old one name packages that are gone.
    subprocess.run([*command, "update"], env=environment, capture_output=True, check=False)
    done = subprocess.run(install, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(install)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
