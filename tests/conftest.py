"""Fixtures that every folder of tests may ask for. Real servers live in `tests/servers`; nothing starts at import."""

import signal

import hypothesis
import pytest
from servers.hdfs_cluster import hdfs_cluster, hdfs_remote
from servers.hdfs_own import (
    hdfs_ha,
    hdfs_ha_running,
    hdfs_misnamed,
    hdfs_misnamed_running,
    hdfs_own,
    hdfs_own_running,
)
from servers.hdfs_secured import hdfs_secured, hdfs_secured_running
from servers.oss_server import oss_environment, oss_gateway, oss_process, oss_proxied, oss_remote
from servers.s3_server import s3_bucket, s3_environment, s3_proxied, s3_remote, s3_server
from servers.slurm_cluster import slurm, slurm_running

from ckptd.fronts.mount import possible

__all__ = [
    "hdfs_cluster", "hdfs_ha", "hdfs_ha_running", "hdfs_misnamed", "hdfs_misnamed_running", "hdfs_own", "hdfs_own_running",
    "hdfs_remote", "hdfs_secured", "hdfs_secured_running",
    "oss_environment", "oss_gateway", "oss_process", "oss_proxied", "oss_remote",
    "s3_bucket", "s3_environment", "s3_proxied", "s3_remote", "s3_server",
    "slurm", "slurm_running",
]  # fmt: skip

# Machines that run tests are slow at times: how long an example takes proves nothing.
hypothesis.settings.register_profile("ckptd", deadline=None)
hypothesis.settings.load_profile("ckptd")

# What is started in the background of a script ignores Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a mount is skipped, with the reason, where the machine cannot have one."""
    reason = possible.refused_here()
    for item in items:
        if reason and item.get_closest_marker("mount"):
            item.add_marker(pytest.mark.skip(reason=reason))
