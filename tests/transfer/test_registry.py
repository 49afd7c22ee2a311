"""Backends are found by the scheme of the URL, whoever installed them."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

import backends
from backends.posix import PosixBackend
from ckptd.domain.errors import ConfigError
from ckptd.transfer.calls import Remote
from ckptd.transfer.refusal import Refused
from ckptd.transfer.registry import GROUP, Registry


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=GROUP)


OURS = (entry("file", "backends.posix:PosixBackend"), entry("s3", "backends.s3:S3Backend"))


def test_a_remote_is_opened_once_and_shared(tmp_path):
    registry = Registry(OURS)
    remote = Remote("a", f"file://{tmp_path}")
    assert isinstance(registry.open(remote), PosixBackend)
    assert registry.open(remote) is registry.open(Remote("b", f"file://{tmp_path}"))
    registry.close()


def test_a_third_partys_backend_is_found_like_ours(monkeypatch, tmp_path):
    import types

    module = types.ModuleType("thirdparty")
    module.Backend = PosixBackend
    monkeypatch.setitem(sys.modules, "thirdparty", module)
    registry = Registry((*OURS, entry("their", "thirdparty:Backend")))
    with pytest.raises(Refused, match="file://"):  # loaded; it only dislikes the scheme
        registry.open(Remote("a", "their://x"))


@pytest.mark.parametrize(
    ("entries", "url", "says", "hints"),
    [
        (OURS, "gopher://x/y", r"no backend for gopher:// \(known: file://, s3://\)", "entry point 'gopher'"),
        (OURS, "/just/a/path", "is no URL", "SCHEME"),
        ((entry("bad", "no.such.module:X"),), "bad://x", "cannot be loaded", "reinstall"),
        ((entry("bad", "backends.posix:NoSuchClass"),), "bad://x", "cannot be loaded", "reinstall"),
        (OURS, "file://host/with/host", "host", "file:///"),
    ],
)
def test_what_cannot_be_opened_says_why_and_what_to_do(entries, url, says, hints):
    with pytest.raises(Refused, match=says) as caught:
        Registry(entries).open(Remote("a", url))
    assert hints in caught.value.refusal.hint


def test_nothing_registered_means_not_installed():
    with pytest.raises(Refused) as caught:
        Registry(()).open(Remote("a", "s3://x"))
    assert "pip install" in caught.value.refusal.hint


def test_a_foreign_package_of_the_same_name_is_named(monkeypatch):
    monkeypatch.setattr(backends, "OWNER", "somebody")
    with pytest.raises(Refused, match=r"not ckptd's but .*backends/__init__.py"):
        Registry(OURS).open(Remote("a", "file:///tmp"))


async def test_an_unknown_scheme_is_an_error_in_the_configuration(transfers):
    with pytest.raises(ConfigError, match="no backend for gopher") as caught:
        await transfers.probe(Remote("ckpt", "gopher://x"))
    assert "file://" in caught.value.message
    assert not transfers.health("ckpt").ok


async def test_the_worker_itself_never_loads_a_backend():
    import subprocess

    code = "import sys, ckptd.transfer.transfers; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"backends", "boto3", "botocore", "awscrt"} & set(done.stdout.split())
