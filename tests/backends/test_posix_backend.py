"""What only a directory can do wrong: file systems that are full, read-only, gone, or cannot copy by themselves."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme
from sources import MIB, Memory, Stretch, keys, put, put_part, read

from backends.errors import (
    BackendError,
    BadConfiguration,
    BucketMissing,
    ChecksumMismatch,
    CredentialsRefused,
    NoSpace,
    Unavailable,
    UploadGone,
)
from backends.posix import PosixBackend
from backends.posix_errors import from_os_error


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "remote"


@pytest.fixture
def store(root: Path) -> PosixBackend:
    backend = PosixBackend.from_url(f"file://{root}", {})
    backend.probe()
    return backend


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small tmpfs with the given options; mounting again changes them."""
    point = tmp_path / "mounted"
    point.mkdir()
    made = False

    def mount(options: str) -> Path:
        nonlocal made
        what = f"remount,{options}" if made else options
        result = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", what, "tmpfs", point], capture_output=True, text=True, check=False
        )
        if result.returncode:
            pytest.skip(f"this user may not mount a tmpfs: {result.stderr.strip()}")
        made = True
        return point

    yield mount
    if made:
        subprocess.run(["umount", point], check=True)


def staged(root: Path) -> list[str]:
    return sorted(os.listdir(root / ".ckptd/tmp"))


class TestUrl:
    def test_a_url_names_an_absolute_directory(self) -> None:
        assert PosixBackend.from_url("file:///mnt/a%20b/c/", {}).root == "/mnt/a b/c"
        assert PosixBackend.from_url("file://localhost/mnt//x", {}).root == "/mnt/x"

    @pytest.mark.parametrize(
        "url",
        ["file://host/path", "file:relative", "file://", "file:///a/../b", "s3://bucket/x", "/plain", "file:///a%00b"],
    )
    def test_what_is_no_such_url_is_refused_by_name(self, url: str) -> None:
        with pytest.raises(BadConfiguration, match=r"file://|absolute|host|contains") as caught:
            PosixBackend.from_url(url, {})
        assert url in caught.value.message

    def test_unknown_options_are_refused_by_name(self) -> None:
        with pytest.raises(BadConfiguration, match="endpoint_url"):
            PosixBackend.from_url("file:///tmp", {"endpoint_url": "x"})


class TestRoot:
    def test_probe_makes_the_last_directory_only(self, tmp_path: Path) -> None:
        PosixBackend.from_url(f"file://{tmp_path}/new", {}).probe()
        assert (tmp_path / "new").is_dir()
        with pytest.raises(BucketMissing) as caught:
            PosixBackend.from_url(f"file://{tmp_path}/not/there", {}).probe()
        assert "mkdir -p" in caught.value.hint
        assert not (tmp_path / "not").exists()

    def test_a_root_that_is_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(BadConfiguration, match="not a directory"):
            PosixBackend.from_url(f"file://{tmp_path}/file", {}).probe()

    def test_a_root_that_went_away_is_never_made_again(self, store: PosixBackend, root: Path) -> None:
        upload = store.begin("a", 3)
        part = put_part(store, "a", upload, 1, 0, b"abc")
        root.rename(root.with_name("unmounted"))
        for call in (
            lambda: put(store, "a", b"x"),
            lambda: put(store, "d/a", b"x"),
            lambda: store.begin("a", 1),
            lambda: put_part(store, "a", upload, 1, 0, b"abc"),
            lambda: store.finish("a", upload, [part], crc64nvme(b"abc")),
            lambda: store.head("a"),
            lambda: read(store, "a", 1),
            lambda: keys(store),
            lambda: keys(store, "d/"),
            lambda: list(store.pending("")),
            lambda: store.delete(["a"]),
        ):
            with pytest.raises(BucketMissing):
                call()
        assert not root.exists()

    def test_a_new_root_that_was_never_written_to_is_empty(self, root: Path) -> None:
        root.mkdir()
        store = PosixBackend.from_url(f"file://{root}", {})
        assert keys(store) == []
        assert list(store.pending("")) == []
        assert store.head("a") is None


class TestKeys:
    @pytest.mark.parametrize(
        "key", ["../a", "a/../../b", "/etc/passwd", "a//b", "a/", "./a", "", "a\0b", ".ckptd/tmp/x"]
    )
    def test_a_key_that_would_leave_its_place_is_refused(self, store: PosixBackend, key: str) -> None:
        for call in (
            lambda: put(store, key, b"x"),
            lambda: store.begin(key, 1),
            lambda: store.head(key),
            lambda: read(store, key, 1),
            lambda: store.delete([key]),
        ):
            with pytest.raises(BadConfiguration):
                call()

    @pytest.mark.parametrize("upload", ["../../etc/passwd", "a", "", "put-x", "0" * 32 + "/"])
    def test_an_upload_id_cannot_name_another_file(self, store: PosixBackend, upload: str) -> None:
        with pytest.raises(UploadGone):
            put_part(store, "a", upload, 1, 0, b"x")
        store.abort("a", upload)

    def test_a_name_that_is_too_long_is_named(self, store: PosixBackend) -> None:
        with pytest.raises(BackendError, match=r"n{256}.*too long"):
            put(store, "n" * 256, b"x")
        assert staged(Path(store.root)) == []

    def test_an_object_and_a_folder_of_one_name_cannot_both_be(self, store: PosixBackend) -> None:
        put(store, "a", b"1")
        put(store, "d/b", b"1")
        for key, absent in [("a/b", False), ("d", False), ("d", True), ("a/b/c", True)]:
            with pytest.raises(BackendError) as caught:
                put(store, key, b"2", if_absent=absent)
            assert "folder" in caught.value.hint, key
        assert keys(store) == ["a", "d/b"]

    def test_a_backslash_is_a_character_like_any_other(self, store: PosixBackend) -> None:
        put(store, "a\\b", b"1")
        put(store, "a/b", b"2")
        assert read(store, "a\\b", 1) == b"1"

    def test_listing_is_in_the_order_of_the_keys(self, store: PosixBackend) -> None:
        names = ["a b", "a.txt", "a/b", "a/b.c", "a/b/c", "a0", "ab/z", "b", "ä", "日/本", "🚀"]
        expected = sorted((n for n in names if n != "a/b"), key=str.encode)
        for name in expected:
            put(store, name, b"x")
        assert keys(store) == expected
        for n, name in enumerate(expected):
            assert keys(store, start_after=name) == expected[n + 1 :]
        assert keys(store, start_after="a/") == [n for n in expected if n.encode() > b"a/"]

    def test_links_to_files_are_objects_and_links_to_folders_are_not_followed(
        self, store: PosixBackend, root: Path
    ) -> None:
        put(store, "real/a", b"1")
        (root / "link").symlink_to("real/a")
        (root / "circle").symlink_to(".")
        (root / "nowhere").symlink_to("absent")
        os.mkfifo(root / "fifo")
        assert keys(store) == ["link", "real/a"]


class TestErrors:
    def test_a_full_file_system_is_no_space_and_leaves_no_remains(self, mounted: Callable[[str], Path]) -> None:
        root = mounted("size=2m")
        store = PosixBackend.from_url(f"file://{root}", {})
        put(store, "small", b"x")
        with pytest.raises(NoSpace):
            put(store, "big", os.urandom(3 * MIB))
        with pytest.raises(NoSpace):
            store.begin("big", 3 * MIB)
        upload = store.begin("fits", 1 * MIB)
        with pytest.raises(NoSpace):
            put_part(store, "fits", upload, 1, 0, os.urandom(3 * MIB))
        store.abort("fits", upload)
        assert staged(root) == []
        put(store, "again", os.urandom(MIB))

    def test_a_read_only_file_system_refuses(self, mounted: Callable[[str], Path]) -> None:
        root = mounted("size=2m")
        store = PosixBackend.from_url(f"file://{root}", {})
        put(store, "a", b"x")
        mounted("ro")
        for call in (store.probe, lambda: put(store, "b", b"x"), lambda: store.delete(["a"])):
            with pytest.raises(CredentialsRefused) as caught:
                call()
            assert str(root) in caught.value.hint
        assert read(store, "a", 1) == b"x"

    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            (errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EACCES, CredentialsRefused),
            (errno.EPERM, CredentialsRefused), (errno.EROFS, CredentialsRefused), (errno.ESTALE, Unavailable),
            (errno.EIO, Unavailable), (errno.ETIMEDOUT, Unavailable), (errno.ENOTCONN, Unavailable),
            (errno.ENAMETOOLONG, BackendError), (errno.EFBIG, BackendError),
        ],
    )  # fmt: skip
    def test_what_the_kernel_says_has_one_meaning(self, tmp_path: Path, number: int, kind: type[BackendError]) -> None:
        error = from_os_error(OSError(number, os.strerror(number)), "run/key", str(tmp_path))
        assert type(error) is kind
        assert error.message.startswith("run/key: ")


class TestCopying:
    """Every way a stretch of a file can get into the store, by taking the better ones away."""

    @pytest.fixture(params=["copy_file_range", "sendfile", "memory", "no descriptor", "answers nothing"])
    def way(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
        def fail(number: int) -> Callable[..., int]:
            def call(*_: object) -> int:
                raise OSError(number, os.strerror(number))

            return call

        if request.param in {"sendfile", "memory"}:
            monkeypatch.setattr(os, "copy_file_range", fail(errno.EXDEV))
        if request.param == "memory":
            monkeypatch.setattr(os, "sendfile", fail(errno.EINVAL))
        if request.param == "answers nothing":
            monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
            monkeypatch.setattr(os, "sendfile", lambda *_: 0)
        return str(request.param)

    def test_the_stretch_arrives_whole_at_its_offset(self, store: PosixBackend, tmp_path: Path, way: str) -> None:
        data = os.urandom(20 * MIB + 5)
        (tmp_path / "source").write_bytes(data)
        seeks: list[int] = []

        class Watched(Stretch):
            def seek(self, offset: int, whence: int = 0, /) -> int:
                seeks.append(offset)
                return super().seek(offset, whence)

        upload = store.begin("a", len(data))
        parts = []
        for number, (offset, size) in enumerate([(0, 9 * MIB + 1), (9 * MIB + 1, len(data) - 9 * MIB - 1)], 1):
            crc = crc64nvme(data[offset : offset + size])
            source: Memory = Memory(data[offset : offset + size])
            if way != "no descriptor":
                source = Watched(str(tmp_path / "source"), offset, size)
            parts.append(store.put_part("a", upload, number, offset, source, crc))
            if isinstance(source, Stretch):
                source.close()
                assert seeks[-1] == size
        store.finish("a", upload, parts, crc64nvme(data))
        assert read(store, "a", len(data)) == data

    def test_a_source_that_became_shorter_is_noticed(self, store: PosixBackend, tmp_path: Path, way: str) -> None:
        path = tmp_path / "source"
        path.write_bytes(b"x" * MIB)

        class Pathless(Stretch):
            def fileno(self) -> int:
                raise OSError

        source = (Pathless if way == "no descriptor" else Stretch)(str(path), 0, MIB)
        os.truncate(path, 1000)
        with pytest.raises(ChecksumMismatch, match="ended"):
            store.put("a", source, crc64nvme(b"x" * MIB))
        source.close()
        assert keys(store) == []

    def test_the_caller_can_stop_a_copy_in_the_kernel(self, store: PosixBackend, tmp_path: Path, way: str) -> None:
        data = os.urandom(20 * MIB)
        (tmp_path / "source").write_bytes(data)

        class Stopping(Stretch):
            def seek(self, offset: int, whence: int = 0, /) -> int:
                if offset >= 8 * MIB:
                    raise InterruptedError(errno.EIO, "enough")
                return super().seek(offset, whence)

        source = Stopping(str(tmp_path / "source"), 0, len(data))
        with pytest.raises(InterruptedError, match="enough"):
            store.put("a", source, crc64nvme(data))
        source.close()
        assert staged(Path(store.root)) == []


class TestStaging:
    def test_parts_with_a_gap_or_an_overlap_do_not_make_an_object(self, store: PosixBackend) -> None:
        upload = store.begin("a", 6)
        first = put_part(store, "a", upload, 1, 0, b"abc")
        for offset in (2, 4):
            second = put_part(store, "a", upload, 2, offset, b"def")
            with pytest.raises(ChecksumMismatch):
                store.finish("a", upload, [first, second], crc64nvme(b"abcdef"))
        assert store.head("a") is None
        second = put_part(store, "a", upload, 2, 3, b"def")
        # The misplaced part made the file too long, which is noticed as well.
        with pytest.raises(ChecksumMismatch, match="7 bytes"):
            store.finish("a", upload, [first, second], crc64nvme(b"abcdef"))

    def test_bytes_that_change_on_their_way_are_noticed_by_reading_back(
        self, store: PosixBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = os.pwrite

        def flip(descriptor: int, data: memoryview, offset: int) -> int:
            changed = bytearray(data)
            changed[0] ^= 1
            return write(descriptor, changed, offset)

        monkeypatch.setattr(os, "pwrite", flip)
        upload = store.begin("a", MIB)
        with pytest.raises(ChecksumMismatch, match="part 1"):
            put_part(store, "a", upload, 1, 0, bytes(MIB))
        with pytest.raises(ChecksumMismatch):
            put(store, "b", bytes(MIB))
        assert keys(store) == []

    def test_probe_removes_what_crashed_writers_left_a_day_ago(self, store: PosixBackend, root: Path) -> None:
        put(store, "a", b"1")
        old, new = root / ".ckptd/tmp/put-old", root / ".ckptd/tmp/put-new"
        for path in (old, new):
            path.write_bytes(b"half")
        os.utime(old, (time.time() - 90_000,) * 2)
        upload = store.begin("b", 1)
        for name in (upload, f"{upload}.key"):  # an upload's age is for its owner to judge
            os.utime(root / ".ckptd/tmp" / name, (1, 1))
        store.probe()
        assert staged(root) == sorted(["put-new", upload, f"{upload}.key"])

    def test_emptied_folders_go_with_their_last_object(self, store: PosixBackend, root: Path) -> None:
        for key in ("run/step/deep/a", "run/b"):
            put(store, key, b"1")
        store.delete(["run/step/deep/a"])
        assert sorted(os.listdir(root / "run")) == ["b"]
        store.delete(["run/b"])
        assert sorted(os.listdir(root)) == [".ckptd"]

    def test_a_torn_note_of_an_upload_is_not_listed(self, store: PosixBackend, root: Path) -> None:
        store.begin("a", 1)
        (root / ".ckptd/tmp/x.key").write_text('{"key": ')
        assert [upload.key for upload in store.pending("")] == ["a"]


def test_a_writer_killed_at_any_moment_leaves_the_old_content_or_the_new(root: Path, store: PosixBackend) -> None:
    size = 4 * MIB
    contents = {bytes([n]) * size for n in (1, 2)}
    put(store, "a", bytes([1]) * size)
    program = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {[str(Path(__file__).parent), os.getcwd()]!r}
        from sources import put
        from backends.posix import PosixBackend
        store = PosixBackend.from_url("file://{root}", {{}})
        sys.stdout.write("ready"); sys.stdout.flush()
        while True:
            for n in (2, 1):
                put(store, "a", bytes([n]) * {size})
    """)
    for wait in (0.0, 0.011, 0.023):
        writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.read(5) == b"ready"
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert read(store, "a", size) in contents
