"""Two engines on a memory link in virtual time."""
import iip
from iip.drivers import MemoryLink
from iip.memory.pool import PacketPool


class Collector(iip.Handler):
    """A client that keeps what it gets. `window`: consume only when told."""

    def __init__(self, consume=True):
        self.data = b""
        self.consume = consume
        self.ended = False
        self.reason = None
        self.datagrams = []

    def tcp_payload(self, conn, data):
        self.data += bytes(data)
        if self.consume:
            conn.consume(len(data))

    def tcp_shutdown(self, conn):
        self.ended = True

    def tcp_closed(self, conn, reason):
        self.reason = reason

    def udp_payload(self, datagram):
        self.datagrams.append(bytes(datagram.data))


class Wire:
    def __init__(self, server, client, *, link=None, **settings):
        self.pool = PacketPool(packets=8192, views=32768)
        link = link or MemoryLink()
        common = {"medium": "ip", **settings}
        ours, theirs = (iip.Config(addresses=[f"10.0.0.{i}/24"], **common) for i in (1, 2))
        self.client = iip.Engine(ours, client, link.a, pool=self.pool, seed=1)
        self.server = iip.Engine(theirs, server, link.b, pool=self.pool, seed=2)
        self.now = 1_000_000_000

    def run(self, seconds=0.0, until=None):
        """Both engines until nothing happens at once, then on to deadlines within `seconds` of virtual time."""
        end = self.now + int(seconds * 1e9)
        for _ in range(1_000_000):
            if until is not None and until():
                return
            due = [d for d in (self.client.run(self.now), self.server.run(self.now)) if d is not None]
            if self.client.driver.pending:
                continue
            at = min(due, default=end + 1)
            if at > self.now:
                if at > end:
                    self.now = end
                    return
                self.now = at
        raise AssertionError("the engines do not come to rest")

    def close(self):
        for engine in (self.client, self.server):
            engine.close()
            engine.driver.close()
        assert self.pool.full
