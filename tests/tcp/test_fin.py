"""A FIN arrives, in every state (RFC 9293 §3.10.7.4, eighth); TIME-WAIT."""
import pytest

from iip import Reason
from tests.harness.packets import ACK, FIN, RST, SYN, opt_mss, opt_timestamps
from tests.harness.peer import Peer
from tests.harness.states import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    LISTEN,
    SYN_RCVD,
    SYN_SENT,
    TIME_WAIT,
    enter,
)

roles = pytest.mark.parametrize("role", ["passive", "active"])


def test_closed(wire):
    peer = enter(wire, CLOSED)
    peer.send(FIN)
    peer.expect(RST | ACK, seq=0)


def test_listen(wire):
    peer = enter(wire, LISTEN)
    peer.send(FIN | ACK, ack=3)
    peer.expect(RST, seq=3)


def test_syn_sent(wire):
    """§3.10.7.4, eighth: SEG.SEQ cannot be validated: dropped."""
    peer = enter(wire, SYN_SENT)
    wire.mark()
    peer.send(FIN | ACK, seq=5)
    peer.expect_nothing()
    assert wire.state == SYN_SENT
    wire.counters_are(tcp_bad_flags=1)


@roles
def test_syn_received(wire, role):
    peer = enter(wire, SYN_RCVD, role)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    assert wire.state == CLOSE_WAIT
    assert wire.handler.take() == [("accepted" if role == "passive" else "connected",), ("shutdown",)]


@roles
def test_established(wire, role):
    peer = enter(wire, ESTABLISHED, role)
    peer.send(FIN | ACK, data=b"bye")
    peer.expect(ACK)
    peer.expect_nothing(100)
    assert wire.state == CLOSE_WAIT
    assert wire.handler.take() == [("payload", b"bye"), ("shutdown",)]
    wire.counters_are(tcp_fin_in=1, tcp_in_segments=1, tcp_out_segments=1)


@roles
def test_fin_wait_1_with_ack_of_ours(wire, role):
    peer = enter(wire, FIN_WAIT_1, role)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    assert wire.state == TIME_WAIT
    assert wire.handler.take() == [("shutdown",), ("closed", Reason.NORMAL)]


@roles
def test_fin_wait_1_without(wire, role):
    peer = enter(wire, FIN_WAIT_1, role)
    peer.send(FIN | ACK, ack=peer.rcv - 1)
    peer.expect(ACK)
    assert wire.state == CLOSING
    assert wire.handler.take() == [("shutdown",)]


@roles
def test_simultaneous_close(wire, role):
    """RFC 9293 §3.6, figure 13."""
    peer = enter(wire, CLOSING, role)
    peer.send(ACK)
    peer.expect_nothing()
    assert wire.state == TIME_WAIT
    assert wire.handler.take() == [("closed", Reason.NORMAL)]
    peer.expect_nothing(60.1)
    assert wire.engine.n_connections == 0


@roles
def test_fin_wait_2(wire, role):
    peer = enter(wire, FIN_WAIT_2, role)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    assert wire.state == TIME_WAIT
    assert wire.handler.take() == [("shutdown",), ("closed", Reason.NORMAL)]


@roles
@pytest.mark.parametrize("state", [CLOSE_WAIT, CLOSING, LAST_ACK], ids=lambda s: s.name)
def test_again(wire, state, role):
    """A retransmitted FIN is out of the window: an ACK, and the state remains."""
    peer = enter(wire, state, role)
    una = int(wire.row["snd_una"])
    peer.send(FIN | ACK, seq=peer.nxt - 1, ack=una)
    peer.expect(ACK)
    peer.expect_nothing()
    assert wire.state == state
    assert wire.handler.take() == []


@roles
def test_last_ack_with_our_fin_acknowledged(wire, role):
    peer = enter(wire, LAST_ACK, role)
    peer.send(ACK)
    peer.expect_nothing(200)
    assert wire.engine.n_connections == 0
    assert wire.handler.take() == [("closed", Reason.NORMAL)]
    wire.counters_are(tcp_closed=1, tcp_in_segments=1)


def test_half_close_the_peer_first(wire):
    """CLOSE-WAIT: we still send."""
    peer = enter(wire, CLOSE_WAIT, options=opt_mss(1000))
    peer.write(b"x" * 3000)
    for _ in range(3):
        peer.expect(ACK, size=1000)
    peer.send(ACK)
    assert wire.handler.take() == [("acked", 3000)]
    peer.do("shutdown")
    peer.expect(FIN | ACK)
    assert wire.state == LAST_ACK


def test_half_close_we_first(wire):
    """FIN-WAIT-2: we still receive, as long as it takes."""
    peer = enter(wire, FIN_WAIT_2)
    for _ in range(3):
        peer.expect_nothing(1000)
        peer.send(ACK, data=b"slow")
        peer.expect(ACK)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    assert wire.handler.take() == [("payload", b"slow")] * 3 + [("shutdown",), ("closed", Reason.NORMAL)]


# -- TIME-WAIT -------------------------------------------------------------------------------------------------

def test_time_wait_ends(make):
    wire = make(time_wait=30)
    peer = enter(wire, TIME_WAIT)
    peer.expect_nothing(29.9)
    assert wire.state == TIME_WAIT
    peer.expect_nothing(0.2)
    assert wire.engine.n_connections == 0
    assert wire.handler.take() == []


def test_time_wait_fin_again_restarts_it(make):
    wire = make(time_wait=30)
    peer = enter(wire, TIME_WAIT)
    peer.expect_nothing(20)
    peer.send(FIN | ACK, seq=peer.nxt - 1)
    peer.expect(ACK)
    wire.counters_are(tcp_old_duplicate=1, tcp_out_segments=1)
    peer.expect_nothing(29.9)
    assert wire.state == TIME_WAIT
    peer.expect_nothing(0.2)
    assert wire.engine.n_connections == 0


def test_time_wait_syn_with_a_newer_sequence_number(wire):
    """RFC 9293 §3.6.1, RFC 6191: reused, and our sequence numbers go on above the old ones."""
    peer = enter(wire, TIME_WAIT)
    old = peer.rcv
    again = Peer(wire, iss=peer.nxt + 1000)
    answer = again.connect()
    assert 0 < (answer.seq - old) & 0xFFFFFFFF < 1 << 31
    assert wire.state == ESTABLISHED
    wire.counters_are(tcp_time_wait_reused=1, tcp_passive_opens=1, tcp_established=1, tcp_in_segments=2,
                      tcp_out_segments=1)


def test_time_wait_reuse_after_a_fast_connection(wire):
    """More was sent than the clock of RFC 6528 counts."""
    peer = Peer(wire)
    peer.connect()
    wire.advance(0.01)
    peer.conn.send(b"x" * 200_000)
    peer.conn.shutdown()
    wire.run()
    while wire.state != FIN_WAIT_2:
        assert wire.sent
        last = wire.sent[-1]
        wire.sent.clear()
        peer.rcv = last.seq + last.space
        peer.send(ACK)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    old = peer.rcv
    again = Peer(wire, iss=peer.nxt + 1000)
    answer = again.connect()
    assert 0 < (answer.seq - old) & 0xFFFFFFFF < 1 << 31


def test_time_wait_syn_with_an_old_sequence_number(wire):
    """An old duplicate: an ACK."""
    peer = enter(wire, TIME_WAIT)
    again = Peer(wire, iss=peer.nxt - 1000)
    again.send(SYN)
    again.expect(ACK, seq=peer.rcv, ack=peer.nxt)
    assert wire.state == TIME_WAIT


@pytest.mark.parametrize("newer", [True, False])
def test_time_wait_syn_decided_by_the_timestamp(wire, newer):
    """RFC 6191 §2: with timestamps, they decide whatever the sequence number."""
    peer = enter(wire, TIME_WAIT, options=opt_timestamps(6000, 0))
    assert peer.ts
    again = Peer(wire, iss=peer.nxt - 100_000 if newer else peer.nxt + 100_000)
    again.send(SYN, options=opt_timestamps(peer.ts_now() + (1 if newer else -1), 0))
    if newer:
        again.expect(SYN | ACK)
        assert wire.state == SYN_RCVD
    else:
        again.expect(ACK, seq=peer.rcv, ack=peer.nxt)
        assert wire.state == TIME_WAIT


def test_time_wait_syn_for_a_port_that_does_not_listen(wire):
    peer = enter(wire, TIME_WAIT)
    wire.engine.tcp_listen(80, on=False)
    again = Peer(wire, iss=peer.nxt + 1000)
    again.send(SYN)
    again.expect(ACK, seq=peer.rcv, ack=peer.nxt)
    assert wire.state == TIME_WAIT


def test_time_wait_active_open_from_the_same_port(wire):
    peer = enter(wire, TIME_WAIT)
    conn = wire.engine.tcp_connect(wire.remote, peer.port)
    assert conn.local[1] != 80
    conn.abort()


def test_time_wait_gives_way_when_the_table_is_full(make):
    """The oldest goes first."""
    wire = make(max_connections=2)
    for port in (1, 2):
        peer = Peer(wire, port=port)
        peer.connect()
        peer.do("shutdown")
        peer.expect(FIN | ACK)
        peer.send(FIN | ACK)
        peer.expect(ACK)
    assert wire.engine.n_connections == 2
    wire.mark()
    third = Peer(wire, port=3)
    third.connect()
    wire.counters_are(tcp_time_wait_recycled=1, tcp_passive_opens=1, tcp_established=1, tcp_in_segments=2,
                      tcp_out_segments=1)
    assert sorted(int(p) for p in wire.engine.connections()["remote_port"]) == [2, 3]


def test_time_wait_of_zero(make):
    wire = make(time_wait=0)
    enter_ = Peer(wire)
    enter_.connect()
    enter_.do("shutdown")
    enter_.expect(FIN | ACK)
    enter_.send(FIN | ACK)
    enter_.expect(ACK)
    wire.advance(0.01)
    assert wire.engine.n_connections == 0
