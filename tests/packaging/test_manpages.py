"""Man pages that are made from the program: of every command, and read without a complaint by what will show them."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ckptctl.app import COMMANDS
from ckptctl.app import ckptctl as root
from ckptd.settings.models import (
    NodeSettings,
    PolicySettings,
    ScrubSettings,
    TierSettings,
    TransferSettings,
    VolumeSettings,
)

PACKAGING = Path(__file__).parents[2] / "packaging"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, str(PACKAGING / "manpages.py"), str(made)], check=True)
    return made


def shown(page: Path) -> str:
    """As a terminal of 100 columns shows it, without the marks of bold and underlined letters."""
    environment = os.environ | {
        "MANWIDTH": "100",
        "MAN_KEEP_FORMATTING": "",
        "LC_ALL": "C.UTF-8",
        "MANOPT": "--nh --nj",
    }
    done = subprocess.run(["man", "-P", "cat", "-l", page], check=True, capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    return done.stdout


manual = pytest.mark.skipif(not shutil.which("man"), reason="man is not installed (make packagers)")


@pytest.mark.packagers
@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed (make packagers)")
def test_no_page_makes_groff_complain(pages: Path) -> None:
    for page in sorted(pages.rglob("*.[15]")):
        words = ["groff", "-K", "utf8", "-T", "utf8", "-m", "man", "-ww", "-z", page]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), page.name


@manual
@pytest.mark.packagers
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_page_with_all_of_its_options(name: str, pages: Path) -> None:
    importlib.import_module(COMMANDS[name])
    command = root.get_command(click.Context(root), name)
    assert command is not None
    assert f"ckptctl-{name}(1)" in shown(pages / "man1/ckptctl.1")
    text = shown(pages / f"man1/ckptctl-{name}.1")
    assert f"ckptctl-{name} - " in text
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in {"socket", "volume", "json", "version"}:
            assert all(flag in text for flag in option.opts), option.opts


@manual
@pytest.mark.packagers
def test_lines_that_are_a_table_stay_lines(pages: Path) -> None:
    text = shown(pages / "man1/ckptctl-policy-set.1")
    assert [line.split()[0] for line in text.splitlines() if line.strip().startswith(("keep_hot=", "settle="))] == [
        "keep_hot=N", "settle=T",
    ]  # fmt: skip


@manual
@pytest.mark.packagers
def test_the_page_of_the_settings_has_every_key_and_its_default(pages: Path) -> None:
    text = shown(pages / "man5/ckptd.toml.5")
    for model in (NodeSettings, TierSettings, TransferSettings, ScrubSettings, VolumeSettings, PolicySettings):
        assert all(key in text for key in model.model_fields)
    for title in ("[tiers.ram], [tiers.nvme]", "[[volumes]]", "[volumes.policy]", "[[layouts]]"):
        assert f"\n{title}\n" in text
    assert "Default: 64MiB." in text


@manual
@pytest.mark.packagers
def test_the_first_page_has_the_exit_codes(pages: Path) -> None:
    text = shown(pages / "man1/ckptctl.1")
    assert "no such run, checkpoint, volume or operation" in text
    assert "whoever read stdout went away" in text
