"""What was measured of saves, of resumes, and of a remote by itself; and what a run's report makes of it.

Sizes are bytes, times seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

from ckptd.domain.model import Place


@dataclass(frozen=True, slots=True)
class Save:
    """One checkpoint as this node saw it being written."""

    volume: str
    run: str
    step: int
    began_at: float | None
    """First write; None: it was not seen (the daemon was away)."""
    ended_at: float
    """Last write."""
    bytes: int
    """Of the files that this node wrote."""
    durable_at: float | None = None
    """This node's manifest; None: not yet, or never."""
    copied: int = 0
    """Of `bytes`, what the remote copied from the checkpoint before instead of receiving it."""


@dataclass(frozen=True, slots=True)
class Resume:
    """A checkpoint that somebody wanted hot."""

    volume: str
    run: str
    step: int
    began_at: float
    ended_at: float
    bytes: int
    """Of what was asked for."""
    fetched: int
    """Of them, what was not in the tier."""
    tier: Place
    """The slowest place where some of it was."""
    by: str
    """`prefetch`, or `open`: a job opened cold files of a mounted volume."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One object written to a remote and read back while nobody else worked: what it does without ckptd."""

    volume: str
    at: float
    bytes: int
    write_s: float
    """Until the store had confirmed it."""
    read_s: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Of measured or estimated times, in seconds."""

    count: int
    median_s: float
    p95_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Interval:
    """How often to save, by what a save costs (`policy.interval`)."""

    cost_s: float
    young_s: float
    daly_s: float


@dataclass(frozen=True, slots=True)
class RemoteAlone:
    """What a run's saves and resumes would have taken straight to the remote: an estimate, from a probe."""

    probed_at: float
    probe_bytes: int
    write_bytes_per_s: float
    read_bytes_per_s: float
    save: Spread | None
    """None where no save was measured."""
    resume: Spread | None
    saved_s: float
    """Time that the job did not wait in its saves."""
    gpu_hours: float | None
    """`saved_s` on all of the job's GPUs; None where their number was not given."""
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class RunAccount:
    """A run in its own numbers, as this node measured them."""

    volume: str
    run: str
    node: str
    since: float | None
    """Of the first save; None: there was none."""
    until: float | None
    saves: int
    bytes: int
    copied_bytes: int
    every_s: float | None
    """Median time from one save to the next."""
    save: Spread | None
    """First write to last write: the job waits for it."""
    durable: Spread | None
    """Last write to manifest: the job does not wait for it."""
    resume: Spread | None
    """Until what was asked for was hot."""
    resumes_hot: int
    """Of them, how many found everything hot."""
    mtbf_s: float
    gpus: int | None
    interval: Interval | None
    remote_alone: RemoteAlone | None
    """None: there is no probe of this remote."""
