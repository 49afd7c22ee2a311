"""The contract against every store of `conftest.STORES`."""

from backends.contract import *  # noqa: F403
