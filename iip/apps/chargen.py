"""The character generator (RFC 864): sends lines of printable characters until the peer has enough."""
from __future__ import annotations

from iip import Connection, Handler, Payload
from iip.apps.pending import send

_CHARACTERS = bytes(range(32, 127))
_LINE = 72


def pattern() -> bytes:
    """One period: 95 lines, each beginning one character later."""
    doubled = _CHARACTERS * 2
    return b"".join(doubled[i:i + _LINE] + b"\r\n" for i in range(len(_CHARACTERS)))


class Chargen(Handler):
    """limit: close after so many bytes; None: when the peer does."""

    _period = len(pattern())
    _stream = memoryview(pattern() * 40)

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit

    def tcp_accepted(self, conn: Connection) -> None:
        conn.context = 0          # bytes sent
        self._fill(conn)

    def tcp_payload(self, conn: Connection, data: Payload) -> None:
        conn.consume(len(data))

    def tcp_acked(self, conn: Connection, n: int) -> None:
        self._fill(conn)

    def tcp_shutdown(self, conn: Connection) -> None:
        conn.close()

    def _fill(self, conn: Connection) -> None:
        sent = conn.context
        while True:
            start = sent % self._period
            piece = self._stream[start:]
            if self.limit is not None:
                piece = piece[:self.limit - sent]
                if not len(piece):
                    conn.close()
                    break
            n = send(conn, piece)
            sent += n
            if n < len(piece):
                break
        conn.context = sent
