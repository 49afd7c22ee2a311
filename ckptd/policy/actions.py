"""What the planner can ask for. Each is idempotent and names all that its execution needs to check again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Upload:
    """Make this generation of the file durable."""

    file: int
    generation: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Write the manifest: all files are durable."""

    volume: str
    run: str
    step: int


@dataclass(frozen=True, slots=True)
class Uncommit:
    """Delete our manifest before objects it describes are replaced: a reader must never see a mixture."""

    volume: str
    run: str
    step: int


@dataclass(frozen=True, slots=True)
class Demote:
    """Move the file's copy from RAM to NVMe; it stays readable at its path."""

    file: int
    generation: int


@dataclass(frozen=True, slots=True)
class Promote:
    """Bring a whole copy into RAM (from NVMe, or from the remote where there is none locally)."""

    file: int
    generation: int


@dataclass(frozen=True, slots=True)
class Evict:
    """Drop all tier copies of a file that is durable."""

    file: int
    generation: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Drop the tier copies of a superseded checkpoint that `sync = latest` never uploaded. Only planned when a
    newer checkpoint of the run is committed and `keep_hot`/`keep_nvme` do not cover it: the user asked for it.
    """

    volume: str
    run: str
    step: int


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove a checkpoint from the remote (manifest first), by `keep_remote`."""

    volume: str
    run: str
    step: int


Action = Upload | Commit | Uncommit | Demote | Promote | Evict | Abandon | Prune
