"""Data that is sent without a copy: files, one buffer for many connections, and a bound on what is lent."""
import gc

import pytest

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
