"""A daemon's metrics, read as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from tests_node_daemon import Daemon


class Metrics:
    """One scrape."""

    def __init__(self, daemon: Daemon) -> None:
        self.text = daemon.get("/metrics").decode()
        self.families = {family.name: family for family in text_string_to_metric_families(self.text)}
        self._samples = [sample for family in self.families.values() for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name with these labels (and any others)."""
        found = [one for one in self._samples if one.name == name and labels.items() <= one.labels.items()]
        assert found, f"{name} {labels} is not exported"
        return sum(one.value for one in found)
