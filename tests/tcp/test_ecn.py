"""Explicit congestion notification: RFC 3168 packet by packet, the receiver of RFC 8257."""
import struct

import pytest

from tests.harness.packets import ACK, CWR, ECE, SYN, checksum, opt_mss
from tests.harness.peer import Peer

MSS = 1000
ECT_0, CE = 2, 3


def ecn_of(segment):
    """The ECN field of the IP header that a segment left with."""
    return (segment.raw[1] if segment.raw[0] >> 4 == 4 else segment.raw[1] >> 4) & 3


def marked(packet, field=CE):
    """The packet as a router that marks would have left it."""
    raw = bytearray(packet)
    if raw[0] >> 4 == 6:
        raw[1] |= field << 4
        return bytes(raw)
    raw[1] |= field
    raw[10:12] = bytes(2)
    struct.pack_into("!H", raw, 10, checksum(bytes(raw[:20])))
    return bytes(raw)


def connected(make, **settings):
    """A connection that the peer opened with ECN."""
    wire = make(congestion="newreno", **settings)
    peer = Peer(wire)
    wire.engine.tcp_listen(80)
    peer.send(SYN | ECE | CWR, options=opt_mss(MSS))
    peer.expect(SYN | ACK | ECE)
    peer.send(ACK)
    wire.handler.take()
    wire.mark()
    return wire, peer


# -- negotiation (RFC 3168 §6.1.1) -----------------------------------------------------------------------------

@pytest.mark.parametrize("ecn, answer", [("off", SYN | ACK), ("passive", SYN | ACK | ECE), ("on", SYN | ACK | ECE)])
def test_asked(make, ecn, answer):
    wire = make(ecn=ecn)
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    peer.send(SYN | ECE | CWR)
    assert ecn_of(peer.expect(answer)) == 0


@pytest.mark.parametrize("flags", [0, ECE, CWR])
def test_not_asked(make, flags):
    """Both flags ask, and nothing else does."""
    wire = make(ecn="on")
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    peer.send(SYN | flags)
    peer.expect(SYN | ACK)


@pytest.mark.parametrize("answer, capable", [(ECE, True), (0, False), (ECE | CWR, False), (CWR, False)])
def test_asking(make, answer, capable):
    """§6.1.1: ECE alone in the SYN-ACK agrees. A peer that reflects both flags does not know what they mean."""
    wire = make(ecn="on")
    peer = Peer(wire)
    conn = wire.engine.tcp_connect(peer.remote, peer.port, source_port=80)
    wire.handler.conns[peer.port] = conn
    wire.run()
    assert ecn_of(peer.expect(SYN | ECE | CWR, ack=0)) == 0
    peer.send(SYN | ACK | answer, options=opt_mss(MSS))
    peer.expect(ACK)
    peer.write(b"x")
    assert ecn_of(peer.expect(ACK, data=b"x")) == (ECT_0 if capable else 0)


def test_passive_does_not_ask(make):
    peer = Peer(make())
    peer.called()


def test_falls_back(make):
    """§6.1.1.1: a SYN that got no answer is sent again without ECN, and the answer to that counts."""
    wire = make(ecn="on")
    peer = Peer(wire)
    conn = wire.engine.tcp_connect(peer.remote, peer.port, source_port=80)
    wire.handler.conns[peer.port] = conn
    wire.run()
    first = peer.expect(SYN | ECE | CWR, ack=0)
    peer.expect(SYN, ack=0, seq=first.seq, after=1.0)
    peer.send(SYN | ACK | ECE, options=opt_mss(MSS))
    peer.expect(ACK)
    peer.write(b"x")
    assert ecn_of(peer.expect(ACK, data=b"x")) == 0


# -- the sender (§6.1.2, §6.1.4, §6.1.5) -------------------------------------------------------------------------

def test_only_new_data_is_capable(make):
    wire, peer = connected(make)
    start = peer.rcv
    peer.write(b"a" * MSS)
    assert ecn_of(peer.expect(ACK, data=b"a" * MSS)) == ECT_0
    again = None
    while again is None or again.seq != start:
        wire.advance_to_output()
        again = wire.sent.popleft()
    assert ecn_of(again) == 0                         # a retransmission
    peer.send(ACK)
    peer.send(ACK, data=b"b")
    assert ecn_of(peer.expect(ACK)) == 0              # a pure ACK


def test_one_reduction_per_window(make):
    """ECE halves the window once, CWR goes with the next new data, and the next ECE counts a window later."""
    wire, peer = connected(make)
    start = peer.rcv
    peer.write(b"d" * (40 * MSS))
    for _ in range(10):
        assert not peer.expect(ACK, size=MSS).flags & CWR
    peer.send(ACK | ECE, ack=start + MSS)
    assert wire.row["ssthresh"] == wire.row["cwnd"] == 5 * MSS
    peer.expect_nothing()                             # nine are in flight
    peer.send(ACK | ECE, ack=start + 6 * MSS)
    assert wire.row["ssthresh"] == 5 * MSS
    first = wire.sent.popleft()
    assert first.flags & CWR
    assert ecn_of(first) == ECT_0
    assert not any(s.flags & CWR for s in wire.sent)
    wire.sent.clear()
    peer.send(ACK, ack=start + 10 * MSS)
    before = int(wire.row["cwnd"])
    wire.sent.clear()
    peer.send(ACK | ECE, ack=start + 11 * MSS)
    assert wire.row["cwnd"] < before
    wire.sent.clear()
    assert wire.counted()["tcp_ecn_reductions"] == 2


def test_echo_without_negotiation(make):
    wire = make()
    peer = Peer(wire)
    peer.connect(opt_mss(MSS))
    peer.write(b"d" * (10 * MSS))
    start = int(wire.row["snd_una"])
    wire.sent.clear()
    peer.send(ACK | ECE, ack=start + MSS)
    assert wire.row["ssthresh"] == 0x7FFFFFFF
    wire.sent.clear()


# -- the receiver (§6.1.3) ---------------------------------------------------------------------------------------

def test_echo_until_cwr(make):
    """A mark is echoed at once and on every ACK, until the peer says CWR."""
    wire, peer = connected(make, delayed_ack=0.04)
    for _ in range(20):                               # beyond the quick ACKs, if there are any
        peer.send(ACK, data=b"x" * MSS)
    wire.advance(0.05)
    wire.sent.clear()
    wire.mark()
    wire.feed(marked(peer.packet(ACK, data=b"y" * MSS)))
    peer.expect(ACK | ECE)
    peer.send(ACK, data=b"z" * MSS)
    peer.send(ACK, data=b"z" * MSS)
    peer.expect(ACK | ECE)
    peer.write(b"answer")
    peer.expect(ACK | ECE, data=b"answer")
    peer.send(ACK | CWR, data=b"w" * MSS)
    peer.send(ACK, data=b"w" * MSS)
    peer.expect(ACK)
    peer.expect_nothing(0.05)
    assert wire.counted()["tcp_ecn_ce"] == 1


def test_cwr_and_a_mark_in_one_segment(make):
    wire, peer = connected(make)
    wire.feed(marked(peer.packet(ACK, data=b"x")))
    peer.expect(ACK | ECE)
    wire.feed(marked(peer.packet(ACK | CWR, data=b"x")))
    peer.expect(ACK | ECE)


@pytest.mark.parametrize("field", [0, 1, ECT_0])
def test_other_fields_are_no_marks(make, field):
    wire, peer = connected(make)
    wire.feed(marked(peer.packet(ACK, data=b"x"), field))
    peer.expect(ACK)


def test_marks_of_what_is_not_acceptable_do_not_count(make):
    """§6.1.5: anybody could send those."""
    wire, peer = connected(make)
    wire.feed(marked(peer.packet(ACK, seq=peer.nxt + 200000, data=b"x")))
    peer.expect(ACK)
    assert "tcp_ecn_ce" not in wire.counted()


# -- DCTCP (RFC 8257 §3.2) ---------------------------------------------------------------------------------------

def dctcp(make):
    wire = make(congestion="dctcp", delayed_ack=0.04)
    peer = Peer(wire)
    wire.engine.tcp_listen(80)
    peer.send(SYN | ECE | CWR, options=opt_mss(MSS))
    peer.expect(SYN | ACK | ECE)
    peer.send(ACK)
    wire.handler.take()
    return wire, peer


def test_dctcp_asks(make):
    wire = make(congestion="dctcp")
    peer = Peer(wire)
    wire.engine.tcp_connect(peer.remote, peer.port, source_port=80)
    wire.run()
    peer.expect(SYN | ECE | CWR, ack=0)


def test_dctcp_echoes_the_state(make):
    """When the state changes, what came before is acknowledged with the old one; CWR does not matter."""
    wire, peer = dctcp(make)
    peer.send(ACK, data=b"a" * MSS)
    peer.expect_nothing()
    before = peer.nxt
    wire.feed(marked(peer.packet(ACK | CWR, data=b"b" * MSS)))
    peer.expect(ACK, ack=before)
    peer.expect(ACK | ECE, ack=peer.nxt, after=0.04)
    wire.feed(marked(peer.packet(ACK, data=b"c" * MSS)))
    wire.feed(marked(peer.packet(ACK | CWR, data=b"c" * MSS)))
    peer.expect(ACK | ECE)
    peer.send(ACK, data=b"d" * MSS)
    peer.send(ACK, data=b"d" * MSS)
    peer.expect(ACK)
