"""Recognises frameworks' checkpoints from paths and markers. Pure: values in, values out."""

from ckptd.layouts.judge import Member, Verdict, judge, names_of
from ckptd.layouts.location import Location, locate

__all__ = ["Location", "Member", "Verdict", "judge", "locate", "names_of"]
