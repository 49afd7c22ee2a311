"""What the remote is asked when a job of two nodes starts: counted at a real S3 server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests_node_bucket import options
from tests_slurm_site import Site

pytestmark = [pytest.mark.slurm, pytest.mark.s3, pytest.mark.xdist_group("slurm")]


def asked(remote: Any, since: int) -> Counter[str]:
    """Listings, and reads of the job's objects, after that many requests."""
    found: Counter[str] = Counter()
    for method, path in remote.proxy.seen[since:]:
        if method == "GET" and "list-type=2" in path:
            found["listings"] += 1
        elif method == "GET" and "/checkpoint-" in path and ".ckptd" not in path:
            found["reads"] += 1
    return found


def test_each_node_reads_each_object_once_and_nothing_of_what_is_hot(
    new_site: Callable[..., Site], s3_proxied: Any
) -> None:
    site = new_site(remote=s3_proxied.url, options=options(s3_proxied))
    site.checkpoint("n1", "run-42", 100)
    site.cold("n1", "run-42", 100)
    script = "srun -N2 sh -c 'wc -c <$CKPTD_LATEST/model.bin'"
    counts = []
    for _ in range(2):
        before = len(s3_proxied.proxy.seen)
        job = site.slurm.batch(script, "--nodes=2", "--comment=ckpt=run-42")
        site.slurm.until_said(job, str(1 << 20), 2)
        counts.append(asked(s3_proxied, before))
        site.slurm.until_ended(job)
    cold, hot = counts
    assert cold["reads"] == 2 * 2  # two objects, on two nodes
    assert hot["reads"] == 0
    print("listings with a cold and a hot checkpoint:", cold["listings"], hot["listings"])
    assert hot["listings"] <= 2 * 4
