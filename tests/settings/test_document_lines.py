"""Every key of a TOML file is found at its line, however the file is written."""

from __future__ import annotations

import pytest

from ckptd.domain.errors import ConfigError
from ckptd.settings.document import parse_document, read_document

TEXT = '''# a comment
[node]
name = "x"
state_dir = """
/a
[not.a.table]
"""

[tiers]
ram = { path = "/r", budget = 1 }   # inline
nvme.budget = "1%"

[[volumes]]
name = "one"
[volumes.options]
region = "eu"
[volumes.policy]
keep_hot = 1

  [[volumes]]
  name = "two"
  policy.keep_hot = 2
  tags = [
    "a", # ]
    { x = 1 },
  ]
["quoted table"]
'strange key' = 1
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("node",), 2),
        (("node", "name"), 3),
        (("node", "state_dir"), 4),
        (("tiers",), 9),
        (("tiers", "ram", "budget"), 10),
        (("tiers", "nvme", "budget"), 11),
        (("volumes", 0), 13),
        (("volumes", 0, "name"), 14),
        (("volumes", 0, "options"), 15),
        (("volumes", 0, "options", "region"), 16),
        (("volumes", 0, "policy", "keep_hot"), 18),
        (("volumes", 1), 20),
        (("volumes", 1, "name"), 21),
        (("volumes", 1, "policy", "keep_hot"), 22),
        (("volumes", 1, "tags", 1, "x"), 23),
        (("quoted table", "strange key"), 28),
    ],
)
def test_the_line_of_a_key(key, line):
    assert parse_document("f", TEXT).lines[key] == line


def test_line_endings_of_other_systems_do_not_shift_lines():
    document = parse_document("f", TEXT.replace("\n", "\r\n"))
    assert document.lines["volumes", 1, "name"] == 21


def test_broken_toml_is_reported_with_its_line():
    with pytest.raises(ConfigError, match=r"^f:3: not valid TOML: "):
        parse_document("f", "[node]\nname = 'x'\noops\n")
    with pytest.raises(ConfigError, match=r"^f:\d+: not valid TOML: "):
        parse_document("f", "[node]\nname = '''x\n")


def test_a_file_that_is_not_utf8_is_reported_with_its_line(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(b"[node]\n# gr\xfc\xdfe\n")
    with pytest.raises(ConfigError, match=r"c\.toml:2: not valid UTF-8"):
        read_document(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot read .*No such file"):
        read_document(str(tmp_path / "nowhere.toml"))
