"""When the nodes of one job begin to fetch: not all in the same moment."""

from __future__ import annotations

import zlib

_A_NODE_S = 0.1
_OF_THE_BUDGET = 0.25


def delay(job: int, node: str, nodes: int, budget_s: float) -> float:
    """Seconds that this node waits: always the same for it and the job, evenly spread over the nodes.

    A tenth of a second for each node of the job, and at most a quarter of the budget: 1000 nodes with 45 s begin within 11 s.
    """
    if nodes < 2:
        return 0.0
    share = zlib.crc32(f"{job}/{node}".encode(errors="surrogateescape")) / 2**32
    return share * min(_A_NODE_S * nodes, _OF_THE_BUDGET * budget_s)
