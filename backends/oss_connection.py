"""The oss2 client of one remote: one attempt a call, a pool of connections, nothing followed and nothing retried."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import oss2

from .caller import WatchedSource
from .errors import BackendError, CredentialsRefused, PreconditionFailed
from .oss_attributes import AttributedBucket
from .oss_credentials import find_keys
from .oss_errors import translated
from .oss_options import OssOptions
from .translation import Where

_POOL = 64


class OssConnection:
    """Safe for threads: requests' pool is, and oss2 signs each request by itself."""

    def __init__(self, url: str, options: OssOptions) -> None:
        self.options = options
        self.where = Where(url, options.endpoint, options.region or "")
        self._keys = find_keys(options.credentials_file, options.role, options.metadata_url)
        self._lock = threading.Lock()
        self._bucket: Any = None

    @property
    def bucket(self) -> Any:
        with self._lock:
            if self._bucket is None:
                self._bucket = self._connect()
            return self._bucket

    def _connect(self) -> Any:
        options = self.options
        session = oss2.Session(pool_size=_POOL)
        session.session.verify = (options.ca_bundle or True) if options.verify_tls else False
        session.session.max_redirects = 0  # a signature is for one host
        session.session.auth = _as_it_is
        auth = oss2.ProviderAuthV4 if options.signature == "v4" else oss2.ProviderAuth
        bucket = AttributedBucket(
            auth(self._keys), options.endpoint, options.bucket, session=session, region=options.region,
            is_cname=options.cname, connect_timeout=(options.connect_timeout, options.read_timeout),
            enable_crc=False, app_name="ckptd",
        )  # fmt: skip
        bucket.attributes = options.attributes
        return bucket

    @contextmanager
    def calling(
        self,
        key: str,
        *,
        source: WatchedSource | None = None,
        precondition: type[BackendError] = PreconditionFailed,
    ) -> Iterator[None]:
        """`translated`; and after refused credentials the next call asks for others."""
        try:
            with translated(self.where, key, source=source, precondition=precondition):
                yield
        except CredentialsRefused:
            self._keys.forget()
            raise

    def close(self) -> None:
        with self._lock:
            if self._bucket is not None:
                self._bucket.session.session.close()
                self._bucket = None


def _as_it_is(request: Any) -> Any:
    """Requests puts what a ~/.netrc says in the place of our signature where it is given no `auth` at all."""
    return request
