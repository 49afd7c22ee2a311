"""Budgets in bytes, on machines of every shape."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptd.domain.errors import ConfigError
from ckptd.domain.model import Place
from ckptd.settings.quantities import Percent
from ckptd.tiers import budget as budgets
from ckptd.tiers.budget import Capacity, filesystem_bytes, memory_bytes, resolve_budget, tier_budget

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path):
    """A /proc and /sys of the test's own."""

    def make(total_kib: int, cgroup: str = "", **limits: str) -> str:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/meminfo").write_text(f"MemTotal:       {total_kib} kB\nMemFree:  1 kB\n")
        (tmp_path / "proc/self/cgroup").write_text(cgroup)
        for path, text in limits.items():
            file = tmp_path / "sys/fs/cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        return str(tmp_path)

    return make


def test_memory_is_what_the_machine_has(machine):
    assert memory_bytes(machine(1024)) == 1 << 20


def test_a_control_group_anywhere_above_us_limits_memory(machine):
    root = machine(
        1 << 20,
        "0::/slurm/job_7/step\n",
        **{"memory.max": "max", "slurm/memory.max": str(300 << 20), "slurm/job_7/step/memory.max": "max"},
    )
    assert memory_bytes(root) == 300 << 20


def test_version_one_control_groups_limit_memory_too(machine):
    root = machine(1 << 20, "4:cpu,memory:/job\n0::/\n", **{"memory/job/memory.limit_in_bytes": str(5 << 20)})
    assert memory_bytes(root) == 5 << 20


def test_a_hidden_control_group_changes_nothing(machine):
    assert memory_bytes(machine(1024, "0::/../../elsewhere\n")) == 1 << 20


def test_this_machine_has_memory():
    assert memory_bytes() > 1 << 20


CAPACITY = Capacity(100 * GIB, 60 * GIB, "memory")


@pytest.mark.parametrize(
    ("budget", "expected"),
    [("25%", 25 * GIB), (Percent(50), 50 * GIB), ("100%", 60 * GIB), ("80GiB", 80 * GIB), (7, 7), (0, 0)],
)
def test_a_share_is_cut_to_what_is_available_and_a_number_is_taken_at_its_word(budget, expected):
    assert resolve_budget(budget, CAPACITY, key="k") == expected


def test_a_number_above_the_total_is_refused_with_both_numbers():
    with pytest.raises(ConfigError, match=r"^tiers\.ram\.budget: 101GiB is more than memory has: 100\.0GiB") as caught:
        resolve_budget("101GiB", CAPACITY, key="tiers.ram.budget")
    assert "102400MiB" in caught.value.hint


def test_nonsense_is_refused_with_the_key():
    with pytest.raises(ConfigError, match=r"^tiers\.nvme\.budget: expected a size"):
        resolve_budget("lots", CAPACITY, key="tiers.nvme.budget")


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 50), st.floats(0.001, 100))
def test_no_budget_is_ever_above_what_there_is(total, available, percent):
    capacity = Capacity(total, min(total, available), "x")
    assert resolve_budget(Percent(percent), capacity, key="k") <= capacity.available


def test_a_place_that_does_not_exist_yet_counts_as_where_it_will_be(tmp_path):
    assert filesystem_bytes(str(tmp_path / "a/b"))[0] == filesystem_bytes(str(tmp_path))[0] > 0


def test_the_ram_tier_never_gets_more_than_its_file_system_has(monkeypatch, tmp_path):
    monkeypatch.setattr(budgets, "filesystem_bytes", lambda _path: (64 << 20, 10 << 20))
    monkeypatch.setattr(budgets, "memory_bytes", lambda: 100 * GIB)
    assert tier_budget(Place.RAM, "/dev/shm/x", "25%") == 10 << 20
    assert tier_budget(Place.RAM, "/dev/shm/x", "25%", occupied=20 << 20) == 30 << 20, (
        "its own bytes are not lost to it"
    )
    with pytest.raises(ConfigError, match=r"more than the file system of /dev/shm/x has: 64\.0MiB"):
        tier_budget(Place.RAM, "/dev/shm/x", "1GiB")


def test_the_ram_tier_is_a_share_of_memory_where_its_file_system_is_larger(monkeypatch):
    monkeypatch.setattr(budgets, "filesystem_bytes", lambda _path: (500 * GIB, 400 * GIB))
    monkeypatch.setattr(budgets, "memory_bytes", lambda: 100 * GIB)
    assert tier_budget(Place.RAM, "/t", "25%") == 25 * GIB
    with pytest.raises(ConfigError, match="more than memory has"):
        tier_budget(Place.RAM, "/t", "200GiB")


def test_the_nvme_tier_is_a_share_of_its_disk(monkeypatch):
    monkeypatch.setattr(budgets, "filesystem_bytes", lambda _path: (1000 * GIB, 900 * GIB))
    assert tier_budget(Place.NVME, "/t", "10%") == 100 * GIB


def test_budgets_of_this_machine_are_within_it(tmp_path):
    assert (
        0
        < tier_budget(Place.NVME, str(tmp_path), "10%")
        <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    )
