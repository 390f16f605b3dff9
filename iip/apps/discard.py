"""The discard service (RFC 863): takes everything, answers nothing."""
from __future__ import annotations

from iip import Handler


class Discard(Handler):
    def __init__(self):
        self.bytes = 0            # taken so far

    def tcp_payload(self, conn, data):
        self.bytes += len(data)
        conn.consume(len(data))

    def tcp_shutdown(self, conn):
        conn.close()

    def udp_payload(self, datagram):
        self.bytes += len(datagram.data)
