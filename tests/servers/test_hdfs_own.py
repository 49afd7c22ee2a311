"""What may go wrong with an HDFS goes wrong with the fixtures' own ones as it does with a real one."""

from __future__ import annotations

import pytest
import requests
from servers.hdfs_cluster import HdfsCluster
from servers.hdfs_own import MISNAMED, OwnCluster

pytestmark = [pytest.mark.hdfs, pytest.mark.xdist_group("test_hdfs_own")]

MIB = 1 << 20


def length(cluster: HdfsCluster, path: str) -> int:
    return int(cluster.webhdfs("GET", path, "GETFILESTATUS").json()["FileStatus"]["length"])


def refusal(answer: requests.Response) -> str:
    return str(answer.json()["RemoteException"]["exception"])


def test_beyond_a_quota_of_space_a_file_is_short_and_called_created(hdfs_own: OwnCluster) -> None:
    """What fails while a DataNode writes is answered 201 by Hadoop 2.7: only the length tells."""
    cluster = hdfs_own.cluster()
    with hdfs_own.fresh_remote() as remote:
        hdfs_own.space_quota(remote.path, 8 * MIB)
        path, block = f"{remote.path}/file", {"blocksize": MIB, "replication": 1}
        assert cluster.webhdfs("PUT", path, "CREATE", data=bytes(MIB), **block).status_code == 201
        assert length(cluster, path) == MIB
        for size in (MIB, 16 * MIB):
            answer = cluster.webhdfs("PUT", path, "CREATE", data=bytes(size), blocksize=64 * MIB, overwrite="true")
            assert answer.status_code == 201
            assert length(cluster, path) == 0


def test_a_quota_of_names_is_a_refusal(hdfs_own: OwnCluster) -> None:
    cluster = hdfs_own.cluster()
    with hdfs_own.fresh_remote() as remote:
        hdfs_own.name_quota(remote.path, 2)
        assert cluster.webhdfs("PUT", f"{remote.path}/one", "MKDIRS").status_code == 200
        assert refusal(cluster.webhdfs("PUT", f"{remote.path}/two", "MKDIRS")) == "NSQuotaExceededException"


def test_safe_mode_is_a_refusal_until_it_is_left(hdfs_own: OwnCluster) -> None:
    cluster = hdfs_own.cluster()
    with hdfs_own.fresh_remote() as remote:
        path = f"{remote.path}/directory"
        hdfs_own.safe_mode(on=True)
        assert refusal(cluster.webhdfs("PUT", path, "MKDIRS")) == "SafeModeException"
        hdfs_own.safe_mode(on=False)
        assert cluster.webhdfs("PUT", path, "MKDIRS").status_code == 200


def test_what_two_datanodes_have_is_read_from_the_one_that_is_left(hdfs_own: OwnCluster) -> None:
    cluster, content = hdfs_own.cluster(), bytes(range(256)) * 4096
    with hdfs_own.fresh_remote() as remote:
        path = f"{remote.path}/file"
        assert cluster.webhdfs("PUT", path, "CREATE", data=content).status_code == 201
        hdfs_own.kill("datanode0")
        assert read_from_survivor(hdfs_own, path) == content
        hdfs_own.start("datanode0")
        hdfs_own.kill("datanode1")
        assert read_from_survivor(hdfs_own, path) == content


def read_from_survivor(own: OwnCluster, path: str) -> bytes:
    """The NameNode sends us to the one that was killed for a while: then we ask for another one, as a client must."""
    for _ in range(40):
        try:
            return own.cluster().webhdfs("GET", path, "OPEN").content
        except requests.ConnectionError:
            continue
    pytest.fail("the NameNode sends us only to the DataNode that was killed")


def test_no_datanode_is_a_failure_until_they_are_back(hdfs_own: OwnCluster) -> None:
    cluster = hdfs_own.cluster()
    with hdfs_own.fresh_remote() as remote:
        path = f"{remote.path}/file"
        assert cluster.webhdfs("PUT", path, "CREATE", data=b"content").status_code == 201
        hdfs_own.kill("datanode0")
        hdfs_own.kill("datanode1")
        with pytest.raises(requests.ConnectionError):
            cluster.webhdfs("GET", path, "OPEN")
        hdfs_own.start("datanode0", "datanode1")
        assert cluster.webhdfs("GET", path, "OPEN").content == b"content"


def test_a_killed_namenode_comes_back_with_what_it_had(hdfs_own: OwnCluster) -> None:
    cluster = hdfs_own.cluster()
    with hdfs_own.fresh_remote() as remote:
        path = f"{remote.path}/file"
        assert cluster.webhdfs("PUT", path, "CREATE", data=b"content").status_code == 201
        hdfs_own.kill("namenode0")
        with pytest.raises(requests.ConnectionError):
            cluster.webhdfs("GET", path, "GETFILESTATUS")
        hdfs_own.start("namenode0")
        assert cluster.webhdfs("GET", path, "OPEN").content == b"content"
        assert cluster.webhdfs("PUT", f"{path}2", "CREATE", data=b"content").status_code == 201


def test_a_standby_refuses_until_it_takes_over(hdfs_ha: OwnCluster) -> None:
    with hdfs_ha.fresh_remote() as remote:
        path = f"{remote.path}/file"
        assert hdfs_ha.cluster(0).webhdfs("PUT", path, "CREATE", data=b"content").status_code == 201
        assert refusal(hdfs_ha.cluster(1).webhdfs("GET", path, "GETFILESTATUS")) == "StandbyException"
        created = hdfs_ha.cluster(1).webhdfs("PUT", f"{path}2", "CREATE", data=b"content")
        assert created.status_code == 201, "this alone a standby takes: the DataNode asks the active one"
        hdfs_ha.activate(1)
        assert refusal(hdfs_ha.cluster(0).webhdfs("GET", path, "GETFILESTATUS")) == "StandbyException"
        assert hdfs_ha.cluster(1).webhdfs("GET", path, "OPEN").content == b"content"


def test_a_standby_takes_over_from_one_that_was_killed(hdfs_ha: OwnCluster) -> None:
    with hdfs_ha.fresh_remote() as remote:
        path = f"{remote.path}/file"
        assert hdfs_ha.cluster(0).webhdfs("PUT", path, "CREATE", data=b"content").status_code == 201
        hdfs_ha.kill("namenode0")
        hdfs_ha.activate(1)
        assert hdfs_ha.cluster(1).webhdfs("GET", path, "OPEN").content == b"content"
        assert hdfs_ha.cluster(1).webhdfs("PUT", f"{path}2", "CREATE", data=b"content").status_code == 201


def test_a_datanode_may_have_a_name_that_does_not_resolve(hdfs_misnamed: OwnCluster) -> None:
    with (
        hdfs_misnamed.fresh_remote() as remote,
        pytest.raises(requests.ConnectionError, match=MISNAMED.replace(".", r"\.")),
    ):
        remote.cluster.webhdfs("PUT", f"{remote.path}/file", "CREATE", data=b"content")
