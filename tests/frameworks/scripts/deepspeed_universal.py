"""DeepSpeed's own converter: the newest global_stepN to a universal checkpoint beside it, and `latest_universal`."""

from __future__ import annotations

import os
import subprocess
import sys

import deepspeed.checkpoint
from toy import arguments

given = arguments()
with open(os.path.join(given.directory, "latest")) as pointer:
    newest = os.path.join(given.directory, pointer.read().strip())
program = os.path.join(os.path.dirname(deepspeed.checkpoint.__file__), "ds_to_universal.py")
subprocess.run(
    [sys.executable, program, "--input_folder", newest, "--output_folder", newest + "_universal", "--num_extract_workers",
     "1", "--num_merge_workers", "1", "--inject_missing_state"],
    check=True,
)  # fmt: skip
