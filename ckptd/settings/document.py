"""A TOML file with the line of every key, so that a message can name it. `tomllib` keeps no positions."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import Any

from ckptd.domain.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""`("volumes", 0, "policy", "keep_hot")`."""


@dataclass(frozen=True, slots=True)
class Document:
    path: str
    data: dict[str, Any]
    lines: dict[KeyPath, int]
    """First line (from 1) of each key's statement."""


def read_document(path: str) -> Document:
    """Raises ConfigError for a file that cannot be read or is not TOML, with the line where it is wrong."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot read the configuration: {error.strerror}", hint="see: ckptctl config check"
        ) from error
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not valid UTF-8, which TOML requires", hint="save it as UTF-8") from error
    return parse_document(path, text)


def parse_document(path: str, text: str) -> Document:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = found[1] if found else str(text.count("\n") + 1)
        reason = re.sub(r"\s*\(at .*\)$", "", str(error))
        raise ConfigError(f"{path}:{line}: not valid TOML: {reason}", hint="https://toml.io") from error
    return Document(path, data, _lines(text))


def _lines(text: str) -> dict[KeyPath, int]:
    """The text is valid TOML. Each statement is cut out and parsed alone, under the table header it belongs to."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    for number, statement in _statements(text):
        fragment = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _enter(fragment, counts, is_array=statement.lstrip().startswith("[["))
            for depth in range(1, len(table) + 1):
                lines.setdefault(table[:depth], number)
        else:
            for key in _keys(fragment, table):
                lines.setdefault(key, number)
    return lines


def _statements(text: str) -> list[tuple[int, str]]:
    """Line number and text of each statement: as many lines as it takes until the parser is content."""
    found: list[tuple[int, str]] = []
    pending, start = "", 1
    # TOML's newline is LF or CRLF only; splitlines() would also split at form feeds inside strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if not pending:
            start = number
            if not line.strip() or line.lstrip().startswith("#"):
                continue
        pending += line + "\n"
        try:
            tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        found.append((start, pending))
        pending = ""
    return found


def _enter(header: dict[str, Any], counts: dict[KeyPath, int], *, is_array: bool) -> KeyPath:
    """The key path of a `[table]` or of the next element of an `[[array]]`."""
    names: list[str] = []
    node: Any = header
    while isinstance(node, dict) and node:
        name, node = next(iter(node.items()))
        names.append(name)
    path: KeyPath = ()
    for depth, name in enumerate(names, start=1):
        path = (*path, name)
        if is_array and depth == len(names):
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _keys(value: Any, prefix: KeyPath) -> list[KeyPath]:
    if isinstance(value, dict):
        pairs: list[tuple[str | int, Any]] = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return []
    return [found for name, inner in pairs for found in [(*prefix, name), *_keys(inner, (*prefix, name))]]
