"""What a user wants kept where. The most specific pattern wins, key by key."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Sync(StrEnum):
    ALL = "all"  # every settled file is uploaded, as soon as it is closed
    LATEST = "latest"  # complete checkpoints only; what was superseded before its upload began is skipped


class Fsync(StrEnum):
    LOCAL = "local"  # returns when the tier has it
    REMOTE = "remote"  # on a mounted volume: returns when the remote has confirmed size and checksum


@dataclass(frozen=True, slots=True)
class Policy:
    keep_hot: int = 2
    """Newest complete checkpoints of a run kept in RAM."""
    keep_nvme: int = 4
    """Newest complete checkpoints of a run kept on this node at all: those beyond `keep_hot` move to NVMe."""
    keep_remote: int = 0
    """Newest kept in the remote; 0: all."""
    keep_every: int = 0
    """Steps that are a multiple of this are kept in the remote for ever; 0: off."""
    sync: Sync = Sync.ALL
    settle_s: float = 2.0
    """Quiet seconds before a checkpoint without a marker counts as complete."""
    nodes: int = 0
    """How many nodes' manifests make a checkpoint whole; 0: found out from launcher, names and index."""
    fsync: Fsync = Fsync.LOCAL
