"""The node's report in Prometheus text format (docs/metrics.md lists every name)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ckptd.domain.model import NodeReport


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def render(report: NodeReport) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Once(list(_metrics(report))))
    return generate_latest(registry)


def _gauge(
    name: str, text: str, values: Iterable[tuple[tuple[str, ...], float]], labels: tuple[str, ...] = ()
) -> Metric:
    family = GaugeMetricFamily(f"ckptd_{name}", text, labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family


def _metrics(report: NodeReport) -> Iterator[Metric]:
    exposed, moving = report.exposure, report.transfers
    yield _gauge("up_seconds", "Seconds since the worker started", [((), report.uptime_s)])
    yield CounterMetricFamily(
        "ckptd_worker_restarts", "Times the worker was restarted after a crash", value=report.restarts
    )
    yield _gauge(
        "exposure_bytes", "Acknowledged bytes that are not durable: what a node loss costs now", [((), exposed.bytes)]
    )
    yield _gauge("exposure_files", "Files that are not durable", [((), exposed.files)])
    yield _gauge("exposure_oldest_seconds", "Age of the oldest exposure; 0: none", [((), exposed.oldest_s or 0.0)])
    yield _gauge("upload_bytes_per_second", "Upload speed over the last seconds", [((), moving.upload_bytes_per_s)])
    yield _gauge(
        "download_bytes_per_second", "Download speed over the last seconds", [((), moving.download_bytes_per_s)]
    )
    yield _gauge("queued_bytes", "Bytes of begun transfers that have not moved yet", [((), moving.queued_bytes)])
    yield CounterMetricFamily(
        "ckptd_sent_bytes", "Bytes of files that the remotes received and confirmed", value=moving.sent_bytes
    )
    yield CounterMetricFamily(
        "ckptd_copied_bytes",
        "Bytes of files that the remotes copied instead of receiving them",
        value=moving.copied_bytes,
    )
    yield _gauge("operations_running", "Operations that run now", [((), len(report.operations))])
    scrub = report.scrub
    yield _gauge("scrub_due_bytes", "Bytes of copies that are to be read again now", [((), scrub.due_bytes)])
    yield CounterMetricFamily(
        "ckptd_scrub_checked_bytes", "Bytes read by the scrub and found good", value=scrub.checked_bytes
    )
    yield CounterMetricFamily("ckptd_scrub_bad", "Bad copies found by the scrub", value=scrub.bad)
    tiers = report.tiers
    yield _gauge("tier_budget_bytes", "Configured budget", [((t.name,), t.budget_bytes) for t in tiers], ("tier",))
    yield _gauge(
        "tier_effective_budget_bytes", "Budget under the present memory pressure",
        [((t.name,), t.effective_budget_bytes) for t in tiers], ("tier",),
    )  # fmt: skip
    yield _gauge("tier_used_bytes", "Bytes in the tier", [((t.name,), t.used_bytes) for t in tiers], ("tier",))
    yield _gauge("tier_pinned_bytes", "Bytes that are pinned", [((t.name,), t.pinned_bytes) for t in tiers], ("tier",))
    volumes = report.volumes
    yield _gauge(
        "remote_ok", "1: the remote answers; 0: it does not", [((v.name,), v.remote_ok) for v in volumes], ("volume",)
    )
    yield _gauge("runs", "Known runs", [((v.name,), v.runs) for v in volumes], ("volume",))
    yield _gauge("checkpoints", "Known checkpoints", [((v.name,), v.checkpoints) for v in volumes], ("volume",))
