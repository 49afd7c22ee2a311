"""Recognises frameworks' checkpoints from paths and markers. Pure: values in, values out (but for `configure`)."""

from ckptd.layouts.frameworks import POINTERS
from ckptd.layouts.judge import Member, Verdict, judge, names_of
from ckptd.layouts.location import Location, configure, locate
from ckptd.layouts.patterns import Pattern
from ckptd.layouts.pointers import POINTER_LIMIT, pointed_step, step_of_link

__all__ = [
    "POINTERS",
    "POINTER_LIMIT",
    "Location",
    "Member",
    "Pattern",
    "Verdict",
    "configure",
    "judge",
    "locate",
    "names_of",
    "pointed_step",
    "step_of_link",
]
