"""What packaging/ shows for containers, Kubernetes and Ansible, read by the programs that judge it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ckptd.settings import load

PACKAGING = Path(__file__).parents[2] / "packaging"
KUBERNETES = ("1.28", "1.31", "1.34")
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.packagers


def documents(name: str) -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="not installed (make packagers)")
    return list(yaml.safe_load_all((PACKAGING / "kubernetes" / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", ["ckptd.yaml", "training.yaml"])
def test_kubernetes_accepts_the_objects(name: str, version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="not installed (make packagers)")
    for document in documents(name):
        validator.validate(document, version, strict=True)


def test_a_mistake_would_have_been_noticed() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="not installed (make packagers)")
    [daemon] = [document for document in documents("ckptd.yaml") if document["kind"] == "DaemonSet"]
    daemon["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][1]["mountPropogation"] = "Bidirectional"
    with pytest.raises(validator.ValidationError):
        validator.validate(daemon, KUBERNETES[-1], strict=True)


def test_the_settings_of_the_daemonset_have_no_mistake_and_fit_its_volumes(tmp_path: Path) -> None:
    objects = {document["kind"]: document for document in documents("ckptd.yaml")}
    file = tmp_path / "config.toml"
    file.write_text(objects["ConfigMap"]["data"]["config.toml"], encoding="utf-8")
    settings = load(config=str(file), environ={}, uid=0).settings
    pod = objects["DaemonSet"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    shared = [
        mount["mountPath"] for mount in container["volumeMounts"] if mount.get("mountPropagation") == "Bidirectional"
    ]
    paths = [settings.tiers["ram"].path, *(volume.path for volume in settings.volumes)]
    assert all(path.startswith(f"{shared[0]}/") for path in paths)
    assert container["securityContext"]["privileged"]
    # The drain before the end, the one at the end, and what is between.
    assert pod["terminationGracePeriodSeconds"] > 9 * 60 + settings.node.shutdown_timeout
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
    budget = settings.tiers["ram"].budget
    assert isinstance(budget, int)
    assert limit >= budget + budget // 8 + (2 << 30)
    [job] = documents("training.yaml")
    mounts = job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert mounts == [{"name": "shared", "mountPath": shared[0], "mountPropagation": "HostToContainer"}]


def test_prometheus_looks_for_the_pods_of_the_daemonset() -> None:
    yaml = pytest.importorskip("yaml", reason="not installed (make packagers)")
    [daemon] = [document for document in documents("ckptd.yaml") if document["kind"] == "DaemonSet"]
    scrape = yaml.safe_load((PACKAGING / "monitoring/scrape_kubernetes.yaml").read_text(encoding="utf-8"))
    [job] = scrape["scrape_configs"]
    assert job["kubernetes_sd_configs"][0]["namespaces"]["names"] == [daemon["metadata"]["namespace"]]
    pod = daemon["spec"]["template"]
    [port] = pod["spec"]["containers"][0]["ports"]
    assert job["relabel_configs"][0]["regex"] == f"{pod['metadata']['labels']['app.kubernetes.io/name']};{port['name']}"


def test_the_settings_that_packages_bring_have_no_mistake_with_and_without_their_marks(tmp_path: Path) -> None:
    text = (PACKAGING / "config.toml").read_text(encoding="utf-8")
    for name, content in {"as-it-is": text, "taken": text.replace("\n#", "\n")}.items():
        taken = "\n".join(line for line in content.splitlines() if not line.startswith(("#", " ")))
        (tmp_path / name).write_text(taken, encoding="utf-8")
        settings = load(config=str(tmp_path / name), environ={}, uid=0).settings
        assert settings.volumes[0].remote.startswith("s3://" if name == "taken" else "file://")


def run(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    if not (BIN / program).exists():
        pytest.skip(f"{program} is not installed (make packagers)")
    return subprocess.run([BIN / program, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing_in_the_containerfile() -> None:
    done = run("hadolint", "container/Containerfile", cwd=PACKAGING)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_playbook_is_one() -> None:
    done = run("ansible-playbook", "-i", "node,", "--syntax-check", "site.yml", cwd=PACKAGING / "ansible")
    assert done.returncode == 0, done.stdout + done.stderr
