"""Groups of `[access]`: by name or number."""

from __future__ import annotations

import grp

from ckptd.domain.errors import ConfigError


def gid_of(group: str, key: str) -> int | None:
    """None for "". Raises ConfigError naming `key`."""
    if not group or group.isdecimal():
        return int(group) if group else None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ConfigError(
            f"{key}: there is no group '{group}'", hint="groupadd makes one; a number is taken too"
        ) from error
