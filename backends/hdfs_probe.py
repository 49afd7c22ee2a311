"""Whether a folder of HDFS can be used: proves each step that a save needs, and sweeps what crashed writers left."""

from __future__ import annotations

import io
from contextlib import suppress

from awscrt.checksums import crc64nvme

from .errors import BackendError
from .folders import new_upload_id
from .hdfs_checksum import CheckedSource
from .hdfs_files import HdfsFiles

_LEFT_OVER_S = 86400.0
"""Age from which a `put-…` temporary file belongs to nobody any more."""
_BODY = b"ckptd looks whether it can write here\n"


class _Body(io.BytesIO):
    """A `Source` that is not a file."""

    def __len__(self) -> int:
        return len(self.getbuffer())

    @property
    def offset(self) -> int:
        return 0


def prove(files: HdfsFiles, staging: str, now: float) -> None:
    """`now`: seconds since the epoch; HDFS has no clock to ask."""
    mine = f"{staging}/put-{new_upload_id()}"
    renamed = f"{mine}.renamed"
    try:
        crc = crc64nvme(_BODY)
        files.write(mine, CheckedSource(_Body(_BODY), crc, 1 << 20, "a probe"), 1 << 20)
        files.rename(mine, renamed, overwrite=False)
        files.require_content(renamed, len(_BODY), crc)
    finally:
        for path in (mine, renamed):
            with suppress(BackendError):
                files.delete(path)
    for name, status in files.entries(staging):
        if name.startswith("put-") and not status.folder and now - status.modified_ms / 1000 > _LEFT_OVER_S:
            with suppress(BackendError):
                files.delete(f"{staging}/{name}")
