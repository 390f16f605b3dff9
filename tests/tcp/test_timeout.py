"""Timeouts: retransmission (RFC 6298), SYN, user timeout, keepalive, orphans (RFC 9293 §3.8, §3.10.8)."""
import pytest

from iip import Reason
from tests.harness.packets import ACK, FIN, PSH, RST, SYN, opt_mss, opt_timestamps
from tests.harness.states import ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, LAST_ACK, SYN_RCVD, SYN_SENT, TIME_WAIT, enter

SECOND = 1e9


def estimate(samples, rto_min=0.2):
    """RFC 6298 §2.2, §2.3, with the lower bound on the variance term."""
    srtt = rttvar = None
    for r in samples:
        if srtt is None:
            srtt, rttvar = r, r / 2
        else:
            rttvar = 0.75 * rttvar + 0.25 * abs(srtt - r)
            srtt = 0.875 * srtt + 0.125 * r
    return srtt, rttvar, srtt + max(rto_min, 4 * rttvar)


# -- opening ---------------------------------------------------------------------------------------------------

def test_syn(make):
    """Doubled each time, then given up."""
    wire = make(syn_retries=4, rto_initial=1.0)
    peer = enter(wire, SYN_SENT)
    first = peer.rcv - 1
    wire.mark()
    for after in (1, 2, 4, 8):
        peer.expect(SYN, seq=first, ack=0, after=after)
    peer.expect_nothing(15.9)
    assert wire.handler.take() == []
    peer.expect_nothing(0.2)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]
    assert wire.engine.n_connections == 0
    wire.counters_are(tcp_rto_expired=5, tcp_timed_out=1, tcp_closed=1, tcp_out_segments=4)


def test_syn_without_retries(make):
    wire = make(syn_retries=0)
    peer = enter(wire, SYN_SENT)
    peer.expect_nothing(1.1)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]


def test_syn_ack(make):
    wire = make(synack_retries=3, rto_initial=0.5)
    peer = enter(wire, SYN_RCVD)
    first = peer.rcv - 1
    for after in (0.5, 1, 2):
        peer.expect(SYN | ACK, seq=first, after=after)
    peer.expect_nothing(3.9)
    assert wire.engine.n_connections == 1
    peer.expect_nothing(100)                          # it ends in silence
    assert wire.handler.take() == []
    assert wire.engine.n_connections == 0


def test_syn_ack_then_the_handshake_completes(wire):
    """After a retransmission the handshake gives no sample (Karn): the RTO stays backed off."""
    peer = enter(wire, SYN_RCVD)
    peer.expect(SYN | ACK, seq=peer.rcv - 1, after=1)
    wire.advance(0.1)
    peer.send(ACK)
    assert wire.state == ESTABLISHED
    assert wire.row["srtt"] == 0
    assert wire.row["rto"] >= SECOND


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_the_window_after_lost_syn_acks(wire, lost):
    """RFC 5681 §3.1, RFC 6928 §2: one segment after more than one lost SYN."""
    peer = enter(wire, SYN_RCVD)
    for i in range(lost):
        peer.expect(SYN | ACK, seq=peer.rcv - 1, after=2 ** i)
    peer.send(ACK)
    row = wire.row
    assert row["cwnd"] == row["mss"] * (1 if lost > 1 else 10)


def test_rto_max(make):
    wire = make(rto_initial=1, rto_max=3, syn_retries=5)
    peer = enter(wire, SYN_SENT)
    first = peer.rcv - 1
    for after in (1, 2, 3, 3, 3):
        peer.expect(SYN, seq=first, ack=0, after=after)


def test_handshake_gives_the_first_sample(wire):
    peer = enter(wire, SYN_SENT)
    wire.advance(0.3)
    peer.answer()
    srtt, rttvar, rto = estimate([0.3])
    row = wire.row
    assert row["srtt"] == pytest.approx(srtt * SECOND, rel=1e-3)
    assert row["rttvar"] == pytest.approx(rttvar * SECOND, rel=1e-3)
    assert row["rto"] == pytest.approx(rto * SECOND, rel=1e-3)


# -- data ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("samples", [[0.1, 0.1, 0.1], [0.1, 0.25, 0.05, 0.3], [0.001, 0.15, 0.2], [0.9, 0.01]],
                         ids=["steady", "varying", "rising", "falling"])
def test_estimate(wire, samples):
    peer = enter(wire, SYN_SENT)
    wire.advance(samples[0])
    peer.answer()
    for rtt in samples[1:]:
        peer.write(b"x")
        peer.expect(ACK, data=b"x")
        wire.advance(rtt)
        peer.send(ACK)
    srtt, rttvar, rto = estimate(samples)
    row = wire.row
    assert row["srtt"] == pytest.approx(srtt * SECOND, rel=1e-3)
    assert row["rttvar"] == pytest.approx(rttvar * SECOND, rel=1e-3)
    assert row["rto"] == pytest.approx(rto * SECOND, rel=1e-3)


def established(wire, rtt=0.1, options=b""):
    peer = enter(wire, SYN_SENT)
    wire.advance(rtt)
    peer.ts = b"\x08\x0a" in options
    peer.answer(options)
    wire.handler.take()
    wire.mark()
    return peer


def test_backoff_and_giving_up(make):
    """§5.5: doubled for every retransmission; after `retries` the application is told, and nobody else."""
    wire = make(retries=4, rto_max=60)
    peer = established(wire)
    rto = 0.1 + 0.2
    peer.write(b"x")
    peer.expect(ACK, data=b"x")
    for i in range(4):
        peer.expect(ACK, seq=peer.rcv - 1, data=b"x", after=rto * 2**i)
    peer.expect_nothing(rto * 16 - 0.01)
    assert wire.state == ESTABLISHED
    peer.expect_nothing(100)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]
    wire.counters_are(tcp_out_data=1, tcp_retransmits=4, tcp_rto_expired=4, tcp_timed_out=1, tcp_closed=1,
                      tcp_out_segments=5)


def test_ack_restarts_the_timer(wire):
    """§5.3: an ACK of new data restarts it for what is left."""
    peer = established(wire)
    peer.conn.nodelay = True
    peer.write(b"a")
    peer.expect(ACK, data=b"a")
    wire.advance(0.2)
    peer.write(b"b")
    peer.expect(ACK, data=b"b")
    peer.send(ACK, ack=peer.rcv - 1)
    rto = wire.row["rto"] / SECOND
    peer.expect(ACK, seq=peer.rcv - 1, data=b"b", after=rto)


def test_new_data_does_not_restart_the_timer(wire):
    """§5.1: if it runs, it runs."""
    peer = established(wire)
    peer.conn.nodelay = True
    peer.write(b"a")
    peer.expect(ACK, data=b"a")
    wire.advance(0.2)
    peer.write(b"b")
    peer.expect(ACK, data=b"b")
    peer.expect(ACK, seq=peer.rcv - 2, data=b"a", after=0.1)
    peer.expect(ACK, seq=peer.rcv - 1, data=b"b")      # the window of one full segment holds both


def test_timer_stops_when_all_is_acknowledged(wire):
    """§5.2."""
    peer = established(wire)
    peer.write(b"a")
    peer.expect(ACK, data=b"a")
    peer.send(ACK)
    peer.expect_nothing(1000)


def test_karn_without_timestamps(wire):
    """No sample from what was retransmitted; the backed-off RTO stays until there is one (§5)."""
    peer = established(wire)
    before = wire.row["srtt"]
    peer.write(b"a")
    peer.expect(ACK, data=b"a")
    peer.expect(ACK, seq=peer.rcv - 1, data=b"a", after=0.3)
    wire.advance(0.01)
    peer.send(ACK)
    assert wire.row["srtt"] == before
    assert wire.row["rto"] == pytest.approx(0.6 * SECOND, rel=1e-2)
    peer.write(b"b")
    peer.expect(ACK, data=b"b")
    wire.advance(0.1)
    peer.send(ACK)
    assert wire.row["rto"] < 0.4 * SECOND


def test_karn_what_waited_behind_a_retransmission(wire):
    """The second segment was sent once, but its ACK waited for the first: no sample."""
    peer = established(wire, options=opt_mss(1000))
    before = wire.row["srtt"]
    peer.write(b"a" * 2000)
    peer.expect(ACK, size=1000)
    peer.expect(ACK, size=1000)
    peer.expect(ACK, seq=peer.rcv - 2000, size=1000, after=0.3)
    wire.advance(0.1)
    peer.send(ACK)
    assert wire.row["srtt"] == before
    assert wire.row["rto"] == pytest.approx(0.6 * SECOND, rel=1e-2)


def test_timestamps_measure_fast_retransmissions(wire):
    """RFC 7323 §4: the echoed timestamp says which transmission arrived."""
    peer = established(wire, options=opt_mss(1000) + opt_timestamps(1, 0))
    peer.write(b"a" * 988 * 4)
    for _ in range(4):
        peer.expect(ACK, size=988)
    wire.advance(0.05)
    for _ in range(3):
        peer.send(ACK, ack=peer.rcv - 4 * 988)
    peer.expect(ACK, seq=peer.rcv - 4 * 988, size=988)
    wire.advance(0.05)
    peer.send(ACK)
    srtt, _, rto = estimate([0.1, 0.05])
    assert wire.row["srtt"] == pytest.approx(srtt * SECOND, abs=2e6)
    assert wire.row["rto"] == pytest.approx(rto * SECOND, abs=5e6)


@pytest.mark.parametrize("latest", [True, False])
def test_timestamps_after_a_timeout(wire, latest):
    """The echo of the latest transmission measures it. That of an earlier one, whose ACK was lost, would measure our
    own waiting: no sample, and the RTO is what it was."""
    peer = established(wire, options=opt_timestamps(1, 0))
    before = wire.row["srtt"], wire.row["rto"]
    peer.write(b"a")
    first = peer.expect(ACK, data=b"a").options.timestamps[0]
    second = peer.expect(ACK, seq=peer.rcv - 1, data=b"a", after=0.3).options.timestamps[0]
    wire.advance(0.05)
    peer.send(ACK, tsecr=second if latest else first)
    if latest:
        srtt, _, rto = estimate([0.1, 0.05])
        assert wire.row["srtt"] == pytest.approx(srtt * SECOND, abs=2e6)
        assert wire.row["rto"] == pytest.approx(rto * SECOND, abs=5e6)
    else:
        assert (wire.row["srtt"], wire.row["rto"]) == before


@pytest.mark.parametrize("state", [FIN_WAIT_1, LAST_ACK], ids=lambda s: s.name)
def test_fin(make, state):
    wire = make(retries=3)
    peer = enter(wire, state)
    rto = wire.row["rto"] / SECOND
    for i in range(3):
        peer.expect(FIN | ACK, seq=peer.rcv - 1, after=rto * 2**i)
    peer.expect_nothing(rto * 8 - 0.01)
    assert wire.handler.take() == []
    peer.expect_nothing(0.02)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]
    peer.send(ACK)
    peer.expect(RST, seq=peer.rcv)                    # now it is nobody's


def test_user_timeout(make):
    """§3.10.8: given up after the time, whatever the number of retransmissions."""
    wire = make(user_timeout=5.0)
    peer = established(wire)
    peer.write(b"x")
    peer.expect(ACK, data=b"x")
    wire.advance(4.99)
    assert all(s.flags & ~PSH == ACK for s in wire.sent)
    wire.sent.clear()
    assert wire.handler.take() == []
    peer.expect_nothing(0.02)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]
    assert wire.counted()["tcp_user_timeout"] == 1


def test_user_timeout_counts_from_the_first_transmission(make):
    """Of the oldest segment that is not acknowledged, however often it was sent again meanwhile."""
    wire = make(user_timeout=7.0)
    peer = established(wire, options=opt_mss(1000))
    peer.write(b"x" * 3000)
    for _ in range(3):
        peer.expect(ACK, size=1000)
    first = peer.rcv - 3000
    wire.advance(1.5)
    wire.sent.clear()             # the first one again
    peer.send(ACK, ack=first + 1000)
    assert [s.seq - first for s in wire.sent] == [1000, 2000]
    wire.advance(2.5)
    wire.sent.clear()
    peer.send(ACK, ack=first + 2000)
    wire.advance(2.9)
    assert wire.handler.take() == [("acked", 1000), ("acked", 1000)]
    wire.sent.clear()
    wire.advance(0.2)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]
    wire.sent.clear()


def test_user_timeout_counts_from_progress(make):
    wire = make(user_timeout=5.0)
    peer = established(wire, options=opt_mss(1000))
    peer.write(b"x" * 2000)
    peer.expect(ACK, size=1000)
    peer.expect(ACK, size=1000)
    wire.advance(4)
    wire.sent.clear()
    peer.send(ACK, ack=peer.rcv)
    wire.sent.clear()
    peer.write(b"y")
    peer.expect(ACK, data=b"y")
    wire.advance(4)
    assert wire.handler.take() == [("acked", 2000)]
    wire.sent.clear()
    wire.advance(1.1)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]
    wire.sent.clear()


# -- keepalive -------------------------------------------------------------------------------------------------

def test_keepalive(make):
    """§3.8.4: probes below the window that make the peer answer; then given up."""
    wire = make(keepalive=10, keepalive_interval=5, keepalive_probes=3)
    peer = enter(wire, ESTABLISHED)
    peer.expect(ACK, seq=peer.rcv - 1, after=10)
    peer.expect(ACK, seq=peer.rcv - 1, after=5)
    peer.expect(ACK, seq=peer.rcv - 1, after=5)
    peer.expect(RST | ACK, after=5)
    peer.expect_nothing(100)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]
    wire.counters_are(tcp_keepalives=3, tcp_timed_out=1, tcp_closed=1, tcp_rst_out=1, tcp_out_segments=4)


def test_keepalive_answered(make):
    wire = make(keepalive=10, keepalive_interval=5, keepalive_probes=2)
    peer = enter(wire, ESTABLISHED)
    for _ in range(5):
        peer.expect(ACK, seq=peer.rcv - 1, after=10)
        peer.send(ACK)
    assert wire.state == ESTABLISHED


def test_keepalive_answered_late(make):
    wire = make(keepalive=10, keepalive_interval=5, keepalive_probes=3)
    peer = enter(wire, ESTABLISHED)
    for _ in range(3):
        peer.expect(ACK, seq=peer.rcv - 1, after=10)
        peer.expect(ACK, seq=peer.rcv - 1, after=5)
        peer.send(ACK)
    assert wire.state == ESTABLISHED


def test_keepalive_traffic_postpones_it(make):
    wire = make(keepalive=10)
    peer = enter(wire, ESTABLISHED)
    wire.advance(6)
    peer.send(ACK, data=b"x")
    peer.expect(ACK)
    peer.expect(ACK, seq=peer.rcv - 1, after=10)


def test_no_keepalive_by_default(wire):
    peer = enter(wire, ESTABLISHED)
    peer.expect_nothing(100_000)
    assert wire.state == ESTABLISHED


# -- FIN-WAIT-2 ------------------------------------------------------------------------------------------------

def test_orphan(make):
    """Nobody waits for the peer's FIN: not for ever."""
    wire = make(fin_wait2=20)
    peer = enter(wire, ESTABLISHED)
    peer.do("close")
    peer.expect(FIN | ACK)
    peer.send(ACK)
    peer.expect_nothing(19.9)
    assert wire.state == FIN_WAIT_2
    peer.expect_nothing(0.2)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]
    assert wire.engine.n_connections == 0
    peer.send(FIN | ACK)
    peer.expect(RST, seq=peer.rcv)


def test_shut_down_first_then_closed(make):
    wire = make(fin_wait2=20)
    peer = enter(wire, FIN_WAIT_2)
    peer.expect_nothing(1000)
    peer.do("close")
    peer.expect_nothing(19.9)
    assert wire.state == FIN_WAIT_2
    peer.expect_nothing(0.2)
    assert wire.engine.n_connections == 0


def test_orphan_whose_peer_closes(make):
    wire = make(fin_wait2=20, time_wait=60)
    peer = enter(wire, ESTABLISHED)
    peer.do("close")
    peer.expect(FIN | ACK)
    peer.send(ACK)
    wire.advance(19)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    assert wire.state == TIME_WAIT
    peer.expect_nothing(59.9)
    assert wire.state == TIME_WAIT
    peer.expect_nothing(0.2)
    assert wire.engine.n_connections == 0
