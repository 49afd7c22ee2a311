"""Users share a node: one's flood delays nobody else's checkpoint, and one's past leaves memory before another's present."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from test_security_reading import saved_by
from tests_node_daemon import MIB, Daemon
from tests_security_users import ALICE, BOB

NewNode = Callable[..., Daemon]


@pytest.mark.slow
def test_a_flood_of_one_user_does_not_hold_up_anothers_checkpoint(new_node: NewNode) -> None:
    """2 GB that would take minutes at this speed are queued, when a small checkpoint is saved."""
    node = new_node(ram_budget="4GiB", transfer='bandwidth = "10MiB"\nparallel = 4', extra='shutdown_timeout = "500ms"')
    node.start()
    for step in range(8):
        saved_by(ALICE, node, "flood", step, content=os.urandom(MIB) * 256)
    node.until(lambda: node.json("status")["transfers"]["queued_bytes"] > 200 * MIB, "the flood is on its way")
    began = time.monotonic()
    saved_by(BOB, node, "small", 1, content=os.urandom(MIB))
    node.committed("small", 1, timeout=60)
    took = time.monotonic() - began
    print(
        f"\nsmall checkpoint committed after {took:.1f} s beside {node.json('status')['exposure']['bytes'] >> 20} MiB"
    )
    assert node.json("status")["exposure"]["bytes"] > 1500 * MIB
    assert took < 30


def test_a_users_own_older_checkpoints_make_room_for_his_newer_ones(new_node: NewNode) -> None:
    node = new_node(access='user_budget = "25MiB"', policy="keep_hot = 10")
    node.start()
    saved_by(BOB, node, "small", 1, content=os.urandom(10 * MIB))
    for step in (1, 2, 3, 4):
        saved_by(ALICE, node, "big", step, content=os.urandom(10 * MIB))
        node.committed("big", step)

    def demoted() -> list[bool]:
        return [(node.volume / f"big/checkpoint-{step}/model.bin").is_symlink() for step in (1, 2, 3, 4)]

    node.until(lambda: demoted() == [True, True, False, False], "the older ones moved")
    assert node.checkpoint("small", 1)["tiers"] == ["ram"]  # type: ignore[index]
