"""The echo service (RFC 862), TCP and UDP."""
from __future__ import annotations

from typing import Any

from iip import Connection, Datagram, Engine, Handler, Payload
from iip.apps.pending import Pending


class Echo(Handler):
    """Sends everything back. What the peer does not read is not consumed, so its own window closes: a peer that
    only sends is slowed down, and no memory grows."""

    engine: Engine                    # of the UDP half; whoever binds the port sets it

    def tcp_accepted(self, conn: Connection) -> None:
        conn.context = _Echoing()

    def tcp_payload(self, conn: Connection, data: Payload) -> None:
        state = conn.context
        state.pending.add(data)
        self._flush(conn, state)

    def tcp_acked(self, conn: Connection, n: int) -> None:
        if conn.context.pending:
            self._flush(conn, conn.context)

    def tcp_shutdown(self, conn: Connection) -> None:
        conn.context.finished = True
        self._flush(conn, conn.context)

    def udp_payload(self, datagram: Datagram) -> None:
        data: Any = datagram.data
        self.engine.udp_send(data, datagram.source, datagram.source_port, datagram.destination_port)

    def _flush(self, conn: Connection, state: _Echoing) -> None:
        sent = state.pending.flush(conn)
        if sent:
            conn.consume(sent)
        if state.finished and not state.pending:
            conn.close()


class _Echoing:
    __slots__ = ("finished", "pending")

    def __init__(self) -> None:
        self.pending = Pending()
        self.finished = False
