"""The ACK field, in every state (RFC 9293 §3.10.7.4, fifth; RFC 5961 §5)."""
import pytest

from tests.harness.packets import ACK, FIN, RST, SYN
from tests.harness.states import (
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    LISTEN,
    SYN_RCVD,
    SYN_SENT,
    SYNCHRONIZED,
    TIME_WAIT,
    enter,
    ids,
    matrix,
)

LIVE = matrix(*(s for s in SYNCHRONIZED if s != TIME_WAIT))
live = pytest.mark.parametrize("state,role", LIVE, ids=map(ids, LIVE))


@pytest.mark.parametrize("state", [CLOSED, LISTEN], ids=["closed", "listen"])
def test_no_connection(wire, state):
    peer = enter(wire, state)
    peer.send(ACK, ack=4711)
    peer.expect(RST, seq=4711)
    wire.counters_are(tcp_no_connection=1, tcp_rst_out=1, tcp_out_segments=1)


def test_syn_sent_acceptable_but_no_syn(wire):
    """§3.10.7.3, fifth: neither SYN nor RST: dropped."""
    peer = enter(wire, SYN_SENT)
    wire.mark()
    peer.send(ACK)
    peer.expect_nothing()
    assert wire.state == SYN_SENT
    wire.counters_are(tcp_bad_flags=1)


def test_syn_sent_wrong(wire):
    peer = enter(wire, SYN_SENT)
    wire.mark()
    peer.send(ACK, ack=peer.rcv + 1)
    peer.expect(RST, seq=peer.rcv + 1)
    assert wire.state == SYN_SENT
    wire.counters_are(tcp_bad_ack=1, tcp_rst_out=1, tcp_out_segments=1)


@pytest.mark.parametrize("role", ["passive", "active"])
@pytest.mark.parametrize("offset", [-1, 1, 100_000])
def test_syn_received_wrong(wire, role, offset):
    """§3.10.7.4, fifth: <SEQ=SEG.ACK><CTL=RST>, and the connection goes on."""
    peer = enter(wire, SYN_RCVD, role)
    wire.mark()
    peer.send(ACK, ack=peer.rcv + offset)
    peer.expect(RST, seq=peer.rcv + offset)
    assert wire.state == SYN_RCVD
    wire.counters_are(tcp_bad_ack=1, tcp_rst_out=1, tcp_out_segments=1)
    peer.send(ACK)
    assert wire.state == ESTABLISHED


@pytest.mark.parametrize("role", ["passive", "active"])
def test_syn_received_out_of_window(wire, role):
    peer = enter(wire, SYN_RCVD, role)
    wire.mark()
    peer.send(ACK, seq=peer.nxt + 100_000)
    peer.expect(ACK)
    assert wire.state == SYN_RCVD
    wire.counters_are(tcp_out_of_window=1, tcp_out_segments=1)


@pytest.mark.parametrize("role", ["passive", "active"])
def test_syn_received_without_ack(wire, role):
    peer = enter(wire, SYN_RCVD, role)
    wire.mark()
    peer.send(0, data=b"no ack")
    peer.expect_nothing()
    assert wire.state == SYN_RCVD
    wire.counters_are(tcp_bad_flags=1)


@live
def test_of_something_not_sent(wire, state, role):
    """An ACK, and the segment is dropped, its text with it."""
    peer = enter(wire, state, role)
    peer.send(ACK, ack=peer.rcv + 1, seq=peer.nxt)
    peer.expect(ACK)
    peer.expect_nothing()
    assert wire.state == state
    wire.counters_are(tcp_bad_ack=1, tcp_challenge_ack=1, tcp_out_segments=1)


def test_of_something_not_sent_with_text(wire):
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK, ack=peer.rcv + 1, seq=peer.nxt, data=b"forged")
    peer.expect(ACK)
    assert wire.handler.take() == []


@live
def test_far_too_old(wire, state, role):
    """RFC 5961 §5.2: below SND.UNA - MAX.SND.WND: a challenge ACK."""
    peer = enter(wire, state, role)
    una = int(wire.row["snd_una"])
    peer.send(ACK, ack=una - 65536, seq=peer.nxt)
    peer.expect(ACK)
    peer.expect_nothing()
    assert wire.state == state
    wire.counters_are(tcp_bad_ack=1, tcp_challenge_ack=1, tcp_out_segments=1)


def test_old_but_its_text_is_new(wire):
    peer = enter(wire, ESTABLISHED)
    peer.write(b"x" * 100)
    peer.expect(ACK, data=b"x" * 100)
    peer.send(ACK)
    peer.send(ACK, ack=peer.rcv - 100, data=b"new")
    peer.expect(ACK)
    assert wire.handler.take() == [("acked", 100), ("payload", b"new")]


@live
def test_without_ack(wire, state, role):
    """§3.10.7.4, fifth: if the ACK bit is off, drop the segment."""
    peer = enter(wire, state, role)
    peer.send(0, seq=peer.nxt)
    peer.expect_nothing()
    assert wire.state == state
    wire.counters_are(tcp_bad_flags=1)


@live
def test_duplicate_of_nothing(wire, state, role):
    """A pure ACK that says nothing new is not answered."""
    peer = enter(wire, state, role)
    una = int(wire.row["snd_una"])
    peer.send(ACK, ack=una)
    peer.expect_nothing()
    assert wire.state == state
    counted = wire.counted()
    counted.pop("tcp_duplicate_acks", None)       # when our FIN is in flight
    assert counted in ({"tcp_in_acks": 1}, {"tcp_in_segments": 1})


@pytest.mark.parametrize("role", ["passive", "active"])
def test_of_our_fin(wire, role):
    """FIN-WAIT-1 to FIN-WAIT-2, CLOSING to TIME-WAIT, LAST-ACK to CLOSED."""
    peer = enter(wire, FIN_WAIT_1, role)
    peer.send(ACK)
    assert wire.state == FIN_WAIT_2
    peer.expect_nothing()


@pytest.mark.parametrize("role", ["passive", "active"])
def test_of_our_fin_closing(wire, role):
    peer = enter(wire, CLOSING, role)
    peer.send(ACK)
    assert wire.state == TIME_WAIT
    peer.expect_nothing()


@pytest.mark.parametrize("role", ["passive", "active"])
def test_of_our_fin_last_ack(wire, role):
    peer = enter(wire, LAST_ACK, role)
    peer.send(ACK)
    assert wire.engine.n_connections == 0
    peer.expect_nothing(100)


def test_time_wait_bare_ack(wire):
    """Two of us in TIME-WAIT must not answer each other for ever."""
    peer = enter(wire, TIME_WAIT)
    peer.send(ACK)
    peer.expect_nothing()
    wire.counters_are(tcp_old_duplicate=1)


def test_time_wait_out_of_window(wire):
    peer = enter(wire, TIME_WAIT)
    peer.send(ACK, seq=peer.nxt - 1)
    peer.expect(ACK)
    wire.counters_are(tcp_old_duplicate=1, tcp_out_segments=1)


def test_partial(wire):
    """An ACK in the middle of a segment."""
    peer = enter(wire, ESTABLISHED)
    peer.write(b"0123456789")
    peer.expect(ACK, data=b"0123456789")
    peer.send(ACK, ack=peer.rcv - 6)
    assert wire.handler.take() == [("acked", 4)]
    wire.advance_to_output()
    peer.expect(ACK, seq=peer.rcv - 6, data=b"456789")
    peer.send(ACK)
    assert wire.handler.take() == [("acked", 6)]


def test_urgent_data_is_ordinary_data(wire):
    """RFC 6093: the urgent pointer is not acted upon, the bytes stay in the stream."""
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK | 0x20, data=b"urgent", urg=3)
    peer.expect(ACK)
    peer.send(ACK, data=b" not")
    peer.expect(ACK)
    assert wire.handler.take() == [("payload", b"urgent"), ("payload", b" not")]


@pytest.mark.parametrize("bits", [0x40, 0x80, 0xC0], ids=["ece", "cwr", "both"])
def test_ecn_bits_are_ignored(wire, bits):
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK | bits, data=b"x")
    peer.expect(ACK)
    assert wire.handler.take() == [("payload", b"x")]


def test_syn_with_ecn_setup(make):
    """RFC 3168 §6.1.1: without ECN the flags mean nothing."""
    wire = make(ecn="off")
    wire.engine.tcp_listen(80)
    peer = enter(wire, LISTEN)
    peer.send(SYN | 0xC0)
    peer.expect(SYN | ACK)
    peer.send(ACK | FIN)
    peer.expect(ACK)
