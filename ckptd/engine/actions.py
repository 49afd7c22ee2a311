"""The planner's actions, each bound to the part that carries it out."""

from __future__ import annotations

from collections.abc import Mapping

from ckptd.catalog import UnitName
from ckptd.engine.committing import Committing
from ckptd.engine.context import Context
from ckptd.engine.hydrating import Hydrating
from ckptd.engine.milestones import Milestones
from ckptd.engine.moving import Moving
from ckptd.engine.retention import Retention
from ckptd.engine.unit import Unit
from ckptd.engine.uploading import Uploading
from ckptd.policy.policy import Policy


class Actions:
    def __init__(self, context: Context) -> None:
        self.uploading = Uploading(context)
        self.milestones = Milestones(context)
        self.committing = Committing(context, self.milestones)
        self.hydrating = Hydrating(context)
        self.moving = Moving(context, self.hydrating)
        self.retention = Retention(context, self.moving)
        self.upload = self.uploading.upload
        self.upload_several = self.uploading.upload_several
        self.demote = self.moving.demote
        self.promote = self.moving.promote
        self.evict = self.moving.evict
        self.abandon = self.retention.abandon
        self.prune = self.retention.prune

    async def commit(
        self,
        volume: str,
        run: str,
        step: int,
        policies: Mapping[tuple[str, str], Policy],
        before: Mapping[UnitName, Unit],
    ) -> None:
        await self.committing.commit(volume, run, step, policies[volume, run], before)

    async def uncommit(
        self,
        volume: str,
        run: str,
        step: int,
        policies: Mapping[tuple[str, str], Policy],
        before: Mapping[UnitName, Unit],
    ) -> None:
        await self.committing.uncommit(volume, run, step, policies[volume, run], before)
