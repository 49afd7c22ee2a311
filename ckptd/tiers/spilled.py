"""Files that began in the NVMe tier because memory had no room for them: objects beside those of demoted files.

Objects are named by the number that a file has in the catalog. A mount's server makes these while the daemon's worker may not
even run, so their numbers are from a range of their own, taken by chance, and are never a file's.
"""

from __future__ import annotations

FIRST = 1 << 52
"""Numbers from here to twice this."""


def is_spilled(number: int) -> bool:
    return number >= FIRST
