"""Builds ckptd's Debian package: python packaging/deb/build.py [--out DIR] [--stage DIR [--reuse]] [--version VERSION]

A private environment in /opt/ckptd for the distribution's own interpreter (`--python`, /usr/bin/python3), so that nothing on the
machine can shadow its packages; the programs, units, completions and man pages beside it. Build it on the distribution that it
is for.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
ENVIRONMENT = "opt/ckptd"
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/ckptctl",
    "zsh": "usr/share/zsh/vendor-completions/_ckptctl",
    "fish": "usr/share/fish/vendor_completions.d/ckptctl.fish",
}
# `-I` on the first line: neither the environment nor the working directory decides which code runs.
PROGRAM = """#!/{environment}/bin/python -I
import sys

from {package}.__main__ import main

sys.exit(main())
"""
CONTROL = """Package: ckptd
Version: {version}
Architecture: {architecture}
Maintainer: the ckptd authors <ckptd@example.com>
Depends: python3 (>= {python}~), python3 (<< {next_python})
Recommends: ca-certificates
Section: admin
Priority: optional
Installed-Size: {size}
Description: training checkpoints at memory speed, durable in the background
 A daemon on each node serves a directory. What a training job saves there costs
 it what writing to memory costs; ckptd makes it durable in S3, OSS, HDFS, NFS
 or Lustre, and has the right checkpoint in memory before the next start.
"""


def main() -> None:
    options = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        stage = options.stage or Path(scratch) / "stage"
        if not options.reuse:
            shutil.rmtree(stage, ignore_errors=True)
            python = _environment(stage, options.python)
            _programs(stage)
            _documents(stage, python)
            _settings(stage)
        options.out.mkdir(parents=True, exist_ok=True)
        print(_pack(stage, options.version or _version(), options.out))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the .deb is put (dist/)")
    parser.add_argument("--stage", type=Path, help="where the tree is made, and left; else a temporary directory")
    parser.add_argument("--reuse", action="store_true", help="pack the tree that is in --stage already")
    parser.add_argument("--version", help="the package's, where it is not the project's")
    parser.add_argument("--python", default="/usr/bin/python3", help="the target's interpreter (/usr/bin/python3)")
    return parser.parse_args()


def _version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def _environment(stage: Path, interpreter: str) -> Path:
    """The program with all it needs, as it will lie in the root of the target. Returns its interpreter, which works here too."""
    interpreter = os.path.realpath(interpreter)
    place = stage / ENVIRONMENT
    _run(interpreter, "-m", "venv", "--without-pip", "--symlinks", str(place))
    python = place / "bin/python"
    # With the pip that runs this: the distribution's interpreter need not have one.
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python))
    _run(*pip, "install", "--no-compile", f"{ROOT}[hdfs]")
    # What names the place where it was built: pip's programs, and where ckptd was installed from.
    for program in (place / "bin").iterdir():
        if not program.name.startswith("python"):
            program.unlink()
    for trace in place.glob("lib/python*/site-packages/ckptd-*.dist-info/direct_url.json"):
        trace.unlink()
    python.unlink()
    python.symlink_to(interpreter)
    version = subprocess.run([interpreter, "-c", "import platform; print(platform.python_version())"], check=True,
                             capture_output=True, text=True).stdout  # fmt: skip
    (place / "pyvenv.cfg").write_text(
        f"home = {os.path.dirname(interpreter)}\ninclude-system-site-packages = false\nversion = {version}",
        encoding="ascii",
    )
    # Tracebacks are to name the files where they will be.
    _run(str(python), "-m", "compileall", "-q", "-j", "0", "-s", str(stage), "-p", "/", str(place / "lib"))
    return python


def _programs(stage: Path) -> None:
    for package in ("ckptd", "ckptctl"):
        text = PROGRAM.format(environment=ENVIRONMENT, package=package)
        _write(stage / "usr/bin" / package, text).chmod(0o755)


def _documents(stage: Path, python: Path) -> None:
    for shell, place in COMPLETIONS.items():
        script = subprocess.run(
            [python, "-I", "-m", "ckptctl", "completion", shell], check=True, capture_output=True, text=True
        )
        _write(stage / place, script.stdout)
    man = stage / "usr/share/man"
    _run(str(python), "-I", str(PACKAGING / "manpages.py"), str(man))
    documents = stage / "usr/share/doc/ckptd"
    shutil.copytree(ROOT / "docs", documents / "docs")
    _write(documents / "changelog", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    _write(documents / "copyright", (ROOT / "LICENSE").read_text(encoding="utf-8"))
    for page in (*man.rglob("*.[15]"), documents / "changelog"):
        page.with_name(f"{page.name}.gz").write_bytes(gzip.compress(page.read_bytes(), mtime=0))
        page.unlink()


def _settings(stage: Path) -> None:
    _write(stage / "etc/ckptd/config.toml", (PACKAGING / "config.toml").read_text(encoding="utf-8"))
    shutil.copytree(PACKAGING / "systemd", stage / "usr/lib/systemd/system", ignore=lambda *_: {"user"})
    shutil.copytree(PACKAGING / "systemd/user", stage / "usr/lib/systemd/user")
    shutil.copytree(PACKAGING / "tmpfiles.d", stage / "usr/lib/tmpfiles.d")
    for name in ("slurm", "monitoring", "kubernetes"):
        if (PACKAGING / name).is_dir():
            shutil.copytree(PACKAGING / name, stage / "usr/share/ckptd" / name)


def _pack(stage: Path, version: str, out: Path) -> Path:
    about = stage / "DEBIAN"
    shutil.rmtree(about, ignore_errors=True)
    about.mkdir()
    [site] = stage.glob(f"{ENVIRONMENT}/lib/python3.*")
    minor = int(site.name.partition(".")[2])
    architecture = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout
    size = sum(path.lstat().st_size for path in stage.rglob("*") if not path.is_dir()) // 1024
    _write(about / "control", CONTROL.format(
        version=version, architecture=architecture.strip(), python=f"3.{minor}", next_python=f"3.{minor + 1}", size=size
    ))  # fmt: skip
    _write(about / "conffiles", "/etc/ckptd/config.toml\n")
    for script in ("postinst", "prerm", "postrm"):
        _write(about / script, (PACKAGING / "deb" / script).read_text(encoding="ascii")).chmod(0o755)
    made = out / f"ckptd_{version}_{architecture.strip()}.deb"
    _run("dpkg-deb", "--build", "--root-owner-group", "-Zzstd", "-z9", str(stage), str(made))
    return made


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _run(*command: str) -> None:
    """Its words go to stderr: stdout names the package."""
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    os.umask(0o022)
    main()
