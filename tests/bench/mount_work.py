"""What is done to each file system. Everything returns seconds by the clock.

Files are laid out as checkpoints (`work/checkpoint-N/…`), because that is what a daemon's policy holds back until they are whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BLOCK = 4 << 20
"""Bytes of a write or read of dd."""
SMALL = bytes(1000)
"""Content of a small file."""
FORGOTTEN_S = 1.2
"""After which a kernel has forgotten names and attributes: all of these file systems let it keep them for 1 s."""


@contextmanager
def folder(top: Path, number: int) -> Iterator[Path]:
    """A new checkpoint's directory, removed afterwards."""
    directory = top / "work" / f"checkpoint-{number}"
    directory.mkdir(parents=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def touch(plain: Path, size: int) -> None:
    """Uses and frees so many bytes of memory, as huge pages where the tmpfs has them."""
    path = plain / "touch"
    dd("/dev/zero", path, size)
    path.unlink()


def write_and_read(top: Path, number: int, size: int, reads: int) -> tuple[float, list[float]]:
    """dd of a new file, then of what it wrote, several times; the last close is within the time. `size` in bytes."""
    with folder(top, number) as directory:
        path = directory / "model.safetensors"
        return dd("/dev/zero", path, size), [dd(path, "/dev/null", size) for _ in range(reads)]


def dd(source: Path | str, target: Path | str, size: int) -> float:
    command = ["dd", f"if={source}", f"of={target}", f"bs={BLOCK}", f"count={size // BLOCK}", "iflag=fullblock"]
    began = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    taken = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return taken


def small_files(top: Path, number: int, count: int) -> dict[str, float]:
    """Seconds a file. The kernel has forgotten the names before each kind of work but the first."""
    with folder(top, number) as directory:
        names = [f"{directory}/{index:05}" for index in range(count)]
        taken = {"create": each(create, names)}
        time.sleep(FORGOTTEN_S)
        taken["open, read"] = each(read, names)
        time.sleep(FORGOTTEN_S)
        taken["stat"] = each(os.stat, names)
        time.sleep(FORGOTTEN_S)
        taken["unlink"] = each(os.unlink, names)
    return {what: seconds / count for what, seconds in taken.items()}


def each(work: Callable[[str], object], names: list[str]) -> float:
    began = time.perf_counter()
    for name in names:
        work(name)
    return time.perf_counter() - began


def create(name: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, SMALL)
    os.close(fd)


def read(name: str) -> None:
    fd = os.open(name, os.O_RDONLY)
    assert len(os.read(fd, 4096)) == len(SMALL)
    os.close(fd)


def creates_while(process: subprocess.Popen[bytes], directory: Path) -> list[float]:
    """Creates small files, up to 300 a second, until the process ends. Seconds that each open(2) took, with O_CREAT."""
    taken: list[float] = []
    while process.poll() is None:
        began = time.perf_counter()
        fd = os.open(directory / f"{len(taken):06}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        taken.append(time.perf_counter() - began)
        os.write(fd, SMALL)
        os.close(fd)
        time.sleep(0.003)
    return taken


class Frameworks:
    """A process that has a tensor and saves it wherever it is told to, so that starting it is outside of the time."""

    def __init__(self, python: Path, size: int) -> None:
        self.process = subprocess.Popen(
            [str(python), "-c", SAVER, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.versions = self.ask("versions")

    def ask(self, how: str, path: Path | str = "") -> object:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([how, str(path)]), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def save(self, top: Path, number: int) -> dict[str, float]:
        with folder(top, number) as directory:
            taken: dict[str, float] = {}
            for how, name in WAYS.items():
                taken[how] = float(str(self.ask(how, directory / name)))
                (directory / name).unlink()
            return taken

    def end(self) -> None:
        try:
            self.process.communicate(timeout=20)  # it ends with its input
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


WAYS = {"torch.save": "model.pt", "torch.save without CRC-32": "plain.pt", "save_file": "model.safetensors"}
"""How a framework saves, and the file's name."""
SAVER = """
import json, sys, time
import safetensors, torch
from safetensors.torch import save_file
tensors = {"weight": torch.ones(int(sys.argv[1]) // 4)}
for line in sys.stdin:
    how, path = json.loads(line)
    if how == "versions":
        print(json.dumps(f"torch {torch.__version__}, safetensors {safetensors.__version__}"), flush=True)
        continue
    torch.serialization.set_crc32_options("without" not in how)
    save = save_file if how == "save_file" else torch.save
    began = time.perf_counter()
    save(tensors, path)
    print(json.dumps(time.perf_counter() - began), flush=True)
"""
