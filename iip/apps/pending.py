"""Output that the send buffer did not take yet."""
from __future__ import annotations

from collections import deque

REFERENCE = 4096                  # longer pieces are referenced, not copied


class Pending:
    """Bytes in order, sent as the send buffer has room. Pieces must not change: they are held, and long ones sent, by
    reference."""

    __slots__ = ("pieces",)

    def __init__(self):
        self.pieces: deque[memoryview] = deque()

    def __len__(self):
        return sum(len(piece) for piece in self.pieces)

    def __bool__(self):
        return bool(self.pieces)

    def add(self, data):
        if len(data):
            self.pieces.append(memoryview(data))

    def flush(self, conn) -> int:
        """Send what `conn` takes; how many bytes."""
        done = 0
        pieces = self.pieces
        while pieces:
            piece = pieces[0]
            n = conn.send(piece, reference=len(piece) > REFERENCE)
            done += n
            if n < len(piece):
                pieces[0] = piece[n:]
                break
            pieces.popleft()
        return done
