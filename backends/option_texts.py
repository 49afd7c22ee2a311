"""Reading the options of a remote, which are text. What can never work raises BadConfiguration, with a hint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from .errors import BadConfiguration

_MOST_TAGS = 10  # of an object, with S3 as with OSS


def check_values(
    options: Mapping[str, str], free: Sequence[str], choices: Mapping[str, Sequence[str]], of: str
) -> None:
    """Each is one of `free`, or has one of its `choices`. `of`: "an s3:// remote"."""
    for name, value in options.items():
        if name not in free and name not in choices:
            known = ", ".join(sorted([*free, *choices]))
            raise BadConfiguration(f"'{name}' is no option of {of}", hint=f"known: {known}")
        if name in choices:
            one_of(choices[name], name, value)


def one_of(choices: Sequence[str], name: str, value: str) -> str:
    if value not in choices:
        raise BadConfiguration(f"{name} = '{value}'", hint=f"one of: {', '.join(choices)}")
    return value


def seconds(options: Mapping[str, str], name: str, default: float) -> float:
    text = options.get(name, "")
    try:
        value = float(text.removesuffix("s")) if text else default
    except ValueError:
        value = 0.0
    if not 0 < value < 86400:
        raise BadConfiguration(f"{name} = '{text}'", hint="seconds, above zero")
    return value


def tagging(text: str) -> str:
    """What `team=ml,kind=checkpoint` is in the stores' header: a query string."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    if (
        not all(names)
        or not all(sign for _, sign, _ in pairs)
        or len(set(names)) < len(names)
        or len(names) > _MOST_TAGS
    ):
        raise BadConfiguration(f"tags = '{text}'", hint='up to ten, each name once, e.g. "team=ml,kind=checkpoint"')
    return "&".join(f"{quote(name.strip(), safe='')}={quote(value.strip(), safe='')}" for name, _, value in pairs)
