"""What the tests of the simulator share."""
import struct

import iip


class Recorder(iip.Handler):
    """Notes what comes."""

    def __init__(self):
        self.pings, self.errors, self.datagrams, self.data, self.closed = [], [], [], b"", []
        self.on_connected = None

    def tcp_connected(self, conn):
        if self.on_connected:
            self.on_connected(conn)

    def tcp_payload(self, conn, data):
        self.data += bytes(data)
        conn.consume(len(data))

    def tcp_closed(self, conn, reason):
        self.closed.append(reason)

    def icmp_reply(self, reply):
        self.pings.append(reply)

    def icmp_error(self, error):
        self.errors.append(error)

    def udp_payload(self, datagram):
        self.datagrams.append(datagram._replace(data=bytes(datagram.data)))


class Echo(iip.Handler):
    def tcp_payload(self, conn, data):
        conn.send(data)
        conn.consume(len(data))


def address(host, version=4):
    """Its address as text."""
    found = [a.split("/")[0] for a in host.engine.addresses]
    return next(a for a in found if (":" in a) == (version == 6))


def frames(data):
    """(interface, time ns, direction, frame) of every packet of a pcapng file."""
    found = []
    while data:
        kind, total = struct.unpack_from("<II", data)
        body = data[8:total - 4]
        if kind == 6:
            interface, high, low, kept, _ = struct.unpack_from("<IIIII", body)
            direction = struct.unpack_from("<HHI", body, 20 + (kept + 3) // 4 * 4)[2]
            found.append((interface, (high << 32) + low, direction, body[20:20 + kept]))
        data = data[total:]
    return found
