"""One engine in virtual time, and what its application sees."""
from __future__ import annotations

from collections import deque

import iip
from iip.drivers import DriverProbe, MemoryLink, Tunnel
from iip.memory.pool import PacketPool
from tests.harness.packets import TCP, parse_tcp, split_ip

SECOND = 1_000_000_000
LOCAL = {4: "10.0.0.1", 6: "fd00::1"}
REMOTE = {4: "10.0.0.2", 6: "fd00::2"}

# counters of plain traffic, which every test would have to repeat
TRAFFIC = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")


class Recorder:
    """A handler that notes every callback as a tuple, and behaves as its attributes say."""

    def __init__(self):
        self.events = []
        self.syns = []
        self.conns = {}               # by the peer's port
        self.accept = True
        self.consume = True           # payload is consumed at once
        self.close = False            # answer the peer's FIN by close
        self.on = {}                  # more to do: event name -> function of the connection
        self.icmp = []

    def take(self):
        events, self.events = self.events, []
        return events

    def _note(self, conn, *event):
        self.conns[conn.remote[1]] = conn
        self.events.append(event)
        if event[0] in self.on:
            self.on[event[0]](conn)

    def tcp_accept(self, syn):
        self.syns.append(syn)
        return self.accept(syn) if callable(self.accept) else self.accept

    def tcp_accepted(self, conn):
        self._note(conn, "accepted")

    def tcp_connected(self, conn):
        self._note(conn, "connected")

    def tcp_payload(self, conn, data):
        self._note(conn, "payload", bytes(data))
        if self.consume:
            conn.consume(len(data))

    def tcp_acked(self, conn, n):
        self._note(conn, "acked", n)

    def tcp_shutdown(self, conn):
        self._note(conn, "shutdown")
        if self.close:
            conn.close()

    def tcp_closed(self, conn, reason):
        self._note(conn, "closed", reason)

    def icmp_error(self, error):
        self.icmp.append(error)


class Device:
    """In place of the tunnel: a link that takes segments of 64 KiB and cuts them (or hands them over whole, with
    `lro`), so that an engine with TSO has to look like one without."""

    def __init__(self, mtu, lro=False):
        self.link = MemoryLink("ip", mtu, tso=True, lro=lro, rx_checksum=False)
        self.driver = self.link.a
        self.probe = DriverProbe(self.link.b, PacketPool(4096, 2048))

    def feed(self, packet):
        return 0 < len(packet) <= 65535 and self.probe.tx(packet) == 1

    def drain(self):
        return self.probe.rx(limit=4096)


class Wire:
    """An engine behind a `Tunnel`, its clock, and the segments that left it and nobody has looked at yet.

    device: ``"tunnel"``, ``"tso"`` (a device that cuts segments) or ``"whole"`` (large segments are seen as the engine sent
    them). `settings` go to `iip.Config`; ACKs are not delayed, nor buffers tuned, unless they say so. `finish` checks that nothing
    unexpected left and that closing the engine gives every packet back.
    """

    def __init__(self, version=4, *, handler=None, start=SECOND, device="tunnel", **settings):
        self.version = version
        self.local, self.remote = LOCAL[version], REMOTE[version]
        self.now = start
        self.handler = handler or Recorder()
        settings = {"addresses": ("10.0.0.1/24", "fd00::1/64"), "pool_packets": 1024, "max_connections": 64,
                    "delayed_ack": 0, "quick_acks": 0, "autotune": False, "send_buffer": 1 << 20,
                    "receive_buffer": 1 << 20, **settings}
        mtu = settings.get("mtu", 1500)
        self.driver = Tunnel(mtu=mtu) if device == "tunnel" else Device(mtu, lro=device == "whole")
        driver = self.driver if device == "tunnel" else self.driver.driver
        self.engine = iip.Engine(iip.Config(medium="ip", **settings), self.handler, driver, seed=7)
        self.sent = deque()
        self.others = deque()         # what left and is not TCP
        self.next = None
        self._marked = self.engine.stats()
        self.run()

    # -- time -------------------------------------------------------------------------------------------------

    def run(self):
        """Run the engine until it has nothing more to do at this time."""
        for _ in range(100):
            self.next = self.engine.run(self.now)
            for raw in self.driver.drain():
                if split_ip(raw)[2] == TCP:
                    self.sent.append(parse_tcp(raw, self.now))
                else:
                    self.others.append(raw)
            if self.next is None or self.next > self.now:
                return
        raise AssertionError("the engine does not come to rest")

    def run_until(self, at):
        """Let time pass to `at` (ns), with every deadline on the way."""
        while self.next is not None and self.next <= at:
            assert self.next > self.now
            self.now = self.next
            self.run()
        self.now = at
        self.run()

    def advance(self, seconds):
        self.run_until(self.now + round(seconds * SECOND))

    def advance_to_output(self, limit=600.0):
        """Let time pass until a segment leaves; the seconds it took."""
        start, end = self.now, self.now + round(limit * SECOND)
        while not self.sent and self.next is not None and self.next <= end:
            self.now = self.next
            self.run()
        assert self.sent, f"no segment left within {limit} s"
        return (self.now - start) / SECOND

    # -- packets ----------------------------------------------------------------------------------------------

    def feed(self, *packets, run=True):
        """Whole IP packets, all in one run."""
        for packet in packets:
            assert self.driver.feed(packet)
        if run:
            self.run()

    def counted(self):
        """What was counted since `mark`, traffic aside; marks anew."""
        now = self.engine.stats()
        out = {k: v for k, v in (now - self._marked).items() if v and k not in TRAFFIC}
        self._marked = now
        return out

    mark = counted

    def counters_are(self, **expected):
        """The whole counter structure since the last mark: these counters, and no other."""
        assert self.counted() == expected

    # -- what the engine says ---------------------------------------------------------------------------------

    @property
    def row(self):
        """The snapshot of the only connection."""
        rows = self.engine.connections()
        assert len(rows) == 1, f"{len(rows)} connections"
        return rows[0]

    @property
    def state(self):
        """State of the only connection; CLOSED when there is none."""
        rows = self.engine.connections()
        assert len(rows) <= 1
        return iip.State(int(rows[0]["state"])) if len(rows) else iip.State.CLOSED

    def finish(self):
        left = [str(s) for s in self.sent]
        self.engine.close()
        pool = self.engine.pool
        assert not left, f"segments that no test expected: {left}"
        assert pool.full, f"lost: {pool.packets - pool.free_packets} cells, {pool.views - pool.free_views} views"
        for conn in self.handler.conns.values():
            assert conn.closed
