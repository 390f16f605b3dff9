"""Segments joined before the engine looks at them (Config.gro), and those that must not be."""
import pytest

from tests.harness.packets import ACK, FIN, PSH, URG, opt_timestamps
from tests.harness.peer import Peer
from tests.tcp.test_ecn import marked


@pytest.fixture
def device():
    return "tunnel"


@pytest.fixture
def gro(make):
    return make(gro=True)


def connected(wire, port=40000, ts=False):
    peer = Peer(wire, port=port)
    peer.connect(opt_timestamps(5000, 0) if ts else b"")
    wire.handler.take()
    wire.mark()
    return peer


def payload(wire):
    return b"".join(e[1] for e in wire.handler.take() if e[0] == "payload")


def test_a_burst_is_one_packet(gro):
    peer = connected(gro)
    gro.feed(*(peer.packet(ACK, data=bytes([i]) * 1000) for i in range(10)))
    assert payload(gro) == b"".join(bytes([i]) * 1000 for i in range(10))
    peer.expect(ACK, ack=peer.nxt)
    gro.counters_are(tcp_coalesced=9, tcp_in_order=1, tcp_out_segments=1)


def test_a_shorter_one_is_the_last(gro):
    peer = connected(gro)
    gro.feed(*(peer.packet(ACK, data=b"x" * n) for n in (1000, 1000, 10, 1000, 1000)))
    assert payload(gro) == b"x" * 4010
    peer.expect(ACK, ack=peer.nxt)
    gro.counters_are(tcp_coalesced=3, tcp_in_order=2, tcp_out_segments=1)


def test_push_is_the_last(gro):
    peer = connected(gro)
    gro.feed(*(peer.packet(ACK | push, data=b"x" * 100) for push in (0, 0, PSH, 0, 0)))
    assert payload(gro) == b"x" * 500
    peer.expect(ACK, ack=peer.nxt)
    gro.counters_are(tcp_coalesced=3, tcp_in_order=2, tcp_out_segments=1)


def test_flows_do_not_mix(gro):
    peers = [connected(gro, 40000 + i) for i in range(3)]
    gro.mark()
    gro.feed(*(p.packet(ACK, data=bytes([i]) * 100) for _ in range(4) for i, p in enumerate(peers)))
    assert sorted(e[1] for e in gro.handler.take()) == sorted(bytes([i]) * 100 for i in range(3) for _ in range(4))
    assert gro.counted()["tcp_coalesced"] == 9
    assert len(gro.sent) == 3
    gro.sent.clear()


def test_more_flows_than_fit(gro):
    peers = [connected(gro, 40000 + i) for i in range(12)]
    gro.feed(*(p.packet(ACK, data=bytes([i]) * 100) for _ in range(3) for i, p in enumerate(peers)))
    got = gro.handler.take()
    assert len(got) == 36 and {e[1][0] for e in got} == set(range(12))
    gro.sent.clear()


@pytest.mark.parametrize("second", [
    {"seq": 1100}, {"wnd": 1000}, {"flags": ACK | FIN}, {"flags": ACK | URG}, {"bad_checksum": True}, {"data": b""},
    {"data": b"y" * 101}, {"options": opt_timestamps(9, 9)}, {"ack": 1}])
def test_these_are_not_joined(gro, second):
    """Whatever differs: the second segment means what it would have meant without."""
    peer = connected(gro)
    start = peer.nxt
    first = peer.packet(ACK, data=b"x" * 100)
    fields = {"data": b"y" * 100, **second}
    if "seq" in fields:
        fields["seq"] = start + 50
    flags = fields.pop("flags", ACK)
    if "ack" in fields:
        fields["ack"] = peer.rcv - 1
    gro.feed(first, peer.packet(flags, **fields))
    assert gro.counted().get("tcp_coalesced") is None
    gro.handler.take()
    gro.sent.clear()


def test_what_is_marked_is_not_joined_with_what_is_not(gro):
    """RFC 3168 §5.3 says of fragments what holds here: a mark must not get lost, nor spread."""
    peer = connected(gro)
    gro.feed(peer.packet(ACK, data=b"x" * 100), marked(peer.packet(ACK, data=b"y" * 100)))
    assert gro.counted().get("tcp_coalesced") is None
    assert payload(gro) == b"x" * 100 + b"y" * 100
    gro.sent.clear()


def test_an_ack_between_ends_it(gro):
    peer = connected(gro)
    gro.feed(peer.packet(ACK, data=b"a" * 100), peer.packet(ACK, seq=peer.nxt), peer.packet(ACK, data=b"b" * 100))
    assert payload(gro) == b"a" * 100 + b"b" * 100
    assert gro.counted().get("tcp_coalesced") is None
    gro.sent.clear()


def test_timestamps_that_agree(gro):
    peer = connected(gro, ts=True)
    gro.feed(*(peer.packet(ACK, data=b"x" * 100) for _ in range(4)))
    assert payload(gro) == b"x" * 400
    assert gro.counted()["tcp_coalesced"] == 3
    gro.sent.clear()


def test_not_more_than_an_ip_packet(gro):
    peer = connected(gro)
    peer.conn.receive_buffer = 1 << 20
    gro.feed(*(peer.packet(ACK, data=b"x" * 1400) for _ in range(46)))
    assert payload(gro) == b"x" * 1400 * 46
    assert gro.counted()["tcp_coalesced"] >= 40
    gro.sent.clear()


def test_off_by_default(wire):
    peer = connected(wire)
    wire.feed(*(peer.packet(ACK, data=b"x" * 100) for _ in range(4)))
    assert payload(wire) == b"x" * 400
    assert wire.counted().get("tcp_coalesced") is None
    wire.sent.clear()
