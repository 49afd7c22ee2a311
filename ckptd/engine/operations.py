"""Long work that users asked for: started, followed, cancelled, and begun again after a crash."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from ckptd.domain.errors import CkptdError, NotInTime, NotKnown, StateUnusable
from ckptd.domain.model import Operation, OperationKind, OperationState
from ckptd.domain.names import CheckpointId
from ckptd.engine.context import Context

log = structlog.get_logger()

_SAVE_EVERY_S = 1.0
_AGAIN_S = 1.0


@dataclass(slots=True)
class Progress:
    """What a body tells while it works."""

    operation: Operation
    total: int = 0
    done: int = 0
    before: int = 0
    """Of `done`, what was done when it began."""
    result: str | None = None

    def add(self, count: int) -> None:
        self.done = max(0, self.done + count)


Body = Callable[[Progress], Awaitable[None]]
"""Does the work of an operation; raises CkptdError when it cannot be done."""


class Operations:
    def __init__(self, context: Context, bodies: Mapping[OperationKind, Body]) -> None:
        self._context = context
        self._bodies = bodies
        self._running: dict[int, tuple[asyncio.Task[None], Progress]] = {}
        self._cancelled: set[int] = set()
        self._moved = asyncio.Condition()

    async def resume(self) -> None:
        """Begins again what a killed worker left running."""
        for operation in await self._context.catalog.operations.list(running=True, limit=1000):
            self._launch(replace(operation, bytes_done=0))

    async def start(
        self, kind: OperationKind, volume: str, target: str, arguments: Mapping[str, str], uid: int | None = None
    ) -> Operation:
        """`uid`: who asks for it; None: the daemon itself."""
        operation = Operation(
            0,
            kind,
            target,
            volume,
            OperationState.RUNNING,
            0,
            0,
            self._context.clock(),
            arguments=dict(arguments),
            uid=uid,
        )
        operation = replace(operation, id=await self._context.catalog.operations.begin(operation))
        progress = self._launch(operation)
        await asyncio.sleep(0)  # what has nothing to do is done by the time it is reported
        return self._state(operation.id, progress)

    def _launch(self, operation: Operation) -> Progress:
        progress = Progress(operation)
        task = self._context.spawn(self._run(progress), f"operation {operation.id}")
        self._running[operation.id] = (task, progress)
        return progress

    async def _run(self, progress: Progress) -> None:
        operation = progress.operation
        ticker = self._context.spawn(self._tick(operation.id, progress), f"operation {operation.id} progress")
        try:
            await self._bounded(progress)
            await self._end(progress, OperationState.DONE)
        except asyncio.CancelledError:
            if operation.id not in self._cancelled:
                raise  # the daemon stops: it goes on at the next start
            await self._end(progress, OperationState.CANCELLED)
        except NotInTime as error:
            await self._end(progress, OperationState.TIMEOUT, error)
        except CkptdError as error:
            await self._end(progress, OperationState.FAILED, error)
        except OSError as error:
            named = CkptdError(f"{error.filename or 'file system'}: {error.strerror}")
            await self._end(progress, OperationState.FAILED, named)
        except Exception as error:  # begun again by the next worker, it would end that one too
            log.exception("operation.broken", operation=operation.id, kind=operation.kind)
            await self._end(progress, OperationState.FAILED, CkptdError(f"a fault of ckptd: {error!r}"))
        finally:
            ticker.cancel()
            self._running.pop(operation.id, None)

    async def _bounded(self, progress: Progress) -> None:
        """`timeout` counts from the operation's start, also over a restart of the worker."""
        operation = progress.operation
        body = self._bodies[operation.kind]
        limit = operation.arguments.get("timeout")
        if limit is None:
            await body(progress)
            return
        left = float(limit) - max(0.0, self._context.clock() - operation.started_at)
        try:
            async with asyncio.timeout(max(0.0, left)):
                await body(progress)
        except TimeoutError as error:
            raise NotInTime(
                f"{operation.kind} of {operation.target or operation.volume or 'everything'} is not done after {float(limit):g} s"
                + (f": {progress.result}" if progress.result else ""),
                hint="the daemon goes on with what its policy asks for; ckptctl status shows what is left",
            ) from error

    async def _tick(self, id_: int, progress: Progress) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY_S / 4)
            with contextlib.suppress(StateUnusable):  # its disk is full: what is not recorded now is so later
                await self._context.catalog.operations.update(self._state(id_, progress))
            async with self._moved:
                self._moved.notify_all()

    @staticmethod
    def _state(_: int, progress: Progress) -> Operation:
        done = min(progress.done, progress.total) if progress.total else progress.done
        return replace(
            progress.operation, bytes_total=progress.total, bytes_done=done, result=progress.result,
            bytes_before=min(progress.before, done),
        )  # fmt: skip

    async def _end(self, progress: Progress, state: OperationState, error: CkptdError | None = None) -> None:
        final = replace(
            self._state(0, progress), state=state, finished_at=self._context.clock(),
            error=None if error is None else error.message, error_code=None if error is None else error.code,
            hint="" if error is None else error.hint,
        )  # fmt: skip
        if state is OperationState.DONE:
            final = replace(final, bytes_done=final.bytes_total)
        progress.operation = final
        await self._record(final)
        level = "info" if state in (OperationState.DONE, OperationState.CANCELLED) else "warning"
        what = final.target or final.volume or "everything"
        await self._context.event(
            level,
            f"operation.{state}",
            f"{final.kind} of {what}: {final.error or state}",
            operation=final.id,
            kind=final.kind,
            **({"volume": final.volume, "run": CheckpointId.parse(final.target).run} if final.target else {}),
        )
        async with self._moved:
            self._moved.notify_all()

    async def _record(self, final: Operation) -> None:
        """Not before it is in the catalog does an operation end: a restart would begin it again."""
        while True:
            try:
                await self._context.catalog.operations.update(final)
            except StateUnusable as error:
                log.error("operation.unrecorded", operation=final.id, error=error.message, again_in_s=_AGAIN_S)
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def get(self, id_: int) -> Operation:
        running = self._running.get(id_)
        if running is not None:
            return self._state(id_, running[1])
        found = await self._context.catalog.operations.get(id_)
        if found is None:
            raise NotKnown(f"there is no operation {id_}", hint="see: ckptctl ops")
        return found

    async def recent(self) -> list[Operation]:
        return [await self.get(operation.id) for operation in reversed(await self._context.catalog.operations.list())]

    def running(self) -> list[Operation]:
        return [self._state(id_, progress) for id_, (_, progress) in sorted(self._running.items())]

    async def cancel(self, id_: int) -> Operation:
        running = self._running.get(id_)
        if running is not None:
            self._cancelled.add(id_)
            running[0].cancel()
            await asyncio.wait([running[0]])
        return await self.get(id_)

    async def follow(self, id_: int) -> AsyncIterator[Operation]:
        last = None
        while True:
            now = await self.get(id_)
            if now != last:
                yield now
                last = now
            if now.state is not OperationState.RUNNING:
                return
            async with self._moved:
                if self._running.get(id_) is not None:
                    await self._moved.wait()
