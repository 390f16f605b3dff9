"""The discard service (RFC 863): takes everything, answers nothing."""
from __future__ import annotations

from typing import Any

from iip import Connection, Datagram, Handler, Payload


class Discard(Handler):
    def __init__(self) -> None:
        self.bytes = 0            # taken so far

    def tcp_payload(self, conn: Connection, data: Payload) -> None:
        self.bytes += len(data)
        conn.consume(len(data))

    def tcp_shutdown(self, conn: Connection) -> None:
        conn.close()

    def udp_payload(self, datagram: Datagram) -> None:
        data: Any = datagram.data
        self.bytes += len(data)
