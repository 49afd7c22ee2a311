"""Where the keys of an `oss://` remote come from, and how temporary ones are renewed.

    credentials_file                 the option: JSON that somebody else renews (a mounted file), read again when it changes
    OSS_ACCESS_KEY_ID, …_SECRET      and OSS_SESSION_TOKEN for temporary ones (ALIBABA_CLOUD_… are read as well)
    ALIBABA_CLOUD_CREDENTIALS_URI    a local HTTP service that hands out temporary keys
    the RAM role of the instance     from the metadata service of ECS (token mode first, then without)

The first of them that is there is asked. JSON is what the metadata service answers: `AccessKeyId`, `AccessKeySecret`,
`SecurityToken`, `Expiration` (`2026-11-24T04:00:00Z`).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests
from oss2.credentials import Credentials

from .errors import CredentialsRefused, Unavailable

_BEFORE_S = 300.0
"""Renewed this long before they end: a part that is on its way then was signed with keys that were good."""
_AGAIN_S = 5.0
"""Between two renewals: some services give the same keys until shortly before they end."""
_PATIENCE_S = 5.0
_TOKEN_S = 21600
_ROLE = "latest/meta-data/ram/security-credentials/"
_NONE = (
    "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET for the daemon, or the option credentials_file, or run on an ECS "
    "instance with a RAM role"
)


@dataclass(frozen=True, slots=True)
class Keys:
    id: str
    secret: str
    token: str = ""
    ends: float | None = None
    """Seconds since the epoch; None: never."""

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Keys:
        """Raises CredentialsRefused for anything that is not keys; never repeats what it read."""
        try:
            said: Any = json.loads(text)
            ends = said.get("Expiration")
            stamp = datetime.fromisoformat(ends).timestamp() if ends else None
            found = cls(said["AccessKeyId"], said["AccessKeySecret"], said.get("SecurityToken") or "", stamp)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CredentialsRefused(
                f"{where} holds no AccessKeyId and AccessKeySecret as JSON ({type(error).__name__})", hint=_NONE
            ) from None
        if not all(isinstance(each, str) and each for each in (said["AccessKeyId"], said["AccessKeySecret"])):
            raise CredentialsRefused(f"{where} holds empty keys", hint=_NONE)
        return found


class RenewedKeys:
    """The `credentials_provider` of oss2: keeps keys until shortly before they end. Safe for threads."""

    def __init__(self, fetch: Callable[[], Keys], changed: Callable[[], object] = lambda: None) -> None:
        """`changed` gives another value when it is worth to fetch before the time."""
        self._fetch, self._changed = fetch, changed
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._mark: object = None
        self._not_before = 0.0

    def get_credentials(self) -> Credentials:
        with self._lock:
            mark = self._changed()
            if self._keys is None or mark != self._mark or self._ending():
                self._renew(mark)
            assert self._keys is not None
            return Credentials(self._keys.id, self._keys.secret, self._keys.token)

    def forget(self) -> None:
        """They were refused: others may lie where they came from by now."""
        with self._lock:
            self._keys = None

    def _ending(self) -> bool:
        assert self._keys is not None
        now = time.time()
        return self._keys.ends is not None and now > self._keys.ends - _BEFORE_S and now > self._not_before

    def _renew(self, mark: object) -> None:
        try:
            self._keys = self._fetch()
        except (CredentialsRefused, Unavailable):
            if self._keys is None or self._keys.ends is None or time.time() > self._keys.ends:
                raise
        self._mark = mark
        self._not_before = time.time() + _AGAIN_S


def find_keys(credentials_file: str | None, role: str | None, metadata_url: str) -> RenewedKeys:
    if credentials_file:
        return RenewedKeys(lambda: _from_file(credentials_file), lambda: _file_mark(credentials_file))
    return RenewedKeys(lambda: _from_chain(role, metadata_url))


def _from_chain(role: str | None, metadata_url: str) -> Keys:
    for id_name, secret_name, token_name in (
        ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"),
    ):
        one, secret = os.environ.get(id_name, "").strip(), os.environ.get(secret_name, "").strip()
        if one and secret:
            return Keys(one, secret, os.environ.get(token_name, "").strip())
        if one or secret:
            missing = secret_name if one else id_name
            raise CredentialsRefused(f"half of the credentials: {missing} is not set", hint=f"set {missing}")
    if uri := os.environ.get("ALIBABA_CLOUD_CREDENTIALS_URI"):
        return Keys.from_json(_asked("GET", uri), "what ALIBABA_CLOUD_CREDENTIALS_URI answers")
    if os.environ.get("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "").lower() == "true":
        raise CredentialsRefused("there are no credentials for OSS in the environment", hint=_NONE)
    return _from_instance(role or os.environ.get("ALIBABA_CLOUD_ECS_METADATA"), metadata_url.rstrip("/"))


def _from_file(path: str) -> Keys:
    try:
        with open(path, "rb") as file:
            return Keys.from_json(file.read(), f"credentials_file {path}")
    except OSError as error:
        raise CredentialsRefused(
            f"credentials_file {path}: {error.strerror}", hint="the daemon must be able to read it"
        ) from None


def _file_mark(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None  # replaced right now: what was read stays good
    return found.st_mtime_ns, found.st_ino, found.st_size


def _from_instance(role: str | None, metadata_url: str) -> Keys:
    try:
        ttl = {"X-aliyun-ecs-metadata-token-ttl-seconds": str(_TOKEN_S)}
        token = _asked("PUT", f"{metadata_url}/latest/api/token", ttl).decode()
        headers = {"X-aliyun-ecs-metadata-token": token}
    except CredentialsRefused:
        headers = {}  # an older metadata service
    except Unavailable as error:
        raise CredentialsRefused(
            f"no credentials for OSS in the environment, and no instance role: {error.message}", hint=_NONE
        ) from error
    role = role or _asked("GET", f"{metadata_url}/{_ROLE}", headers).decode().split("\n")[0].strip()
    where = f"the metadata service, asked for role '{role}',"
    return Keys.from_json(_asked("GET", f"{metadata_url}/{_ROLE}{role}", headers), where)


def _asked(method: str, url: str, headers: dict[str, str] | None = None) -> bytes:
    """Straight, without the proxies of the environment: these services are of this machine."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.request(method, url, headers=headers, timeout=_PATIENCE_S, allow_redirects=False)
        except requests.RequestException as error:
            raise Unavailable(f"{url} does not answer: {error}", hint=_NONE) from error
    if answer.status_code >= 500:
        raise Unavailable(f"{url} answers {answer.status_code}")
    if answer.status_code != 200:
        raise CredentialsRefused(f"{url} answers {answer.status_code}: no RAM role here?", hint=_NONE)
    return answer.content
