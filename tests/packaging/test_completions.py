"""The completion scripts in the shells that they are for, as these find them when a package has put them in their places."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

PLACED = {
    "bash": ("source {script}", "ckptctl"),
    "zsh": ("PS1='> '; fpath=({folder} $fpath); autoload -U compinit; compinit -u -d {folder}/dump", "_ckptctl"),
}


def installed(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed (make packagers)")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a `ckptctl` on PATH, and no daemon."""
    program = tmp_path / "bin/ckptctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -m ckptctl "$@"\n', encoding="ascii")
    program.chmod(0o755)
    own = {"PATH": f"{program.parent}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "> ", "HOME": str(tmp_path)}
    return {key: value for key, value in os.environ.items() if not key.startswith("CKPTD_")} | own


def script_of(shell: str, place: Path) -> None:
    command = [sys.executable, "-I", "-m", "ckptctl", "completion", shell]
    place.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout, encoding="utf-8")


@pytest.mark.packagers
@pytest.mark.parametrize(
    ("typed", "completed"),
    [("ckptctl pre", "ckptctl prefetch "), ("ckptctl prefetch --ma", "ckptctl prefetch --match ")],
)
@pytest.mark.parametrize(
    ("shell", "words"),
    [
        pytest.param("bash", ["bash", "--norc", "--noprofile", "-i"], marks=installed("bash")),
        pytest.param("zsh", ["zsh", "-f", "-i"], marks=installed("zsh")),
    ],
)
def test_a_tab_completes_a_command_and_an_option(
    shell: str, words: list[str], typed: str, completed: str, environment: dict[str, str], tmp_path: Path
) -> None:
    prepare, name = PLACED[shell]
    script_of(shell, tmp_path / name)
    terminal, other = pty.openpty()
    running = subprocess.Popen(words, stdin=other, stdout=other, stderr=other, env=environment, start_new_session=True)
    os.close(other)
    try:
        os.write(terminal, f"{prepare.format(script=tmp_path / name, folder=tmp_path)}; echo re''ady\n".encode())
        until(terminal, b"ready")
        os.write(terminal, typed.encode() + b"\t")
        until(terminal, completed.encode())
    finally:
        running.kill()
        running.wait()
        os.close(terminal)


def until(terminal: int, wanted: bytes) -> None:
    """As it is shown: a shell goes back over what it writes anew."""
    seen, end = b"", time.monotonic() + 30
    while wanted not in shown(seen):
        assert time.monotonic() < end, seen
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536)


def shown(output: bytes) -> bytes:
    line = bytearray()
    for byte in output:
        if byte == 8:
            del line[-1:]
        else:
            line.append(byte)
    return bytes(line)


@pytest.mark.packagers
@installed("fish")
@pytest.mark.parametrize(
    ("typed", "completed"), [("ckptctl pre", ["prefetch"]), ("ckptctl prefetch --ma", ["--match"])]
)
def test_fish_completes_a_command_and_an_option(
    typed: str, completed: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / ".config/fish/completions"
    folder.mkdir(parents=True)
    script_of("fish", folder / "ckptctl.fish")
    done = subprocess.run(
        ["fish", "-c", f"complete -C '{typed}'"], check=True, capture_output=True, text=True, env=environment
    )
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == completed
