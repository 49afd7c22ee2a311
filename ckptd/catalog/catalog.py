"""The catalog as the other parts see it: one object, one attribute a concern."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Self

from ckptd.catalog.checks import Checks
from ckptd.catalog.database import Database, open_database
from ckptd.catalog.files import Files
from ckptd.catalog.hidden import Hidden
from ckptd.catalog.history import History
from ckptd.catalog.jobs import Jobs
from ckptd.catalog.journal import Journal
from ckptd.catalog.ledger import Events, Facts, Operations, Wishes
from ckptd.catalog.manifests import Manifests
from ckptd.catalog.nodes import Nodes
from ckptd.catalog.tags import Tags


class Catalog:
    def __init__(self, database: Database, kept: str | None) -> None:
        self._database = database
        self.kept = kept
        """Name of the corrupt catalog that was moved aside at open; None: there was none."""
        self.files = Files(database)
        self.manifests = Manifests(database)
        self.nodes = Nodes(database)
        self.jobs = Jobs(database)
        self.journal = Journal(database)
        self.checks = Checks(database)
        self.history = History(database)
        self.wishes = Wishes(database)
        self.tags = Tags(database)
        self.hidden = Hidden(database)
        self.operations = Operations(database)
        self.events = Events(database)
        self.facts = Facts(database)

    @classmethod
    async def open(cls, path: Path) -> Self:
        return cls(*await open_database(path))

    def transaction(self) -> AbstractAsyncContextManager[None]:
        return self._database.transaction()

    async def close(self) -> None:
        await self._database.close()
