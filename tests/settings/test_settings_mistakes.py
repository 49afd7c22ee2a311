"""Mistakes are named by file, line and key, all at once, with what would have been right."""

from __future__ import annotations

import pytest

from ckptd.domain.errors import ConfigError
from ckptd.settings import Overrides, load

VOLUME = '[[volumes]]\npath = "/ckpt"\nremote = "s3://bucket/x"\n'


def mistakes(tmp_path, text: str, *, environ=None, **flags) -> list[str]:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(config=str(path), environ=environ or {}, overrides=Overrides(**flags), uid=1000)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value.message.replace(f"{tmp_path}/", "").splitlines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[nod]\nname = "x"', "c.toml:1: nod: no such key; did you mean node?"),
        ('[node]\nstat_dir = "/x"', "c.toml:2: node.stat_dir: no such key; did you mean state_dir?"),
        ("[transfer]\nzebra = 1", "c.toml:2: transfer.zebra: no such key"),
        ("[node]\nname = 3", "c.toml:2: node.name: expected text, got 3 (int)"),
        ('node = "x"', "c.toml:1: node: expected a table, got 'x' (str)"),
        ('volumes = "x"', "c.toml:1: volumes: expected a list of tables, got 'x' (str)"),
        ("volumes = [3]", "c.toml:1: volumes[0]: expected a table, got 3 (int)"),
        ("tiers = 1", "c.toml:1: tiers: expected a table, got 1 (int)"),
        ("[tiers]\nram = 1", "c.toml:2: tiers.ram: expected a table, got 1 (int)"),
        ('[tiers.ran]\npath = "x"', "c.toml:1: tiers.ran: no such tier; did you mean ram?; there are ram and nvme"),
        ('[tiers.ram]\nbudget = "-5GiB"', "c.toml:2: tiers.ram.budget: a size cannot be negative: '-5GiB'"),
        ("[tiers.ram]\nbudget = -5", "c.toml:2: tiers.ram.budget: a size cannot be negative: -5"),
        ('[tiers.ram]\nbudget = "150%"', "c.toml:2: tiers.ram.budget: a percentage lies above 0%"),
        ("[tiers.ram]\nbudget = 0", "c.toml:2: tiers.ram.budget: must be more than 0"),
        ('[transfer]\nparallel = "16"', "c.toml:2: transfer.parallel: expected a whole number, got '16' (str)"),
        ("[transfer]\nparallel = true", "c.toml:2: transfer.parallel: expected a whole number, got True (bool)"),
        ("[transfer]\nparallel = 0", "c.toml:2: transfer.parallel: must be at least 1, got 0"),
        ("[transfer]\nparallel = 257", "c.toml:2: transfer.parallel: must be at most 256, got 257"),
        ('[transfer]\npart_size = "1MiB"', "c.toml:2: transfer.part_size: parts must have at least 5MiB"),
        ('[node]\nmetrics = "9464"', 'c.toml:2: node.metrics: expected "host:port"'),
        ('[node]\nmetrics = "h:70000"', 'c.toml:2: node.metrics: expected "host:port"'),
        ('[node]\nname = "gpu 017"', "c.toml:2: node.name: a name consists of letters, digits"),
        (f'[node]\nsocket = "/{"x" * 120}"', "c.toml:2: node.socket: the kernel allows 107 bytes"),
        ('[[volumes]]\nremote = "s3://b"', "c.toml:1: volumes[0].path: is required"),
        ('[[volumes]]\npath = "/x"', "c.toml:1: volumes[0].remote: is required"),
        ('[[volumes]]\npath = "/x"\nremote = "b/x"', "c.toml:3: volumes[0].remote: not a URL (scheme://…), got 'b/x'"),
        (VOLUME + 'name = "a/b"', "c.toml:4: volumes[0].name: a name consists of letters, digits"),
        (VOLUME + 'front = "fuse"', "c.toml:4: volumes[0].front: expected 'auto', 'mount' or 'watch', got 'fuse'"),
        (VOLUME + "[volumes.options]\nport = 1", "c.toml:5: volumes[0].options.port: expected text, got 1 (int)"),
        (VOLUME + "policy.keep_hot = -1", "c.toml:4: volumes[0].policy.keep_hot: must be at least 0, got -1"),
        (VOLUME + "policy.keephot = 1", "c.toml:4: volumes[0].policy.keephot: no such key; did you mean keep_hot?"),
        (VOLUME + 'policy.sync = "some"', "c.toml:4: volumes[0].policy.sync: expected 'all' or 'latest', got 'some'"),
        (VOLUME + 'policy.settle = "-1s"', "c.toml:4: volumes[0].policy.settle: a time cannot be negative: '-1s'"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file(tmp_path, text, message):
    (found,) = mistakes(tmp_path, text + "\n")
    assert found.startswith(message)


def test_all_mistakes_are_told_at_once(tmp_path):
    found = mistakes(tmp_path, '[node]\nnam = "x"\n[transfer]\nparallel = 0\n', environ={"CKPTD_NODE_NAM": "x"})
    assert [line.split(": ")[0] for line in found] == ["CKPTD_NODE_NAM", "c.toml:2", "c.toml:4"]


def test_mistakes_in_variables_and_flags_name_them(tmp_path):
    assert mistakes(tmp_path, "", environ={"CKPTD_TRANSFER_PARALLEL": "many"}) == [
        "CKPTD_TRANSFER_PARALLEL: transfer.parallel: expected a whole number, got 'many' (str)"
    ]
    assert mistakes(tmp_path, "", ram="lots")[0].startswith("--ram: tiers.ram.budget: expected a size")
    assert mistakes(tmp_path, "", remote="./dir")[0].startswith("--remote: volumes[0].remote: not a URL")
    assert mistakes(tmp_path, "", environ={"CKPTD_TIERS_RAM_BUGDET": "1"}) == [
        "CKPTD_TIERS_RAM_BUGDET: no such setting; did you mean CKPTD_TIERS_RAM_BUDGET?"
    ]


def test_a_file_that_was_named_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load(config=str(tmp_path / "nothing.toml"), environ={})


# -- overlaps


def two(path="/b", remote="s3://bucket/y", name="two") -> str:
    return VOLUME + f'name = "one"\n[[volumes]]\nname = "{name}"\npath = "{path}"\nremote = "{remote}"\n'


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        ({"name": "one"}, "c.toml:6: volumes[1].name: two volumes are called 'one'"),
        ({"path": "/ckpt"}, "c.toml:7: volumes[1].path: '/ckpt' is the same as the path of volume 'one'"),
        ({"path": "/ckpt/inner"}, "c.toml:7: volumes[1].path: '/ckpt/inner' lies inside the path of volume 'one'"),
        ({"path": "/"}, "c.toml:7: volumes[1].path: '/' contains the path of volume 'one'"),
        ({"remote": "s3://bucket/x/"}, "c.toml:8: volumes[1].remote: 's3://bucket/x/' is the same as the remote"),
        ({"remote": "S3://bucket//x"}, "c.toml:8: volumes[1].remote: not a URL"),
        ({"remote": "s3://bucket/x/y"}, "c.toml:8: volumes[1].remote: 's3://bucket/x/y' lies inside the remote"),
        ({"remote": "s3://bucket"}, "c.toml:8: volumes[1].remote: 's3://bucket' contains the remote of volume 'one'"),
        (
            {"remote": "file:///ckpt/r"},
            "c.toml:8: volumes[1].remote: 'file:///ckpt/r' lies inside the directory of volume",
        ),
    ],
)
def test_volumes_must_not_overlap(tmp_path, volumes, message):
    assert mistakes(tmp_path, two(**volumes))[0].startswith(message)


@pytest.mark.parametrize("volumes", [{"path": "/ckpt2"}, {"remote": "s3://bucket/x2"}, {"remote": "file:///ckpt2"}])
def test_a_common_beginning_of_a_name_is_no_overlap(tmp_path, volumes):
    (tmp_path / "ok.toml").write_text(two(**volumes))
    assert len(load(config=str(tmp_path / "ok.toml"), environ={}).settings.volumes) == 2


def test_an_overlap_through_a_symbolic_link_is_found(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    text = two(path=f"{tmp_path}/link/a") + f'[[volumes]]\nname = "3"\npath = "{tmp_path}/real/a"\nremote = "s3://z"\n'
    assert "is the same as the path of volume 'two'" in mistakes(tmp_path, text)[0]


def test_tiers_must_not_overlap_each_other_nor_a_remote(tmp_path):
    assert (
        "lies inside the directory of the ram tier"
        in mistakes(tmp_path, '[tiers.ram]\npath = "/t"\n[tiers.nvme]\npath = "/t/n"\n')[0]
    )
    assert (
        "lies inside the directory of the nvme tier"
        in mistakes(tmp_path, '[tiers.nvme]\npath = "/t"\n[[volumes]]\npath = "/x"\nremote = "file:///t/r"\n')[0]
    )
