"""Alert rules, the dashboard and the scrape configuration: each expression against the metrics of a real daemon."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))

from tests_node_daemon import Daemon, save
from tests_node_fixtures import new_daemon

__all__ = ["new_daemon"]

HERE = Path(__file__).parents[2] / "packaging/monitoring"
PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((HERE / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((HERE / "dashboard.json").read_text())

_absent = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")


def promtool(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.packagers(_absent(test))


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


@promtool
def test_promtool_takes_the_scrape_configuration_for_kubernetes_apart_from_the_discovery(tmp_path: Path) -> None:
    """Which Debian's is built without. What is looked for is tested beside the DaemonSet."""
    document = yaml.safe_load((HERE / "scrape_kubernetes.yaml").read_text())
    [job] = document["scrape_configs"]
    assert job["job_name"] == "ckptd"  # as the alerts call it
    del job["kubernetes_sd_configs"]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(document))
    shutil.copy(HERE / "alerts.yaml", tmp_path)
    done = check("check", "config", tmp_path / "prometheus.yaml")
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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
def scraped(new_daemon: Callable[..., Daemon]) -> tuple[Daemon, int]:
    """A daemon with the port where it may be scraped; it has committed a checkpoint."""
    port = _free_port()
    daemon = new_daemon(extra=f'metrics = "127.0.0.1:{port}"')
    daemon.start()
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"1" * 100_000, "trainer_state.json": b"{}"})
    daemon.committed("run-1", 1)
    return daemon, port


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: prometheus)")
def test_a_real_prometheus_scrapes_a_daemon_and_answers_all_that_is_asked(
    scraped: tuple[Daemon, int], tmp_path: Path
) -> None:
    daemon, target = scraped
    document = yaml.safe_load((HERE / "scrape.yaml").read_text())
    document["global"] = {"evaluation_interval": "1s"}
    job = document["scrape_configs"][0]
    job |= {"scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    document["scrape_configs"] = [job]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(document))
    shutil.copy(HERE / "alerts.yaml", tmp_path)
    port = _free_port()

    def ask(what: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{port}/api/v1/{what}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:
                raise ConnectionRefusedError("it is being started") from error
            raise AssertionError(f"{what} {query}: {error.read().decode()}") from error

    def value(expression: str) -> float | None:
        try:
            found = ask("query", query=expression)["result"]
        except OSError:  # it is being started
            return None
        return float(found[0]["value"][1]) if found else None

    with (tmp_path / "log").open("wb") as log:
        prometheus = subprocess.Popen(
            ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        daemon.until(
            lambda: value("count(count_over_time(ckptd_up_seconds[1m]) > 2)"), "scraped three times", timeout=60
        )
        assert value("ckptd_build_info") == value('up{job="ckptd"}') == 1
        assert value("ckptd_commit_seconds_count") == 1
        for where, expression in expressions().items():
            if not where.startswith("variable"):
                assert ask("query", query=_plain(expression)), where
        (group,) = daemon.until(
            lambda: (
                (now := ask("rules")["groups"])
                and not any(rule["lastEvaluation"].startswith("0001") for rule in now[0]["rules"])
                and now
            ),
            "the rules are evaluated",
        )
        assert {rule["health"] for rule in group["rules"]} == {"ok"}
        assert [rule["name"] for rule in group["rules"] if rule["state"] == "firing"] == []
    finally:
        prometheus.terminate()
        prometheus.wait(30)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_command_that_scrapes_the_socket_works(scraped: tuple[Daemon, int], tmp_path: Path) -> None:
    daemon, _ = scraped
    said = re.search(r"/bin/sh -c '(.*?)'", (HERE / "scrape.yaml").read_text(), re.DOTALL)
    assert said
    command = re.sub(r"\\\n\s*#\s*", "", said[1])
    command = command.replace("/run/ckptd/ckptd.sock", f"{daemon.home}/s").replace(
        "/var/lib/node_exporter", str(tmp_path)
    )
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=30)
    assert [path.name for path in tmp_path.glob("ckptd.prom*")] == ["ckptd.prom"]
    assert "ckptd_commit_seconds_count" in (tmp_path / "ckptd.prom").read_text()
    before = (tmp_path / "ckptd.prom").read_text()
    daemon.end()
    assert subprocess.run(["/bin/sh", "-c", command], check=False, timeout=30).returncode != 0
    assert (tmp_path / "ckptd.prom").read_text() == before
