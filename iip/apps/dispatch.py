"""Several servers on one engine, chosen by local port."""
from __future__ import annotations

from typing import Any

from iip import Connection, Datagram, Engine, Handler, Payload, Reason, Syn


class Dispatch(Handler):
    """`tcp` and `udp`: local port → handler. A SYN for another port is refused."""

    def __init__(self, tcp: dict[int, Any], udp: dict[int, Any] | None = None) -> None:
        self.tcp = dict(tcp)
        self.udp = dict(udp or {})

    def open(self, engine: Engine) -> None:
        """Listen and bind on all ports, and tell the handlers their engine."""
        for port, app in self.tcp.items():
            app.engine = engine
            engine.tcp_listen(port)
        for port, app in self.udp.items():
            app.engine = engine
            engine.udp_bind(port)

    def _app(self, conn: Connection) -> Any:
        return self.tcp[conn.local[1]]

    def tcp_accept(self, syn: Syn) -> bool:
        app = self.tcp.get(syn.local_port)
        return app is not None and app.tcp_accept(syn)

    def tcp_accepted(self, conn: Connection) -> None:
        self._app(conn).tcp_accepted(conn)

    def tcp_payload(self, conn: Connection, data: Payload) -> None:
        self._app(conn).tcp_payload(conn, data)

    def tcp_acked(self, conn: Connection, n: int) -> None:
        self._app(conn).tcp_acked(conn, n)

    def tcp_shutdown(self, conn: Connection) -> None:
        self._app(conn).tcp_shutdown(conn)

    def tcp_closed(self, conn: Connection, reason: Reason) -> None:
        self._app(conn).tcp_closed(conn, reason)

    def udp_payload(self, datagram: Datagram) -> None:
        app = self.udp.get(datagram.destination_port)
        if app is not None:
            app.udp_payload(datagram)
