"""Output that the send buffer did not take yet."""
from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from iip import Connection

REFERENCE = 4096                  # longer pieces are referenced, not copied


def send(conn: Connection, data: memoryview | bytes) -> int:
    """Send what the send buffer takes; how many bytes. 0 also when the peer has reset the connection in this very
    run of the engine: `tcp_closed` follows."""
    try:
        taken: int = conn.send(data, reference=len(data) > REFERENCE)
    except BrokenPipeError:
        return 0
    return taken


class Pending:
    """Bytes in order, sent as the send buffer has room. Pieces must not change: they are held, and long ones sent, by
    reference."""

    __slots__ = ("pieces",)

    def __init__(self) -> None:
        self.pieces: deque[memoryview] = deque()

    def __len__(self) -> int:
        return sum(len(piece) for piece in self.pieces)

    def __bool__(self) -> bool:
        return bool(self.pieces)

    def add(self, data: Buffer) -> None:
        view = memoryview(data)
        if len(view):
            self.pieces.append(view)

    def flush(self, conn: Connection) -> int:
        """Send what `conn` takes; how many bytes."""
        done = 0
        pieces = self.pieces
        while pieces:
            piece = pieces[0]
            n = send(conn, piece)
            done += n
            if n < len(piece):
                pieces[0] = piece[n:]
                break
            pieces.popleft()
        return done
