"""Where settings come from, which source wins, and what the supervisor hands to its worker."""

from __future__ import annotations

import os

import pytest

from ckptd.domain.errors import ConfigError
from ckptd.policy.policy import Policy, Sync
from ckptd.settings import Overrides, Percent, Settings, describe, load

FILE = """
[node]
name = "from-file"
state_dir = "state"
[tiers.ram]
budget = "1GiB"
[transfer]
parallel = 4
bandwidth = "100MB"
[[volumes]]
path = "data/ckpt"
remote = "s3://bucket/prefix"
[volumes.options]
region = "eu-central-1"
[volumes.policy]
keep_hot = 1
sync = "latest"
settle = "500ms"
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """No configuration of whoever runs the tests."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))


def test_without_anything_there_is_an_embedded_default(tmp_path):
    settings = load(environ={}, uid=1000, cwd="/work").settings
    state = str(tmp_path / "s" / "ckptd")
    assert settings.node.state_dir == state
    assert settings.tiers["ram"].path.startswith("/dev/shm/ckptd-1000-")
    assert settings.tiers["ram"].budget == Percent(25)
    assert settings.tiers["nvme"].path == f"{state}/nvme"
    assert settings.transfer.parallel == 16
    assert settings.node.metrics == ""
    (volume,) = settings.volumes
    assert (volume.name, volume.path, volume.remote) == ("ckpt", "/work/ckpt", f"file://{state}/remote")
    assert volume.policy.to_policy() == Policy()


def test_root_has_the_system_s_places(monkeypatch):
    node = load(environ={}, uid=0, cwd="/").settings.node
    assert (node.state_dir, node.socket) == ("/var/lib/ckptd", "/run/ckptd/ckptd.sock")
    assert load(environ={"CKPTD_STATE_DIR": "/x"}, uid=0, cwd="/").settings.node.socket == "/x/ckptd.sock"


def test_two_state_directories_never_share_a_ram_tier():
    one, two = (load(environ={"CKPTD_STATE_DIR": f"/x/{n}"}, uid=1, cwd="/").settings for n in "ab")
    assert one.tiers["ram"].path != two.tiers["ram"].path


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": "/run/user/1000"}])
def test_a_long_state_directory_gets_a_short_socket_of_its_own(environ):
    sockets = {
        load(environ={**environ, "CKPTD_STATE_DIR": f"/x/{n}" * 60}, uid=7, cwd="/").settings.node.socket for n in "ab"
    }
    assert len(sockets) == 2
    assert all(len(socket) <= 100 for socket in sockets)
    assert all(socket.startswith(environ.get("XDG_RUNTIME_DIR", "/tmp/ckptd-7/")) for socket in sockets)


def test_the_file_is_read_and_its_paths_count_from_where_it_lies(write, tmp_path):
    settings = load(config=write(FILE), environ={}, cwd="/elsewhere").settings
    assert settings.node.name == "from-file"
    assert settings.node.state_dir == str(tmp_path / "state")
    assert settings.tiers["ram"].budget == 1 << 30
    assert settings.transfer.bandwidth == 100_000_000
    (volume,) = settings.volumes
    assert (volume.name, volume.path) == ("ckpt", str(tmp_path / "data" / "ckpt"))
    assert volume.remote_options == {"region": "eu-central-1"}
    assert volume.policy.to_policy() == Policy(keep_hot=1, sync=Sync.LATEST, settle_s=0.5)


def test_the_usual_file_is_read_where_none_is_named(tmp_path):
    folder = tmp_path / "no-config" / "ckptd"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('[node]\nname = "usual"\n')
    assert load(environ={}, uid=1000).settings.node.name == "usual"


def test_variables_beat_the_file_and_flags_beat_variables(write):
    environ = {
        "CKPTD_CONFIG": write(FILE), "CKPTD_NODE": "from-env", "CKPTD_TRANSFER_PARALLEL": "8",
        "CKPTD_TIERS_RAM_BUDGET": "10%", "CKPTD_STATE_DIR": "/env", "CKPTD_NODE_METRICS": "", "CKPTD_WORKER": "{}",
    }  # fmt: skip
    effective = load(environ=environ, overrides=Overrides(state_dir="flag", ram="2G"), cwd="/cwd")
    settings = effective.settings
    assert settings.node.name == "from-env"
    assert settings.transfer.parallel == 8
    assert settings.node.state_dir == "/cwd/flag"
    assert settings.tiers["ram"].budget == 2 << 30
    assert settings.tiers["nvme"].path == "/cwd/flag/nvme", "defaults follow the state directory"
    origins = {row.key: row.origin for row in describe(effective)}
    assert origins["node.name"] == "CKPTD_NODE"
    assert origins["tiers.ram.budget"] == "--ram"
    assert origins["transfer.bandwidth"].endswith("config.toml:9")
    assert origins["volumes[0].policy.keep_hot"].endswith("config.toml:16")
    assert origins["tiers.nvme.path"] == "default"


def test_a_name_made_of_digits_is_still_a_name():
    assert load(environ={"CKPTD_NODE": "017"}).settings.node.name == "017"


def test_every_variable_sets_its_key():
    values = {"CKPTD_TRANSFER_PART_SIZE": "8MiB", "CKPTD_TRANSFER_MOVERS": "2", "CKPTD_NODE_SHUTDOWN_TIMEOUT": "5m"}
    rows = {row.origin: row.value for row in describe(load(environ=values))}
    assert {name: rows[name] for name in values} == {
        "CKPTD_TRANSFER_PART_SIZE": "8MiB",
        "CKPTD_TRANSFER_MOVERS": "2",
        "CKPTD_NODE_SHUTDOWN_TIMEOUT": "5m",
    }


def test_describe_spells_values_as_they_are_written_in_the_file(write):
    rows = {row.key: row.value for row in describe(load(config=write(FILE), environ={}))}
    assert rows["tiers.ram.budget"] == "1GiB"
    assert rows["tiers.nvme.budget"] == "10%"
    assert rows["volumes[0].policy.settle"] == "0.5s"
    assert rows["volumes[0].options.region"] == "eu-central-1"
    assert rows["node.shutdown_timeout"] == "1m"


@pytest.mark.parametrize(
    ("flag", "path", "budget"),
    [
        ("/n", "/n", Percent(10)),
        ("/n:2TiB", "/n", 2 << 40),
        ("/a:b", "/a:b", Percent(10)),
        ("/a:b:5%", "/a:b", Percent(5)),
    ],
)
def test_the_nvme_flag_is_a_directory_with_or_without_a_size(flag, path, budget):
    tier = load(environ={}, overrides=Overrides(nvme=flag)).settings.tiers["nvme"]
    assert (tier.path, tier.budget) == (path, budget)


def test_a_budget_of_zero_means_no_nvme_tier(write):
    settings = load(config=write("[tiers.nvme]\nbudget = 0\n"), environ={}).settings
    assert set(settings.tiers) == {"ram"}
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings


def test_settings_survive_the_way_to_the_worker(write):
    settings = load(config=write(FILE), environ={}).settings
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings


# -- flags that describe a volume


def test_path_and_remote_flags_describe_the_only_volume(write):
    flags = Overrides(path="here", remote="s3://other", front="watch")
    (volume,) = load(config=write(FILE), environ={}, overrides=flags, cwd="/cwd").settings.volumes
    assert (volume.path, volume.remote, volume.front) == ("/cwd/here", "s3://other", "watch")
    assert volume.policy.keep_hot == 1
    (volume,) = load(environ={}, overrides=flags, cwd="/cwd").settings.volumes
    assert (volume.name, volume.path, volume.remote) == ("ckpt", "/cwd/here", "s3://other")


TWO = '[[volumes]]\npath = "/a"\nremote = "s3://b/a"\n[[volumes]]\npath = "/b"\nremote = "s3://b/b"\n'


def test_with_several_volumes_path_says_which_one_is_meant(write):
    flags = Overrides(path="/b", front="watch")
    volumes = load(config=write(TWO), environ={}, overrides=flags).settings.volumes
    assert [volume.front for volume in volumes] == ["auto", "watch"]


@pytest.mark.parametrize("flags", [Overrides(path="/c"), Overrides(remote="s3://x")])
def test_with_several_volumes_a_flag_that_fits_none_is_refused(write, flags):
    with pytest.raises(ConfigError, match=r"/a, /b"):
        load(config=write(TWO), environ={}, overrides=flags)


def test_loading_makes_nothing(write, tmp_path):
    before = sorted(os.listdir(tmp_path))
    load(environ={}, uid=1000, cwd=str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == before
