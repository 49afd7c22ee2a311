"""A Kerberos realm of a test's own: a real KDC (MIT's krb5kdc) on 127.0.0.1, its keytabs, tickets by `kinit`.

Everything lies in one folder; who runs the KDC (`command`) ends it and removes the folder.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

REALM = "CKPTD.TEST"
_CLIENTS = """
[libdefaults]
 default_realm = {realm}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
[realms]
 {realm} = {{
  kdc = 127.0.0.1:{port}
 }}
[domain_realm]
 localhost = {realm}
 127.0.0.1 = {realm}
"""
_KDC = """
[kdcdefaults]
 kdc_listen = ""
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {realm} = {{
  database_name = {folder}/principals
  key_stash_file = {folder}/stash
  acl_file = {folder}/acl
  supported_enctypes = aes256-cts-hmac-sha1-96:normal
 }}
[dbmodules]
 db_module_dir = {plugins}
[logging]
 kdc = STDERR
 admin_server = STDERR
 default = STDERR
"""


def installed() -> Path:
    """`make hdfs` fills it (`kerberos_install.py`)."""
    return Path(os.environ.get("CKPTD_TEST_KERBEROS", Path(__file__).parents[2] / ".hdfs" / "kerberos"))


def why_absent() -> str | None:
    if not (installed() / "usr/sbin/krb5kdc").exists():
        return "no KDC here: make hdfs, or name a folder with Debian's krb5-kdc in CKPTD_TEST_KERBEROS"
    try:
        import gssapi  # noqa: F401
    except ImportError as error:
        return f"no Kerberos for Python here ({error}): make hdfs"
    return None


@dataclass(frozen=True)
class Realm:
    folder: Path
    port: int

    @classmethod
    def make(cls, folder: Path, port: int) -> Realm:
        folder.mkdir()
        realm = cls(folder, port)
        [libraries] = installed().glob("usr/lib/*-linux-gnu*/krb5/plugins/kdb")
        names = {"realm": REALM, "port": port, "folder": folder, "plugins": libraries}
        realm.config.write_text(_CLIENTS.format_map(names))
        (folder / "kdc.conf").write_text(_KDC.format_map(names))
        realm._run("sbin/kdb5_util", "create", "-s", "-r", REALM, "-P", uuid.uuid4().hex)
        return realm

    @property
    def config(self) -> Path:
        """For KRB5_CONFIG."""
        return self.folder / "krb5.conf"

    @property
    def listening(self) -> Path:
        """Written by the KDC once it does."""
        return self.folder / "kdc.pid"

    def command(self) -> list[str]:
        program = f"{installed()}/usr/sbin/krb5kdc"
        return [
            "env",
            *(f"{name}={value}" for name, value in self._own().items()),
            program,
            "-n",
            "-P",
            str(self.listening),
        ]

    def keytab(self, *principals: str) -> Path:
        """New principals with random keys, in a file of their own."""
        path = self.folder / f"{uuid.uuid4().hex}.keytab"
        for principal in principals:
            self._run("sbin/kadmin.local", "addprinc", "-randkey", principal)
        self._run("sbin/kadmin.local", "ktadd", "-k", str(path), *principals)
        return path

    def ticket(self, principal: str, keytab: Path, lifetime: str = "1h") -> str:
        """The name of a cache with a fresh one, as KRB5CCNAME wants it."""
        cache = f"FILE:{self.folder}/{uuid.uuid4().hex}.cache"
        self.renew(cache, principal, keytab, lifetime)
        return cache

    def renew(self, cache: str, principal: str, keytab: Path, lifetime: str = "1h") -> None:
        self._run("bin/kinit", "-l", lifetime, "-k", "-t", str(keytab), "-c", cache, principal)

    def valid(self, cache: str) -> bool:
        return self._call("bin/klist", "-s", "-c", cache).returncode == 0

    def _own(self) -> dict[str, str]:
        [libraries] = installed().glob("usr/lib/*-linux-gnu*/krb5")
        return {
            "KRB5_CONFIG": str(self.config),
            "KRB5_KDC_PROFILE": f"{self.folder}/kdc.conf",
            "LD_LIBRARY_PATH": str(libraries.parent),
        }

    def _call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [f"{installed()}/usr/{program}", *arguments]
        return subprocess.run(
            command, env=os.environ | self._own(), capture_output=True, text=True, timeout=30, check=False
        )

    def _run(self, program: str, *arguments: str) -> None:
        run = self._call(program, *arguments)
        assert run.returncode == 0, f"{program} {' '.join(arguments)}: {run.stdout}{run.stderr}"
