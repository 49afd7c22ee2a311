"""A secured HDFS and a daemon whose ticket is missing, over, or ends while it runs: a real KDC, and tickets of seconds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from servers.hdfs_secured import SecuredCluster
from tests_node_bucket import TRANSFER, options, remote_ok
from tests_node_daemon import Daemon, save
from tests_node_refused import is_refused

pytestmark = [pytest.mark.kerberos, pytest.mark.xdist_group("test_hdfs_secured")]

NewDaemon = Callable[..., Daemon]


@pytest.fixture
def with_ticket(new_daemon: NewDaemon, hdfs_secured: SecuredCluster) -> NewDaemon:
    remote = hdfs_secured.fresh_remote()

    def make(cache: str) -> Daemon:
        return new_daemon(
            remote=remote.url,
            options=options(remote, auth="kerberos", data="webhdfs", read_timeout="30"),
            transfer=TRANSFER,
            environment={"KRB5CCNAME": cache},
        )

    return make


def wait_until_over(cluster: SecuredCluster, cache: str) -> None:
    end = time.monotonic() + 60
    while cluster.realm.valid(cache):
        assert time.monotonic() < end, "the ticket does not end"
        time.sleep(0.2)


def test_without_a_ticket_nothing_is_served(with_ticket: NewDaemon, hdfs_secured: SecuredCluster) -> None:
    daemon = with_ticket(os.environ["KRB5CCNAME"])
    is_refused(daemon, ("hdfs://localhost:", "Kerberos: ", "No credentials were supplied"), ("klist", "kinit"), 1, ())


@pytest.mark.slow
def test_a_ticket_that_ends_while_the_daemon_runs_is_missed_by_its_next_worker_until_there_is_another(
    with_ticket: NewDaemon, hdfs_secured: SecuredCluster
) -> None:
    """The one that runs has the NameNode's cookie, which outlives the ticket."""
    cache = hdfs_secured.ticket(lifetime="20s")
    daemon = with_ticket(cache)
    daemon.start()
    save(daemon.volume / "run-1/checkpoint-1", {"model.bin": b"1" * 1000, "DONE": b""})
    daemon.committed("run-1", 1)
    wait_until_over(hdfs_secured, cache)
    os.kill(daemon.worker_pid(), signal.SIGKILL)  # its supervisor starts another
    save(daemon.volume / "run-1/checkpoint-2", {"model.bin": b"2" * 1000, "DONE": b""})
    daemon.until(lambda: "Ticket expired" in daemon.log, "the operator is told", timeout=60)
    assert "kinit" in daemon.log
    hdfs_secured.realm.renew(cache, "ckptd", hdfs_secured.keytab("ckptd"))
    daemon.committed("run-1", 2, timeout=60)
    daemon.until(lambda: remote_ok(daemon), "well again")
    assert "Traceback" not in daemon.log
