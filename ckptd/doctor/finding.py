"""What a check answers. The JSON keys are a public interface (docs/cli.md)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but something is slower, smaller or less safe than it could be
    FAILED = "failed"  # `ckptctl up` will refuse, or checkpoints will not become durable
    SKIPPED = "skipped"  # could not be looked at; the detail says why


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    """Stable name, e.g. `inotify`."""
    state: State
    detail: str
    fix: str = ""
    """What to do about it; empty where there is nothing to do."""


def readable(size: int) -> str:
    """Three digits are enough for a person: `23.5 GiB`."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"


def ok(check: str, detail: str) -> Finding:
    return Finding(check, State.OK, detail)


def warning(check: str, detail: str, fix: str) -> Finding:
    return Finding(check, State.WARNING, detail, fix)


def failed(check: str, detail: str, fix: str) -> Finding:
    return Finding(check, State.FAILED, detail, fix)


def skipped(check: str, detail: str) -> Finding:
    return Finding(check, State.SKIPPED, detail)
