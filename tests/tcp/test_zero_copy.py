"""Data that is sent without a copy: files, one buffer for many connections, and a bound on what is lent."""
import gc

import pytest

import iip
from iip.drivers import MemoryLink
from iip.memory.pool import PacketPool
from tests.harness.packets import ACK, opt_mss
from tests.harness.peer import Peer

TEXT = bytes(i % 251 for i in range(50_000))


def connected(wire, port=40000):
    peer = Peer(wire, port=port)
    peer.connect(opt_mss(1400))
    wire.handler.take()
    return peer


def drain(wire, *peers):
    """Acknowledge everything until nothing more comes; what each peer got."""
    got = {p.port: bytearray() for p in peers}
    by_port = {p.port: p for p in peers}
    first = {p.port: p.rcv for p in peers}
    while wire.sent:
        while wire.sent:
            s = wire.sent.popleft()
            buffer = got[s.dport]
            at = s.seq - first[s.dport]
            assert at == len(buffer)
            buffer += s.data
            by_port[s.dport].rcv = s.seq + len(s.data)
        for p in peers:
            p.send(ACK)
    return [bytes(got[p.port]) for p in peers]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(TEXT)
    return path


@pytest.mark.parametrize("offset, n", [(0, None), (1, None), (4096, 10_000), (5000, 1), (49_999, None), (30_000, 1 << 30)])
def test_a_file(wire, file, offset, n):
    peer = connected(wire)
    with file.open("rb") as f:
        expected = TEXT[offset:][:n]
        assert peer.conn.send_file(f, offset, n) == len(expected)
    wire.run()
    assert wire.engine.pool.pinned >= len(expected)
    assert drain(wire, peer) == [expected]
    gc.collect()
    assert wire.engine.pool.pinned == 0


def test_a_file_in_parts(make, file):
    wire = make(send_buffer=8000)
    peer = connected(wire)
    at, got = 0, b""
    with file.open("rb") as f:
        while at < len(TEXT):
            n = peer.conn.send_file(f.fileno(), at)
            assert 0 < n <= 8000
            at += n
            wire.run()
            got += drain(wire, peer)[0]
        assert peer.conn.send_file(f, at) == 0
        assert peer.conn.send_file(f, 10**9) == 0
    assert got == TEXT


def test_wrong_arguments(wire, file):
    peer = connected(wire)
    with file.open("rb") as f:
        with pytest.raises(ValueError, match="must not be negative"):
            peer.conn.send_file(f, -1)
        with pytest.raises(ValueError, match="must not be negative"):
            peer.conn.send_file(f, 0, -1)
        peer.conn.shutdown()
        with pytest.raises(BrokenPipeError):
            peer.conn.send_file(f)
    wire.run()
    wire.sent.clear()


def test_one_buffer_for_many(wire):
    """Nothing is copied: no cell is in use beyond one header for each segment on its way."""
    peers = [connected(wire, 40000 + i) for i in range(8)]
    for p in peers:
        assert p.conn.send(TEXT, reference=True) == len(TEXT)
    assert wire.engine.pool.free_packets == wire.engine.pool.packets
    wire.run()
    assert drain(wire, *peers) == [TEXT] * 8
    assert wire.engine.pool.pinned == 0


def test_what_is_lent_is_bounded(make):
    """Beyond `max_pinned` sends are copies: they go on, and the buffer may change."""
    wire = make(max_pinned=20_000)
    peer = connected(wire)
    buffer = bytearray(TEXT)
    assert peer.conn.send(memoryview(buffer)[:30_000], reference=True) == 20_000
    assert wire.engine.pool.pinned == 20_000
    assert peer.conn.send(memoryview(buffer)[20_000:30_000], reference=True) == 10_000
    assert wire.engine.pool.pinned == 20_000
    buffer[20_000:30_000] = bytes(10_000)
    wire.run()
    assert drain(wire, peer) == [TEXT[:30_000]]
    assert wire.engine.pool.pinned == 0


def test_nothing_is_lent(make):
    wire = make(max_pinned=0)
    peer = connected(wire)
    assert peer.conn.send(TEXT, reference=True) == len(TEXT)
    assert wire.engine.pool.pinned == 0
    wire.run()
    assert drain(wire, peer) == [TEXT]


class Two:
    """Two engines with one pool of 256 cells, and a connection from the first to the second; `served`: what came there."""

    def __init__(self, views):
        self.pool, self.link, self.served, self.now = PacketPool(packets=256, views=views), MemoryLink(), [], 10**9
        served = self.served

        class Server(iip.Handler):
            def tcp_payload(self, conn, data):
                served.append(bytes(data))
                conn.consume(len(data))

        self.a = iip.Engine(iip.Config(addresses=["10.0.0.1/24"]), iip.Handler(), self.link.a, self.pool, seed=1)
        self.b = iip.Engine(iip.Config(addresses=["10.0.0.2/24"]), Server(), self.link.b, self.pool, seed=2)
        self.b.tcp_listen(80)
        self.conn = self.a.tcp_connect("10.0.0.2", 80)
        for _ in range(5):
            self.send()
            self.receive()

    def send(self):
        """How many segments of data left, and how many cells they take."""
        before, free = self.a.stats()["tcp_out_data"], self.pool.free_packets
        self.a.run(self.now)
        self.now += 1_000_000
        return self.a.stats()["tcp_out_data"] - before, free - self.pool.free_packets

    def receive(self):
        self.b.run(self.now)

    def close(self):
        self.a.close()
        self.b.close()
        self.link.close()
        assert self.pool.full


def test_headers_share_a_cell():
    """Segments of lent data on their way: sixteen packets that hold 128 bytes of headers each find room in a cell, which is
    free again with the last of them."""
    two = Two(views=4096)
    assert two.conn.send(TEXT, reference=True) == len(TEXT)
    for expected in (10, 20):     # slow start
        segments, cells = two.send()
        assert segments == expected and 1 <= cells <= 1 + segments // 16
        two.receive()
        assert two.pool.free_packets >= 255              # an ACK
    for _ in range(5):
        two.send()
        two.receive()
    assert b"".join(two.served) == TEXT
    two.close()


def test_without_many_views_headers_have_cells_of_their_own():
    """Views are for what must be views: when half of them are in use, headers take cells, and nothing waits for ever."""
    two = Two(views=40)
    two.conn.send(TEXT, reference=True)
    most = 0
    for _ in range(60):
        most = max(most, two.send()[1])
        two.receive()
    assert b"".join(two.served) == TEXT and most > 2
    two.close()
