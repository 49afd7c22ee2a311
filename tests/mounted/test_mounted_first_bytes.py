"""The first bytes of a large cold file can be read before the last have come; bytes that were not checked never are."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_mounted_volume import server_pid
from tests_node_daemon import MIB, Daemon, save

pytestmark = [pytest.mark.mount, pytest.mark.xdist_group("test_mounted_first_bytes")]
SIZE = 50 * MIB + 77
HASH = (
    "import hashlib, sys; f = open(sys.argv[1], 'rb'); first = f.read(4096); print('begun', flush=True); "
    "h = hashlib.sha256(first); h.update(f.read()); print(h.hexdigest(), flush=True)"
)


@pytest.fixture
def slow(new_mounted: Callable[..., Daemon], request: pytest.FixtureRequest) -> tuple[Daemon, Path, bytes]:
    """A node to which a file comes in ten parts and as many seconds; the file; what is in it."""
    content = os.urandom(SIZE)
    first = new_mounted(transfer='part_size = "5MiB"')
    first.start()
    save(first.volume / "run-1/checkpoint-1", {"model.bin": content})
    first.committed("run-1", 1)
    first.end()
    bandwidth = getattr(request, "param", "5MiB")
    second = new_mounted(transfer=f'bandwidth = "{bandwidth}"\nparallel = 2', ram_budget="128MiB")
    second.start()
    path = second.volume / "run-1/checkpoint-1/model.bin"
    second.until(path.exists, "it is shown")
    return second, path, content


def here(daemon: Daemon) -> bool:
    found = daemon.checkpoint("run-1", 1)
    return found is not None and found["hot_bytes"] == SIZE


def begun(path: Path) -> subprocess.Popen[str]:
    reader = subprocess.Popen([sys.executable, "-c", HASH, path], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "begun\n"
    return reader


def ended(reader: subprocess.Popen[str]) -> str:
    try:
        said, _ = reader.communicate(timeout=60)
    finally:
        reader.kill()
        reader.wait()
    return said.strip()


def test_the_first_bytes_come_before_the_last(slow: tuple[Daemon, Path, bytes]) -> None:
    daemon, path, content = slow
    with path.open("rb", buffering=0) as file:
        assert file.read(4096) == content[:4096]
        assert not here(daemon)
        assert os.fstat(file.fileno()).st_size == SIZE
        file.seek(SIZE - 100)
        assert file.read(200) == content[-100:]
        assert file.read(200) == b""
    daemon.until(lambda: here(daemon), "all of it has come")
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()
    mode = daemon.json("status")["volumes"][0]
    assert mode["passthrough"] is True


def test_a_reader_does_not_notice_kills_in_the_middle(slow: tuple[Daemon, Path, bytes]) -> None:
    daemon, path, content = slow
    reader = begun(path)
    os.kill(server_pid(daemon), signal.SIGKILL)
    os.kill(daemon.worker_pid(), signal.SIGKILL)
    assert ended(reader) == hashlib.sha256(content).hexdigest()


def test_what_is_deleted_while_it_comes_can_be_read_to_its_end(slow: tuple[Daemon, Path, bytes]) -> None:
    daemon, path, content = slow
    reader = begun(path)
    assert not here(daemon)
    path.unlink()
    assert not path.exists()
    assert ended(reader) == hashlib.sha256(content).hexdigest()


def test_a_writer_gets_all_of_it(slow: tuple[Daemon, Path, bytes]) -> None:
    _, path, content = slow
    reader = begun(path)
    with path.open("r+b", buffering=0) as file:
        file.seek(0, os.SEEK_END)
        file.write(b"more")
    assert ended(reader) in {hashlib.sha256(content + more).hexdigest() for more in (b"", b"more")}
    assert path.read_bytes() == content + b"more"


@pytest.mark.parametrize("slow", ["25MiB"], indirect=True)  # it is looked at again and again
def test_bytes_that_do_not_match_are_never_read(slow: tuple[Daemon, Path, bytes]) -> None:
    daemon, path, content = slow
    stored = daemon.remote / "run-1/checkpoint-1/model.bin"
    with stored.open("r+b") as file:
        file.seek(SIZE - 1000)
        file.write(b"not what was sent")
    with path.open("rb", buffering=0) as file:
        assert file.read(4096) == content[:4096]
        file.seek(SIZE - 2000)
        with pytest.raises(OSError) as refused:  # noqa: PT011 - the errno is what counts
            file.read(2000)
        assert refused.value.errno == errno.EIO
