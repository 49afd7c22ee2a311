"""The node's metrics in Prometheus text format (docs/metrics.md lists every name)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ckptd.domain.model import CheckpointState, Exposure, NodeReport
from ckptd.engine.meters import Meters
from ckptd.transfer.transfers import Tally

_Values = Iterable[tuple[tuple[str, ...], float]]
_VOLUME = ("volume",)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one volume, what a status does not say."""

    exposure: Exposure = field(default_factory=lambda: Exposure(0, 0, None))
    states: Mapping[CheckpointState, int] = field(default_factory=dict)
    pins: int = 0
    tally: Tally = field(default_factory=Tally)


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def render(report: NodeReport, counts: Mapping[str, Counts], meters: Meters) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Once([*_of_node(report), *_of_tiers(report), *_of_volumes(report, counts)]))
    return generate_latest(registry) + generate_latest(meters.registry)


def _gauge(name: str, text: str, values: _Values, labels: tuple[str, ...] = ()) -> Metric:
    family = GaugeMetricFamily(f"ckptd_{name}", text, labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family


def _counter(name: str, text: str, values: _Values, labels: tuple[str, ...] = ()) -> Metric:
    """`name` without `_total`, which is added."""
    family = CounterMetricFamily(f"ckptd_{name}", text, labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family


def _of_node(report: NodeReport) -> Iterator[Metric]:
    moving, scrub = report.transfers, report.scrub
    yield _gauge("build_info", "1, with the version as label", [((report.version,), 1)], ("version",))
    yield _gauge("up_seconds", "Seconds since the worker started", [((), report.uptime_s)])
    yield _counter("worker_restarts", "Times the worker was restarted after a crash", [((), report.restarts)])
    yield _gauge("upload_bytes_per_second", "Upload speed over the last seconds", [((), moving.upload_bytes_per_s)])
    yield _gauge(
        "download_bytes_per_second", "Download speed over the last seconds", [((), moving.download_bytes_per_s)]
    )
    yield _gauge("queued_bytes", "Bytes of begun transfers that have not moved yet", [((), moving.queued_bytes)])
    yield _gauge("operations_running", "Operations that run now", [((), len(report.operations))])
    yield _gauge("scrub_due_bytes", "Bytes of copies that are to be read again now", [((), scrub.due_bytes)])
    yield _counter("scrub_checked_bytes", "Bytes read by the scrub and found good", [((), scrub.checked_bytes)])
    yield _counter("scrub_bad", "Bad copies found by the scrub", [((), scrub.bad)])


def _of_tiers(report: NodeReport) -> Iterator[Metric]:
    tiers, label = report.tiers, ("tier",)
    yield _gauge("tier_budget_bytes", "Configured budget", [((t.name,), t.budget_bytes) for t in tiers], label)
    yield _gauge(
        "tier_effective_budget_bytes", "Budget under the present memory pressure",
        [((t.name,), t.effective_budget_bytes) for t in tiers], label,
    )  # fmt: skip
    yield _gauge("tier_used_bytes", "Bytes in the tier", [((t.name,), t.used_bytes) for t in tiers], label)
    yield _gauge("tier_pinned_bytes", "Bytes that are pinned", [((t.name,), t.pinned_bytes) for t in tiers], label)


def _of_volumes(report: NodeReport, counts: Mapping[str, Counts]) -> Iterator[Metric]:
    volumes, each = report.volumes, [((name,), one) for name, one in counts.items()]
    yield _gauge(
        "exposure_bytes", "Acknowledged bytes that are not durable: what a node loss costs now",
        [(name, one.exposure.bytes) for name, one in each], _VOLUME,
    )  # fmt: skip
    yield _gauge(
        "exposure_files", "Files that are not durable", [(name, one.exposure.files) for name, one in each], _VOLUME
    )
    yield _gauge(
        "exposure_oldest_seconds", "Age of the oldest exposure; 0: none",
        [(name, one.exposure.oldest_s or 0.0) for name, one in each], _VOLUME,
    )  # fmt: skip
    yield _gauge(
        "remote_ok", "1: the remote answers; 0: it does not", [((v.name,), v.remote_ok) for v in volumes], _VOLUME
    )
    yield _counter(
        "upload_bytes", "Bytes of files that the remote received and confirmed",
        [(name, one.tally.sent) for name, one in each], _VOLUME,
    )  # fmt: skip
    yield _counter(
        "upload_copied_bytes", "Bytes of files that the remote copied instead of receiving them",
        [(name, one.tally.copied) for name, one in each], _VOLUME,
    )  # fmt: skip
    yield _counter(
        "download_bytes", "Bytes of files that were fetched from the remote and checked",
        [(name, one.tally.received) for name, one in each], _VOLUME,
    )  # fmt: skip
    yield _counter(
        "remote_retries", "Requests that failed and were made again", [(name, one.tally.retries) for name, one in each],
        _VOLUME,
    )  # fmt: skip
    yield _counter(
        "remote_failures", "Requests given up because the remote does not answer, or may not be used",
        [(name, one.tally.failures) for name, one in each], _VOLUME,
    )  # fmt: skip
    yield _gauge("runs", "Known runs", [((v.name,), v.runs) for v in volumes], _VOLUME)
    yield _gauge(
        "checkpoints", "Known checkpoints by their state",
        [((*name, str(state)), one.states.get(state, 0)) for name, one in each for state in CheckpointState],
        ("volume", "state"),
    )  # fmt: skip
    yield _gauge(
        "pins",
        "Checkpoints that are kept hot by a pin or a prefetch",
        [(name, one.pins) for name, one in each],
        _VOLUME,
    )
