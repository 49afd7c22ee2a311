"""One file under random calls is always what a model of it in memory is.

CKPTD_FSX_STEPS (700) says how many calls a seed is good for; CKPTD_FSX_SEED repeats one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from tests_mount_fsx import Exerciser
from tests_mount_served import Served

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]
STEPS = int(os.environ.get("CKPTD_FSX_STEPS", "700"))


def seeds() -> list[int]:
    """Two that are always the same, and one that never is."""
    one = os.environ.get("CKPTD_FSX_SEED")
    return [int(one)] if one else [1, 2, random.SystemRandom().randrange(1 << 32)]


def exercise(path: Path, seed: int, steps: int) -> Exerciser:
    print("CKPTD_FSX_SEED", seed)
    one = Exerciser(path, seed)
    try:
        one.run(steps)
    finally:
        one.close()
    return one


def test_a_file_is_what_the_model_is(either: Served) -> None:
    for seed in seeds():
        one = exercise(either.path / f"{seed}", seed, STEPS)
        assert (either.backing / f"{seed}").read_bytes() == bytes(one.model)
    status = either.ask("status")
    way = "opens_mediated" if "--no-passthrough" in either.arguments else "opens_passthrough"
    assert status["opens_passthrough"] + status["opens_mediated"] == status[way] > 0


def test_a_file_is_what_the_model_is_while_servers_come_and_go(either: Served) -> None:
    (seed,) = seeds()[-1:]
    print("CKPTD_FSX_SEED", seed)
    one = Exerciser(either.path / "it", seed)
    try:
        for _ in range(5):
            one.run(
                STEPS // 5
            )  # and has closed a descriptor: no page waits to be written, which our own fork would wait for
            either.kill()
            either.start()
    finally:
        one.close()
    one.whole()


def test_the_model_finds_a_byte_that_is_wrong(served: Served) -> None:
    """Put there behind the mount's back, as a defect would."""
    one = Exerciser(served.path / "it", 7)
    try:
        one.run(50)
        one.model.extend(b"\0")
        os.ftruncate(one.fds[0], len(one.model))
        with (served.backing / "it").open("r+b") as file:
            file.seek(len(one.model) - 1)
            file.write(b"!")
        with pytest.raises(AssertionError, match=f"seed 7, step 50: other bytes at {len(one.model) - 1}"):
            one.whole()
    finally:
        one.close()
