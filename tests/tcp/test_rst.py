"""An RST arrives, in every state (RFC 9293 §3.10.7, RFC 5961 §3, RFC 1337); and what RST we answer with."""
import pytest

from iip import Reason
from tests.harness.packets import ACK, FIN, RST, SYN
from tests.harness.states import (
    CLOSED,
    ESTABLISHED,
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
@pytest.mark.parametrize("flags", [RST, RST | ACK, RST | SYN, RST | FIN | ACK], ids=["rst", "ack", "syn", "fin-ack"])
def test_no_connection(wire, state, flags):
    """Never an RST for an RST."""
    peer = enter(wire, state)
    peer.send(flags, ack=9)
    peer.expect_nothing(10)
    wire.counters_are(tcp_no_connection=1)


@pytest.mark.parametrize("listening", [False, True], ids=["closed", "listen"])
@pytest.mark.parametrize("flags", [ACK, ACK | FIN, ACK | SYN], ids=["ack", "fin-ack", "syn-ack"])
def test_answer_to_a_stray_segment_with_ack(wire, listening, flags):
    """§3.10.7.1: <SEQ=SEG.ACK><CTL=RST>."""
    peer = enter(wire, LISTEN if listening else CLOSED)
    peer.send(flags, ack=123456, data=b"stray")
    peer.expect(RST, seq=123456)
    peer.expect_nothing(10)
    wire.counters_are(tcp_no_connection=1, tcp_rst_out=1, tcp_out_segments=1)


@pytest.mark.parametrize("flags", [0, FIN, SYN, SYN | FIN], ids=["none", "fin", "syn", "syn-fin"])
def test_answer_to_a_stray_segment_without_ack(wire, flags):
    """§3.10.7.1: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>."""
    peer = enter(wire, CLOSED)
    peer.send(flags, data=b"stray")
    peer.expect(RST | ACK, seq=0, ack=peer.iss + 5 + bool(flags & SYN) + bool(flags & FIN))
    wire.counters_are(tcp_no_connection=1, tcp_rst_out=1, tcp_out_segments=1)


def test_syn_sent_without_ack(wire):
    """§3.10.7.3, second: it may be anybody's."""
    peer = enter(wire, SYN_SENT)
    wire.mark()
    peer.send(RST, seq=0)
    peer.expect_nothing()
    assert wire.state == SYN_SENT
    wire.counters_are(tcp_rst_in=1)


@pytest.mark.parametrize("off", [-1, 1])
def test_syn_sent_with_a_wrong_ack(wire, off):
    peer = enter(wire, SYN_SENT)
    wire.mark()
    peer.send(RST | ACK, seq=0, ack=peer.rcv + off)
    peer.expect_nothing()
    assert wire.state == SYN_SENT
    wire.counters_are(tcp_bad_ack=1)


def test_syn_received_passive(wire):
    """Back to LISTEN, and the application hears nothing."""
    peer = enter(wire, SYN_RCVD)
    wire.mark()
    peer.send(RST)
    peer.expect_nothing(60)
    assert wire.engine.n_connections == 0
    assert wire.handler.take() == []
    wire.counters_are(tcp_reset_received=1, tcp_rst_in=1, tcp_closed=1)


def test_syn_received_active(wire):
    """A simultaneous open that is refused."""
    peer = enter(wire, SYN_RCVD, "active")
    peer.send(RST)
    peer.expect_nothing(60)
    assert wire.handler.take() == [("closed", Reason.REFUSED)]
    assert wire.engine.n_connections == 0


@live
@pytest.mark.parametrize("flags", [RST, RST | ACK], ids=["rst", "rst-ack"])
def test_exact(wire, state, role, flags):
    peer = enter(wire, state, role)
    peer.send(flags)
    peer.expect_nothing(200)
    assert wire.handler.take() == [("closed", Reason.RESET)]
    assert wire.engine.n_connections == 0
    wire.counters_are(tcp_reset_received=1, tcp_rst_in=1, tcp_closed=1)


@live
@pytest.mark.parametrize("offset", [1, 1000, 65000])
def test_in_window(wire, state, role, offset):
    """RFC 5961 §3.2, 2: a challenge ACK."""
    peer = enter(wire, state, role)
    if state not in (ESTABLISHED,) and offset == 65000:
        offset = 60000
    peer.send(RST, seq=peer.nxt + offset)
    peer.expect(ACK)
    peer.expect_nothing()
    assert wire.state == state
    assert wire.handler.take() == []
    wire.counters_are(tcp_rst_challenged=1, tcp_challenge_ack=1, tcp_out_segments=1)


@live
@pytest.mark.parametrize("offset", [-1, -70_000, 70_000, 1 << 31])
def test_out_of_window(wire, state, role, offset):
    """RFC 5961 §3.2, 1: silence."""
    peer = enter(wire, state, role)
    peer.send(RST, seq=peer.nxt + offset)
    peer.expect_nothing()
    assert wire.state == state
    wire.counters_are(tcp_out_of_window=1)


@pytest.mark.parametrize("role", ["passive", "active"])
@pytest.mark.parametrize("offset", [0, 5, -5])
def test_time_wait_ignores_it(wire, role, offset):
    """RFC 1337: no assassination."""
    peer = enter(wire, TIME_WAIT, role)
    peer.send(RST, seq=peer.nxt + offset)
    peer.expect_nothing()
    assert wire.state == TIME_WAIT
    wire.counters_are(tcp_rst_in=1)


def test_rst_after_payload_that_waits(wire):
    """What came in the same burst before the RST: the application learns of the reset, packets come back."""
    peer = enter(wire, ESTABLISHED)
    wire.feed(peer.packet(ACK, data=b"last words"), peer.packet(RST))
    peer.expect_nothing(10)
    assert wire.handler.take()[-1] == ("closed", Reason.RESET)


def test_rst_of_a_connection_with_data_queued(wire):
    peer = enter(wire, ESTABLISHED)
    peer.wnd = 0
    peer.send(ACK)
    peer.write(b"x" * 5000)
    peer.send(ACK, seq=peer.nxt + 10, data=b"hole")
    peer.expect(ACK)
    peer.send(RST)
    peer.expect_nothing(200)
    assert wire.handler.take() == [("closed", Reason.RESET)]
    assert wire.engine.pool.full
