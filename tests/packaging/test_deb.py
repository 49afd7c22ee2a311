"""The Debian package in a clean Debian: installed, used, upgraded under a job that saves, removed, purged."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from debian_chroot import PYTHON, Debian, reason_for_none, running

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.deb, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("test_deb"),
    pytest.mark.skipif(bool(reason_for_none()), reason=reason_for_none()),
]  # fmt: skip
NEXT = "0.1.999"
SETTINGS = """
[tiers.ram]
budget = "256MiB"
[[volumes]]
path = "/ckpt"
remote = "file:///srv/remote"
"""
# Holds a file open all the time and saves others: what an upgrade must not disturb. Ends when its input does.
JOB = """
import os, select, sys
held = open("/ckpt/run-1/held.bin", "wb", buffering=0)
print("saving", flush=True)
number = 0
while not select.select([sys.stdin], [], [], 0.01)[0]:
    held.write(b"x" * 100000)
    with open("/ckpt/run-1/part.tmp", "wb") as file:
        file.write(b"y" * 100000)
    os.rename("/ckpt/run-1/part.tmp", "/ckpt/run-1/part")
    number += 1
print(number, os.path.getsize("/ckpt/run-1/held.bin") == number * 100000, flush=True)
"""


def build(*arguments: str) -> Path:
    command = [sys.executable, str(ROOT / "packaging/deb/build.py"), "--python", PYTHON, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return Path(done.stdout.split()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Half a GB, which is not left for pytest to keep."""
    made = tmp_path_factory.mktemp("deb")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def package(folder: Path) -> Path:
    return build("--stage", str(folder / "stage"), "--out", str(folder))


@pytest.fixture(scope="module")
def newer(folder: Path, package: Path) -> Path:
    """The same tree with another version."""
    assert package.exists()
    [place] = folder.glob("stage/opt/ckptd/lib/python3.*/site-packages/ckptd")
    shutil.rmtree(place / "__pycache__")
    text = (place / "__init__.py").read_text(encoding="utf-8")
    (place / "__init__.py").write_text(re.sub(r'(?<=__version__ = ").*?(?=")', NEXT, text), encoding="utf-8")
    return build("--stage", str(folder / "stage"), "--reuse", "--version", NEXT, "--out", str(folder))


@pytest.fixture(scope="module")
def broken(folder: Path, package: Path) -> Path:
    """A newer one whose worker cannot be loaded."""
    assert package.exists()
    [worker] = folder.glob("stage/opt/ckptd/lib/python3.*/site-packages/ckptd/worker.py")
    text = worker.read_text(encoding="utf-8")
    worker.write_text(text.replace("class Worker:", "class Worker"), encoding="utf-8")
    try:
        return build("--stage", str(folder / "stage"), "--reuse", "--version", "0.1.1000", "--out", str(folder))
    finally:
        worker.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def debian(folder: Path) -> Iterator[Debian]:
    (folder / "root").mkdir()
    (folder / "common").mkdir()
    with running(folder / "root", folder / "common") as made:
        yield made


def status(debian: Debian) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(debian.run("ckptctl status --json").stdout)
    return found


def shown(debian: Debian, name: str) -> str:
    """A property of the unit."""
    return debian.run(f"systemctl show --value --property {name} ckptd").stdout.strip()


def until(debian: Debian, name: str, value: str) -> None:
    end = time.monotonic() + 60
    while (found := shown(debian, name)) != value:
        assert time.monotonic() < end, f"{name} is {found}\n{debian.run('journalctl -u ckptd -o cat').stdout[-4000:]}"
        time.sleep(0.2)


def write(debian: Debian, path: str, text: str) -> None:
    Path(f"{debian.root}{path}").write_text(text, encoding="utf-8")


@contextlib.contextmanager
def saving(debian: Debian) -> Iterator[None]:
    """A job that saves meanwhile, and must not have noticed anything."""
    debian.run("mkdir -p /ckpt/run-1")
    job = debian.start(f"exec python3 -c '{JOB}'")
    assert job.stdin is not None
    assert job.stdout is not None
    try:
        assert job.stdout.readline() == "saving\n"
        yield
        said, _ = job.communicate("", timeout=60)
        assert said.split()[1:] == ["True"]
    finally:
        job.kill()
        job.communicate()


def install(debian: Debian, package: Path) -> str:
    shutil.copy(package, debian.root / package.name)
    done = debian.run(f"dpkg --install /{package.name}")
    return done.stdout + done.stderr


def test_it_names_nothing_of_the_machine_that_built_it(package: Path, folder: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "--contents", package], check=True, capture_output=True, text=True).stdout
    assert all(line.split()[1] == "root/root" for line in listed.splitlines())
    for needed in (
        "/opt/ckptd/bin/python -> /usr/bin/python3", "/usr/lib/systemd/system/ckptd.service", "/usr/lib/tmpfiles.d/ckptd.conf",
        "/usr/lib/systemd/user/ckptd.service", "/usr/share/man/man1/ckptctl-prefetch.1.gz", "/etc/ckptd/config.toml",
        "/usr/share/man/man5/ckptd.toml.5.gz", "/usr/share/bash-completion/completions/ckptctl",
    ):  # fmt: skip
        assert f".{needed}" in listed
    for trace in (str(folder), str(ROOT)):
        found = subprocess.run(["grep", "-rlF", trace, folder / "stage"], check=False, capture_output=True, text=True)
        assert found.stdout == ""


def test_its_unit_under_a_real_systemd(debian: Debian, package: Path) -> None:
    install(debian, package)
    assert debian.run("systemctl is-enabled ckptd", check=False).stdout == "disabled\n"  # before there are settings
    debian.run("mkdir -p /srv/remote /etc/systemd/system/ckptd.service.d")
    write(debian, "/etc/ckptd/config.toml", SETTINGS)
    write(debian, "/etc/systemd/system/ckptd.service.d/soon.conf", "[Service]\nWatchdogSec=9s\n")
    debian.run("systemctl daemon-reload; systemctl start ckptd")  # returns when it serves
    assert shown(debian, "NFileDescriptorStore") == "2"
    before = status(debian)
    assert before["volumes"][0]["passthrough"]
    with saving(debian):
        # A worker that hangs: the supervisor replaces it, systemd need not do anything.
        debian.run(f"kill -STOP {before['pid']}")
        hung = status(debian)
        assert hung["pid"] != before["pid"]
        assert hung["supervisor_pid"] == before["supervisor_pid"]
        # New code under the job.
        debian.run("systemctl reload ckptd")
        assert status(debian)["pid"] != hung["pid"]
        assert shown(debian, "NRestarts") == "0"
        # The supervisor is killed, then it hangs: systemd starts another, which goes on with the mount.
        for restarts, name in (("1", "KILL"), ("2", "STOP")):
            debian.run(f"kill -{name} {shown(debian, 'MainPID')}")
            until(debian, "NRestarts", restarts)
            until(debian, "ActiveState", "active")
    journal = debian.run("journalctl -u ckptd -o cat -p err").stdout
    assert "event=worker.hung" in journal
    assert "event=worker.started" not in journal  # which has another priority
    assert "event=mount.outlived" in debian.run("journalctl -u ckptd -o cat").stdout
    debian.run("systemctl stop ckptd")
    assert shown(debian, "Result") == "success"
    assert debian.run("grep -c ' /ckpt ' /proc/mounts", check=False).stdout == "0\n"
    assert debian.run("stat -c %s /srv/remote/run-1/part").stdout == "100000\n"
    # As at a reboot without its remote, which it has met before. A mistake in the settings ends it for good.
    debian.run("mv /srv/remote /srv/away; mkdir /srv/remote; systemctl start ckptd")
    assert not status(debian)["volumes"][0]["remote_ok"]
    debian.run("rmdir /srv/remote; mv /srv/away /srv/remote; systemctl stop ckptd")
    write(debian, "/etc/ckptd/config.toml", SETTINGS + "[node]\nnmae = 'n'\n")
    assert debian.run("systemctl start ckptd", check=False).returncode != 0
    assert (shown(debian, "ActiveState"), shown(debian, "NRestarts")) == ("failed", "0")
    # The first start with a remote that is not there fails too, and is tried again until it is.
    write(debian, "/etc/ckptd/config.toml", SETTINGS.replace("/srv/remote", "/srv/late/remote"))
    assert debian.run("systemctl start ckptd", check=False).returncode != 0
    debian.run("mkdir /srv/late")
    until(debian, "ActiveState", "active")
    debian.run("dpkg --purge ckptd; rm -r /srv/remote /srv/late /var/lib/ckptd /etc/systemd/system/ckptd.service.d")


def test_its_life_from_installation_to_purge(debian: Debian, package: Path, newer: Path) -> None:
    install(debian, package)
    assert debian.run("ckptctl --version").stdout == "ckptctl 0.1.0\n"
    assert "PYTHON" not in debian.run("PYTHONPATH=/nonsense PYTHONHOME=/nonsense ckptd --version").stderr
    assert debian.run("ckptctl config check").returncode == 0

    # A volume that is mounted, a checkpoint that becomes durable.
    debian.run("mkdir /srv/remote")
    assert "write to /ckpt" in debian.run("ckptctl up /ckpt --remote file:///srv/remote --ram 256MiB").stdout
    before = status(debian)
    assert before["volumes"][0]["front"] == "mount"
    debian.run("mkdir -p /ckpt/run-1/checkpoint-1; echo '{}' > /ckpt/run-1/checkpoint-1/trainer_state.json")
    debian.run("ckptctl flush run-1@1 --timeout 60s")
    assert debian.run("cat /srv/remote/run-1/checkpoint-1/trainer_state.json").stdout == "{}\n"

    # An upgrade under a job that saves: new code, the same supervisor and mount.
    with saving(debian):
        install(debian, newer)
        after = status(debian)
        assert (before["version"], after["version"]) == ("0.1.0", NEXT)
        assert after["supervisor_pid"] == before["supervisor_pid"]
        assert after["pid"] != before["pid"]
        refused = debian.run("dpkg --remove ckptd", check=False)  # somebody has a file open
        assert refused.returncode != 0
        assert "not removed" in refused.stderr
        assert status(debian)["pid"] == after["pid"]

    debian.run("systemctl enable ckptd ckptd-spot@aws; echo AWS_PROFILE=training > /etc/ckptd/environment")
    # Removed: flushed and unmounted. Purged: the checkpoints stay.
    debian.run("dpkg --remove ckptd")
    assert debian.run("grep -c ' /ckpt ' /proc/mounts", check=False).stdout == "0\n"
    assert debian.run("stat -c %s /srv/remote/run-1/part").stdout == "100000\n"
    assert debian.run("test -e /etc/ckptd/config.toml").returncode == 0
    tier = debian.run("find /var/lib/ckptd/nvme /srv/remote -type f").stdout
    purged = debian.run("dpkg --purge ckptd")
    assert "/var/lib/ckptd is kept" in purged.stderr
    assert debian.run("find /var/lib/ckptd/nvme /srv/remote -type f").stdout == tier
    assert debian.run("find /etc/systemd/system -type l -name 'ckptd*'").stdout == ""
    assert debian.run("ls -d /opt/ckptd /etc/ckptd /usr/bin/ckptctl", check=False).stdout == ""


@pytest.mark.packagers
def test_the_ansible_role_makes_a_node_and_finds_nothing_to_do_the_second_time(
    debian: Debian, package: Path, broken: Path, folder: Path
) -> None:
    """Ansible runs here; what it does on the node, it does in the clean Debian."""
    program = Path(sys.executable).with_name("ansible-playbook")
    if not program.exists():
        pytest.skip("Ansible is not installed (make packagers)")
    interpreter = folder / "python-there"
    interpreter.write_text(f'#!/bin/sh\nexec {shlex.join(debian.words)} /usr/bin/python3 "$@"\n', encoding="ascii")
    interpreter.chmod(0o755)
    settings = {
        "ckptd_hosts": "all", "ckptd_deb": str(package), "ansible_python_interpreter": str(interpreter),
        "ansible_become": False, "ansible_remote_tmp": str(folder / "common"), "ansible_pipelining": True,
        "ckptd_environment": {"AWS_PROFILE": "training"},
        "ckptd_config": '[[volumes]]\nname = "ckpt"\npath = "/ckpt"\nremote = "file:///srv/other"\n',
    }  # fmt: skip

    def play(**changed: object) -> subprocess.CompletedProcess[str]:
        words = [program, "-i", "node,", "-c", "local", "site.yml", "-e", json.dumps(settings | changed)]
        environment = os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(folder / "ansible")}
        return subprocess.run(
            words, cwd=ROOT / "packaging/ansible", capture_output=True, text=True, check=False, env=environment
        )

    debian.run("mkdir /srv/other")
    first = play()
    assert first.returncode == 0, first.stdout + first.stderr
    assert status(debian)["volumes"][0]["remote"] == "file:///srv/other"  # it was started
    assert debian.run("systemctl is-enabled ckptd").stdout == "enabled\n"
    assert (
        debian.run("stat -c %a /etc/ckptd/environment; cat /etc/ckptd/environment").stdout
        == "600\nAWS_PROFILE=training\n"
    )
    second = play()
    assert re.search(r"^node .* changed=0 .* failed=0 ", second.stdout, re.MULTILINE), second.stdout
    mistaken = play(ckptd_config="[node]\nnmae = 'n'\n")  # is refused before it is in place
    assert mistaken.returncode != 0
    assert "did you mean name" in mistaken.stdout
    assert "file:///srv/other" in debian.run("ckptctl config show").stdout
    running = status(debian)
    worse = play(ckptd_deb=str(broken))  # jobs do not notice, and the roll-out ends here
    assert worse.returncode != 0
    assert re.search(r"TASK \[ckptd : The version that runs is the same\] \*+\n.*(FAILED!|ERROR)", worse.stdout), (
        worse.stdout
    )
    assert status(debian)["pid"] == running["pid"]
