"""Reading local copies against the checksums that are known of them."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

from ckptd.transfer import calls
from ckptd.transfer.mapped import checksum_at
from ckptd.transfer.reading import ensure_unchanged, opened
from ckptd.transfer.refusal import CORRUPT, Refusal, Refused
from ckptd.transfer.task import Task

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
"""Numbers of ioprio_set(2), which the C library does not wrap."""
_WHO_PROCESS = 1
_CLASS_IDLE = 3 << 13
_CLASS_NONE = 0


def check_stretch(call: calls.CheckStretch, task: Task) -> calls.Done:
    with _behind_others(call.idle), opened(call.path, call.stamp) as descriptor:
        for number, expected in enumerate(call.crcs, start=call.first):
            offset = (number - 1) * call.part_size
            length = max(0, min(call.part_size, call.stamp.size - offset))
            found = checksum_at(descriptor, call.path, offset, length, task.check)
            if found != expected:
                ensure_unchanged(descriptor, call.path, call.stamp)
                raise Refused(
                    Refusal(
                        CORRUPT, f"part {number} of '{call.path}' has checksum {found:016x} instead of {expected:016x}"
                    )
                )
            task.count(length)
    return calls.Done()


@contextmanager
def _behind_others(wanted: bool) -> Iterator[None]:
    """What this thread reads from disks waits for everybody else's. (Its processor time is a few ms a call: not worth a word.)"""
    number = _IOPRIO_SET.get(platform.machine()) if wanted else None
    if number is None:
        yield
        return
    libc = ctypes.CDLL(None)
    libc.syscall(number, _WHO_PROCESS, 0, _CLASS_IDLE)
    try:
        yield
    finally:
        libc.syscall(number, _WHO_PROCESS, 0, _CLASS_NONE)
