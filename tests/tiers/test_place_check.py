"""Where a tier may live, and what is said about places where it may not."""

from __future__ import annotations

import os
import subprocess

import pytest

from ckptd.domain.errors import ConfigError
from ckptd.domain.model import Place
from ckptd.tiers import filesystem, place_check
from ckptd.tiers.filesystem import filesystem_of, huge_pages, mount_of
from ckptd.tiers.place_check import check_tier

MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684084k
40 27 0:40 / /run/ckptd/ram rw - tmpfs tmpfs rw,size=1g,huge=within_size
41 27 0:41 / /run/advised rw - tmpfs tmpfs rw,huge=advise
42 27 0:42 / /with\040space rw - tmpfs tmpfs rw,huge=always
43 27 0:43 / /covered rw - tmpfs tmpfs rw,huge=always
44 43 0:44 / /covered rw - tmpfs tmpfs rw
oddly short line
"""


def test_the_place_is_made_for_this_user_alone(place):
    tier = place / "a/b"
    found = check_tier(Place.RAM, str(tier), {})
    assert tier.stat().st_mode & 0o777 == 0o700
    assert not found.network
    assert list(tier.iterdir()) == []
    check_tier(Place.RAM, str(tier), {})


def test_memory_is_told_from_disk():
    if os.path.isdir("/dev/shm"):
        assert filesystem_of("/dev/shm").in_memory
    assert filesystem_of("/proc").name == "0x9fa0"
    with pytest.raises(FileNotFoundError):
        filesystem_of("/nowhere/at/all")


@pytest.mark.parametrize(
    ("magic", "name"),
    [
        (0x6969, "nfs"), (0xFF534D42, "cifs"), (0xFE534D42, "smb2"), (0x65735546, "fuse"), (0x0BD00BD0, "lustre"),
        (0x00C36400, "ceph"), (0x01021997, "9p"), (0x5346414F, "afs"), (0x47504653, "gpfs"), (0x19830326, "beegfs"),
    ],
)  # fmt: skip
def test_a_network_file_system_is_refused_by_name(tmp_path, monkeypatch, magic, name):
    monkeypatch.setattr(filesystem, "_magic", lambda _path: magic)
    with pytest.raises(
        ConfigError, match=rf"'{tmp_path}' is on a network or user-space file system \({name}\)"
    ) as caught:
        check_tier(Place.NVME, str(tmp_path), {})
    assert "remote" in caught.value.hint


def test_the_numbers_are_those_that_stat_prints(tmp_path):
    """coreutils keeps the same table; this is the one test of ours against somebody else's."""
    printed = subprocess.run(["stat", "-f", "-c", "%t", tmp_path], capture_output=True, text=True, check=True).stdout
    assert filesystem._magic(str(tmp_path)) == int(printed, 16)


def test_a_place_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"tiers\.ram\.path: .* cannot be used as a tier: Not a directory"):
        check_tier(Place.RAM, str(tmp_path / "file/tier"), {})


def test_a_place_that_is_read_only_is_refused():
    with pytest.raises(ConfigError, match="cannot be used as a tier"):
        check_tier(Place.RAM, "/proc/ckptd-tier", {})


@pytest.mark.parametrize("tier", ["", "/deep/tier"])
def test_a_tier_inside_a_volume_is_refused_before_anything_is_made(tmp_path, tier):
    volume = tmp_path / "ckpt"
    with pytest.raises(ConfigError, match=r"lies inside volume 'v'"):
        check_tier(Place.RAM, f"{volume}{tier}", {"v": str(volume)})
    assert not volume.exists()


def test_a_link_does_not_hide_that_a_tier_lies_inside_a_volume(tmp_path):
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "link").symlink_to("ckpt")
    with pytest.raises(ConfigError, match="lies inside volume"):
        check_tier(Place.RAM, str(tmp_path / "link/tier"), {"v": str(tmp_path / "ckpt")})


def test_a_volume_inside_a_tier_has_its_folder(tmp_path):
    tier = tmp_path / "tier"
    check_tier(Place.RAM, str(tier), {"v": f"{tier}/volumes/v", "w": f"{tmp_path}/tier2"})
    for volume in (f"{tier}/v", f"{tier}/volumes", f"{tier}/staging/v"):
        with pytest.raises(ConfigError, match=f"'{tier}/volumes/'"):
            check_tier(Place.RAM, str(tier), {"v": volume})


def test_a_volume_that_became_a_link_into_its_tier_is_where_it_belongs(tmp_path):
    (tmp_path / "tier/volumes/v").mkdir(parents=True)
    (tmp_path / "ckpt").symlink_to("tier/volumes/v")
    check_tier(Place.RAM, str(tmp_path / "tier"), {"v": str(tmp_path / "ckpt")})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/run/ckptd/ram/objects", True),
        ("/run/ckptd/ramp", False),
        ("/dev/shm/x", False),
        ("/run/advised", False),
        ("/with space/x", True),
        ("/covered", False),
        ("/", False),
    ],
)
def test_huge_pages_are_read_from_the_mount_s_options(path, expected):
    assert huge_pages(path, MOUNTS) is expected


def test_the_mount_of_a_real_path_is_found(place):
    mount = mount_of(str(place))
    assert mount
    assert str(place).startswith(mount.point)
    assert huge_pages(str(place)) in {True, False}


def test_volumes_folder_is_the_agreed_one():
    assert place_check.VOLUMES == "volumes"
