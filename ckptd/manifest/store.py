"""Manifests and the format mark in one remote."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ckptd.domain.errors import IntegrityError, StateUnusable
from ckptd.domain.names import path_of
from ckptd.manifest.checks import MANIFEST_LIMIT
from ckptd.manifest.format import FORMAT_KEY, FORMAT_VERSION, Manifest, manifest_key, manifest_prefix
from ckptd.manifest.packed import PackedEntries
from ckptd.manifest.quarantine import Note, note_of, with_note
from ckptd.transfer.transfers import Remote, Transfers

_KEY = re.compile(r"\.ckptd/manifests/(?P<run>[^/]+)/(?P<step>[0-9]+)/(?P<node>[^/]+?)\.json(?P<aside>\.quarantined)?")

ASIDE = ".quarantined"
"""Behind the key of a manifest that is in quarantine: nobody takes it for a manifest."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A manifest object as a listing shows it."""

    run: str
    step: int
    node: str
    key: str
    version: str
    """Changes when the object does."""
    size: int


class ManifestStore:
    def __init__(self, transfers: Transfers, remote: Remote) -> None:
        self._transfers = transfers
        self._remote = remote

    async def check_format(self) -> None:
        """Writes the format mark into a new remote; raises StateUnusable for a newer major version."""
        raw = await self._transfers.get(self._remote, FORMAT_KEY)
        if raw is None:
            await self._transfers.put(self._remote, FORMAT_KEY, json.dumps({"version": FORMAT_VERSION}).encode())
            return
        try:
            version = int(json.loads(raw)["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise StateUnusable(
                f"{self._remote.url}: {FORMAT_KEY} is not readable", hint="is this prefix written by ckptd?"
            ) from error
        if version > FORMAT_VERSION:
            raise StateUnusable(
                f"{self._remote.url} is in format version {version}; this ckptd knows up to {FORMAT_VERSION}",
                hint="upgrade ckptd on this node, or name another remote",
            )

    async def listing(self, run: str | None = None, step: int | None = None) -> list[Listed]:
        """One a node and checkpoint; one in quarantine only where there is no other. Raises RemoteError."""
        found: dict[tuple[str, int, str], Listed] = {}
        for item in await self._transfers.list(self._remote, manifest_prefix(run, step)):
            match = _KEY.fullmatch(item.key)
            if match is None:
                continue
            version = item.etag or f"{item.modified}/{item.size}"
            one = Listed(path_of(match["run"]), int(match["step"]), match["node"], item.key, version, item.size)
            name = (one.run, one.step, one.node)
            if name not in found or not match["aside"]:
                found[name] = one
        return list(found.values())

    async def read(self, listed: Listed) -> tuple[Manifest, str] | None:
        """The manifest and its text; None when it is gone by now.

        Raises IntegrityError for what is no manifest, StateUnusable for one of a newer format.
        """
        if listed.size > MANIFEST_LIMIT:
            raise IntegrityError(f"{listed.key} is no manifest: it has {listed.size:,} bytes")
        raw = await self._transfers.get(self._remote, listed.key)
        if raw is None:
            return None
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{listed.key} is no manifest: {error}") from error
        note_of(text)
        found = Manifest.from_json(text, listed.key, entries=PackedEntries.of_json)
        if (found.run, found.step, found.node) != (listed.run, listed.step, listed.node):
            raise IntegrityError(f"{listed.key} is the manifest of {found.run}@{found.step} of node {found.node}")
        return found, text

    async def write(self, manifest: Manifest) -> tuple[str, str]:
        """Writes a manifest where there is none; returns its version and its text.

        Raises RemoteError of backend_code `precondition` where there is another: of an earlier life of this node that its
        catalog does not know, or of another daemon that bears the same node name.
        """
        return await self._put(manifest, if_absent=True)

    async def replace(self, manifest: Manifest) -> tuple[str, str]:
        """Writes it over this node's own, in one step: there is no moment without either. Returns its version and its text."""
        return await self._put(manifest, if_absent=False)

    async def _put(self, manifest: Manifest, *, if_absent: bool) -> tuple[str, str]:
        text = await asyncio.to_thread(manifest.to_json)  # of 100,000 files it takes a second
        key = manifest_key(manifest.run, manifest.step, manifest.node)
        stat = await self._transfers.put(self._remote, key, text.encode(), if_absent=if_absent)
        return stat.etag, text

    async def delete(self, run: str, step: int, nodes: Mapping[str, object]) -> None:
        keys = [manifest_key(run, step, node) for node in nodes]
        await self._transfers.delete(self._remote, [*keys, *(f"{key}{ASIDE}" for key in keys)])

    async def put_aside(self, manifest: Manifest, text: str, note: Note) -> tuple[str, str]:
        """Into quarantine; returns its version and text there. Killed in between, it is still where it was."""
        key, noted = manifest_key(manifest.run, manifest.step, manifest.node), with_note(text, note)
        stat = await self._transfers.put(self._remote, f"{key}{ASIDE}", noted.encode())
        await self._transfers.delete(self._remote, [key])
        return stat.etag, noted

    async def put_back(self, manifest: Manifest) -> tuple[str, str]:
        """Out of quarantine, now that it is true again. Raises RemoteError like `write`."""
        written = await self.write(manifest)
        key = manifest_key(manifest.run, manifest.step, manifest.node)
        await self._transfers.delete(self._remote, [f"{key}{ASIDE}"])
        return written
