"""The manifest as a value and as JSON (docs/remote-layout.md).

CRC-64/NVME values are 16 hexadecimal digits. `key` is where the object lies under the remote; the file's path in the volume
is `path_of(key)`. A symbolic link has a `link` and no object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from ckptd.domain.access import Owned, of_files
from ckptd.domain.errors import IntegrityError, StateUnusable
from ckptd.domain.launch import Job
from ckptd.domain.model import Attributes, Checksums
from ckptd.domain.names import folder_of, key_of, path_of
from ckptd.layouts import locate
from ckptd.manifest.checks import check_directories, check_file, check_head, check_job, check_key, check_paths

FORMAT_VERSION = 1
FORMAT_KEY = ".ckptd/format"


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    key: str
    attributes: Attributes
    checksums: Checksums | None
    """None for a symbolic link."""
    link: str | None = None
    etag: str = ""
    """The object's version when it was confirmed."""

    @property
    def path(self) -> str:
        return path_of(self.key)

    @property
    def size(self) -> int:
        return self.checksums.size if self.checksums else 0


@dataclass(frozen=True, slots=True)
class Manifest:
    run: str
    step: int
    node: str
    nodes: int
    """How many nodes' manifests make the checkpoint whole; 0: this node has a part and cannot tell of how many."""
    framework: str
    writer: str
    """Program and version that wrote it."""
    root: str
    """Key of the directory or file that `--resume` gets."""
    written_at: float
    committed_at: float
    entries: Sequence[ManifestEntry]
    lacks: tuple[str, ...] = ()
    """Keys that an index among these files names, and that other nodes are to bring."""
    replaces: Mapping[str, float] = field(default_factory=dict)
    """This step was written before: `written_at` of the manifests, by node, that were taken back for it. They, and any older
    ones of the same nodes, are of an attempt that this manifest does not belong to.
    """
    daemon: str = ""
    """Which daemon wrote it: two that bear the same node name are told apart by it."""
    directories: Mapping[str, Owned] = field(default_factory=dict)
    """Whose the run's directory and those below it are, by path: another node makes them so. Those that are missing were not
    recorded.
    """
    job: Job | None = None
    """The scheduler's job that wrote the run last here, as far as it was seen."""

    @property
    def owner(self) -> Owned | None:
        """Whose the run is: by its directory, else by the files. None: it has neither."""
        if (recorded := self.directories.get(self.run)) is not None:
            return recorded
        return of_files((a.uid, a.gid, a.mode) for a in (entry.attributes for entry in self.entries))

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries)

    def to_json(self) -> str:
        return json.dumps(
            {
                "version": FORMAT_VERSION,
                "run": key_of(self.run),
                "step": self.step,
                "node": self.node,
                "nodes": self.nodes,
                "framework": self.framework,
                "writer": self.writer,
                "root": self.root,
                "written_at": _rfc3339(self.written_at),
                "committed_at": _rfc3339(self.committed_at),
                "daemon": self.daemon,
                "lacks": list(self.lacks),
                "replaces": {node: _rfc3339(at) for node, at in self.replaces.items()},
                "directories": [
                    {"key": key_of(path), "mode": its.mode, "uid": its.uid, "gid": its.gid}
                    for path, its in self.directories.items()
                ],
                "job": None if self.job is None else asdict(self.job),
                "files": [_entry_json(entry) for entry in self.entries],
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @classmethod
    def from_json(
        cls,
        text: str | bytes,
        name: str,
        *,
        entries: Callable[[Any], Sequence[ManifestEntry]] | None = None,
        trusted: bool = False,
    ) -> Manifest:
        """Raises IntegrityError naming `name` for what is no manifest, StateUnusable for a newer format.

        `entries`: makes the entries from `files`. `trusted`: it was checked when it came.
        """
        try:
            data = json.loads(text)
            if int(data["version"]) > FORMAT_VERSION:
                raise StateUnusable(
                    f"{name} has format version {data['version']}; this ckptd knows up to {FORMAT_VERSION}",
                    hint="upgrade ckptd on this node",
                )
            if not trusted:
                _check(data)
            found = cls(
                path_of(data["run"]), int(data["step"]), str(data["node"]), int(data["nodes"]), str(data["framework"]),
                str(data["writer"]), str(data["root"]), _seconds(data["written_at"]), _seconds(data["committed_at"]),
                entries(data["files"]) if entries else tuple(_entry(item) for item in data["files"]),
                tuple(str(key) for key in data.get("lacks", ())),
                {str(node): _seconds(at) for node, at in data.get("replaces", {}).items()},
                str(data.get("daemon", "")),
                {
                    path_of(item["key"]): Owned(item["uid"], item["gid"], item["mode"])
                    for item in data.get("directories", ())
                },
                _job(data.get("job")),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise IntegrityError(
                f"{name} is not a manifest: {error!r}", hint="it is ignored; see: ckptctl ls"
            ) from error
        return found


def manifest_prefix(run: str | None = None, step: int | None = None) -> str:
    prefix = ".ckptd/manifests/"
    if run is not None:
        prefix += f"{folder_of(run)}/"
        if step is not None:
            prefix += f"{step}/"
    return prefix


def manifest_key(run: str, step: int, node: str) -> str:
    return f"{manifest_prefix(run, step)}{node}.json"


def _check(data: Mapping[str, Any]) -> None:
    """Others may write to the remote too. Raises ValueError for a key that leads out of its run, or out of the volume."""
    texts = (str(data["framework"]), str(data["writer"]), str(data.get("daemon", "")))
    check_head(int(data["step"]), str(data["node"]), int(data["nodes"]), texts)
    if (root := str(data["root"])) not in ("", "."):
        check_key(root)
    for item in data["files"]:
        check_file(item)
    keys = [item["key"] for item in data["files"]]
    paths = [path_of(key) for key in keys]
    check_paths(paths)
    check_directories(data.get("directories", ()), paths)
    # Directories decide to which run a file belongs, so one file of each is enough.
    for key in {key.rpartition("/")[0]: key for key in keys}.values():
        if locate(path_of(key)).run != path_of(data["run"]):
            raise ValueError(f"key {key!r} is not of run {data['run']!r}")


def _job(said: Any) -> Job | None:
    """None for nonsense, too: it is a hint for requeued jobs, and no reason to do without the checkpoint."""
    try:
        check_job(said["id"], said["uid"], said["name"], said["task"])
        return Job(said["id"], said["uid"], said["name"], said["task"])
    except (ValueError, KeyError, TypeError):
        return None


def _entry_json(entry: ManifestEntry) -> dict[str, Any]:
    a, sums = entry.attributes, entry.checksums
    item: dict[str, Any] = {"key": entry.key, "mode": a.mode, "uid": a.uid, "gid": a.gid, "mtime_ns": a.mtime_ns}
    if entry.link is not None:
        item["link"] = key_of(entry.link)
    if sums is not None:
        item |= {
            "size": sums.size,
            "crc64nvme": f"{sums.whole:016x}",
            "part_size": sums.part_size,
            "parts": [f"{part:016x}" for part in sums.parts],
            "etag": entry.etag,
        }
    return item


def _entry(item: dict[str, Any]) -> ManifestEntry:
    attributes = Attributes(item["mode"], item["uid"], item["gid"], item["mtime_ns"])
    if "link" in item:
        return ManifestEntry(item["key"], attributes, None, path_of(item["link"]))
    parts = tuple(int(part, 16) for part in item["parts"])
    sums = Checksums(item["size"], item["part_size"], parts, int(item["crc64nvme"], 16))
    return ManifestEntry(item["key"], attributes, sums, None, item.get("etag", ""))


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
