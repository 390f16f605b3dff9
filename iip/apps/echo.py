"""The echo service (RFC 862), TCP and UDP."""
from __future__ import annotations

from iip import Engine, Handler
from iip.apps.pending import Pending


class Echo(Handler):
    """Sends everything back. What the peer does not read is not consumed, so its own window closes: a peer that
    only sends is slowed down, and no memory grows."""

    engine: Engine                # set by Dispatch, before anything else happens

    def tcp_accepted(self, conn):
        conn.context = _Echoing()

    def tcp_payload(self, conn, data):
        state = conn.context
        state.pending.add(data)
        self._flush(conn, state)

    def tcp_acked(self, conn, n):
        if conn.context.pending:
            self._flush(conn, conn.context)

    def tcp_shutdown(self, conn):
        conn.context.finished = True
        self._flush(conn, conn.context)

    def udp_payload(self, datagram):
        self.engine.udp_send(datagram.data, datagram.source, datagram.source_port, datagram.destination_port)

    def _flush(self, conn, state):
        sent = state.pending.flush(conn)
        if sent:
            conn.consume(sent)
        if state.finished and not state.pending:
            conn.close()


class _Echoing:
    __slots__ = ("finished", "pending")

    def __init__(self):
        self.pending = Pending()
        self.finished = False
