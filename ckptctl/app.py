"""The root command: a table of names, each imported when it is called, and options that every command accepts."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from ckptctl.session import Session
from ckptd import __version__

COMMANDS: Mapping[str, str] = {
    "up": "ckptctl.commands.daemon",
    "down": "ckptctl.commands.daemon",
    "upgrade": "ckptctl.commands.daemon",
    "status": "ckptctl.commands.status",
    "ls": "ckptctl.commands.checkpoints",
    "latest": "ckptctl.commands.checkpoints",
    "report": "ckptctl.commands.report",
    "prefetch": "ckptctl.commands.operations",
    "flush": "ckptctl.commands.operations",
    "drain": "ckptctl.commands.drain",
    "tag": "ckptctl.commands.tags",
    "tags": "ckptctl.commands.tags",
    "diff": "ckptctl.commands.diff",
    "pin": "ckptctl.commands.checkpoints",
    "unpin": "ckptctl.commands.checkpoints",
    "evict": "ckptctl.commands.checkpoints",
    "policy": "ckptctl.commands.policy",
    "verify": "ckptctl.commands.operations",
    "scrub": "ckptctl.commands.operations",
    "restore": "ckptctl.commands.operations",
    "rm": "ckptctl.commands.checkpoints",
    "ops": "ckptctl.commands.operations",
    "cancel": "ckptctl.commands.operations",
    "events": "ckptctl.commands.events",
    "doctor": "ckptctl.commands.doctor",
    "config": "ckptctl.commands.config",
    "slurm": "ckptctl.commands.slurm",
    "completion": "ckptctl.commands.completion",
}
"""In the order of docs/cli.md."""

_GLOBAL = frozenset({"socket", "volume", "json", "version"})


def _keep(context: click.Context, option: click.Parameter, value: Any) -> None:
    """Into the session, wherever on the line it stood; the later one wins."""
    if value:
        setattr(context.ensure_object(Session), str(option.name), value)


def _version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(f"ckptctl {__version__}")
        context.exit()


def _global_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--json"], is_flag=True, is_eager=True, expose_value=False, callback=_keep,
            help="Only JSON on stdout.",
        ),
        click.Option(
            ["--socket"], metavar="PATH", is_eager=True, expose_value=False, callback=_keep,
            help="The daemon's socket (CKPTD_SOCKET).",
        ),
        click.Option(
            ["--volume"], metavar="NAME", expose_value=False, callback=_keep,
            help="Which volume, where more than one is served.",
        ),
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version,
            help="Print the version.",
        ),
    ]  # fmt: skip


def _write_options(command: click.Command, context: click.Context, formatter: click.HelpFormatter) -> None:
    """Its own options first, the ones that all commands have in a section below."""
    sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Global options": []}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and isinstance(parameter, click.Option):
            sections["Global options" if parameter.name in _GLOBAL else "Options"].append(record)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class Command(click.Command):
    """A command that accepts the global options too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_global_options()]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_options(self, ctx, formatter)


class Group(click.Group):
    """A group whose commands are `Command`s and that suggests what was meant."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_global_options()]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            ctx.fail(f"there is no command '{args[0]}'{_suggestion(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """Commands by name and module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def command(name: str) -> Callable[[Callable[..., Any]], Command]:
    return click.command(name, cls=Command)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def ckptctl() -> None:
    """Checkpoints at memory speed, durable in the background, hot again before the next start.

    RUN[@STEP] names a checkpoint, e.g. run-42@1200, or run-42@best by a tag; without a step the newest restorable one.
    Start with `ckptctl up`, look with `ckptctl status`.
    """
