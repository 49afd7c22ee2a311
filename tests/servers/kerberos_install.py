"""A KDC, `kinit` and the Python binding to Kerberos for the tests of a secured HDFS: `make hdfs`.

    python kerberos_install.py FOLDER

Debian's packages are taken apart below FOLDER, not installed: so none of their services starts or is enabled, nothing of the
machine's own Kerberos changes, and nobody needs to be root. `gssapi` (the extra `ckptd[kerberos]`) is compiled against them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_PACKAGES = (
    "krb5-kdc", "krb5-admin-server", "krb5-user", "libkdb5-10", "libkadm5srv-mit12", "libkadm5clnt-mit12", "libgssrpc4",
    "libverto1", "libverto-libev1", "libev4", "libkrb5-dev", "krb5-multidev", "comerr-dev",
    "libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libkrb5support0",
)  # fmt: skip
_BINDING = "gssapi>=1.9,<2"


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    whole = folder / "installed"
    if whole.exists() and whole.stat().st_mtime > Path(__file__).stat().st_mtime and _binds():
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        print("no apt-get here: the tests of HDFS with Kerberos are skipped")
        return
    folder.mkdir(parents=True, exist_ok=True)
    print("downloading a KDC (1 MB), compiling gssapi", flush=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="installing-") as scratch:
        _download(scratch)
        for package in Path(scratch).glob("*.deb"):
            _run("dpkg", "-x", str(package), str(folder))
    if not _binds() and (reason := _compile(folder)):
        print(f"gssapi cannot be compiled, the tests of HDFS with Kerberos are skipped: {reason}")
        return
    whole.touch()


def _binds() -> bool:
    return subprocess.run([sys.executable, "-c", "import gssapi"], capture_output=True, check=False).returncode == 0


def _download(scratch: str) -> None:
    command = ("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *_PACKAGES)
    if subprocess.run(command, cwd=scratch, capture_output=True, check=False).returncode == 0:
        return
    # The lists of a fresh machine are empty, those of an old one name packages that are gone.
    if os.geteuid() == 0:
        _run("apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", "update")
    _run(*command, cwd=scratch)


def _compile(folder: Path) -> str:
    """Its own setup asks `krb5-config`, which speaks of /usr; so each of its answers is given here. Returns why it cannot be:
    it needs a C compiler and Python's headers, which not every machine has.
    """
    [libraries] = folder.glob("usr/lib/*-linux-gnu*/libgssapi_krb5.so.2")
    place = libraries.parent
    environment = os.environ | {
        "GSSAPI_LINKER_ARGS": f"-L{place} -Wl,-rpath,{place} -lgssapi_krb5",
        "GSSAPI_COMPILER_ARGS": f"-I{folder}/usr/include/mit-krb5 -I{folder}/usr/include -DHAS_GSSAPI_EXT_H -O0",
        "GSSAPI_MAIN_LIB": str(libraries),
        "PATH": f"{folder}/usr/bin:{os.environ['PATH']}",
    }
    # Not into pip's cache: what is compiled here names this folder.
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-cache-dir")
    command = (*pip, "--no-binary", "gssapi", _BINDING)
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return (run.stdout + run.stderr)[-2000:] if run.returncode else ""


def _run(*command: str, cwd: str | None = None) -> None:
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"{' '.join(command[:4])} … failed:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")


if __name__ == "__main__":
    main()
