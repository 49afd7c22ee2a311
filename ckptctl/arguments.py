"""The kinds of words on the command line: checkpoints, times; and the completion of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ckptctl.session import Session
from ckptd.domain.errors import CkptdError, UsageError
from ckptd.domain.names import CheckpointId, check_tag, key_of, path_of

if TYPE_CHECKING:
    from collections.abc import Callable


def as_key(text: str) -> str:
    """A name as `ls` shows it or as the shell completes it, in the form the API takes."""
    return key_of(path_of(text))


class _Checkpoint(click.ParamType[str]):
    name = "RUN[@STEP]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            CheckpointId.parse(value)
        except UsageError as error:
            self.fail(f"{error.message} ({error.hint})", param, ctx)
        return as_key(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del param
        return _names(ctx, incomplete, steps=True)


class _Tag(click.ParamType[str]):
    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_tag(value)
        except UsageError as error:
            self.fail(f"{error.message} ({error.hint})", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The run's tags: one is mostly moved, or deleted."""
        del param
        run = str(ctx.params.get("target") or "").partition("@")[0]
        session = ctx.find_object(Session) or Session()
        try:
            found = session.client.get("/v1/tags", volume=session.volume, run=run or None)
        except (CkptdError, ValueError):
            return []
        return [CompletionItem(tag["name"]) for tag in found if tag["name"].startswith(incomplete)]


class _Run(click.ParamType[str]):
    name = "RUN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value or "/" in value:
            self.fail(f"'{value}' names no run: a run is one folder of the volume (see: ckptctl ls)", param, ctx)
        return as_key(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del param
        return _names(ctx, incomplete, steps=False)


class _RunOrCheckpoint(_Run):
    """For what lists: a run, one checkpoint of it, or a run with an '@' in its name."""

    name = "RUN[@STEP]"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del param
        return _names(ctx, incomplete, steps=True)


class _Time(click.ParamType[float]):
    name = "T"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):  # a default
            return value
        if value.isascii() and value.removesuffix("s").isdigit():  # without the parser, whose imports take 0.1 s
            return float(value.removesuffix("s"))
        from ckptd.settings.quantities import parse_time  # noqa: PLC0415 - few calls name a time

        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


CHECKPOINT = _Checkpoint()
RUN = _Run()
RUN_OR_CHECKPOINT = _RunOrCheckpoint()
TAG = _Tag()
TIME = _Time()


def _names(ctx: click.Context, incomplete: str, *, steps: bool) -> list[CompletionItem]:
    """Quietly nothing when the daemon is down: completion must not talk."""
    session = ctx.find_object(Session) or Session()
    run, at, _ = incomplete.rpartition("@")
    try:
        if steps and at:
            from ckptctl.client import part  # noqa: PLC0415 - completion of steps only

            found = session.client.get(f"/v1/runs/{part(as_key(run))}/checkpoints", volume=session.volume)
            names = [f"{run}@{name}" for checkpoint in found for name in (checkpoint["step"], *checkpoint["tags"])]
        else:
            names = [row["run"] for row in session.client.get("/v1/runs", volume=session.volume)]
    except (CkptdError, ValueError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def target_argument(required: bool = True) -> Callable[[Any], Any]:
    return click.argument(
        "target", metavar="RUN[@STEP]" if required else "[RUN[@STEP]]", type=CHECKPOINT, required=required
    )


def daemon_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """What `up` hands on to the daemon, and `doctor` to its checks."""
    for decorate in (
        click.option("--state-dir", metavar="DIR", help="Where catalog and log are kept."),
        click.option("--config", metavar="FILE", help="A config file instead of the usual one."),
        click.option("--front", type=click.Choice(["auto", "mount", "watch"]), help="How the job meets PATH."),
        click.option("--nvme", metavar="DIR[:SIZE]", help="Directory and budget of the NVMe tier."),
        click.option("--ram", metavar="SIZE", help="Budget of the RAM tier, e.g. 64GiB or 25%."),
        click.option("--remote", metavar="URL", help="Durable store: s3://bucket/prefix, file:///directory, …"),
        click.argument("path", required=False, type=click.Path()),
    ):
        function = decorate(function)
    return function
