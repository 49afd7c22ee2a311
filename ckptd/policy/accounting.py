"""A run's report from what was measured. Pure.

What the remote alone would have taken is estimated: each save, or each resume, at the speed at which a probe wrote (read) one
object straight to (from) the remote, in one stream. A save takes at least as long as it took into memory, because the job also
has to make its bytes. A job that writes many files at once may be faster than one stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from statistics import median

from ckptd.domain.history import Interval, Probe, RemoteAlone, Resume, RunAccount, Save, Spread
from ckptd.policy.interval import daly, young

SHORTEST_S = 0.001
"""What a save is taken to cost at least: the time stamps are no finer."""


def account(
    volume: str, run: str, node: str, saves: Sequence[Save], resumes: Sequence[Resume], probe: Probe | None,
    *, mtbf_s: float, gpus: int | None = None,
) -> RunAccount:  # fmt: skip
    """`saves` and `resumes` of the run, `probe` the last one of its remote."""
    ends = sorted(save.ended_at for save in saves)
    took = [_took(save) for save in saves if save.began_at is not None]
    save = spread(took)
    return RunAccount(
        volume=volume,
        run=run,
        node=node,
        since=min((save.began_at or save.ended_at for save in saves), default=None),
        until=ends[-1] if ends else None,
        saves=len(saves),
        bytes=sum(save.bytes for save in saves),
        copied_bytes=sum(save.copied for save in saves),
        every_s=median(after - before for before, after in pairwise(ends)) if len(ends) > 1 else None,
        save=save,
        durable=spread([max(0.0, one.durable_at - one.ended_at) for one in saves if one.durable_at is not None]),
        resume=spread([one.ended_at - one.began_at for one in resumes]),
        resumes_hot=sum(not one.fetched for one in resumes),
        mtbf_s=mtbf_s,
        gpus=gpus,
        interval=interval(save, mtbf_s),
        remote_alone=None if probe is None else _alone(saves, resumes, probe, mtbf_s, gpus),
    )


def _alone(
    saves: Sequence[Save], resumes: Sequence[Resume], probe: Probe, mtbf_s: float, gpus: int | None
) -> RemoteAlone:
    write, read = probe.bytes / max(SHORTEST_S, probe.write_s), probe.bytes / max(SHORTEST_S, probe.read_s)
    measured = [save for save in saves if save.began_at is not None]
    estimated = [max(_took(save), save.bytes / write) for save in measured]
    save = spread(estimated)
    saved_s = sum(estimated) - sum(_took(save) for save in measured)
    return RemoteAlone(
        probed_at=probe.at,
        probe_bytes=probe.bytes,
        write_bytes_per_s=write,
        read_bytes_per_s=read,
        save=save,
        resume=spread([resume.bytes / read for resume in resumes]),
        saved_s=saved_s,
        gpu_hours=None if gpus is None else saved_s * gpus / 3600.0,
        interval=interval(save, mtbf_s),
    )


def interval(save: Spread | None, mtbf_s: float) -> Interval | None:
    if save is None:
        return None
    cost = max(SHORTEST_S, save.median_s)
    return Interval(cost, young(cost, mtbf_s), daly(cost, mtbf_s))


def spread(times: Sequence[float]) -> Spread | None:
    """The percentile is the nearest rank: one that was measured."""
    if not times:
        return None
    ordered = sorted(times)
    return Spread(len(ordered), median(ordered), ordered[ceil(0.95 * len(ordered)) - 1], sum(ordered))


def _took(save: Save) -> float:
    return 0.0 if save.began_at is None else max(0.0, save.ended_at - save.began_at)
