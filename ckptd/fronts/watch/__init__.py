"""A volume as a plain directory, observed through inotify."""

from ckptd.fronts.watch.front import WatchFront

__all__ = ["WatchFront"]
