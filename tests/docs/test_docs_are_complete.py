"""What has a public name is in docs/: settings, commands and their flags, endpoints, metrics, events, exit codes."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest

from ckptctl.app import COMMANDS
from ckptd.api.routes import ROUTES
from ckptd.domain import model
from ckptd.domain.errors import BY_CODE
from ckptd.engine.meters import Meters
from ckptd.engine.metrics import Counts, render
from ckptd.settings import models

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
ALL = "\n".join(PAGES.values())

SECTIONS = {
    "node": models.NodeSettings, "tiers.ram": models.TierSettings, "transfer": models.TransferSettings,
    "scrub": models.ScrubSettings, "probe": models.ProbeSettings, "access": models.AccessSettings,
    "volumes": models.VolumeSettings, "volumes.policy": models.PolicySettings,
    "layouts": models.LayoutSettings,
}  # fmt: skip


@pytest.mark.parametrize(
    ("section", "key"), [(name, key) for name, kind in SECTIONS.items() for key in kind.model_fields]
)
def test_every_setting_is_described_in_the_words_of_its_model(section: str, key: str) -> None:
    description = (SECTIONS[section].model_fields[key].description or "").replace("|", "\\|")
    assert f"| `{key}` | {description}" in PAGES["configuration.md"]


@pytest.mark.parametrize("backend", ["s3", "oss", "hdfs"])
def test_every_option_of_a_backend_is_described(backend: str) -> None:
    source = (ROOT / f"backends/{backend}_options.py").read_text(encoding="utf-8")
    assert PAGES["configuration.md"].count(f"| option of `{backend}://`") == 1
    page = PAGES["configuration.md"].partition(f"| option of `{backend}://`")[2].partition("\n\n")[0]
    for name in re.findall(r"^    (\w+) {2,}\S", source.split('"""')[1], re.MULTILINE):
        assert f"| `{name}` |" in page


def test_the_example_of_a_backend_stays_short() -> None:
    (example,) = re.findall(r"```python\n(import mmap.*?)```", PAGES["backends.md"], re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) < 100


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_described(command: str) -> None:
    assert re.search(rf"`ckptctl {command}\b|`{command}\b|\|{command}\b", PAGES["cli.md"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_a_command_is_described(command: str) -> None:
    importlib.import_module(COMMANDS[command])
    from ckptctl.app import ckptctl as root

    found = root.get_command(click.Context(root), command)
    assert found is not None
    for option in _options(found) - {"--help", "--json", "--socket", "--volume", "--version"}:
        assert option in PAGES["cli.md"], f"{command} {option}"


def _options(command: click.Command) -> set[str]:
    inner = getattr(command, "commands", {})
    own = {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")}
    return own.union(*(_options(sub) for sub in inner.values()))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_endpoint_is_described(route: object) -> None:
    assert f"{route.method} {route.path}" in ALL or f"| `{route.path}`" in ALL  # type: ignore[attr-defined]


def test_every_metric_is_described_and_every_described_one_exists() -> None:
    text = render(_report(), {"v": Counts()}, Meters(["v"])).decode()
    exported = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    described = set(re.findall(r"`(ckptd_\w+)`", PAGES["metrics.md"]))
    assert exported == described


def test_every_event_is_described_and_every_described_one_exists() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "ckptd").rglob("*.py"))
    calls = re.findall(r"\.event\(\s*(?:[^\"()]*|\"[a-z]+\"[^\"()]*(?:\"[a-z]+\",\s*)?)\"([a-z]+\.[a-z]+)\"", source)
    described = set(re.findall(r"^\| (`[a-z]+\.[a-z]+`.*?) \|", PAGES["metrics.md"], re.MULTILINE))
    names = {name for cell in described for name in re.findall(r"`([a-z.]+)`", cell)}
    operations = {f"operation.{state}" for state in model.OperationState if state is not model.OperationState.RUNNING}
    assert set(calls) | operations == names


@pytest.mark.parametrize("code", sorted({kind.exit_code for kind in BY_CODE.values()} | {0}))
def test_every_exit_code_is_described(code: int) -> None:
    assert re.search(rf"^\| `?{code}`? \|", PAGES["cli.md"], re.MULTILINE)


@pytest.mark.parametrize("state", list(model.CheckpointState))
def test_every_state_of_a_checkpoint_is_described(state: str) -> None:
    assert f"`{state}`" in PAGES["cli.md"]


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_paths_that_pages_name_exist() -> None:
    for name, text in PAGES.items():
        for path in re.findall(r"`((?:tests|ckptd|backends|packaging|demo)/[\w/]*(?:\.\w+)?)`", text):
            assert (ROOT / path).exists(), f"{name} names {path}"


def test_every_dependency_is_justified() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["servers"]]
    for name in (re.split(r"[<>=\[ ]", item)[0] for item in wanted):
        assert name in PAGES["dependencies.md"]


def _report() -> model.NodeReport:
    volume = model.VolumeReport("v", "/v", "file:///r", "watch", False, "", True, "", None, 1, 1)
    tier = model.TierReport("ram", "/t", 1, 1, 1, 0, False)
    return model.NodeReport(
        "0", "n", 1, 1.0, 0, (volume,), (tier,), model.Exposure(0, 0, None), model.TransferReport(0.0, 0.0, 0), (), ()
    )
