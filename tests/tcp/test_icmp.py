"""ICMP errors about our segments: path MTU discovery (RFC 1191, RFC 8201), hard and soft errors, and how they are
validated (RFC 5927)."""
import pytest

from iip import Reason
from tests.harness.packets import ACK, FIN, RST, SYN, opt_mss, opt_sack_permitted
from tests.harness.peer import Peer
from tests.harness.states import ESTABLISHED, SYN_RCVD, SYN_SENT, TIME_WAIT, enter

HARD = {4: [(3, 2), (3, 3), (3, 9), (3, 10), (3, 13)], 6: [(1, 1), (1, 4)]}
SOFT = {4: [(3, 0), (3, 1), (3, 5), (3, 11), (11, 0), (12, 0)], 6: [(1, 0), (1, 3), (3, 0), (4, 0)]}


def headers(version):
    return 40 if version == 4 else 60


def too_big(peer, quote, mtu, **kwargs):
    if peer.wire.version == 4:
        peer.icmp(3, 4, mtu, quote=quote, **kwargs)
    else:
        peer.icmp(2, 0, mtu, quote=quote, **kwargs)


def in_flight(wire, n=3, options=b""):
    """An established connection with `n` full segments in flight; the peer and the segments."""
    peer = enter(wire, ESTABLISHED, options=opt_mss(1440) + options)
    data = bytes(i % 251 for i in range(n * 1440))
    assert peer.conn.send(data) == len(data)
    wire.run()
    segments = list(wire.sent)
    wire.sent.clear()
    assert [len(s.data) for s in segments] == [1440] * n
    wire.mark()
    return peer, segments, data


@pytest.mark.parametrize("mtu", [1400, 1280])
def test_path_mtu(wire, version, mtu):
    """What does not fit is sent again at once, in pieces; later segments are smaller."""
    peer, segments, data = in_flight(wire)
    too_big(peer, segments[0], mtu)
    mss = mtu - headers(version)
    assert peer.conn.mss == mss
    assert wire.row["mtu"] == mtu
    got, at = {}, segments[0].seq
    for _ in range(20):
        for s in wire.sent:
            assert len(s.raw) <= mtu
            got[s.seq - at] = s.data
        wire.sent.clear()
        have = 0
        while have in got:
            have += len(got[have])
        if have == len(data):
            break
        peer.send(ACK, ack=at + have)
    assert b"".join(got[k] for k in sorted(got)) == data
    peer.send(ACK, ack=at + len(data))
    counted = wire.counted()
    assert (counted["icmp_in_error"], counted["tcp_pmtu_reduced"], counted["pmtu_reduced"]) == (1, 1, 1)


def test_path_mtu_is_remembered_for_the_destination(wire, version):
    peer, segments, _ = in_flight(wire)
    too_big(peer, segments[0], 1300)
    wire.sent.clear()
    later = Peer(wire, port=40001)
    later.connect(opt_mss(1460))
    assert later.conn.mss == 1300 - headers(version)


def test_path_mtu_never_grows(wire):
    peer, segments, _ = in_flight(wire)
    too_big(peer, segments[0], 9000)
    assert peer.conn.mss == 1440
    peer.expect_nothing()
    assert wire.row["mtu"] == 1500


def test_path_mtu_has_a_floor(wire, version):
    """An attacker must not make us send crumbs."""
    peer, segments, _ = in_flight(wire)
    too_big(peer, segments[0], 68)
    assert peer.conn.mss == (576 if version == 4 else 1280) - headers(version)
    wire.sent.clear()


@pytest.mark.parametrize("offset", [-1, 100_000])
def test_path_mtu_out_of_window(wire, offset):
    """RFC 5927 §4: the quoted sequence number must be in flight."""
    peer, segments, _ = in_flight(wire)
    quote = segments[0]
    at = 20 if wire.version == 4 else 40
    forged = bytearray(quote.raw)
    forged[at + 4:at + 8] = ((quote.seq + offset) & 0xFFFFFFFF).to_bytes(4, "big")
    quote.raw = bytes(forged)
    too_big(peer, quote, 1280)
    peer.expect_nothing()
    assert peer.conn.mss == 1440
    assert wire.row["mtu"] == 1500
    wire.counters_are(icmp_in_error=1, tcp_icmp_out_of_window=1)


def test_path_mtu_with_sack(wire):
    peer, segments, _ = in_flight(wire, options=opt_sack_permitted())
    too_big(peer, segments[0], 1300)
    assert wire.sent
    assert all(len(s.raw) <= 1300 for s in wire.sent)
    wire.sent.clear()


def test_error_without_a_connection(wire):
    peer, segments, _ = in_flight(wire)
    peer.send(RST)
    wire.mark()
    too_big(peer, segments[0], 1280)
    wire.counters_are(icmp_in_error=1, icmp_error_not_ours=1)


@pytest.mark.parametrize("index", range(5))
def test_hard_error_while_opening(wire, version, index):
    """RFC 1122 §4.2.3.9, RFC 5461: the open fails."""
    index %= len(HARD[version])
    peer = enter(wire, SYN_SENT)
    again = peer.expect(SYN, seq=peer.rcv - 1, ack=0, after=1)
    wire.mark()
    peer.icmp(*HARD[version][index], quote=again)
    peer.expect_nothing(100)
    assert wire.handler.take() == [("closed", Reason.UNREACHABLE)]
    assert wire.engine.n_connections == 0
    wire.counters_are(icmp_in_error=1, tcp_icmp_hard_error=1, tcp_closed=1)
    (error,) = wire.handler.icmp
    assert (error.type, error.code, error.destination_port) == (*HARD[version][index], peer.port)


def test_hard_error_for_a_half_open_connection(wire, version):
    peer = enter(wire, SYN_RCVD)
    answer = peer.expect(SYN | ACK, seq=peer.rcv - 1, after=1)
    wire.mark()
    peer.icmp(*HARD[version][0], quote=answer)
    assert wire.engine.n_connections == 0
    assert wire.handler.take() == []
    wire.counters_are(icmp_in_error=1, tcp_icmp_hard_error=1, tcp_closed=1)


def test_hard_error_of_an_established_connection_is_soft(wire, version):
    """RFC 5927 §5.2."""
    peer, segments, _ = in_flight(wire)
    for kind in HARD[version]:
        peer.icmp(*kind, quote=segments[1])
    peer.expect_nothing()
    assert wire.state == ESTABLISHED
    n = len(HARD[version])
    wire.counters_are(icmp_in_error=n, tcp_icmp_soft_error=n)


def test_soft_errors(wire, version):
    peer, segments, _ = in_flight(wire)
    for kind in SOFT[version]:
        peer.icmp(*kind, quote=segments[1])
    peer.expect_nothing()
    assert wire.state == ESTABLISHED
    n = len(SOFT[version])
    wire.counters_are(icmp_in_error=n, tcp_icmp_soft_error=n)


@pytest.mark.parametrize("n", range(3))
def test_soft_errors_end_an_attempt(wire, version, n):
    """RFC 5461 §4.1: who connects can try another address at once."""
    peer = enter(wire, SYN_SENT)
    again = peer.expect(SYN, seq=peer.rcv - 1, ack=0, after=1)
    peer.icmp(*SOFT[version][n % len(SOFT[version])], quote=again)
    peer.expect_nothing(10)
    assert wire.handler.take() == [("closed", Reason.UNREACHABLE)]


def test_soft_errors_of_a_half_open_connection(wire, version):
    peer = enter(wire, SYN_RCVD)
    answer = peer.expect(SYN | ACK, seq=peer.rcv - 1, after=1)
    for kind in SOFT[version]:
        peer.icmp(*kind, quote=answer)
    peer.expect_nothing()
    assert wire.state == SYN_RCVD
    peer.send(ACK)
    assert wire.state == ESTABLISHED


def test_time_wait(wire, version):
    peer = enter(wire, ESTABLISHED)
    peer.do("shutdown")
    fin = peer.expect(FIN | ACK)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    wire.mark()
    peer.icmp(*HARD[version][0], quote=fin)
    assert wire.state == TIME_WAIT
    wire.counters_are(icmp_in_error=1, icmp_error_not_ours=1)


def test_quote_cut_short(wire, version):
    """Less than eight bytes of our segment say nothing about the sequence number."""
    peer, segments, _ = in_flight(wire)
    kind = (3, 4) if version == 4 else (2, 0)
    peer.icmp(*kind, 1280, quote=segments[0], cut=20 + 7 if version == 4 else 40 + 7)
    assert peer.conn.mss == 1440
    wire.counters_are(icmp_malformed=1)


def test_quote_of_eight_bytes_is_enough(wire, version):
    peer, segments, _ = in_flight(wire)
    kind = (3, 4) if version == 4 else (2, 0)
    peer.icmp(*kind, 1280, quote=segments[0], cut=20 + 8 if version == 4 else 40 + 8)
    assert peer.conn.mss == 1280 - headers(version)
    wire.sent.clear()
