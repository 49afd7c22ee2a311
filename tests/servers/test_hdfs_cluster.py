"""The HDFS of these tests is a real one, and does what its fixtures say."""

from __future__ import annotations

import pytest
from servers.hdfs_cluster import HdfsRemote

pytestmark = pytest.mark.hdfs


def test_what_a_user_wrote_is_read_back(hdfs_remote: HdfsRemote) -> None:
    content = bytes(range(256)) * 8192
    cluster, path, user = hdfs_remote.cluster, f"{hdfs_remote.path}/a/b", hdfs_remote.options["user"]
    assert cluster.webhdfs("PUT", path, "CREATE", user, data=content).status_code == 201
    assert cluster.webhdfs("GET", path, "OPEN", user).content == content
    assert cluster.webhdfs("GET", path, "OPEN", user, offset=300, length=5).content == content[300:305]
    assert cluster.webhdfs("GET", path, "GETFILESTATUS").json()["FileStatus"]["owner"] == user


def test_permissions_count(hdfs_remote: HdfsRemote) -> None:
    path = f"{hdfs_remote.path}/theirs"
    refused = hdfs_remote.cluster.webhdfs("PUT", path, "MKDIRS", "somebody")
    assert refused.status_code == 403
    assert refused.json()["RemoteException"]["exception"] == "AccessControlException"
