"""The client of one remote: made when first needed, made anew after its credentials were refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import s3_probe
from .caller import WatchedSource
from .errors import BackendError, CredentialsRefused, PreconditionFailed
from .s3_checksum import Algorithm
from .s3_errors import translated
from .s3_options import S3Options
from .translation import Where


class S3Connection:
    """Safe for threads: boto3's client is, and the lock guards what is found out once."""

    def __init__(self, url: str, options: S3Options) -> None:
        self.options = options
        self.where = Where(url, options.endpoint_url or "AWS")
        self._lock = threading.Lock()
        self._client: Any = None
        self._kind: Algorithm | None = None if options.checksum == "auto" else Algorithm(options.checksum)

    @property
    def client(self) -> Any:
        with self._lock, translated(self.where, ""):
            if self._client is None:
                self._client = self.options.connect()
            return self._client

    @contextmanager
    def calling(
        self,
        key: str,
        *,
        source: WatchedSource | None = None,
        precondition: type[BackendError] = PreconditionFailed,
    ) -> Iterator[None]:
        """`translated`; and after refused credentials the next call reads the SDK's chain again, where renewed ones may
        lie by then. Other threads end their calls with the client they have.
        """
        try:
            with translated(self.where, key, source=source, precondition=precondition):
                yield
        except CredentialsRefused:
            with self._lock:
                self._client = None
            raise

    def kind(self) -> Algorithm:
        """The checksum this store verifies; asks it the first time."""
        if self._kind is None:
            client = self.client
            with self.calling(""), self._lock:
                if self._kind is None:
                    self._kind = s3_probe.verified_checksum(
                        client, self.where, self.options.bucket, self.options.prefix
                    )
                return self._kind
        return self._kind

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
