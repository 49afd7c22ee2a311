"""How far an operation is: a bar with speed and time left on a terminal, a line now and then elsewhere. On stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import click

from ckptctl import figures

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET_S = 10.0
"""Between two lines in a log."""

Operation = dict[str, Any]


class Meter(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, operation: Operation) -> None: ...


class Silent:
    """With `--json` away from a terminal."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, operation: Operation) -> None:
        del operation


class Lines(Silent):
    """For logs: how far it is, every ten seconds and only when something moved; nothing for what is done at once."""

    def __init__(self) -> None:
        self._next = time.monotonic() + QUIET_S / 5
        self._said = ""

    def show(self, operation: Operation) -> None:
        if operation["state"] != "running" or time.monotonic() < self._next:
            return
        done, total = operation["bytes_done"], operation["bytes_total"]
        text = f"{title(operation)}: {figures.size(done)} of {figures.size(total)} ({figures.share(done, total)})"
        if text != self._said:
            click.echo(text, err=True)
        self._next, self._said = time.monotonic() + QUIET_S, text


class Bar:
    """For terminals."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        from rich import progress  # noqa: PLC0415 - 50 ms that only a person who waits pays
        from rich.console import Console  # noqa: PLC0415 - as above

        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, operation: Operation) -> None:
        assert self._progress is not None
        total, done = operation["bytes_total"] or None, operation["bytes_done"]
        if self._task is None:
            # What was done before it began is no speed of its.
            before = operation.get("bytes_before", 0)
            self._task = self._progress.add_task(title(operation), total=total, completed=before)
        self._progress.update(self._task, total=total, completed=done)


def title(operation: Operation) -> str:
    """`prefetch run-42@1200`; a flush without a target is of everything in a volume, or on the node."""
    return f"{operation['kind']} {operation['target'] or operation['volume'] or 'everything'}"


def meter(*, json: bool) -> Meter:
    if sys.stderr.isatty():
        return Bar()
    return Silent() if json else Lines()
