"""When something has to happen."""
from __future__ import annotations

from dataclasses import dataclass

from iip.script.settings import Settings
from iip.script.syntax import Time


@dataclass(frozen=True)
class Window:
    """From `start` to `end`, µs of the script, and some tolerance on both sides."""

    start: int
    end: int
    tolerance: int

    def contains(self, at: int) -> bool:
        return self.start - self.tolerance <= at <= self.end + self.tolerance

    def __str__(self) -> str:
        text = f"{self.start / 1e6:.6f}" if self.start == self.end else f"{self.start / 1e6:.6f}~{self.end / 1e6:.6f}"
        return f"{text} ± {self.tolerance / 1e6:.6f}"


def window_of(time: Time, base: int, settings: Settings) -> Window:
    """`base`: when the event before ended, which relative times count from."""
    offset = base if time.relative or time.any_time else 0
    start = offset + time.start
    end = start if time.end is None else offset + time.end
    share = int((start - base) * settings.tolerance_percent / 100) if time.relative else 0
    return Window(start, end, max(settings.tolerance, share))
