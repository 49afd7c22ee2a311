"""Man pages, made from the program that they describe: python packaging/manpages.py FOLDER

`man1/ckptctl.1`, one page for each command, and `man5/ckptd.toml.5` from the settings' own descriptions. Form: man(7).
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ckptctl.app import ckptctl
from ckptd import __version__
from ckptd.settings import describe, load
from ckptd.settings.models import Settings

CLI = Path(__file__).parent.parent / "docs/cli.md"
GLOBAL = {"socket", "volume", "json", "version", "help"}


def main() -> None:
    folder = Path(sys.argv[1])
    for section in ("man1", "man5"):
        (folder / section).mkdir(parents=True, exist_ok=True)
    for context in _commands(click.Context(ckptctl, info_name="ckptctl")):
        name = context.command_path.replace(" ", "-")
        (folder / f"man1/{name}.1").write_text("\n".join(_page(context)) + "\n", encoding="utf-8")
    (folder / "man5/ckptd.toml.5").write_text("\n".join(_settings()) + "\n", encoding="utf-8")


def _commands(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            found = context.command.get_command(context, name)
            assert found is not None
            yield from _commands(click.Context(found, parent=context, info_name=name))


def _page(context: click.Context) -> Iterator[str]:
    command, path = context.command, context.command_path
    yield from _head(path.replace(" ", "-"), 1, command.get_short_help_str(200).rstrip("."))
    yield ".SH SYNOPSIS"
    yield f"{_bold(path)} {_text(' '.join(command.collect_usage_pieces(context)))}"
    yield ".SH DESCRIPTION"
    yield from _prose(command.help or "")
    options = [one for one in command.params if isinstance(one, click.Option)]
    own = [one for one in options if one.name not in GLOBAL]
    if own:
        yield ".SH OPTIONS"
        yield from _options(own, context)
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _item(f"{path.replace(' ', '-')}-{name}(1)", inner.get_short_help_str(200))
    if context.parent is None:
        yield ".SH GLOBAL OPTIONS"
        yield "They may stand before or after the command."
        yield from _options([one for one in options if one.name in GLOBAL], context)
        yield from _contract()
        yield from _see("ckptd.toml(5)")
    else:
        yield ".PP"
        yield "Every command takes the global options of " + _bold("ckptctl") + "(1), where the exit codes are too."
        yield from _see("ckptctl(1)", "ckptd.toml(5)")


def _options(options: Iterable[click.Option], context: click.Context) -> Iterator[str]:
    for option in options:
        record = option.get_help_record(context)
        if record is not None:
            yield from _item(*record)


def _contract() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", CLI.read_text(encoding="utf-8"), re.MULTILINE):
        yield from _item(code, meaning.replace("\\|", "|"))
    yield ".SH ENVIRONMENT"
    yield from _item("CKPTD_SOCKET", "the daemon's socket, as --socket")
    yield from _item("CKPTD_CONFIG", "the config file, as --config")
    yield from _item("CKPTD_STATE_DIR", "the state directory, as --state-dir")
    yield ".PP"
    yield "Others stand for settings: see " + _bold("ckptd.toml") + "(5)."
    yield ".SH FILES"
    yield from _item(
        "/etc/ckptd/config.toml, ~/.config/ckptd/config.toml", "settings of root's daemon, and of a user's"
    )
    yield from _item("/var/lib/ckptd, ~/.local/state/ckptd", "catalog, lock and log")
    yield from _item("/run/ckptd/ckptd.sock", "where root's daemon answers")


def _settings() -> Iterator[str]:
    yield from _head("ckptd.toml", 5, "settings of ckptd, the checkpoint daemon")
    yield ".SH SYNOPSIS"
    yield "/etc/ckptd/config.toml, ~/.config/ckptd/config.toml"
    yield ".SH DESCRIPTION"
    yield from _prose(
        "A TOML file. Every key may be left out, and so may the file. A key is also set by a variable: `CKPTD_` and the key's "
        "path in capitals, e.g. `CKPTD_TIERS_RAM_BUDGET`; variables are stronger than the file, and flags of `ckptctl up` "
        "stronger than both. `ckptctl config check` names every mistake by file, line and key, `ckptctl config show` prints "
        "what is in force and where it came from.\n\nSizes: `64GiB`, `64G`, `64GB` (powers of 1000), a number of bytes, and for "
        "budgets `25%`. Times: `90s`, `5m`, `2h`, `1h30m`, `500ms`, or a number of seconds."
    )
    # As effective as they are where nobody has set anything; what depends on the machine is told by the descriptions.
    defaults = {re.sub(r"\[\d+\]", "", row.key): row.value for row in describe(load(config=os.devnull, environ={}))}
    for title, model in _sections(Settings, ""):
        yield f".SH {_text(title)}"
        for key, field in model.model_fields.items():
            if field.description:
                yield from _item(key, f"{field.description}{_default(title, key, field, defaults)}")
    yield from _see("ckptctl(1)")


def _sections(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Each table of the file with its model, as it is written there: [node], [[volumes]], [volumes.policy]."""
    for name, field in model.model_fields.items():
        kind, inner = field.annotation, [one for one in typing.get_args(field.annotation) if _is_model(one)]
        if _is_model(kind):
            yield f"[{prefix}{name}]", kind
            yield from _sections(kind, f"{prefix}{name}.")
        elif typing.get_origin(kind) is dict and inner:
            keys = typing.get_args(typing.get_args(kind)[0])
            yield ", ".join(f"[{prefix}{name}.{key}]" for key in keys), inner[0]
        elif inner:
            yield f"[[{prefix}{name}]]", inner[0]
            yield from _sections(inner[0], f"{prefix}{name}.")


def _is_model(kind: object) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _default(title: str, key: str, field: FieldInfo, defaults: dict[str, str]) -> str:
    value = defaults.get(f"{title.strip('[]')}.{key}", "")
    shown = {"True": "true", "False": "false", "0B": "0"}.get(value, value)
    return "" if field.is_required() or not value or "Default:" in str(field.description) else f" Default: `{shown}`."


def _head(name: str, section: int, summary: str) -> Iterator[str]:
    yield f'.TH {_text(name.upper())} {section} "" "ckptd {__version__}" "ckptd"'
    yield ".SH NAME"
    yield f"{_text(name)} \\- {_text(summary)}"


def _see(*pages: str) -> Iterator[str]:
    yield ".SH SEE ALSO"
    yield ", ".join(f"{_bold(page.partition('(')[0])}({page.partition('(')[2]}" for page in pages)


def _item(term: str, meaning: str) -> Iterator[str]:
    yield ".TP"
    yield _bold(term)
    yield _text(meaning) or "\\&"


def _prose(text: str) -> Iterator[str]:
    """Paragraphs; what begins with click's mark for that, a backspace, keeps its lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", inspect.cleandoc(text))):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield ".nf"
            yield from (_text(line.strip()) for line in paragraph.lstrip("\b").strip("\n").splitlines())
            yield ".fi"
        else:
            yield _text(" ".join(paragraph.split()))


def _bold(text: str) -> str:
    return f"\\fB{_escape(text)}\\fR"


def _text(text: str) -> str:
    """A line of its own, with `code` in bold and links as their words."""
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    parts = re.split(r"`([^`]*)`", text)
    line = "".join(_bold(part) if at % 2 else _escape(part) for at, part in enumerate(parts))
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _escape(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


if __name__ == "__main__":
    main()
