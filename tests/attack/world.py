"""A server under attack, a thousand honest clients, and the time between them."""
from __future__ import annotations

import hashlib

import iip
from iip.drivers import Tunnel

SERVER = {4: "10.0.0.1", 6: "fd00::1"}
CLIENT = {4: "10.0.0.2", 6: "fd00::2"}
GATEWAY = {4: {"gateway": "10.0.0.254"}, 6: {"gateway6": "fd00::fe"}}


class Echo(iip.Handler):
    """Says the digest of everything it was told, and closes."""

    def tcp_accepted(self, conn):
        conn.context = hashlib.sha256()

    def tcp_payload(self, conn, data):
        conn.context.update(data)
        conn.consume(len(data))

    def tcp_shutdown(self, conn):
        conn.send(conn.context.digest())
        conn.close()


class Clients(iip.Handler):
    """Each sends its data and wants its digest back."""

    def __init__(self):
        self.good = 0
        self.reasons = {}

    def tcp_connected(self, conn):
        self.more(conn)

    def tcp_acked(self, conn, n):
        self.more(conn)

    def more(self, conn):
        if conn.context.data:
            sent = conn.send(conn.context.data)
            conn.context.data = conn.context.data[sent:]
            if not conn.context.data:
                conn.shutdown()

    def tcp_payload(self, conn, data):
        conn.context.got += bytes(data)
        conn.consume(len(data))

    def tcp_closed(self, conn, reason):
        self.good += conn.context.got == conn.context.digest
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


class Errand:
    def __init__(self, data):
        self.data = data
        self.digest = hashlib.sha256(data).digest()
        self.got = b""


class World:
    """The server on port 80, and an engine that plays its clients. `attack` packets reach the server among theirs."""

    def __init__(self, version=4, **settings):
        self.version = version
        self.now = 10**9
        self.server_wire = Tunnel(capacity=8192)
        self.client_wire = Tunnel(capacity=8192)
        bits = 24 if version == 4 else 64
        common = {"medium": "ip", "pool_packets": 16384, "burst": 4096, "tx_queue": 8192, "time_wait": 1.0}
        self.server = iip.Engine(iip.Config(addresses=(f"{SERVER[version]}/{bits}",), **GATEWAY[version],
                                            **{**common, **settings}), Echo(), self.server_wire, seed=11)
        self.clients = Clients()
        self.client = iip.Engine(iip.Config(addresses=(f"{CLIENT[version]}/{bits}",), **common, max_connections=4096,
                                            ports=(1024, 65535)),
                                 self.clients, self.client_wire, seed=12)
        self.server.tcp_listen(80)
        self.to_strangers = 0
        self._honest = self.client.config.interfaces[0].ip.packed
        self._at = slice(16, 20) if version == 4 else slice(24, 40)

    def errands(self, count, size, rng):
        for _ in range(count):
            conn = self.client.tcp_connect(SERVER[self.version], 80)
            conn.context = Errand(rng.bytes(size))

    def step(self, attack=(), milliseconds=1):
        """One round: what the clients say, then the attack; what the server says to whom."""
        self.client.run(self.now)
        taken = self.server_wire.feed_many(self.client_wire.drain())
        taken += self.server_wire.feed_many(attack)
        self.server.run(self.now)
        feed, honest, at = self.client_wire.feed, self._honest, self._at
        out = self.server_wire.drain()
        mine = [raw for raw in out if raw[at] == honest]
        self.to_strangers += len(out) - len(mine)
        for raw in mine:
            assert feed(raw)
        self.client.run(self.now)
        self.now += milliseconds * 1_000_000
        return taken

    def settle(self, seconds, step=50):
        for _ in range(0, int(seconds * 1000), step):
            self.step(milliseconds=step)

    def close(self):
        """Nobody is left, and every packet is back."""
        assert self.server.n_connections == 0
        assert self.client.n_connections == 0
        for engine in (self.server, self.client):
            engine.close()
            assert engine.pool.full
