"""`[[layouts]]`: validated with line and key, shown, and handed to the worker."""

from __future__ import annotations

import pytest

from ckptd.domain.errors import ConfigError
from ckptd.settings import Settings, describe, load

VOLUME = '[[volumes]]\npath = "/ckpt"\nremote = "s3://bucket/x"\n'
GOOD = (
    '[[layouts]]\nname = "snap"\npattern = "snap_{step}/**"\nmarker = "ok"\nrequires = ["*.w"]\ntemporary = ["*.wip"]\n'
)


def loaded(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(VOLUME + text)
    return load(config=str(path), environ={}, uid=1000)


def test_a_layout_reaches_the_worker_as_a_pattern(tmp_path):
    settings = Settings.model_validate(loaded(tmp_path, GOOD).settings.model_dump(mode="json"))
    (pattern,) = [layout.to_pattern() for layout in settings.layouts]
    assert (pattern.name, pattern.marker, pattern.requires, pattern.temporary) == ("snap", "ok", ("*.w",), ("*.wip",))
    assert pattern.step_of("snap_7/x/y") == (7, 0)
    assert loaded(tmp_path, "").settings.layouts == []


def test_it_is_shown_with_where_it_comes_from(tmp_path):
    rows = {row.key: row for row in describe(loaded(tmp_path, GOOD))}
    assert rows["layouts[0].pattern"].value == "snap_{step}/**"
    assert rows["layouts[0].pattern"].origin == f"{tmp_path}/c.toml:6"
    assert rows["layouts[0].requires[0]"].value == "*.w"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[layouts]]\nname = "a"', "c.toml:4: layouts[0].pattern: is required"),
        (
            '[[layouts]]\nname = "a"\npattern = "x"',
            "c.toml:6: layouts[0].pattern: must hold {step} exactly once, got 'x'",
        ),
        ('[[layouts]]\nname = "a b"\npattern = "{step}"', "c.toml:5: layouts[0].name: a name consists of letters"),
        (
            '[[layouts]]\nname = "a"\npattern = "../{step}"',
            "c.toml:6: layouts[0].pattern: must be relative and without '..'",
        ),
        (GOOD + 'patern = ""', "c.toml:10: layouts[0].patern: no such key; did you mean pattern?"),
        (GOOD.replace('["*.w"]', '"*.w"'), "c.toml:8: layouts[0].requires: expected a list of text, got '*.w' (str)"),
        (GOOD.replace('["*.w"]', '["/x"]'), "c.toml:8: layouts[0].requires[0]: must be relative"),
        (GOOD.replace('["*.wip"]', '["*"]'), "c.toml:9: layouts[0].temporary[0]: must be the pattern of a name"),
        (GOOD + GOOD, "c.toml:11: layouts[1].name: two layouts are called 'snap'"),
        ("layouts = 3", "c.toml:4: volumes[0].layouts: no such key"),
    ],
)
def test_a_mistake_names_line_and_key(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text + "\n")
    assert caught.value.message.replace(f"{tmp_path}/", "").startswith(message)
