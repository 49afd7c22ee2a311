"""How supervisor and worker write their log: to standard error, event first, then key=value.

A detached daemon's standard error is `<state_dir>/ckptd.log`; in the foreground it is the terminal.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, Protocol, TextIO

import structlog


class Log(Protocol):
    def info(self, event: str, /, **fields: Any) -> Any: ...
    def warning(self, event: str, /, **fields: Any) -> Any: ...
    def error(self, event: str, /, **fields: Any) -> Any: ...


class _Unfailing(io.StringIO):
    """Lines that cannot be written (the log's disk is full) are lost, and nothing else: what is logged must go on.

    Past Python's buffers, which would keep such a line and fail with it again at exit.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            try:
                os.write(self._stream.fileno(), text.encode("utf-8", "backslashreplace"))
            except io.UnsupportedOperation:  # no file: a test looks at it
                self._stream.write(text)
        return len(text)


def configure(process: str) -> Any:
    """Returns the logger; every line says which process wrote it."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        logger_factory=structlog.WriteLoggerFactory(_Unfailing(sys.stderr)),
    )
    return structlog.get_logger().bind(process=process)
