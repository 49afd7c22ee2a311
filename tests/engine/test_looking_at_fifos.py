"""A user puts a fifo where a file was, just before the daemon opens it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ckptd.engine import looking


@pytest.mark.timeout(20)
def test_a_fifo_holds_nobody(tmp_path: Path) -> None:
    for name in ("model.safetensors", "latest", "model.safetensors.index.json"):
        os.mkfifo(tmp_path / name)
        path = str(tmp_path / name)
        assert looking.inspect(path, name, 100) is None or "cannot be read" in str(looking.inspect(path, name, 100))
        assert looking.pointed(path, name, 10) is None
        assert looking.required(path, name, 10) == frozenset()
