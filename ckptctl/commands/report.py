"""What ckptd did for a run, in the run's own numbers."""

from __future__ import annotations

import click

from ckptctl.app import command
from ckptctl.arguments import RUN, TIME
from ckptctl.client import part
from ckptctl.session import Session, current
from ckptd.domain.errors import UsageError


@command("report")
@click.argument("run", type=RUN)
@click.option("--gpus", type=click.IntRange(1, 10**7), metavar="N", help="GPUs that wait while the job saves.")
@click.option("--mtbf", type=TIME, metavar="T", help="Time between two failures of the job (24h).")
@current
def report(session: Session, run: str, gpus: int | None, mtbf: float | None) -> None:
    """A run's saves and resumes as they were, beside what the remote alone would have taken; how often to save."""
    if mtbf == 0:
        raise UsageError("--mtbf is the time between two failures: it cannot be 0", hint="e.g. --mtbf 24h")
    found = session.client.get(f"/v1/runs/{part(run)}/report", volume=session.volume, gpus=gpus, mtbf=mtbf)
    if session.json:
        session.show(found)
        return
    from ckptctl import account, screen  # noqa: PLC0415 - rich is only paid for where a person looks

    screen.console().print(account.shown(found))
