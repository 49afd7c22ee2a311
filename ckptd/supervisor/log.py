"""How supervisor and worker write their log: to standard error, event first, then key=value.

A detached daemon's standard error is `<state_dir>/ckptd.log`; in the foreground it is the terminal, under systemd the journal.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, MutableMapping
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


_line = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""sd-daemon(3)."""


def _to_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """systemd.exec(5), JOURNAL_STREAM: the journal's socket by device and inode."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, io.UnsupportedOperation):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _prioritized(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
    """So that `journalctl -p warning` shows what it should."""
    priority = _PRIORITIES[event["level"]]
    return f"<{priority}>{_line(logger, name, event)}"


def configure(process: str) -> Any:
    """Returns the logger; every line says which process wrote it."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            _prioritized if _to_journal(sys.stderr, os.environ) else _line,
        ],
        logger_factory=structlog.WriteLoggerFactory(_Unfailing(sys.stderr)),
    )
    return structlog.get_logger().bind(process=process)
