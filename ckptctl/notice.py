"""How clouds announce that they take a node away, and how long it has then. Asked over plain HTTP from inside the node.

Sources: AWS, "Spot Instance interruption notices" and "Use IMDSv2"; Google, "Detect preemption" (`instance/preempted`; 30 s from
the notice on); Azure, "Scheduled Events for Linux VMs"; Alibaba, "Query the interruption events of preemptible instances".
"""

from __future__ import annotations

import email.utils
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ckptd.domain.errors import CkptdError

EVERY_S = 2.0
"""AWS advises to look every five seconds; of Google's thirty each second counts."""
MARGIN_S = 3.0
"""Of the time that a cloud gives, what its clock and its shutdown may take."""
_ANSWER_S = 2.0
_PREEMPTED_S = 30.0
_UNREACHABLE_AFTER = 5
"""Answers that did not come before the first that did: this is not the cloud that was named, or the service is switched off."""

Ask = Callable[[str, str, dict[str, str]], str | None]
"""Method, path and headers; the body, None for 404."""


@dataclass(frozen=True, slots=True)
class Cloud:
    name: str
    url: str
    ask: Callable[[Ask], float | None]
    """The end of the node in seconds since the epoch; None: it is not announced."""


def wait(
    cloud: Cloud, url: str | None = None, *, clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> float | None:  # fmt: skip
    """Returns when the end is announced: how many seconds are left, less a margin; None where they are over or not known.

    CkptdError where nobody has ever answered; a service that did, and fails now, is asked on.
    """
    ask, missed, answered = _asker(url or cloud.url), 0, False
    while True:
        try:
            end = cloud.ask(ask)
            answered = True
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            missed += 1
            if not answered and missed >= _UNREACHABLE_AFTER:
                raise CkptdError(
                    f"the metadata service of {cloud.name} at {url or cloud.url} does not answer as it should: {error}",
                    hint="is this node in that cloud, and may processes ask its metadata service?",
                ) from error
            end = None
        if end is not None:
            left = end - clock() - MARGIN_S
            return left if left > 0 else None
        sleep(EVERY_S)


def _asker(base: str) -> Ask:
    # Never through a proxy: the address is the node's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(method: str, path: str, headers: dict[str, str]) -> str | None:
        request = urllib.request.Request(base.rstrip("/") + path, method=method, headers=headers)  # noqa: S310 - as given
        try:
            with opener.open(request, timeout=_ANSWER_S) as answer:
                text: str = answer.read(1 << 16).decode()
                return text
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    return ask


def _aws(ask: Ask) -> float | None:
    token = ask("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    text = ask("GET", "/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token or ""})
    return None if text is None else _iso(json.loads(text)["time"])


def _alibaba(ask: Ask) -> float | None:
    text = ask("GET", "/latest/meta-data/instance/spot/termination-time", {})
    return None if text is None else _iso(text.strip())


def _gcp(ask: Ask) -> float | None:
    text = ask("GET", "/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    return time.time() + _PREEMPTED_S if (text or "").strip() == "TRUE" else None


def _azure(ask: Ask) -> float | None:
    header = {"Metadata": "true"}
    text = ask("GET", "/metadata/scheduledevents?api-version=2020-07-01", header)
    events: list[dict[str, Any]] = [] if text is None else json.loads(text)["Events"]
    ending = [event for event in events if event["EventType"] in ("Preempt", "Terminate")]
    if not ending:
        return None
    # Every machine of a set is told of all of them.
    name = ask("GET", "/metadata/instance/compute/name?api-version=2021-02-01&format=text", header)
    ours = [event for event in ending if name is None or name.strip() in event["Resources"]]
    return min((_http_date(event["NotBefore"]) for event in ours), default=None)


def _iso(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def _http_date(text: str) -> float:
    """Azure leaves it empty when the event has begun."""
    return email.utils.parsedate_to_datetime(text).timestamp() if text else time.time()


CLOUDS = {
    cloud.name: cloud
    for cloud in (
        Cloud("alibaba", "http://100.100.100.200", _alibaba),
        Cloud("aws", "http://169.254.169.254", _aws),
        Cloud("azure", "http://169.254.169.254", _azure),
        Cloud("gcp", "http://metadata.google.internal", _gcp),
    )
}
