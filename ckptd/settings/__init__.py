"""The settings: models, and how they are put together from defaults, file, variables and flags."""

from ckptd.settings.describe import Row, describe
from ckptd.settings.layers import Overrides
from ckptd.settings.layouts import LayoutSettings
from ckptd.settings.load import Effective, load
from ckptd.settings.models import (
    NodeSettings,
    PolicySettings,
    Settings,
    TierSettings,
    TransferSettings,
    VolumeSettings,
)
from ckptd.settings.quantities import Percent, format_size, format_time, parse_budget, parse_size, parse_time

__all__ = [
    "Effective",
    "LayoutSettings",
    "NodeSettings",
    "Overrides",
    "Percent",
    "PolicySettings",
    "Row",
    "Settings",
    "TierSettings",
    "TransferSettings",
    "VolumeSettings",
    "describe",
    "format_size",
    "format_time",
    "load",
    "parse_budget",
    "parse_size",
    "parse_time",
]
