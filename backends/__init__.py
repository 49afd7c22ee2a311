"""Stores behind ckptd, one module a protocol, each behind `backends.base.Backend`.

A backend is found by its URL scheme under the entry-point group `ckptd.backends`; ours register like anybody's.
"""

OWNER = "ckptd"
"""Guards against another distribution's top-level `backends` package: the daemon checks it at start."""
