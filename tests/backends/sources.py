"""The contract's own sources, for the tests of single backends."""

from backends.contract.sources import MIB, Memory, Stretch, keys, put, put_part, read

__all__ = ["MIB", "Memory", "Stretch", "keys", "put", "put_part", "read"]
