"""`diff` on a real daemon: local, cold and not yet durable checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests_node_daemon import MIB, Daemon, save
from tests_node_remote import away


def test_diff_counts_bytes_in_differing_parts(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon(transfer='part_size = "5MiB"')
    daemon.start()
    base, other = os.urandom(12 * MIB), os.urandom(MIB)
    changed = base[: 6 * MIB] + b"x" + base[6 * MIB + 1 :]
    save(daemon.volume / "run-1/checkpoint-1", {"base.bin": base, "head.bin": b"1" * 1000, "DONE": b""})
    daemon.committed("run-1", 1)
    daemon.ctl("evict", "run-1@1")
    save(daemon.volume / "run-1/checkpoint-2", {"base.bin": changed, "head.bin": b"1" * 1000, "DONE": b""})
    daemon.committed("run-1", 2)
    with away(daemon):
        save(
            daemon.volume / "run-1/checkpoint-3",
            {"base.bin": changed, "more.bin": other, "head.bin": b"3", "DONE": b""},
        )
        daemon.state_is("run-1", 3, "complete")
        found = daemon.json("diff", "run-1@2", "run-1@3")
        assert found["unchecked"] == 0
        assert {file["name"].split("/")[1]: file["state"] for file in found["files"]} == {
            "DONE": "equal", "base.bin": "equal", "head.bin": "differs", "more.bin": "only-other",
        }  # fmt: skip
        assert (found["equal_bytes"], found["differing_bytes"]) == (12 * MIB, 1000)
        assert found["only_other_bytes"] == MIB
        assert daemon.json("ops")[-1]["kind"] == "checksum"
    found = daemon.json("diff", "run-1@1", "run-1@2")
    assert (found["equal_bytes"], found["differing_bytes"]) == (7 * MIB + 1000, 5 * MIB)
    assert "2 of 3 files are equal; 5.0 MiB of 12.0 MiB (42%) differ" in daemon.ctl("diff", "run-1@1", "run-1@2").stdout
    assert daemon.json("diff", "run-1@1", "run-1@1")["differing_bytes"] == 0
    daemon.ctl("diff", "run-1@1", "run-1@9", check=4)
