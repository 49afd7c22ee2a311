"""What a NameNode and a DataNode of Hadoop 2.7.3 want before they start: ports, a conf folder, a command line.

`Plan(folder)` decides and writes all of it; who starts, kills and watches the daemons is `hdfs_keeper.py`'s business.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMESERVICE = "ckptd-test"
"""The logical name of a NameNode with a standby."""
_MAIN = {
    "namenode": "org.apache.hadoop.hdfs.server.namenode.NameNode",
    "datanode": "org.apache.hadoop.hdfs.server.datanode.DataNode",
    "dfsadmin": "org.apache.hadoop.hdfs.tools.DFSAdmin",
    "haadmin": "org.apache.hadoop.hdfs.tools.DFSHAAdmin",
}
_JAVA = (
    # Hadoop 2.7 is older than the walls that Java has put up since.
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    "--add-exports=java.security.jgss/sun.security.jgss=ALL-UNNAMED",
    *(f"--add-opens=java.base/{each}=ALL-UNNAMED" for each in ("java.lang", "java.nio", "sun.nio.ch", "java.net")),
    "-Djava.net.preferIPv4Stack=true",
    # Small and soon there, rather than fast for long.
    "-XX:+UseSerialGC", "-Xshare:auto",
    # Their place is /tmp, whatever TMPDIR says, and a killed JVM leaves them there.
    "-XX:-UsePerfData",
)  # fmt: skip
_LOG4J = """
log4j.rootLogger=WARN,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n
"""


def jars_folder() -> Path:
    """`make hdfs` fills it. A name that is set and leads nowhere counts as absent, as for the S3 server's program."""
    default = Path(__file__).parents[2] / ".hdfs" / "jars"
    return Path(os.environ.get("CKPTD_TEST_HDFS", default))


def why_absent() -> str | None:
    if not jars_folder().is_dir():
        return "no HDFS here: make hdfs, or name a folder of its jars in CKPTD_TEST_HDFS"
    if shutil.which("java") is None:
        return "no Java for HDFS here: make hdfs"
    return None


@dataclass(frozen=True)
class NameNodePorts:
    http: int
    rpc: int


@dataclass(frozen=True)
class DataNodePorts:
    http: int
    data: int
    ipc: int


@dataclass(frozen=True)
class Plan:
    """Names of daemons are namenode0, namenode1 (with `standby`), datanode0, …"""

    folder: Path
    namenodes: tuple[NameNodePorts, ...]
    datanodes: tuple[DataNodePorts, ...]
    superuser: str
    java: tuple[str, ...] = ()
    """More options of Java."""
    kdc: tuple[str, ...] = ()
    """The command of one without which the others cannot start."""
    kdc_serves: Path = Path("/")
    """A file that it writes as soon as it does."""

    @classmethod
    def make(
        cls, folder: Path, datanodes: int = 1, *, standby: bool = False, datanode_hostname: str = "127.0.0.1",
        settings: dict[str, str] | None = None, **more: Any,
    ) -> Plan:  # fmt: skip
        """`settings`: of all daemons, besides those of here. `more`: the fields that have defaults."""
        names = 2 if standby else 1
        free = iter(free_ports(2 * names + 3 * datanodes))
        plan = cls(
            folder,
            tuple(NameNodePorts(next(free), next(free)) for _ in range(names)),
            tuple(DataNodePorts(next(free), next(free), next(free)) for _ in range(datanodes)),
            getpass.getuser(),
            **more,
        )
        plan._write(datanode_hostname, settings or {})
        return plan

    def command(self, program: str, *arguments: str, conf: str = "namenode0") -> list[str]:
        classpath = f"{self.folder}/conf/{conf}:{jars_folder()}/*"
        heap = "-Xmx384m" if program in {"namenode", "datanode"} else "-Xmx128m"
        # What lives two seconds is better not compiled well; a DataNode moves gigabytes.
        compiler = [] if program == "datanode" else ["-XX:TieredStopAtLevel=1"]
        java = ["java", *_JAVA, *self.java, heap, *compiler, f"-Djava.io.tmpdir={self.folder}/tmp", "-cp", classpath]
        return [*java, _MAIN[program], *arguments]

    def commands(self) -> dict[str, list[str]]:
        """By the daemon's name."""
        names = [(f"namenode{index}", "namenode") for index in range(len(self.namenodes))]
        names += [(f"datanode{index}", "datanode") for index in range(len(self.datanodes))]
        daemons = {name: self.command(program, conf=name) for name, program in names}
        if not self.kdc:
            return daemons
        waits = ("sh", "-c", 'until [ -s "$0" ]; do sleep 0.05; done; exec "$@"', str(self.kdc_serves))
        return {"kdc": [*self.kdc], **{name: [*waits, *command] for name, command in daemons.items()}}

    def environment(self) -> dict[str, str]:
        """Nothing of this machine's own Hadoop."""
        return {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HADOOP_", "HDFS_")) and name not in {"CLASSPATH", "JAVA_TOOL_OPTIONS"}
        }

    def _write(self, datanode_hostname: str, settings: dict[str, str]) -> None:
        (self.folder / "tmp").mkdir()
        everywhere = self._common() | self._namenode_addresses()
        for index in range(len(self.namenodes)):
            own = {"dfs.namenode.name.dir": f"file://{self.folder}/namenode{index}"}
            if len(self.namenodes) > 1:
                own["dfs.ha.namenode.id"] = f"namenode{index}"
            if not index:
                self._write_conf(
                    "format", everywhere | own
                )  # without `settings`: the KDC of which they speak runs later
            self._write_conf(f"namenode{index}", everywhere | settings | own)
        for index, ports in enumerate(self.datanodes):
            own = {
                "dfs.datanode.data.dir": f"file://{self.folder}/datanode{index}",
                "dfs.datanode.http.address": f"127.0.0.1:{ports.http}",
                "dfs.datanode.address": f"127.0.0.1:{ports.data}",
                "dfs.datanode.ipc.address": f"127.0.0.1:{ports.ipc}",
                "dfs.datanode.hostname": datanode_hostname,
            }
            self._write_conf(f"datanode{index}", everywhere | settings | own)

    def _common(self) -> dict[str, str]:
        return {
            "hadoop.tmp.dir": f"{self.folder}/tmp",
            "dfs.replication": str(len(self.datanodes)),
            "dfs.permissions.enabled": "true",
            "dfs.namenode.acls.enabled": "true",
            "dfs.webhdfs.enabled": "true",
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            # A disk that is nearly full stops a NameNode otherwise: no business of the tests.
            "dfs.namenode.resource.du.reserved": "0",
            "dfs.namenode.safemode.extension": "0",
            # Once the NameNode runs again a DataNode is back within a second; one that is gone is known dead after twelve.
            "dfs.heartbeat.interval": "1",
            "dfs.namenode.heartbeat.recheck-interval": "1000",
            # With two of them and one killed, the writer goes on with the other.
            "dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER",
            # A standby reads what the active has written every second.
            "dfs.ha.tail-edits.period": "1",
            "dfs.ha.log-roll.period": "1",
        }

    def _namenode_addresses(self) -> dict[str, str]:
        if len(self.namenodes) == 1:
            [only] = self.namenodes
            return {
                "fs.defaultFS": f"hdfs://127.0.0.1:{only.rpc}",
                "dfs.namenode.rpc-address": f"127.0.0.1:{only.rpc}",
                "dfs.namenode.http-address": f"127.0.0.1:{only.http}",
            }
        settings = {
            "fs.defaultFS": f"hdfs://{NAMESERVICE}",
            "dfs.nameservices": NAMESERVICE,
            f"dfs.ha.namenodes.{NAMESERVICE}": ",".join(f"namenode{index}" for index in range(len(self.namenodes))),
            f"dfs.client.failover.proxy.provider.{NAMESERVICE}": (
                "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
            ),
            # A folder that both reach, where a real cluster has JournalNodes.
            "dfs.namenode.shared.edits.dir": f"file://{self.folder}/edits",
            "dfs.ha.fencing.methods": "shell(/bin/true)",
        }
        for index, ports in enumerate(self.namenodes):
            settings[f"dfs.namenode.rpc-address.{NAMESERVICE}.namenode{index}"] = f"127.0.0.1:{ports.rpc}"
            settings[f"dfs.namenode.http-address.{NAMESERVICE}.namenode{index}"] = f"127.0.0.1:{ports.http}"
        return settings

    def _write_conf(self, name: str, settings: dict[str, str]) -> None:
        conf = self.folder / "conf" / name
        # The daemons' own web pages are in no jar, and they refuse to start without them.
        for web in ("hdfs", "datanode"):
            page = conf / "webapps" / web / "WEB-INF" / "web.xml"
            page.parent.mkdir(parents=True)
            page.write_text("<web-app/>")
        properties = "".join(
            f"<property><name>{key}</name><value>{value}</value></property>\n" for key, value in settings.items()
        )
        for file in ("core-site.xml", "hdfs-site.xml"):
            (conf / file).write_text(f"<configuration>\n{properties}</configuration>\n")
        (conf / "log4j.properties").write_text(_LOG4J)

    def dump(self) -> str:
        return json.dumps(
            {
                "namenodes": [[each.http, each.rpc] for each in self.namenodes],
                "datanodes": [[each.http, each.data, each.ipc] for each in self.datanodes],
                "superuser": self.superuser,
            }
        )

    @classmethod
    def load(cls, folder: Path, dumped: str) -> Plan:
        read = json.loads(dumped)
        return cls(
            folder,
            tuple(NameNodePorts(*each) for each in read["namenodes"]),
            tuple(DataNodePorts(*each) for each in read["datanodes"]),
            read["superuser"],
        )


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
