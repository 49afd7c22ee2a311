"""The settings as they are used: sizes in bytes, times in seconds, paths absolute. Every key is described here, once.

`model_dump(mode="json")` and `model_validate` are inverse: that is how the supervisor hands them to the worker.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from ckptd.policy.policy import Fsync, Policy, Sync
from ckptd.policy.scrub import ScrubPolicy
from ckptd.settings.layouts import LayoutSettings
from ckptd.settings.quantities import Percent, parse_budget, parse_size, parse_time

MIB = 1024 * 1024
_POLICY = Policy()
_SCRUB = ScrubPolicy()
MIN_PART_SIZE = 5 * MIB
"""S3's smallest part (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""
MAX_SOCKET_PATH = 107
"""`sun_path` has 108 bytes with its terminating NUL (unix(7))."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://.+", re.DOTALL)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or text in {".", ".."}:
        raise ValueError(f"a name consists of letters, digits, '.', '_' and '-', at most 128 of them, got {text!r}")
    return text


def _url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise ValueError(f"not a URL (scheme://…), got {text!r}; a directory is written file:///absolute/path")
    return text


def _socket(text: str) -> str:
    if (length := len(text.encode("utf-8", "surrogateescape"))) > MAX_SOCKET_PATH:
        raise ValueError(
            f"the kernel allows {MAX_SOCKET_PATH} bytes for a socket's path, this one has {length}: take a shorter one"
        )
    return text


def _listen(text: str) -> str:
    if not text:
        return text
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError(f'expected "host:port", e.g. "127.0.0.1:9464", got {text!r}')
    return text


def _part_size(value: object) -> int:
    size = parse_size(value)
    if size < MIN_PART_SIZE:
        raise ValueError(f"parts must have at least 5MiB, which is S3's limit, got {size} bytes")
    return size


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _dump_budget(budget: int | Percent) -> int | str:
    return str(budget) if isinstance(budget, Percent) else budget


Name = Annotated[str, AfterValidator(_name)]
Path = Annotated[str, AfterValidator(_not_empty)]
Size = Annotated[int, PlainValidator(parse_size)]
PartSize = Annotated[int, PlainValidator(_part_size)]
Budget = Annotated[int | Percent, PlainValidator(parse_budget), PlainSerializer(_dump_budget)]
Seconds = Annotated[float, PlainValidator(parse_time)]
TierName = Literal["ram", "nvme"]
FrontName = Literal["auto", "mount", "watch"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


class NodeSettings(_Section):
    """`[node]`"""

    name: Name = Field(description="This node's name in manifests and reports. Default: the host name.")
    state_dir: Path = Field(
        description="Catalog, lock and log. Default: `/var/lib/ckptd` as root, else the user's state directory "
        "(`~/.local/state/ckptd`)."
    )
    socket: Annotated[str, AfterValidator(_not_empty), AfterValidator(_socket)] = Field(
        description="Unix socket of the API. Default: `/run/ckptd/ckptd.sock` as root with the default `state_dir`, "
        "else `<state_dir>/ckptd.sock`; where that is longer than 100 bytes, a short path under `$XDG_RUNTIME_DIR` or "
        "`/tmp`."
    )
    metrics: Annotated[str, AfterValidator(_listen)] = Field(
        default="",
        description='Where Prometheus may scrape over TCP, `"host:port"`: an address of the monitoring network, as there is no '
        "password (`127.0.0.1` only for a Prometheus on this node). Default: nowhere; `GET /metrics` on the socket always works.",
    )
    shutdown_timeout: Seconds = Field(
        default=60.0,
        description="How long an orderly stop (SIGTERM, `ckptctl down`) flushes before it gives up and says what is "
        "still exposed.",
    )


class AccessSettings(_Section):
    """`[access]`: who may use root's daemon. A user's own daemon is his alone."""

    users: Literal["everyone", "group"] = Field(
        default="everyone",
        description="Who may open the socket of root's daemon: `everyone` on the machine, or the members of `group`. What they "
        "see and steer is decided by their rights on each run's directory. Default: `everyone`.",
    )
    group: str = Field(default="", description="A group by name or number, for `users`. Default: root's.")
    admin_group: str = Field(
        default="", description="A group whose members may do everything, as root may. Default: none."
    )
    user_budget: Budget = Field(
        default=0,
        description="How much of the RAM tier the checkpoints of one user may take, in bytes or as a percentage of the tier; "
        "beyond it his own older ones move to NVMe. `0`: as much as there is. Default: `0`.",
    )
    user_pins: Budget = Field(
        default=0,
        description="How much one user may keep pinned or prefetched (until its `--ttl` is over), in bytes or as a percentage of "
        "the RAM tier. `0`: no limit. Administrators have none. Default: `0`.",
    )


class TierSettings(_Section):
    """`[tiers.ram]`, `[tiers.nvme]`"""

    path: Path = Field(
        description="The tier's directory, made if it is missing; never on a network file system. Default: "
        "`/dev/shm/ckptd-<uid>-<8 hex digits of the state directory's SHA-1>` for `ram`, `<state_dir>/nvme` for `nvme`."
    )
    budget: Budget = Field(
        description="Bytes the tier never exceeds, or a percentage: of memory for `ram`, of the disk for `nvme`. "
        'Default: `"25%"` for `ram` (and never more than its file system has), `"10%"` for `nvme`. '
        "`0` for `nvme`: no such tier.",
    )


class TransferSettings(_Section):
    """`[transfer]`"""

    parallel: Annotated[int, Field(ge=1, le=256)] = Field(
        default=16, description="Parts in flight at a time, over all files and volumes. 1 to 256."
    )
    part_size: PartSize = Field(default=64 * MIB, description="Size of a part; at least 5MiB.")
    bandwidth: Size = Field(default=0, description="Bytes a second that transfers may take together; 0: no cap.")
    movers: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="Processes that move the parts. One saturates two cores; more help on large machines. 1 to 64.",
    )
    reuse: bool = Field(
        default=True,
        description="Parts of a file that are the same as in the checkpoint before are copied inside the remote instead of "
        "sent, where it can (S3, OSS, `file://`).",
    )
    fsync_timeout: Seconds = Field(
        default=600.0,
        description="How long an `fsync` waits for the remote where the policy says `fsync = remote`; then it is `EIO`.",
    )


class ScrubSettings(_Section):
    """`[scrub]`"""

    every: Seconds = Field(
        default=_SCRUB.every_s,
        description="Every copy in a tier, and every object of a checkpoint that this node committed, is read and compared "
        "with its checksum once in this time, in the background. `0`: only when `ckptctl scrub` asks for it.",
    )
    bandwidth: Size = Field(
        default=_SCRUB.bandwidth, description="Bytes a second that the scrub reads from the tiers; 0: no cap."
    )
    remote_bandwidth: Size = Field(
        default=_SCRUB.remote_bandwidth,
        description="Bytes a second that the scrub reads from remotes. `0`: objects are only asked after (size, version and "
        "the store's own checksum), and read only where that does not prove them good.",
    )

    def to_policy(self) -> ScrubPolicy:
        return ScrubPolicy(self.every, self.bandwidth, self.remote_bandwidth)


class ProbeSettings(_Section):
    """`[probe]`"""

    every: Seconds = Field(
        default=86400.0,
        description="How often, at most, 64 MiB are written to each remote, read back and deleted, to measure what it does by "
        "itself: what `ckptctl report` compares with. Only while the node is idle, and only if something was saved since. "
        "`0`: never.",
    )


class PolicySettings(_Section):
    """`[volumes.policy]`; the same keys as `ckptctl policy set`."""

    keep_hot: Annotated[int, Field(ge=0)] = Field(
        default=_POLICY.keep_hot, description="Newest complete checkpoints of a run kept in RAM."
    )
    keep_nvme: Annotated[int, Field(ge=0)] = Field(
        default=_POLICY.keep_nvme,
        description="Newest complete checkpoints of a run kept on this node at all; those beyond `keep_hot` move to "
        "NVMe.",
    )
    keep_remote: Annotated[int, Field(ge=0)] = Field(
        default=_POLICY.keep_remote,
        description="Newest committed checkpoints of a run kept in the remote; 0: all. What a tier still holds stays.",
    )
    keep_every: Annotated[int, Field(ge=0)] = Field(
        default=_POLICY.keep_every, description="Steps that are a multiple of this stay in the remote for ever; 0: off."
    )
    sync: Annotated[Sync, Field(strict=False)] = Field(
        default=_POLICY.sync,
        description="`all`: every closed file is uploaded at once. `latest`: complete checkpoints only, and one "
        "that was superseded before its upload began is skipped.",
    )
    settle: Seconds = Field(
        default=_POLICY.settle_s, description="Quiet time before a checkpoint without a marker counts as complete."
    )
    nodes: Annotated[int, Field(ge=0)] = Field(
        default=_POLICY.nodes,
        description="Nodes that write a checkpoint together: it is committed when so many have. 0: found out from the "
        "launcher, the names and the layout's own index.",
    )
    fsync: Annotated[Fsync, Field(strict=False)] = Field(
        default=_POLICY.fsync,
        description="`local`: returns when the tier has it. `remote`: on a mounted volume, returns when the remote has "
        "confirmed size and checksum of the content.",
    )

    def to_policy(self) -> Policy:
        return Policy(
            keep_hot=self.keep_hot, keep_nvme=self.keep_nvme, keep_remote=self.keep_remote,
            keep_every=self.keep_every, sync=self.sync, settle_s=self.settle,
            nodes=self.nodes, fsync=self.fsync,
        )  # fmt: skip


class VolumeSettings(_Section):
    """`[[volumes]]`"""

    name: Name = Field(description="What commands and metrics call it. Default: the last component of `path`.")
    path: Path = Field(
        description="The directory the job writes to. Mounted: a mount point, made if it is missing. Watched: it lies on a "
        "tier's file system, or does not exist yet (or is empty): then it becomes a symbolic link into the RAM tier."
    )
    remote: Annotated[str, AfterValidator(_url)] = Field(
        description="URL of the durable store: `s3://bucket/prefix`, `file:///directory`, …"
    )
    front: FrontName = Field(
        default="auto",
        description="How the job meets the volume: `watch` (a plain directory), `mount` (FUSE with passthrough), `auto`: "
        "`mount` as root on Linux 6.9 or newer, else `watch`; `status` says why.",
    )
    options: dict[str, str] = Field(
        default_factory=dict,
        description="The backend's own options as text, e.g. `endpoint_url`, `region`, `profile` for S3. Not for "
        "secrets.",
    )
    policy: PolicySettings = Field(default_factory=PolicySettings, description="What is kept where.")

    @property
    def remote_options(self) -> dict[str, str]:
        return dict(self.options)

    @property
    def remote_path(self) -> str | None:
        """The local directory behind a `file://` remote."""
        return unquote(self.remote.removeprefix("file://")) if self.remote.startswith("file://") else None


class Settings(_Section):
    node: NodeSettings
    tiers: dict[TierName, TierSettings]
    """`nvme` is missing where its budget is 0."""
    transfer: TransferSettings
    scrub: ScrubSettings = ScrubSettings()
    access: AccessSettings = AccessSettings()
    probe: ProbeSettings = ProbeSettings()
    volumes: Annotated[list[VolumeSettings], Field(min_length=1)]
    layouts: list[LayoutSettings] = Field(default_factory=list)
    """The first that fits a path counts; all come before the built-in ones."""
