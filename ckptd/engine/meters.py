"""Counters and histograms of this worker (docs/metrics.md). They begin at zero with each worker, as Prometheus expects.

Labelled by volume, never by run: runs are without number, and each would stay a time series for ever. A volume has one remote, so
its name stands for the remote too.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from ckptd.domain.model import TIERS, CheckpointState, Place

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each of ours, which nobody asks for

SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Bounds for saves, commits and fetches: from a test's checkpoint to terabytes on a slow line."""
LAG_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Meters:
    """`volumes`: names whose series exist, at zero, before anything happens."""

    def __init__(self, volumes: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self.save = self._histogram("save_seconds", "First to last write of a checkpoint: the job waits for it")
        self.commit = self._histogram("commit_seconds", "Last write of a checkpoint to this node's manifest of it")
        self.prefetch = self._histogram("prefetch_seconds", "Until a prefetched checkpoint was hot")
        self.open = self._histogram("open_seconds", "Until a cold file that a job opened could be read")
        self.lookups = self._counter(
            "lookups", "Checkpoints asked for, by the slowest place where some of it was", "by", "tier"
        )
        self.upload_failures = self._counter(
            "upload_failures", "Uploads of files that failed and are tried again later"
        )
        self.demotions = self._counter("demotions", "Files moved from RAM to NVMe")
        self.demoted_bytes = self._counter("demoted_bytes", "Bytes of them")
        self.promotions = self._counter("promotions", "Files moved from NVMe to RAM because the policy wants them hot")
        self.evictions = self._counter("evictions", "Files whose last copy on this node was dropped")
        self.evicted_bytes = self._counter("evicted_bytes", "Bytes of them")
        self.prunes = self._counter("prunes", "Checkpoints removed from the remote by keep_remote")
        self.transitions = self._counter("checkpoint_transitions", "Checkpoints that came into this state", "state")
        self.mount_restarts = self._counter("mount_server_restarts", "Servers of a mount that were replaced")
        self.last_save = self._gauge("last_save_timestamp_seconds", "Last write of the newest save; 0: none")
        self.last_commit = self._gauge("last_commit_timestamp_seconds", "This node's newest manifest; 0: none")
        self.save_interval = self._gauge(
            "save_interval_seconds", "Between the last two saves of the run that saved last; 0: not known"
        )
        self.pressure_shrinks = Counter(
            "ckptd_pressure_shrinks", "Times memory pressure shrank the RAM tier", registry=self.registry
        )
        self.events = Counter("ckptd_events", "Events that were recorded", ("event", "level"), registry=self.registry)
        self.loop_lag = Histogram(
            "ckptd_event_loop_lag_seconds", "How late the worker's event loop ran a timer", buckets=LAG_S,
            registry=self.registry,
        )  # fmt: skip
        for volume in volumes:
            self._begin(volume)

    def _begin(self, volume: str) -> None:
        """Only what exists at zero shows its first increase."""
        for metric in (
            self.save, self.commit, self.prefetch, self.open, self.upload_failures, self.demotions, self.demoted_bytes,
            self.promotions, self.evictions, self.evicted_bytes, self.prunes, self.mount_restarts, self.last_save,
            self.last_commit, self.save_interval,
        ):  # fmt: skip
            metric.labels(volume)
        for state in CheckpointState:
            self.transitions.labels(volume, state)
        for by in ("latest", "prefetch"):
            for place in (*TIERS, Place.REMOTE):
                self.lookups.labels(volume, by, place)
        self.lookups.labels(volume, "open", Place.REMOTE)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ckptd_{name}", text, ("volume", *labels), registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"ckptd_{name}", text, ("volume",), registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"ckptd_{name}", text, ("volume",), buckets=SECONDS, registry=self.registry)
