"""Checks of the remotes: can it be reached and written with these credentials, and does its clock agree with ours."""

from __future__ import annotations

import io
import os
import threading
import time
import uuid
from collections.abc import Callable

from awscrt.checksums import crc64nvme

from ckptd.doctor.finding import Finding, failed, ok, skipped, warning
from ckptd.settings.models import Settings, VolumeSettings
from ckptd.transfer.calls import Remote
from ckptd.transfer.refusal import Refused
from ckptd.transfer.registry import Backend, BackendError, Registry

PATIENCE_S = 30.0
SKEW_S = 60.0
"""S3 refuses requests that are more than 15 minutes off; far below that, ages and retention already look odd."""


class _Bytes(io.BytesIO):
    """A `backends.base.Source` that is not a file."""

    def __len__(self) -> int:
        return len(self.getvalue())

    @property
    def offset(self) -> int:
        return 0


def remote(volume: VolumeSettings, settings: Settings, registry: Registry) -> list[Finding]:
    check = f"remote of {volume.name}"
    inside = volume.remote_path
    if inside and inside.startswith(settings.node.state_dir + "/") and not os.path.isdir(settings.node.state_dir):
        return [ok(check, f"{volume.remote}: made by the first `ckptctl up`")]
    try:
        backend = registry.open(Remote(volume.name, volume.remote, tuple(sorted(volume.remote_options.items()))))
        return _within(PATIENCE_S, lambda: _probe(check, volume, backend))
    except Refused as error:
        return [failed(check, error.refusal.message, error.refusal.hint)]
    except BackendError as error:
        return [failed(check, error.message, error.hint)]
    except TimeoutError:
        return [
            failed(check, f"{volume.remote} did not answer within {PATIENCE_S:.0f} s", "check address, firewall, proxy")
        ]


def _probe(check: str, volume: VolumeSettings, backend: Backend) -> list[Finding]:
    backend.probe()
    return [ok(check, f"{volume.remote}: lists, writes and deletes"), _clock(volume, backend)]


def _clock(volume: VolumeSettings, backend: Backend) -> Finding:
    """Writes a probe object, looks at the time the store gave it, and deletes it."""
    check = f"clock of {volume.name}'s remote"
    key, content = f".ckptd/doctor/{uuid.uuid4().hex}", b"ckptctl doctor"
    before = time.time()
    try:
        backend.put(key, _Bytes(content), crc64nvme(content))
        stat = backend.head(key)
        after = time.time()
    finally:
        backend.delete([key])
    if stat is None or not stat.modified:
        return skipped(check, "the store does not say when an object was written")
    # Stores keep whole seconds, so one second either way says nothing.
    skew = max(before - 1 - stat.modified, stat.modified - after - 1, 0.0)
    if skew > SKEW_S:
        return warning(
            check, f"{skew:.0f} s apart from this machine's", "run an NTP client here (chrony, systemd-timesyncd)"
        )
    return ok(check, "agrees with this machine's")


def _within(seconds: float, work: Callable[[], list[Finding]]) -> list[Finding]:
    """A thread that is left behind when it is late: client libraries cannot be interrupted, and we end soon."""
    answers: list[list[Finding] | BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
            answers.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        raise TimeoutError
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]
