"""A SYN arrives, in every state (RFC 9293 §3.10.7, RFC 5961 §4)."""
import pytest

from iip import Reason
from tests.harness.packets import ACK, FIN, RST, SYN
from tests.harness.peer import Peer
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

LIVE = tuple(s for s in SYNCHRONIZED if s != TIME_WAIT)


def test_closed(wire):
    """§3.10.7.1: RST with sequence number 0 that acknowledges what came."""
    peer = enter(wire, CLOSED)
    peer.send(SYN, data=b"abc")
    peer.expect(RST | ACK, seq=0)
    peer.expect_nothing(10)
    wire.counters_are(tcp_no_connection=1, tcp_rst_out=1, tcp_out_segments=1)


def test_closed_with_ack(wire):
    peer = enter(wire, CLOSED)
    peer.send(SYN | ACK, ack=77)
    peer.expect(RST, seq=77)
    wire.counters_are(tcp_no_connection=1, tcp_rst_out=1, tcp_out_segments=1)


def test_listen_with_ack(wire):
    """§3.10.7.2, second: an ACK cannot be for a connection that is not there yet."""
    peer = enter(wire, LISTEN)
    peer.send(SYN | ACK, ack=77)
    peer.expect(RST, seq=77)
    assert wire.engine.n_connections == 0
    wire.counters_are(tcp_no_connection=1, tcp_rst_out=1, tcp_out_segments=1)


@pytest.mark.parametrize("flags", [SYN | FIN, FIN, 0], ids=["syn-fin", "fin", "none"])
def test_listen_with_nonsense(wire, flags):
    peer = enter(wire, LISTEN)
    peer.send(flags)
    peer.expect_nothing(10)
    assert wire.engine.n_connections == 0
    wire.counters_are(tcp_bad_flags=1)


@pytest.mark.parametrize("off", [0, 2], ids=["of nothing sent", "of more than was sent"])
def test_syn_sent_with_a_wrong_ack(wire, off):
    """§3.10.7.3, first: RST, and the connection goes on."""
    peer = enter(wire, SYN_SENT)
    wrong = peer.rcv - 1 + off
    peer.send(SYN | ACK, seq=5, ack=wrong)
    peer.expect(RST, seq=wrong)
    assert wire.state == SYN_SENT
    peer.answer()
    assert wire.state == ESTABLISHED


def test_syn_sent_with_a_wrong_ack_and_rst(wire):
    peer = enter(wire, SYN_SENT)
    peer.send(SYN | ACK | RST, seq=5, ack=peer.rcv + 5)
    peer.expect_nothing()
    assert wire.state == SYN_SENT
    peer.do("abort")
    assert wire.handler.take() == [("closed", Reason.ABORTED)]


def test_syn_received_the_same_again(wire):
    """Our SYN-ACK was lost, the peer's SYN came twice: the SYN-ACK again."""
    peer = enter(wire, SYN_RCVD)
    wire.mark()
    peer.send(SYN, seq=peer.iss)
    peer.expect(SYN | ACK, seq=peer.rcv - 1)
    assert wire.state == SYN_RCVD
    wire.counters_are(tcp_old_duplicate=1, tcp_out_segments=1)
    peer.send(ACK)
    assert wire.state == ESTABLISHED


def test_syn_received_passive_in_window(wire):
    """§3.10.7.4, fourth: back to LISTEN. The next SYN opens."""
    peer = enter(wire, SYN_RCVD)
    wire.mark()
    peer.send(SYN, seq=peer.nxt + 100)
    peer.expect_nothing(10)
    assert wire.engine.n_connections == 0
    wire.counters_are(tcp_syn_in_window=1, tcp_closed=1)
    peer = Peer(wire, iss=peer.nxt + 100)
    peer.connect()


def test_syn_received_active_in_window(wire):
    peer = enter(wire, SYN_RCVD, "active")
    peer.send(SYN, seq=peer.nxt + 100)
    peer.expect(ACK)
    assert wire.state == SYN_RCVD
    peer.send(ACK)
    assert wire.state == ESTABLISHED


@pytest.mark.parametrize("state,role", matrix(*LIVE), ids=map(ids, matrix(*LIVE)))
@pytest.mark.parametrize("ack", [0, ACK], ids=["syn", "syn-ack"])
def test_synchronized_in_window(wire, state, role, ack):
    """RFC 5961 §4.2: a challenge ACK, whatever the sequence number, and nothing changes."""
    peer = enter(wire, state, role)
    peer.send(SYN | ack, seq=peer.nxt + 5)
    peer.expect(ACK)
    peer.expect_nothing()
    assert wire.state == state
    assert wire.handler.take() == []
    wire.counters_are(tcp_syn_in_window=1, tcp_challenge_ack=1, tcp_out_segments=1)


@pytest.mark.parametrize("state,role", matrix(*LIVE), ids=map(ids, matrix(*LIVE)))
@pytest.mark.parametrize("offset", [-1000, 100_000], ids=["old", "beyond"])
def test_synchronized_out_of_window(wire, state, role, offset):
    peer = enter(wire, state, role)
    peer.send(SYN, seq=peer.nxt + offset)
    peer.expect(ACK)
    peer.expect_nothing()
    assert wire.state == state
    wire.counters_are(tcp_out_of_window=1, tcp_out_segments=1)


def test_a_peer_that_restarted(wire):
    """RFC 9293 §3.5.1, figure 9: the challenge ACK makes it send RST, and its next SYN opens."""
    peer = enter(wire, ESTABLISHED)
    again = Peer(wire, iss=peer.nxt + 5)
    again.send(SYN)
    challenge = again.expect(ACK, seq=peer.rcv, ack=peer.nxt)
    again.send(RST, seq=challenge.ack)
    again.expect_nothing()
    assert wire.handler.take() == [("closed", Reason.RESET)]
    again.nxt = again.iss
    again.connect()


def test_challenges_are_limited(wire):
    """RFC 5961 §7."""
    peer = enter(wire, ESTABLISHED)
    for _ in range(3):
        peer.send(SYN, seq=peer.nxt + 5)
    peer.expect(ACK)
    peer.expect_nothing()
    wire.counters_are(tcp_syn_in_window=3, tcp_challenge_ack=1, tcp_challenge_limited=2, tcp_out_segments=1)
    wire.advance(0.1)
    peer.send(SYN, seq=peer.nxt + 5)
    peer.expect(ACK)
