"""Which daemon a command means that names none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ckptctl import locate
from ckptd import locations


def test_a_user_without_a_daemon_of_his_own_means_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(locations, "ROOT_SOCKET", str(tmp_path / "root.sock"))
    monkeypatch.setattr(locations, "state_dir", lambda _uid: str(tmp_path / "state"))
    monkeypatch.setattr(locations, "config_path", lambda _uid: str(tmp_path / "config.toml"))
    own = tmp_path / "state/ckptd.sock"
    assert locate.socket_path({}) == str(own), "there is none"
    (tmp_path / "root.sock").touch()
    assert locate.socket_path({}) == str(tmp_path / "root.sock")
    assert locate.socket_path({"CKPTD_STATE_DIR": str(tmp_path / "other")}) == str(tmp_path / "other/ckptd.sock")
    own.parent.mkdir()
    own.touch()
    assert locate.socket_path({}) == str(own)
