"""`python -m ckptd doctor`: runs the checks; `ckptctl doctor` shows them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from ckptd.doctor import fronts, machine, places, remotes, slurm
from ckptd.doctor.finding import Finding, State, failed, ok
from ckptd.domain.errors import ConfigError
from ckptd.domain.model import Place
from ckptd.settings.layers import Overrides
from ckptd.settings.load import load
from ckptd.settings.models import Settings
from ckptd.tiers.budget import tier_budget
from ckptd.transfer.registry import Registry

ROOT = Path("/")


@click.command()
@click.argument("path", required=False)
@click.option("--remote", metavar="URL")
@click.option("--ram", metavar="SIZE")
@click.option("--nvme", metavar="DIR[:SIZE]")
@click.option("--front", type=click.Choice(["auto", "mount", "watch"]))
@click.option("--config", metavar="FILE")
@click.option("--state-dir", metavar="DIR")
@click.option("--socket", metavar="PATH")
@click.option("--json", "as_json", is_flag=True, help="A list of {check, state, detail, fix} on standard output.")
def doctor(*, config: str | None, as_json: bool, **flags: str | None) -> None:
    """Checks this machine and the settings that `ckptctl up` would use with the same flags.

    Exit code 1 if a check failed: `up` would refuse, or checkpoints would not become durable.
    """
    findings = list(_findings(config, Overrides(**flags)))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.state:8} {finding.check}: {finding.detail}")
            if finding.fix:
                click.echo(f"{'':9}→ {finding.fix}")
    raise SystemExit(any(finding.state is State.FAILED for finding in findings))


def _findings(config: str | None, overrides: Overrides) -> Iterator[Finding]:
    yield machine.kernel()
    yield machine.python()
    yield machine.inotify(ROOT)
    yield machine.descriptors()
    yield machine.swap(ROOT)
    yield machine.pressure(ROOT)
    yield places.shared_memory(ROOT)
    try:
        effective = load(config=config, environ=os.environ, overrides=overrides)
    except ConfigError as error:
        yield failed("settings", error.message, error.hint)
        return
    yield ok("settings", f"valid, from {effective.config or 'the defaults'}")
    settings = effective.settings
    yield from _of_settings(settings)
    yield from slurm.checks(
        ROOT, os.environ, {volume.name: fronts.kind(volume, settings) for volume in settings.volumes}
    )


def _of_settings(settings: Settings) -> Iterator[Finding]:
    yield places.state_directory(settings)
    for volume in settings.volumes:
        yield fronts.front(volume, settings)
    for name, tier in settings.tiers.items():
        place = Place(name)
        try:
            budget = tier_budget(place, tier.path, tier.budget, occupied=places.used_below(tier.path))
        except ConfigError as error:
            yield failed(f"tier {name}", error.message, error.hint)
            continue
        yield places.tier(place, tier.path, budget, {volume.name: volume.path for volume in settings.volumes})
        yield places.leases(place, tier.path)
        if place is Place.RAM:
            yield machine.memory(ROOT, budget)
            yield machine.cgroup(ROOT, budget)
    registry = Registry()
    for volume in settings.volumes:
        yield from remotes.remote(volume, settings, registry)
    yield from places.leftovers(settings)
