"""Replaces the daemon's processes by new ones that run what is installed now, and waits until they serve."""

from __future__ import annotations

import time

import click

from ckptctl.client import Client
from ckptctl.session import Session
from ckptd.domain.errors import DaemonUnreachable, NotInTime


def upgrade(session: Session, timeout: float) -> None:
    """Raises NotInTime when the new worker does not serve within `timeout` seconds."""
    begun = time.monotonic()
    before = session.client.get("/v1/status")["pid"]
    answer = session.client.send("POST", "/v1/upgrade")
    client = Client(session.socket_path, patience_s=1, answer_s=5)
    while True:
        try:
            now = client.get("/v1/status")
            if now["pid"] != before:
                break
        except DaemonUnreachable:
            pass  # between the two
        if time.monotonic() - begun > timeout:
            raise NotInTime("the new processes do not serve yet", hint="the daemon's log says why; it goes on trying")
        time.sleep(0.05)
    result = answer | {"pid": now["pid"], "seconds": round(time.monotonic() - begun, 3)}
    if session.json:
        session.show(result)
        return
    kept = "" if answer["mounts"] else "; its mounts are served by the old code until the next ckptctl down and up"
    click.echo(f"ckptd {answer['before']} → {now['version']}: serves again after {result['seconds']:.1f} s{kept}")
