"""What people install: sdist → wheel → a clean environment, outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"ckptd", "ckptctl", "backends"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("packaging")]


def pip(python: str | Path, *arguments: str) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the backend itself; pip has no command for it."""
    folder = tmp_path_factory.mktemp("sdist")
    environment = tmp_path_factory.mktemp("build")
    venv.create(environment, with_pip=True)
    pip(environment / "bin/python", "install", "--quiet", "hatchling>=1.27")
    program = f"import hatchling.build; hatchling.build.build_sdist({str(folder)!r})"
    subprocess.run([environment / "bin/python", "-c", program], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(sdist))
    (made,) = folder.iterdir()
    return made


def test_the_sdist_holds_what_a_reader_and_a_packager_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in (
        "LICENSE",
        "README.md",
        "Makefile",
        "docs/architecture.md",
        "packaging/systemd/ckptd.service",
        "demo/run.py",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith((".venv", ".demo", ".git/"))]


def test_the_wheel_holds_exactly_our_packages_and_the_schema(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert top == PACKAGES
    assert "ckptd/catalog/schema.sql" in names
    assert "ckptd/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_clean_install_has_our_packages_our_programs_and_our_backends(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "v", with_pip=True)
    python = tmp_path / "v/bin/python"
    pip(python, "install", "--quiet", str(wheel))
    program = (
        "from importlib.metadata import distribution, entry_points;"
        "print(*sorted({str(f).split('/')[0] for f in distribution('ckptd').files if '.dist-info' not in str(f)"
        " and not str(f).startswith('..')}));"
        "print(*sorted(e.load().__name__ for e in entry_points(group='ckptd.backends')))"
    )
    elsewhere = {**os.environ, "PYTHONPATH": str(ROOT)}  # isolated mode must not see it
    out = subprocess.run(
        [python, "-I", "-c", program], check=True, capture_output=True, text=True, env=elsewhere, cwd="/"
    )
    top, backends = out.stdout.splitlines()
    assert set(top.split()) == PACKAGES
    assert backends.split() == ["HdfsBackend", "OssBackend", "PosixBackend", "S3Backend"]
    for command in ("ckptd", "ckptctl"):
        shown = subprocess.run([tmp_path / "v/bin" / command, "--version"], check=True, capture_output=True, text=True)
        assert "0.1.0" in shown.stdout


def test_no_package_shadows_pypis_packaging() -> None:
    assert not (ROOT / "packaging/__init__.py").exists()
