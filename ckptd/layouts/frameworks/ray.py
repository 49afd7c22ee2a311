"""Ray Train and Ray Tune."""

from __future__ import annotations

import re

from ckptd.layouts.frameworks.layout import Layout, Names

_NAME = re.compile(r"checkpoint_(?:\d{6,18}|\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?:\.\d+)?)", re.ASCII)


class RayTrain(Layout):
    """A checkpoint is a directory that a worker filled and Ray copies file by file into `checkpoint_<6 digits>/` (under the
    trial's directory where there are trials), or, since version 2 of Train, `checkpoint_<date>_<time>/`. What is in it is the
    job's own affair, in no order. checkpoint_manager_snapshot.json names them afterwards.
    """

    name = "ray-train"
    places = ("checkpoint_{step}/**", "*/checkpoint_{step}/**")
    pointers = frozenset({"checkpoint_manager_snapshot.json"})

    def recognises(self, names: Names) -> bool:
        return _NAME.fullmatch(names.root) is not None and names.root not in names.set
