"""Alert rules, the dashboard and the scrape configuration: each expression against the metrics of a real daemon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))

from tests_node_daemon import Daemon
from tests_node_fixtures import new_daemon

__all__ = ["new_daemon"]

HERE = Path(__file__).parents[2] / "packaging/monitoring"
PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((HERE / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((HERE / "dashboard.json").read_text())

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def expressions() -> dict[str, str]:
    """By where they stand."""
    found = {f"alert {rule['alert']}": str(rule["expr"]) for rule in RULES}
    for panel in panels():
        for target in panel["targets"]:
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    for variable in DASHBOARD["templating"]["list"][1:]:
        found[f"variable {variable['name']}"] = variable["query"]["query"]
    return found


def check(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, input=text, check=False)


def test_every_metric_and_label_that_is_asked_for_is_exported(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    daemon.start()
    lines = [line for line in daemon.get("/metrics").decode().splitlines() if not line.startswith("#")]
    exported: dict[str, set[str]] = {}
    for line in lines:
        name = re.match(r"\w+", line)
        assert name
        exported.setdefault(name[0], {"instance", "job"}).update(re.findall(r'[{,](\w+)="', line))
    for where, expression in expressions().items():
        assert "ckptd_" in expression or where == "alert CkptdDown", where
        for name, labels in re.findall(r"\b(ckptd_\w+)(\{[^}]*\})?", expression):
            assert name in exported, f"{where}: {name}"
            asked = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", labels))
            assert asked <= exported[name], f"{where}: {name} has no label {asked - exported[name]}"


def test_every_panel_is_somewhere_and_says_its_unit() -> None:
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "no panel covers another"
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(
            target["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for target in panel["targets"]
        )


def test_every_alert_says_what_to_do_and_is_described() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} == rule["annotations"].keys()
    assert [rule["alert"] for rule in RULES] == re.findall(r"^\| `(Ckptd\w+)` \|", PAGE, re.MULTILINE)


@promtool
def test_promtool_takes_rules_and_scrape_configuration(tmp_path: Path) -> None:
    done = check("check", "config", HERE / "scrape.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    quoted = "".join(f"  - record: a:b\n    expr: {json.dumps(_plain(one))}\n" for one in _dashboard_expressions())
    (tmp_path / "panels.yaml").write_text(f"groups:\n- name: panels\n  rules:\n{quoted}")
    done = check("check", "rules", "--lint=none", tmp_path / "panels.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def _dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def _plain(expression: str) -> str:
    """As Grafana sends it."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$volume", ".*")


@promtool
def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    done = check("test", "rules", HERE / "alerts_test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
@pytest.mark.parametrize("number", range(len(RULES)), ids=[rule["alert"] for rule in RULES])
@pytest.mark.parametrize("broken", ["never", "always"])
def test_the_tests_of_an_alert_fail_without_it(tmp_path: Path, number: int, broken: str) -> None:
    shutil.copy(HERE / "alerts_test.yaml", tmp_path)
    rules = [dict(rule) for rule in RULES]
    rules[number] |= {"expr": "vector(0) > 1"} if broken == "never" else {"expr": "vector(1)", "for": "0s"}
    document = {"groups": [{"name": "ckptd", "rules": rules}]}
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(document))
    assert check("test", "rules", tmp_path / "alerts_test.yaml").returncode != 0
