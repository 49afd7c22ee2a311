"""Versions of the schema. `schema.sql` is always the newest; an older catalog is taken there step by step."""

from __future__ import annotations

from importlib import resources

VERSION = 1

STEPS: dict[int, str] = {}
"""Statements that lead from version N to N+1, under N. A released schema is never edited without a step here."""


def schema() -> str:
    return resources.files("ckptd.catalog").joinpath("schema.sql").read_text(encoding="utf-8")
