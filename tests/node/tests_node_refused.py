"""What `ckptctl doctor` and `ckptctl up` say of a remote that refuses: the same thing, with the fix, and nothing secret."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests_node_daemon import Daemon


@dataclass(frozen=True)
class Told:
    message: str
    hint: str


def up(daemon: Daemon, code: int) -> Told:
    """Refused with that exit code; no daemon is left."""
    done = daemon.ctl(
        "up", "--config", str(daemon.config), "--state-dir", f"{daemon.home}/state", "--socket", f"{daemon.home}/s", "--json",
        check=code,
    )  # fmt: skip
    error = json.loads(done.stderr)["error"]
    assert (done.stdout, error["exit_code"]) == ("", code)
    assert not (daemon.home / "s").exists()
    return Told(error["message"], error["hint"])


def doctor(daemon: Daemon) -> Told:
    found = daemon.json("doctor", "--config", str(daemon.config), check=1)
    (refused,) = [each for each in found if each["state"] == "failed"]
    assert refused["check"] == "remote of ckpt"
    return Told(refused["detail"], refused["fix"])


def written(daemon: Daemon) -> str:
    """All that the daemon has written, wherever it did."""
    files = [daemon.home / "log", *(daemon.home / "state").glob("*.log*")]
    return "".join(path.read_text() for path in files if path.exists())


def is_refused(
    daemon: Daemon, message: tuple[str, ...], hint: tuple[str, ...], code: int, secrets: tuple[str, ...]
) -> None:
    for told in (doctor(daemon), up(daemon, code)):
        assert [word for word in message if word not in told.message] == [], told
        assert [word for word in hint if word not in told.hint] == [], told
        everything = told.message + told.hint + written(daemon)
        assert "Traceback" not in everything
        assert [secret for secret in secrets if secret in everything] == []
