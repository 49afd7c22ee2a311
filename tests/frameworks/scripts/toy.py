"""What every training script here shares: arguments, a line of JSON for whoever watches, a digest of a state.

A script trains a toy model whose data depends on the step alone, so that a resumed run must end where an uninterrupted one
does. Each saved state is announced as `{"saved": step, "digest": …}`, each loaded one as `{"resumed": step, "digest": …}`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterable
from typing import Any


def arguments(**options: Any) -> argparse.Namespace:
    """`options` are further flags and their defaults; a boolean becomes a switch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", help="the run's directory")
    parser.add_argument("--steps", type=int, default=3, help="train up to this step; one checkpoint a step")
    parser.add_argument("--width", type=int, default=8, help="of the model: a layer has width * width weights")
    parser.add_argument("--resume", help="a checkpoint to go on from")
    for name, default in options.items():
        flag = "--" + name.replace("_", "-")
        if default is False:
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, default=default, type=type(default))
    found = parser.parse_args()
    found.directory = os.path.abspath(found.directory)
    return found


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def digest(arrays: Iterable[Any]) -> str:
    """`arrays` are NumPy arrays, or what turns into one, in an order of their own."""
    import numpy as np

    summed = hashlib.sha256()
    for array in arrays:
        whole = np.ascontiguousarray(np.asarray(array))
        summed.update(f"{whole.dtype} {whole.shape};".encode())
        summed.update(whole.tobytes())
    return summed.hexdigest()
