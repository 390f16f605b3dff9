"""Sequence numbers that pass 2**32, in both directions (RFC 9293 §3.4)."""
import pytest

from tests.harness.packets import ACK, FIN, M32, RST, SYN, opt_mss, opt_sack, opt_sack_permitted, opt_timestamps
from tests.harness.peer import Peer
from tests.harness.states import ESTABLISHED
from tests.harness.wire import SECOND

MSS = 1000
WRAP = 1 << 32
OFFSETS = [0, 1, 2, 500, MSS, MSS + 1, 2500, 5 * MSS]


def before_the_wrap(make, distance, **settings):
    """An engine whose next connection begins `distance` sequence numbers before the wrap: the clock of RFC 6528
    says when to start."""
    probe = Peer(make(**settings))
    probe.wire.engine.tcp_listen(80)
    probe.syn()
    iss = probe.expect(SYN | ACK).seq
    start = SECOND + ((WRAP - distance - iss) % WRAP) * 4000
    return make(start=start, **settings)


@pytest.mark.parametrize("distance", OFFSETS)
@pytest.mark.parametrize("sack", [False, True], ids=["plain", "sack"])
def test_sending_with_loss(make, distance, sack):
    """Ten segments, of which the first and the sixth are lost."""
    wire = before_the_wrap(make, distance)
    peer = Peer(wire)
    answer = peer.connect(opt_mss(MSS) + (opt_sack_permitted() if sack else b""), 0.1)
    assert answer.seq == (WRAP - distance) & M32
    start = peer.rcv
    peer.conn.send(b"".join(bytes([i]) * MSS for i in range(10)))
    wire.run()
    for i in range(10):
        peer.expect(ACK, data=bytes([i]) * MSS)
    peer.expect_nothing(0.1)
    blocks = []
    for i in (1, 2, 3, 4, 6, 7, 8, 9):
        if blocks and blocks[0][1] == start + i * MSS:
            blocks[0] = (blocks[0][0], start + (i + 1) * MSS)
        else:
            blocks.insert(0, (start + i * MSS, start + (i + 1) * MSS))
        peer.send(ACK, ack=start, options=opt_sack(*blocks) if sack else b"")
    peer.expect(ACK, seq=start, data=bytes([0]) * MSS)
    if not sack:
        peer.expect_nothing()
        peer.send(ACK, ack=start + 5 * MSS)
    peer.expect(ACK, seq=start + 5 * MSS, data=bytes([5]) * MSS)
    peer.expect_nothing()
    peer.send(ACK, ack=start + 10 * MSS)
    peer.expect_nothing(10)
    assert sum(e[1] for e in wire.handler.take() if e[0] == "acked") == 10 * MSS
    peer.do("shutdown")
    peer.expect(FIN | ACK)
    peer.send(ACK)


@pytest.mark.parametrize("distance", OFFSETS)
def test_sending_with_a_timeout(make, distance):
    wire = before_the_wrap(make, distance)
    peer = Peer(wire)
    peer.connect(opt_mss(MSS) + opt_timestamps(1, 0))
    mss = peer.conn.mss
    start = peer.rcv
    peer.conn.send(b"x" * 3 * mss)
    wire.run()
    for _ in range(3):
        peer.expect(ACK, size=mss)
    peer.expect(ACK, seq=start, size=mss, after=wire.row["rto"] / 1e9)
    peer.send(ACK, ack=start + mss)
    peer.expect(ACK, seq=start + mss, size=mss)
    peer.expect(ACK, seq=start + 2 * mss, size=mss)
    peer.send(ACK)
    peer.expect_nothing(10)


@pytest.mark.parametrize("distance", OFFSETS)
def test_active_open(make, distance):
    probe = Peer(make())
    iss = probe.called().seq
    probe.do("abort")
    wire = make(start=SECOND + ((WRAP - distance - iss) % WRAP) * 4000)
    peer = Peer(wire)
    assert peer.called().seq == (WRAP - distance) & M32
    peer.answer()
    peer.do("shutdown")
    peer.expect(FIN | ACK)
    peer.send(FIN | ACK)
    peer.expect(ACK)


@pytest.mark.parametrize("distance", [*OFFSETS, 65536, 70_000])
def test_receiving(wire, distance):
    """In order, with gaps, old duplicates, beyond the window, FIN: all around the wrap."""
    peer = Peer(wire, iss=(WRAP - distance) & M32)
    peer.connect(opt_sack_permitted())
    start = peer.nxt
    for left in (3000, 1000, 2000, 0):
        peer.send(ACK, seq=start + left, data=bytes([left // 1000]) * 1000)
    wire.sent.clear()
    peer.nxt = (start + 4000) & M32
    data = b"".join(e[1] for e in wire.handler.take() if e[0] == "payload")
    assert data == b"".join(bytes([i]) * 1000 for i in range(4))
    for offset in (-2000, -1, 1 << 20):
        peer.send(ACK, seq=peer.nxt + offset, data=b"?")
        peer.expect(ACK)
    peer.send(RST, seq=peer.nxt - 1)
    peer.expect_nothing()
    peer.send(RST, seq=peer.nxt + 1)
    peer.expect(ACK)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    assert wire.handler.take() == [("shutdown",)]
    peer.send(RST)
    assert wire.engine.n_connections == 0


@pytest.mark.parametrize("distance", [0, 1, 2, 1000])
def test_time_wait_reuse(make, distance):
    wire = before_the_wrap(make, distance)
    peer = Peer(wire, iss=(WRAP - distance) & M32)
    peer.connect()
    peer.do("shutdown")
    peer.expect(FIN | ACK)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    old = peer.rcv
    again = Peer(wire, iss=(peer.nxt + 1) & M32)
    answer = again.connect()
    assert 0 < (answer.seq - old) & M32 < 1 << 31
    assert wire.state == ESTABLISHED


def test_ack_range_around_the_wrap(make):
    """RFC 5961 §5.2 with SND.UNA - MAX.SND.WND on the other side."""
    wire = before_the_wrap(make, 10)
    peer = Peer(wire)
    peer.connect(opt_mss(MSS))
    peer.write(b"x" * 100)
    peer.expect(ACK, data=b"x" * 100)
    peer.send(ACK)
    wire.mark()
    for ack in (peer.rcv + 1, peer.rcv - 65535 - 1):
        wire.advance(0.01)
        peer.send(ACK, ack=ack, seq=peer.nxt)
        peer.expect(ACK)
    wire.counters_are(tcp_bad_ack=2, tcp_challenge_ack=2, tcp_out_segments=2)
    peer.send(ACK, ack=peer.rcv - 65535, data=b"new")
    peer.expect(ACK)
