"""The truth of the node, in SQLite (WAL, through aiosqlite): schema, migrations, the one writer.

Every other part goes through `Catalog`; nothing else opens the file. What can be derived is not stored (dirty, hot, durable,
a checkpoint's state), so a row can be stale only in what it says about the file system, and fronts correct that.
"""

from ckptd.catalog.catalog import Catalog
from ckptd.catalog.rows import CopyRow, FileRow, ManifestRow, PinRow, TagRow, UnitName

__all__ = ["Catalog", "CopyRow", "FileRow", "ManifestRow", "PinRow", "TagRow", "UnitName"]
