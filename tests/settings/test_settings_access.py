"""`[access]`: who may use root's daemon, and how much of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckptd.domain.errors import ConfigError
from ckptd.settings import Percent, load
from ckptd.settings.quantities import bytes_of
from ckptd.supervisor.groups import gid_of


def loaded(tmp_path: Path, text: str):
    file = tmp_path / "config.toml"
    file.write_text(text)
    return load(config=str(file), environ={}, uid=0, cwd=str(tmp_path)).settings.access


def test_everyone_without_limits_is_the_default(tmp_path: Path):
    access = loaded(tmp_path, "")
    assert (access.users, access.admin_group, access.user_budget, access.user_pins) == ("everyone", "", 0, 0)


def test_limits_are_bytes_or_a_share_of_the_tier(tmp_path: Path):
    access = loaded(tmp_path, '[access]\nusers = "group"\nuser_budget = "25%"\nuser_pins = "1GiB"')
    assert access.user_budget == Percent(25)
    assert [bytes_of(one, 1000) for one in (access.user_budget, access.user_pins)] == [250, 1 << 30]


@pytest.mark.parametrize("text", ['users = "nobody"', 'user_pins = "-1"', "group = 5", 'user_pins = "lots"'])
def test_mistakes_name_the_key(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match=f"access.{text.split(maxsplit=1)[0]}"):
        loaded(tmp_path, f"[access]\n{text}")


def test_groups_are_found_by_name_or_number():
    assert gid_of("", "access.group") is None
    assert gid_of("61050", "access.group") == 61050
    assert gid_of("root", "access.group") == 0
    with pytest.raises(ConfigError, match="no group 'no-such-group'"):
        gid_of("no-such-group", "access.group")
