"""SPNEGO for WebHDFS (RFC 4559): the ticket that is there proves who asks, wherever a server asks for it.

By `gssapi` itself (the extra `ckptd[kerberos]`). requests-gssapi, which would do it too, answers 401 for a ticket that is
missing or expired and logs why, and keeps the position of one request's body for all threads.
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from .errors import BadConfiguration

_SPNEGO = "1.3.6.1.5.5.2"
"""RFC 4178."""
_ANSWERED = "ckptd_proved"


class Spnego(AuthBase):
    """Safe for threads: each proof is of one request. The server's cookie spares the next ones theirs."""

    def __init__(self) -> None:
        """Raises BadConfiguration where the extra is not installed."""
        try:
            import gssapi  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise BadConfiguration(
                f'auth = "kerberos": {error}', hint="pip install 'ckptd[kerberos]' (needs libkrb5-dev and a compiler)"
            ) from error
        self._gssapi = gssapi

    def __call__(self, request: Any) -> Any:
        request.register_hook("response", self._answer)
        return request

    def _answer(self, response: requests.Response, **how: Any) -> requests.Response:
        """Asks again with a proof, once. Raises what gssapi raises: no ticket, an expired one, a host nobody knows."""
        request: Any = response.request
        wanted = "negotiate" in response.headers.get("www-authenticate", "").lower()
        if response.status_code != 401 or not wanted or hasattr(request, _ANSWERED):
            return response
        _ = response.content  # to its end, so that the connection can be used again
        response.raw.release_conn()
        again = request.copy()
        setattr(again, _ANSWERED, True)
        again.headers["Authorization"] = f"Negotiate {self._proof(urlsplit(response.url).hostname or '')}"
        if hasattr(again.body, "seek"):
            again.body.seek(0)
        answer: requests.Response = response.connection.send(again, **how)
        answer.history.append(response)
        return answer

    def _proof(self, host: str) -> str:
        gssapi = self._gssapi
        service = gssapi.Name(f"HTTP@{host}", gssapi.NameType.hostbased_service)
        context = gssapi.SecurityContext(name=service, usage="initiate", mech=gssapi.OID.from_int_seq(_SPNEGO))
        return base64.b64encode(context.step()).decode()
