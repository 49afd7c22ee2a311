"""The example of docs/backends.md, taken from the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs/backends.md"
CODE = next(
    code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "class MemoryBackend" in code
)

_names: dict[str, Any] = {"__name__": "documented_example"}
exec(compile(CODE, str(PAGE), "exec"), _names)
MemoryBackend = _names["MemoryBackend"]
