"""Runs real frameworks and writes down what they do in a directory: tests/layouts/trees/<framework>-<scenario>.json.

    python tests/frameworks/record.py --python /path/to/python/that/has/them [NAME …]

Needs ckptd and its tests' packages in the interpreter that runs it; the frameworks may be in another (`--python`). A
scenario whose framework that interpreter lacks is passed over and named. Existing files are replaced. The format is
described in tests/layouts/trees/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from interpreter import Interpreter
from scenarios import SCENARIOS, Scenario
from watching import Watching, replay

HERE = Path(__file__).parent
TREES = HERE.parent / "layouts" / "trees"
TEXT = 4096
"""Longer text files are not kept."""
NAMES = ("latest", "latest_universal", "latest_checkpointed_iteration.txt", "checkpoint")
ATTEMPTS = 5


def pointers(volume: Path) -> dict[str, str]:
    """Small text files that name other files."""
    found = {}
    for path in sorted(volume.rglob("*")):
        named = path.name in NAMES or path.name.endswith(".index.json")
        if named and path.is_file() and not path.is_symlink() and path.stat().st_size <= TEXT:
            found[str(path.relative_to(volume))] = path.read_text()
    return found


def on_disk(volume: Path) -> set[str]:
    return {str(path.relative_to(volume)) for path in volume.rglob("*") if path.is_symlink() or path.is_file()}


async def run(scenario: Scenario, python: Interpreter, volume: Path) -> Watching:
    """Raises RuntimeError, with the script's own words, if it fails."""
    async with Watching(volume) as seen:
        for command in scenario.commands(python.path, volume):
            process = await asyncio.create_subprocess_exec(
                *command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=scenario.environment(),
                cwd=volume.parent,
            )
            said, _ = await asyncio.wait_for(process.communicate(), 300)
            if process.returncode:
                raise RuntimeError(f"{' '.join(command)}\n{said.decode(errors='replace')[-4000:]}")
    return seen


def recorded(scenario: Scenario, python: Interpreter) -> dict[str, Any]:
    """Again, up to ATTEMPTS times, where the watcher came too late to see each name."""
    for _ in range(ATTEMPTS):
        with tempfile.TemporaryDirectory(prefix="ckptd-record-", dir="/dev/shm") as home:
            volume = Path(home, "volume")
            volume.mkdir()
            seen = asyncio.run(run(scenario, python, volume))
            there = on_disk(volume)
            if replay(seen.events) != there:
                continue
            arguments = " ".join(scenario.arguments)
            return {
                "framework": scenario.distribution,
                "version": python.versions[scenario.distribution],
                "made_by": f"tests/frameworks/scripts/{scenario.script} {arguments}".strip(),
                "python": python.python,
                "events": seen.events,
                "files": {path: (volume / path).lstat().st_size for path in sorted(there)},
                "pointers": pointers(volume),
                "expect": {"steps": list(scenario.steps), "framework": scenario.expected},
            }
    raise RuntimeError(f"{scenario.name}: the events seen do not explain the files left, {ATTEMPTS} times")


def text_of(tree: dict[str, Any]) -> str:
    """One event a line: differences between two recordings can be read."""
    events = ",\n".join(f"    {json.dumps(event)}" for event in tree["events"])
    rest = json.dumps(tree | {"events": "EVENTS"}, indent=2)
    return rest.replace('"EVENTS"', f"[\n{events}\n  ]") + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="scenarios; all if none is named")
    parser.add_argument("--python", default=sys.executable)
    given = parser.parse_args()
    python = Interpreter.of(given.python)
    failed = 0
    for scenario in SCENARIOS:
        if given.names and scenario.name not in given.names:
            continue
        if scenario.distribution not in python.versions:
            print(f"{scenario.name}: {scenario.distribution} is not installed")
            continue
        try:
            tree = recorded(scenario, python)
        except (RuntimeError, TimeoutError) as error:
            print(f"{scenario.name}: {error}", file=sys.stderr)
            failed = 1
            continue
        os.makedirs(TREES, exist_ok=True)
        (TREES / f"{scenario.name}.json").write_text(text_of(tree))
        print(f"{scenario.name}: {len(tree['events'])} events, {len(tree['files'])} files", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
