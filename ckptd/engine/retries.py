"""When failed work is tried again: exponential backoff by key."""

from __future__ import annotations

from dataclasses import dataclass, field

_FIRST_S = 1.0
_LONGEST_S = 60.0


def move_of(file: int) -> tuple[str, int]:
    """The key of moves and evictions of a file, which fail for other reasons than its upload."""
    return ("move", file)


@dataclass(slots=True)
class Retries:
    _failures: dict[object, tuple[int, float]] = field(default_factory=dict)

    def failed(self, key: object, now: float, *, first_s: float = _FIRST_S, longest_s: float = _LONGEST_S) -> float:
        """Notes a failure; returns when to try again."""
        count = self._failures.get(key, (0, 0.0))[0] + 1
        at = now + min(longest_s, first_s * 2.0 ** min(count - 1, 10))
        self._failures[key] = (count, at)
        return at

    def succeeded(self, key: object) -> None:
        self._failures.pop(key, None)

    def at(self, key: object) -> float:
        """0 for what never failed."""
        return self._failures.get(key, (0, 0.0))[1]

    def files(self) -> set[int]:
        """Those whose upload or move failed."""
        keys = (key[1] if isinstance(key, tuple) and len(key) == 2 else key for key in self._failures)
        return {key for key in keys if isinstance(key, int)}

    def count(self, key: object) -> int:
        return self._failures.get(key, (0, 0.0))[0]

    def copy(self) -> Retries:
        return Retries(dict(self._failures))

    def clear(self) -> None:
        """Everything may be tried at once: a user asked for it."""
        self._failures = {key: (count, 0.0) for key, (count, _) in self._failures.items()}

    def next(self, now: float) -> float | None:
        """When the next one is due."""
        return min((at for _, at in self._failures.values() if at > now), default=None)

    def after_jump(self, now: float) -> None:
        """The clock was set back: nothing waits longer than the longest backoff."""
        self._failures = {key: (count, min(at, now + _LONGEST_S)) for key, (count, at) in self._failures.items()}
