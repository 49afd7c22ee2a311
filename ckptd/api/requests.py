"""What a caller may send, as pydantic models: strict, closed, and with the bounds that SQLite and file systems have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from ckptd.domain.errors import UsageError
from ckptd.domain.names import TAG, CheckpointId, check_tag, path_of
from ckptd.policy.interval import DEFAULT_MTBF_S
from ckptd.settings.quantities import parse_time

LARGEST = 2**63 - 1
"""SQLite's largest integer: ids and steps above it cannot exist."""

_RUN = r"^[^/\x00-\x1f\x7f]+$"
_TARGET = rf"^([^/\x00-\x1f\x7f]+@([0-9]{{1,18}}|{TAG})|[^/@\x00-\x1f\x7f]+)$"

_DURATION = r"^([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d))+$"


def path_from(key: str) -> str:
    """`path_of`, refusing what no file can be called (lone surrogates, NUL)."""
    try:
        path = path_of(key)
    except UnicodeEncodeError:
        path = "\0"
    if "\0" in path:
        raise ValueError("not a file name")
    return path


def run_from(key: str) -> str:
    run = path_from(key)
    if "/" in run or run in ("", ".."):
        raise ValueError("a run is one folder of the volume")
    return run


def _target(text: str) -> CheckpointId:
    try:
        parsed = CheckpointId.parse(text)
    except UsageError as error:
        raise ValueError(error.message) from None
    return CheckpointId(run_from(parsed.run), parsed.step, parsed.tag)


def _tag_name(text: str) -> str:
    try:
        return check_tag(text)
    except UsageError as error:
        raise ValueError(error.message) from None


def _flag(value: object) -> object:
    """Query strings spell flags as text, and an empty one (`?follow`) means yes."""
    return (
        {"": True, "1": True, "true": True, "0": False, "false": False}.get(value, value)
        if isinstance(value, str)
        else value
    )


def _whole(value: object) -> object:
    """JSON Schema counts 2.0 among the integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _left_out() -> Any:
    """As a default factory: absent, yet not `null` in the schema, which would be a third state."""
    return None


def _checked_duration(text: str) -> str:
    parse_time(text)
    return text


Run = Annotated[str, Field(pattern=_RUN, max_length=800), AfterValidator(run_from)]
Target = Annotated[
    str,
    Field(pattern=_TARGET, max_length=800, description="RUN, RUN@STEP or RUN@TAG"),
    AfterValidator(_target),
]
TagName = Annotated[str, Field(pattern=f"^{TAG}$", max_length=64), AfterValidator(_tag_name)]
VolumeName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
Pattern = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f/]+$")]
Glob = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
Directory = Annotated[str, Field(max_length=4096, pattern=r"^/[^\x00]*$"), AfterValidator(path_from)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Identifier = Annotated[int, Field(ge=1, le=LARGEST)]
Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"type": "boolean"})]


class Request(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True
    )  # most daemons are asked few kinds of questions


class Arguments(Request):
    def texts(self) -> dict[str, str]:
        """As the engine takes and keeps them: only what was asked for, flags as `true`."""
        given = {name: value for name, value in self if value is not None and value is not False}
        return {name: "true" if value is True else str(value) for name, value in given.items()}


class PrefetchArguments(Arguments):
    to: Literal["ram", "nvme"] = "ram"
    match: Glob | None = None
    ttl: Seconds | None = None
    timeout: Seconds | None = None


class FlushArguments(Arguments):
    timeout: Seconds | None = None


class VerifyArguments(Arguments):
    remote: bool = False


class RestoreArguments(Arguments):
    dest: Directory


class RemoveArguments(Arguments):
    remote: bool = False
    force: bool = Field(default=False, description="Even if it is tagged; its tags go with it")


class EvictArguments(Arguments):
    force: bool = False


class StartPrefetch(Request):
    kind: Literal["prefetch"]
    volume: VolumeName | None = None
    target: Target
    arguments: PrefetchArguments = PrefetchArguments()


class StartFlush(Request):
    """Without a target: everything in the volume; without a volume too: everything."""

    kind: Literal["flush"]
    volume: VolumeName | None = None
    target: Target | None = None
    arguments: FlushArguments = FlushArguments()


class StartDrain(Request):
    """Everything on the node, the newest whole checkpoint of each run first."""

    kind: Literal["drain"]
    volume: None = None
    target: None = None
    arguments: FlushArguments = FlushArguments()


class StartVerify(Request):
    kind: Literal["verify"]
    volume: VolumeName | None = None
    target: Target
    arguments: VerifyArguments = VerifyArguments()


class StartRestore(Request):
    kind: Literal["restore"]
    volume: VolumeName | None = None
    target: Target
    arguments: RestoreArguments


class StartRemove(Request):
    kind: Literal["remove"]
    volume: VolumeName | None = None
    target: Target
    arguments: RemoveArguments = RemoveArguments()


class StartChecksum(Request):
    """Takes the checksums that are still missing, e.g. before a diff."""

    kind: Literal["checksum"]
    volume: VolumeName | None = None
    target: Target
    arguments: Arguments = Arguments()


class StartEvict(Request):
    kind: Literal["evict"]
    volume: VolumeName | None = None
    target: Target
    arguments: EvictArguments = EvictArguments()


class ScrubArguments(Arguments):
    remote: bool = False
    timeout: Seconds | None = None


class StartScrub(Request):
    """Without a target: everything in the volume; without a volume too: everything."""

    kind: Literal["scrub"]
    volume: VolumeName | None = None
    target: Target | None = None
    arguments: ScrubArguments = ScrubArguments()


AnyStart = (
    StartPrefetch
    | StartFlush
    | StartDrain
    | StartVerify
    | StartRestore
    | StartRemove
    | StartEvict
    | StartChecksum
    | StartScrub
)
START = Annotated[AnyStart, Field(discriminator="kind")]


class TagRequest(Request):
    volume: VolumeName | None = None
    target: Target
    name: TagName


class PinRequest(Request):
    volume: VolumeName | None = None
    target: Target
    on: bool
    temporary: Annotated[bool, Field(description="Takes back only a pin that ends; nothing with `on: true`")] = False


Count = Annotated[int, Field(ge=0, le=10**9), BeforeValidator(_whole)]
Duration = Annotated[str, Field(pattern=_DURATION, description='e.g. "2s"'), AfterValidator(_checked_duration)]


class PolicyChange(Request):
    """What `policy set` may set, as in `[volumes.policy]`; keys that are left out stay as they are."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    keep_hot: Count = Field(default_factory=_left_out)
    keep_nvme: Count = Field(default_factory=_left_out)
    keep_remote: Count = Field(default_factory=_left_out)
    keep_every: Count = Field(default_factory=_left_out)
    sync: Literal["all", "latest"] = Field(default_factory=_left_out)
    settle: Duration = Field(default_factory=_left_out)
    nodes: Count = Field(default_factory=_left_out)
    fsync: Literal["local", "remote"] = Field(default_factory=_left_out)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        known = list(cls.model_fields)
        if isinstance(values, dict):
            for key in values:
                if key not in known:
                    raise ValueError(f"no such key '{key}'; there are {', '.join(known)}")
            if not values or None in values.values():
                raise ValueError("every key that is named needs a value")
        return values


class PolicyRequest(Request):
    volume: VolumeName | None = None
    pattern: Pattern
    values: PolicyChange

    def texts(self) -> dict[str, str]:
        return {key: str(value) for key, value in self.values if value is not None}


class ShutdownRequest(Request):
    flush: bool = True
    timeout: Seconds | None = None
    evict: bool = False
    force: bool = False


Uid = Annotated[int, Field(ge=0, lt=2**32), BeforeValidator(_whole)]


class JobRunRequest(Request):
    volume: VolumeName
    run: Run


class JobEndRequest(Request):
    uid: Uid
    runs: Annotated[list[JobRunRequest], Field(max_length=1000)]


class NoQuery(Request):
    pass


class VolumeQuery(Request):
    volume: VolumeName | None = None


class PatternQuery(Request):
    volume: VolumeName | None = None
    pattern: Pattern


class RunQuery(Request):
    volume: VolumeName | None = None
    run: Run


class OptionalRunQuery(Request):
    volume: VolumeName | None = None
    run: Run | None = None


class AccountQuery(Request):
    volume: VolumeName | None = None
    gpus: Annotated[int, Field(ge=1, le=10**7, description="That wait while the job saves")] = Field(
        default_factory=_left_out
    )
    mtbf: Annotated[
        float, Field(gt=0, le=1e9, allow_inf_nan=False, description="Seconds between failures of the job")
    ] = DEFAULT_MTBF_S


class JobsQuery(Request):
    uid: Annotated[Uid | None, Field(description="Whose jobs; the caller's own where it is left out")] = None
    everywhere: Annotated[Flag, Field(description="Also what jobs on other nodes committed")] = False


class TagQuery(Request):
    volume: VolumeName | None = None
    run: Run
    name: TagName


class DiffQuery(Request):
    volume: VolumeName | None = None
    one: Target
    other: Target


class EventsQuery(Request):
    after: Annotated[int, Field(ge=0, le=LARGEST)] = 0
    limit: Annotated[int, Field(ge=1, le=10_000)] = 100
    follow: Flag = False
