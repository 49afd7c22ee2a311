"""Which daemon this is: node names are given by people, and two nodes may come to bear the same."""

from __future__ import annotations

import secrets

from ckptd.engine.context import Context

_FACT = "daemon"


async def identify(context: Context) -> None:
    """Reads, or makes up, what tells this daemon from another of the same node name."""
    facts = context.catalog.facts
    known = await facts.get(_FACT)
    if known is None:
        known = f"{secrets.token_hex(8)} {context.clock():.3f}"
        await facts.set(_FACT, known)
    context.daemon, _, since = known.partition(" ")
    context.daemon_since = float(since)
