"""What is wrong with a value, in one line: where it was written, which key, what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ckptd.settings.document import KeyPath
from ckptd.settings.layers import did_you_mean
from ckptd.settings.layouts import LayoutSettings
from ckptd.settings.models import (
    NodeSettings,
    PolicySettings,
    Settings,
    TierSettings,
    TransferSettings,
    VolumeSettings,
)

_TIERS = ("ram", "nvme")
_EXPECTED = {
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "list_type": "expected a list of tables",
}


def complaints(error: ValidationError, origins: Mapping[KeyPath, str]) -> list[str]:
    """One line a problem; what is missing in a tier that does not exist is not a problem of its own."""
    return [
        _complaint(details, origins)
        for details in error.errors(include_url=False)
        if details["type"] != "missing" or details["loc"][0] != "tiers" or details["loc"][1] in _TIERS
    ]


def placed(key: KeyPath, message: str, origins: Mapping[KeyPath, str]) -> str:
    """`FILE:LINE: key: message`; the line of the nearest table where the key itself is not written anywhere."""
    for depth in range(len(key), 0, -1):
        if origin := origins.get(key[:depth]):
            return f"{origin}: {dotted(key)}: {message}"
    return f"{dotted(key)}: {message}"


def dotted(key: KeyPath) -> str:
    """`volumes[0].policy.keep_hot`"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def _complaint(details: ErrorDetails, origins: Mapping[KeyPath, str]) -> str:
    kind, where = details["type"], tuple(part for part in details["loc"] if part != "[key]")
    if kind == "extra_forbidden":
        return placed(where, f"no such key{did_you_mean(str(where[-1]), _siblings(where))}", origins)
    if kind == "literal_error" and len(where) == 2 and where[0] == "tiers":
        return placed(where, f"no such tier{did_you_mean(str(where[-1]), _TIERS)}; there are ram and nvme", origins)
    if kind == "missing":
        return placed(where, "is required", origins)
    return placed(where, _reason(details), origins)


def _reason(details: ErrorDetails) -> str:
    given = details["input"]
    shown = f"{given!r} ({type(given).__name__})" if not isinstance(given, dict | list) else f"a {_noun(given)}"
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "list_type" and details["loc"][-1] in {"requires", "temporary"}:
        return f"expected a list of text, got {shown}"
    if kind in _EXPECTED:
        return f"{_EXPECTED[kind]}, got {shown}"
    if kind in {"literal_error", "enum"}:
        return f"expected {context['expected']}, got {shown}"
    if kind in {"greater_than_equal", "less_than_equal"}:
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return f"must be {bound}, got {given!r}"
    return f"{details['msg']}, got {shown}"


def _noun(value: Any) -> str:
    return "table" if isinstance(value, dict) else "list"


def _siblings(where: KeyPath) -> list[str]:
    """The names that would have been right beside an unknown one."""
    model: type[BaseModel]
    match where[:-1]:
        case ():
            model = Settings
        case ("node",):
            model = NodeSettings
        case ("transfer",):
            model = TransferSettings
        case ("tiers", _):
            model = TierSettings
        case ("volumes", _):
            model = VolumeSettings
        case ("layouts", _):
            model = LayoutSettings
        case _:
            model = PolicySettings
    return list(model.model_fields)
