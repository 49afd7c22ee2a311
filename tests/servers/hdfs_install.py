"""Collects the jars of a real HDFS (Hadoop 2.7.3) in a folder: `make hdfs`. Does nothing where they are already.

    python hdfs_install.py FOLDER

PySpark's source archive on PyPI has Hadoop and nearly all it needs; Jersey 1 and JAXB, which HDFS loads and Spark does not,
come from Debian, and so does Java where there is none. So no repository is needed that a machine which builds ckptd does
not have already.
"""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers.debian_packages import install

PYSPARK = "pyspark==2.4.8"
_SHA256 = "3a19b71b8dc8dd91ebc943604a05e1ab01bce052456d42937035632d852d78dc"
_BUILD_CONSTRAINT = "pypandoc<1.8"
"""pip asks an archive's setup.py for its name before it hands it over, and that one calls what pypandoc has removed."""
_FROM_PYSPARK = (
    "hadoop-annotations-*", "hadoop-auth-*", "hadoop-common-*", "hadoop-hdfs-*", "jetty-*", "commons-*", "guava-*",
    "protobuf-java-*", "htrace-core-*", "slf4j-*", "log4j-*", "javax.servlet-api-*", "netty-*", "xmlenc-*",
    "leveldbjni-*", "jackson-*-asl-*", "xercesImpl-*", "httpc*", "apacheds-*", "api-*",
)  # fmt: skip
_FROM_DEBIAN = {
    "asm.jar": "libasm-java",
    "jersey1-core.jar": "libjersey1-core-java",
    "jersey1-server.jar": "libjersey1-server-java",
    "jersey1-servlet.jar": "libjersey1-servlet-java",
    "jersey1-json.jar": "libjersey1-json-java",
    "jsr311-api.jar": "libjsr311-api-java",
    "jettison.jar": "libjettison-java",
    "jaxb-api.jar": "libjaxb-api-java",
    "jaxb-core.jar": "libjaxb-java",
    "jaxb-runtime.jar": "libjaxb-java",
    "javax.activation.jar": "libactivation-java",
}
_DEBIAN_JARS = Path("/usr/share/java")


def main() -> None:
    folder = Path(sys.argv[1])
    # A newer list of jars than those that are there makes them anew.
    if folder.is_dir() and folder.stat().st_mtime > Path(__file__).stat().st_mtime and shutil.which("java"):
        return
    _install_packages()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, and moved there when it is whole: a run that was interrupted leaves nothing that looks installed.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="installing-") as scratch:
        jars = Path(scratch) / "jars"
        jars.mkdir()
        for name in _FROM_DEBIAN:
            shutil.copyfile(_DEBIAN_JARS / name, jars / name)
        _extract(_download(Path(scratch)), jars)
        shutil.rmtree(folder, ignore_errors=True)
        jars.rename(folder)


def _install_packages() -> None:
    packages = sorted({package for jar, package in _FROM_DEBIAN.items() if not (_DEBIAN_JARS / jar).exists()})
    if not shutil.which("java"):
        packages.append("default-jre-headless")
    install(packages, "HDFS", "hdfs")


def _download(scratch: Path) -> Path:
    """By pip, which knows this machine's index, its proxies and certificates."""
    requirements = scratch / "requirements"
    requirements.write_text(f"{PYSPARK} --hash=sha256:{_SHA256}\n")
    constraint = scratch / "constraint"
    constraint.write_text(_BUILD_CONSTRAINT + "\n")
    print("downloading Hadoop's jars (220 MB)", flush=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir", "download"),
            *("--no-deps", "--no-binary", "pyspark", "--require-hashes", "-r", requirements),
            *("--build-constraint", constraint, "--dest", scratch / "download"),
        ],
        check=True,
    )
    return next((scratch / "download").iterdir())


def _extract(archive: Path, jars: Path) -> None:
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            if "/deps/jars/" not in member.name or not any(fnmatch.fnmatch(name, each) for each in _FROM_PYSPARK):
                continue
            content = members.extractfile(member)
            assert content is not None
            with content, (jars / name).open("wb") as jar:
                shutil.copyfileobj(content, jar)


if __name__ == "__main__":
    main()
