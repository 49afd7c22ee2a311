"""A secured HDFS: a real KDC, and Hadoop's own Kerberos, SPNEGO, delegation tokens, block tokens and TLS.

    def test_it(hdfs_secured)   # .fresh_remote(), .ticket("ckptd"), .token("ckptd"), .webhdfs(…) to look at it from outside

The test's process, and what it starts, is of that realm and has no ticket until the test sets KRB5CCNAME to one. DataNodes speak
to clients on ports that are not privileged, which Hadoop allows for testing.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from servers.certificates import PASSWORD, Certificate, make_certificate
from servers.hdfs_cluster import USER, HdfsCluster, HdfsRemote, Keeper, format_command, hold, skip_if_absent
from servers.hdfs_daemons import Plan, free_ports
from servers.hdfs_own import OwnCluster
from servers.kerberos_realm import REALM, Realm, why_absent

HOST = "localhost"
"""The name in the services' principals. A URL must have it too, not 127.0.0.1."""
SUPERUSER = "hdfs"


@dataclass(frozen=True)
class Gates:
    """The HTTPS ports, which a Plan knows nothing of."""

    namenode: int
    datanode: int


@dataclass(frozen=True)
class SecuredCluster:
    own: OwnCluster
    realm: Realm
    certificate: Certificate
    gates: Gates
    keytabs: dict[str, Path] = field(default_factory=dict)

    @property
    def cluster(self) -> HdfsCluster:
        return self.own.cluster()

    def ticket(self, user: str = USER, lifetime: str = "1h") -> str:
        """The name of a cache of its own."""
        return self.realm.ticket(user, self.keytab(user), lifetime)

    def keytab(self, user: str) -> Path:
        if user not in self.keytabs:
            self.keytabs[user] = self.realm.keytab(user)
        return self.keytabs[user]

    def token(self, user: str = USER) -> str:
        """A delegation token of the NameNode's, in its URL-safe form."""
        answer = self.webhdfs("GET", "/", "GETDELEGATIONTOKEN", user, renewer=SUPERUSER)
        return str(answer.json()["Token"]["urlString"])

    def cancel(self, token: str, user: str = USER) -> None:
        """What it opened is shut, as if its time were over."""
        self.webhdfs("PUT", "/", "CANCELDELEGATIONTOKEN", user, token=token).raise_for_status()

    def webhdfs(self, method: str, path: str, op: str, user: str = SUPERUSER, data: Any = None, **query: Any) -> Any:
        """The `requests.Response`, asked with a ticket of `user`; from the DataNode where the NameNode sends us there."""
        import requests

        with requests.Session() as session:
            session.trust_env = False  # a proxy of this machine leads nowhere
            url = f"http://{HOST}:{self.cluster.namenode_http}/webhdfs/v1{path}"
            asked = {"Authorization": f"Negotiate {self._proof(user)}"}
            answer = session.request(
                method, url, params={"op": op} | query, headers=asked, timeout=60, allow_redirects=False
            )
            if answer.status_code != 307:
                return answer
            headers = {"Content-Type": "application/octet-stream"}
            return session.request(method, answer.headers["Location"], data=data, headers=headers, timeout=60)

    def make_directory(self, path: str, owner: str = USER) -> None:
        self.webhdfs("PUT", path, "MKDIRS", permission="755").raise_for_status()
        self.webhdfs("PUT", path, "SETOWNER", owner=owner).raise_for_status()

    def fresh_remote(self, user: str = USER, *, tls: bool = False) -> HdfsRemote:
        """It goes with the cluster."""
        path = f"/{uuid.uuid4().hex}"
        self.make_directory(path, user)
        port = self.gates.namenode if tls else self.cluster.namenode_http
        options = {"tls": "true", "ca_bundle": self.certificate.cert} if tls else {}
        return HdfsRemote(f"hdfs://{HOST}:{port}{path}", options, self.cluster, path)

    def _proof(self, user: str) -> str:
        import gssapi

        store = {"ccache": self.ticket(user)}
        service = gssapi.Name(f"HTTP@{HOST}", gssapi.NameType.hostbased_service)
        mechanism = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")  # SPNEGO
        ours = gssapi.Credentials(usage="initiate", store=store)
        return base64.b64encode(gssapi.SecurityContext(name=service, creds=ours, mech=mechanism).step()).decode()


def _settings(realm: Realm, gates: Gates) -> dict[str, str]:
    keytab = str(realm.keytab(f"hdfs/{HOST}", f"HTTP/{HOST}"))
    service, web = f"hdfs/{HOST}@{REALM}", f"HTTP/{HOST}@{REALM}"
    return {
        "hadoop.security.authentication": "kerberos",
        "hadoop.security.authorization": "true",
        "dfs.block.access.token.enable": "true",
        "dfs.data.transfer.protection": "authentication,integrity,privacy",
        "ignore.secure.ports.for.testing": "true",
        "dfs.namenode.kerberos.principal": service,
        "dfs.namenode.keytab.file": keytab,
        "dfs.namenode.kerberos.internal.spnego.principal": web,
        "dfs.datanode.kerberos.principal": service,
        "dfs.datanode.keytab.file": keytab,
        "dfs.web.authentication.kerberos.principal": web,
        "dfs.web.authentication.kerberos.keytab": keytab,
        "dfs.http.policy": "HTTP_AND_HTTPS",
        # Hadoop 2.7 allows its DataNodes TLS 1.0 alone, and Java 17 everything but that.
        "hadoop.ssl.enabled.protocols": "TLSv1.2",
        "dfs.namenode.https-address": f"{HOST}:{gates.namenode}",
        "dfs.datanode.https.address": f"127.0.0.1:{gates.datanode}",
    }


def _write_keystore(plan: Plan, certificate: Certificate) -> None:
    settings = {
        "ssl.server.keystore.location": certificate.pkcs12(),
        "ssl.server.keystore.type": "pkcs12",
        "ssl.server.keystore.password": PASSWORD,
        "ssl.server.keystore.keypassword": PASSWORD,
    }
    properties = "".join(
        f"<property><name>{key}</name><value>{value}</value></property>\n" for key, value in settings.items()
    )
    for conf in (plan.folder / "conf").iterdir():
        (conf / "ssl-server.xml").write_text(f"<configuration>\n{properties}</configuration>\n")


@pytest.fixture(scope="session")
def hdfs_secured_running() -> Iterator[SecuredCluster]:
    skip_if_absent(why_absent, suite="kerberos")
    folder = Path(tempfile.mkdtemp(prefix="ckptd-test-hdfs-"))
    with contextlib.ExitStack() as undone:
        unkept = undone.enter_context(contextlib.ExitStack())
        unkept.callback(shutil.rmtree, folder)
        kdc, *https = free_ports(3)
        realm, gates = Realm.make(folder / "realm", kdc), Gates(*https)
        certificate = make_certificate(folder, f"DNS:{HOST}")
        plan = Plan.make(
            folder, datanode_hostname=HOST, settings=_settings(realm, gates),
            java=(f"-Djava.security.krb5.conf={realm.config}",), kdc=tuple(realm.command()), kdc_serves=realm.listening,
        )  # fmt: skip
        _write_keystore(plan, certificate)
        held = undone.enter_context(contextlib.ExitStack())
        held.enter_context(hold(folder))
        own = OwnCluster(plan, Keeper(plan, [format_command(plan)]))
        unkept.pop_all()  # from here on it is the keeper who removes the folder
        undone.callback(own.keeper.reap)
        undone.callback(held.close)  # before that
        if not own.keeper.alive():
            pytest.fail(f"nothing runs\n{own.keeper.log()}")
        own.wait_ready()
        yield SecuredCluster(own, realm, certificate, gates)


@pytest.fixture
def hdfs_secured(hdfs_secured_running: SecuredCluster, monkeypatch: pytest.MonkeyPatch) -> SecuredCluster:
    monkeypatch.setenv("KRB5_CONFIG", str(hdfs_secured_running.realm.config))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{hdfs_secured_running.realm.folder}/nobody")
    return hdfs_secured_running
