"""Many small pieces of work, a few at a time, the first failure ending them all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from ckptd.transfer.refusal import Refused

Item = TypeVar("Item")


async def side_by_side(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], width: int) -> None:
    """Runs `work` on every item, at most `width` at a time, begun in order; a thousand parts cost `width` tasks.

    Raises the failure that says most: one that no other try can heal before one that it may.
    """
    rest = iter(items)

    async def lane() -> None:
        for item in rest:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(lane())
    except BaseExceptionGroup as failures:
        raise _telling(failures.exceptions) from None


def _telling(failures: tuple[BaseException, ...]) -> BaseException:
    lasting = [each for each in failures if not (isinstance(each, Refused) and each.refusal.retryable)]
    return (lasting or list(failures))[0]
