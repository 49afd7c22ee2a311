"""What NameNodes, DataNodes and the way to them say, as errors of `backends.errors`: one table of Hadoop's exception names.

WebHDFS answers `{"RemoteException": {"exception", "javaClassName", "message"}}`; the statuses say less than the names (403 is
both "not allowed" and "the disk is full").
"""

from __future__ import annotations

import http.client
import json
import re
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from .errors import (
    BackendError,
    BadConfiguration,
    CredentialsRefused,
    NoSpace,
    NotFound,
    NotSupported,
    PreconditionFailed,
    Unavailable,
)
from .hdfs_options import HdfsOptions
from .translation import TLS_FOR_EVER, retry_after

_QUOTA = "raise it (hdfs dfsadmin -setSpaceQuota / -setQuota) or delete old checkpoints (keep_remote)"
_SAFE_MODE = "the NameNode is in safe mode until its DataNodes have reported; or hdfs dfsadmin -safemode leave"
_RENEW = 'is it expired? Renew what lies in token_file, or use auth = "kerberos"'
_KERBEROS = 'this cluster wants Kerberos: set auth = "kerberos" and get a ticket (kinit, or a keytab and k5start)'
_TICKET = "is there a ticket (klist)? kinit, or run k5start beside the daemon; and do the clocks agree?"
_NOT_TAKEN = (
    "the server takes no such ticket: is klist's principal of its realm (or mapped by hadoop.security.auth_to_local), and do "
    "the clocks agree?"
)
_NOT_KNOWN = (
    "the KDC knows no HTTP/HOST for the host in the remote's URL: write it as in the services' principals "
    "(dfs.web.authentication.kerberos.principal), not as an IP address"
)
_NAMES = "one object's name is another one's folder; HDFS cannot hold both"
_RPC_SAYS = "making an HTTP request to a Hadoop IPC port"
"""`Server.RECEIVED_HTTP_REQ_RESPONSE` of Hadoop's RPC."""

_NO_TOKEN = frozenset({"NegativeArraySizeException", "EOFException"})
"""What a NameNode says of a token that it cannot read."""

IN_STANDBY = frozenset({"StandbyException", "RetriableException"})
"""Another NameNode may be the active one."""

_NAMED: dict[str, tuple[type[BackendError], str]] = {
    "FileNotFoundException": (NotFound, ""),
    "FileAlreadyExistsException": (PreconditionFailed, ""),
    "AlreadyBeingCreatedException": (Unavailable, ""),
    "LeaseExpiredException": (Unavailable, ""),
    "RecoveryInProgressException": (Unavailable, ""),
    "NotReplicatedYetException": (Unavailable, ""),
    "StandbyException": (Unavailable, "no NameNode is active: hdfs haadmin -getAllServiceState"),
    "RetriableException": (Unavailable, ""),
    "SafeModeException": (Unavailable, _SAFE_MODE),
    "DSQuotaExceededException": (NoSpace, _QUOTA),
    "NSQuotaExceededException": (NoSpace, _QUOTA),
    "QuotaExceededException": (NoSpace, _QUOTA),
    "QuotaByStorageTypeExceededException": (NoSpace, _QUOTA),
    "AuthorizationException": (CredentialsRefused, ""),
    "SecurityException": (CredentialsRefused, _RENEW),
    "InvalidToken": (CredentialsRefused, _RENEW),
    "ParentNotDirectoryException": (BackendError, _NAMES),
    "PathIsNotDirectoryException": (BackendError, _NAMES),
    "PathIsNotEmptyDirectoryException": (BackendError, _NAMES),
    "PathComponentTooLongException": (BackendError, "dfs.namenode.fs-limits.max-component-length: shorten the name"),
    "InvalidPathException": (BackendError, "HDFS does not take this name"),
    "MaxDirectoryItemsExceededException": (NoSpace, "dfs.namenode.fs-limits.max-directory-items"),
    "UnsupportedOperationException": (NotSupported, ""),
    "UnresolvedPathException": (BackendError, "a symbolic link of HDFS: name its target"),
}


class Answered(Exception):
    """An answer that is an error: `name` is Hadoop's, empty where something else answered."""

    def __init__(self, response: requests.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.host = urlsplit(response.url or "").netloc
        text = response.text
        found = _remote_exception(text)
        # `SecretManager$InvalidToken`, `RemoteException` around another one.
        self.name = str(found.get("exception") or "").rpartition("$")[2]
        self.text = str(found.get("message") or "").partition("\n")[0] or text[:300]
        super().__init__(f"{self.name or self.status}: {self.text}")
        if self.name in {"IOException", "RemoteException", "RetriableException", "SecurityException"}:
            self.name = _inner(self.text) or self.name


def _remote_exception(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)["RemoteException"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _inner(text: str) -> str:
    """The name that a wrapped exception's message begins with or says, where it is one of those above."""
    if "safe mode" in text.lower():
        return "SafeModeException"
    for name in _NAMED:
        if name in text and name != "SecurityException":
            return name
    return ""


def from_answer(error: Answered, what: str, options: HdfsOptions) -> BackendError:
    message = f"{what}: {error.text.strip() or http.client.responses.get(error.status, '')}"
    if _RPC_SAYS in error.text:
        return BadConfiguration(
            f"{error.host} is a NameNode's RPC port, not WebHDFS's",
            hint="write the port of dfs.namenode.http-address: 9870 (Hadoop 2: 50070), with tls = true 9871 (50470)",
        )
    if error.name == "AccessControlException":
        if "not a directory" in error.text:
            return NotFound(message)
        # With Kerberos, or a token, the cluster decides who we are, and says it.
        said = re.search(r"user=([^,\s]+)", error.text)
        user = said[1] if said else options.user
        return CredentialsRefused(
            message,
            hint=f"user {user} must be able to read and write there: hdfs dfs -chown -R {user} FOLDER, or {_other(options)}",
        )
    if options.token_file and error.name in _NO_TOKEN:
        return CredentialsRefused(f"{message}: what lies in token_file is no delegation token", hint=_RENEW)
    if error.name in _NAMED:
        kind, hint = _NAMED[error.name]
        return kind(message, hint=hint, retry_after=retry_after(error.headers))
    if error.status == 401:
        negotiate = "negotiate" in error.headers.get("www-authenticate", "").lower()
        if options.token_file:
            return CredentialsRefused(message, hint=_RENEW)
        return CredentialsRefused(message, hint=_NOT_TAKEN if options.kerberos else _KERBEROS if negotiate else _RENEW)
    if error.status == 403 and not error.name and options.kerberos:
        return CredentialsRefused(message, hint=_NOT_TAKEN)
    if error.status in {403, 500, 502, 503, 504} and error.name:
        return Unavailable(message, hint=_hint_for(error.text))
    if error.name:
        return BackendError(f"{message} ({error.name})")
    if error.status >= 500 or error.status in {408, 429}:
        return Unavailable(message, retry_after=retry_after(error.headers))
    return BadConfiguration(
        f"{what}: {error.host} answered {error.status} and not as WebHDFS does",
        hint="is this the HTTP address of a NameNode or HttpFS (dfs.webhdfs.enabled), and is http_path right?",
    )


def _other(options: HdfsOptions) -> str:
    if options.token_file:
        return "another user's token"
    return "another user's ticket (klist)" if options.kerberos else "the option user"


def _hint_for(text: str) -> str:
    if "could only be replicated to 0 nodes" in text or "could only be written to 0 of" in text:
        return "no DataNode takes the block: are they up, reachable from one another, and not full (hdfs dfsadmin -report)?"
    return ""


def from_wire(error: Exception, what: str, host: str, *, datanode: bool) -> BackendError:
    """`host`: who was asked."""
    # requests says the whole address, and what opens the cluster is in it.
    text = re.sub(r"(delegation|token)=[^&\s)']+", r"\1=…", str(error))
    said = f"{what}: {text}"
    if isinstance(error, requests.exceptions.SSLError) and any(sign in str(error) for sign in TLS_FOR_EVER):
        return BadConfiguration(
            said, hint=f"set ca_bundle to the certificates of {host}, or tls = false where it has none"
        )
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
        return BadConfiguration(said, hint="check the remote's URL, and the proxy settings of the environment")
    unknown = "NameResolutionError" in repr(error) or "Name or service not known" in str(error)
    if datanode:
        name = host.rpartition(":")[0] or host
        if unknown:
            return Unavailable(
                f"{what}: the DataNode's name '{name}' does not resolve here",
                hint=f"add '{name}' to DNS or /etc/hosts, or set dfs.datanode.hostname on it to a name known here",
            )
        return Unavailable(said, hint=f"is DataNode {host} up and reachable from here (dfs.datanode.http.address)?")
    if unknown:
        return Unavailable(f"{what}: '{host}' does not resolve here", hint="correct the remote's URL, or DNS")
    if "BadStatusLine" in repr(error) or "InvalidHeader" in repr(error):
        return BadConfiguration(
            f"{what}: {host} does not speak HTTP", hint="write the port of dfs.namenode.http-address, not the RPC port"
        )
    return Unavailable(said, hint=f"is {host} right (dfs.namenode.http-address), up and reachable from here?")


WIRE = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


def ticket_refused(error: Exception, what: str) -> CredentialsRefused:
    """SPNEGO failed on this side: no ticket, an expired one, or a server that the KDC does not know."""
    said = str(error).rstrip("\0")
    unknown = "not found in Kerberos database" in said
    return CredentialsRefused(f"{what}: Kerberos: {said}", hint=_NOT_KNOWN if unknown else _TICKET)
