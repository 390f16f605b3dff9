"""How much a transport lets wait before its protocol is paused."""
from __future__ import annotations

_HIGH = 64 * 1024


class WriteLimits:
    """The calls of asyncio's transports about their write buffer."""

    _size = 0                     # bytes that wait
    _high, _low = _HIGH, _HIGH // 4

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
