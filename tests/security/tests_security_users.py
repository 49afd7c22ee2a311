"""Being somebody else: what a user of the node does, done by a child with his real ids."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from tests_node_daemon import Daemon

from ckptctl.client import Client
from ckptd.domain.errors import CkptdError

ALICE, BOB = 61001, 61002
"""Numbers without accounts: the daemon asks nobody for names."""
GROUP = 61050


def acting(uid: int, do: Callable[[], Any], groups: Collection[int] = ()) -> Any:
    """What `do` returns (as JSON has it) when this user calls it; his errors are raised here as RuntimeError."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(sorted(groups))
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.umask(0o022)
            said = {"returned": do()}
        except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it is
            said = {"raised": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        with open(writing, "w") as answer:
            json.dump(said, answer)
        os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        said = json.load(answer)
    os.waitpid(child, 0)
    if "raised" in said:
        raise RuntimeError(f"as user {uid}: {said['raised']}\n{said['trace']}")
    return said["returned"]


def fails(uid: int, do: Callable[[], Any], groups: Collection[int] = ()) -> str:
    """The OSError that this user meets; fails where he does not."""

    def attempt() -> str:
        try:
            do()
        except OSError as error:
            return type(error).__name__
        return ""

    found: str = acting(uid, attempt, groups)
    assert found, f"user {uid} could"
    return found


@dataclass(frozen=True)
class Asking:
    """A user at the daemon's socket."""

    daemon: Daemon
    uid: int
    groups: tuple[int, ...] = ()

    def _ask(self, ask: Callable[[Client], Any]) -> Any:
        def attempt() -> Any:
            try:
                return {"answer": ask(Client(str(self.daemon.home / "s")))}
            except CkptdError as error:
                return {"code": error.code, "exit_code": error.exit_code, "message": error.message, "hint": error.hint}

        return acting(self.uid, attempt, self.groups)

    def get(self, path: str, **query: object) -> Any:
        found = self._ask(lambda client: client.get(path, **query))
        assert "answer" in found, found
        return found["answer"]

    def refused(self, method: str, path: str, body: object = None, **query: object) -> dict[str, Any]:
        def ask(client: Client) -> Any:
            return client.get(path, **query) if method == "GET" else client.send(method, path, body, **query)

        found: dict[str, Any] = self._ask(ask)
        assert "code" in found, found
        return found

    def send(self, method: str, path: str, body: object = None, **query: object) -> Any:
        found = self._ask(lambda client: client.send(method, path, body, **query))
        assert "answer" in found, found
        return found["answer"]

    def start(self, kind: str, target: str, **arguments: object) -> Any:
        return self.send("POST", "/v1/operations", {"kind": kind, "target": target, "arguments": arguments})

    def start_refused(self, kind: str, target: str | None, **arguments: object) -> dict[str, Any]:
        return self.refused("POST", "/v1/operations", {"kind": kind, "target": target, "arguments": arguments})

    def ended(self, operation: int, timeout: float = 30) -> Any:
        def holds() -> Any:
            found = self.daemon.get(f"/v1/operations/{operation}")
            return found if found["state"] != "running" else None

        return self.daemon.until(holds, f"operation {operation} ends", timeout)
