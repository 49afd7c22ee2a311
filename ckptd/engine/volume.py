"""A served volume at run time."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ckptd.domain.model import Place
from ckptd.manifest import ManifestStore
from ckptd.policy.policy import Policy
from ckptd.tiers.object_names import name_of, number_of
from ckptd.transfer.transfers import ObjectStat, Remote


@dataclass(slots=True)
class Tier:
    place: Place
    path: str
    budget: int
    """Bytes, as configured."""
    huge_pages: bool = False
    factor: float = 1.0
    """Below 1 while memory pressure shrinks it."""

    @property
    def effective(self) -> int:
        return int(self.budget * self.factor)

    def staged(self, name: str) -> str:
        """A private path on this tier's file system for content that is not in place yet."""
        return os.path.join(self.path, "staging", name)


@dataclass(frozen=True, slots=True)
class Front:
    """How the job meets a volume."""

    name: str
    """`watch` or `mount`."""
    reason: str = ""
    """Why it is not the other, or why the kernel does not move a mount's bytes; "" where there is nothing to say."""
    socket: str = ""
    """Of the process that serves a mount."""

    @property
    def is_mount(self) -> bool:
        return self.name == "mount"


WATCHED = Front("watch")


@dataclass(frozen=True, slots=True)
class Serving:
    """What the process behind a mount said last."""

    passthrough: bool
    refused: str
    """Why not; "" where the kernel moves the bytes."""
    mediated_because: tuple[str, ...] = ()
    """Why some files are not moved by it all the same."""


@dataclass(slots=True)
class Volume:
    name: str
    path: str
    """What the user calls it; may be a symbolic link to `root`."""
    root: str
    """The real directory, on a tier."""
    home: Place
    """The tier that files in `root` count against."""
    objects: str | None
    """Directory of demoted files in the NVMe tier; None where there is nothing below `home`."""
    remote: Remote
    policy: Policy
    manifests: ManifestStore
    front: Front = WATCHED
    objects_key: bytes = b""
    """What the names in `objects` are made with (`tiers.object_names`)."""
    serving: Serving | None = None
    """Of a mount; None until its server has said something."""
    taken_away: set[str] = field(default_factory=set)
    """Paths of stubs that we remove ourselves: their going is no wish of the job's."""
    plain: dict[str, ObjectStat] | None = None
    """Of a mount: objects that no manifest describes and that are shown, by path (`engine.plain`). None: not listed yet."""
    fetching: set[str] = field(default_factory=set)
    """Paths of those that are just being fetched: they have a row before they have a file."""

    def locate(self, path: str) -> str:
        return os.path.join(self.root, path)

    def visible(self, path: str) -> str:
        """As the user sees it."""
        return os.path.join(self.path, path) if path else self.path

    def object_path(self, file: int) -> str:
        if self.objects is None:
            raise LookupError(f"volume {self.name} has no tier below {self.home}")
        return os.path.join(self.objects, name_of(file, self.objects_key))

    def object_of(self, target: str) -> int | None:
        """The file id that a symbolic link's target stands for, if it is one of ours."""
        if self.objects is None:
            return None
        number = number_of(os.path.basename(target))
        return number if number is not None and self.object_path(number) == target else None
