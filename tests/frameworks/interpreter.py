"""The interpreter that has the frameworks: `make frameworks` gives them an environment of their own, beside the tests'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_MADE = Path(__file__).parents[2] / ".venv-frameworks" / "bin" / "python"
_PROGRAM = """
import importlib.metadata, json, platform
print(json.dumps([platform.python_version(), {d.name.lower(): d.version for d in importlib.metadata.distributions()}]))
"""


@dataclass(frozen=True)
class Interpreter:
    path: str
    python: str
    versions: dict[str, str]
    """Distribution → version."""

    @classmethod
    def of(cls, path: str) -> Interpreter:
        found = subprocess.run([path, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60)
        python, versions = json.loads(found.stdout)
        return cls(path, python, versions)


@cache
def with_frameworks() -> Interpreter:
    """CKPTD_TEST_FRAMEWORKS_PYTHON names it; else what `make frameworks` made, else the interpreter of the tests."""
    made = str(_MADE) if _MADE.exists() else sys.executable
    return Interpreter.of(os.environ.get("CKPTD_TEST_FRAMEWORKS_PYTHON") or made)
