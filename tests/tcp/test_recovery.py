"""Loss recovery and congestion control: RFC 5681, RFC 6582, RFC 6675, RFC 3042; RFC 2018 on both sides."""
import pytest

from iip.apps.bench import register_unyielding
from tests.harness.packets import ACK, FIN, opt_mss, opt_sack, opt_sack_permitted, opt_timestamps, opt_wscale
from tests.harness.peer import Peer
from tests.harness.states import ESTABLISHED, enter

MSS = 1000


@pytest.fixture
def wire(make):
    """An engine with the windows of RFC 5681."""
    return make(congestion="newreno")


def sender(wire, n=10, options=b"", rtt=0.0):
    """An established connection with `n` segments in flight for `rtt` seconds; the peer, and the first sequence number."""
    peer = Peer(wire)
    peer.connect(opt_mss(MSS) + options, rtt)
    wire.handler.take()
    wire.mark()
    start = peer.rcv
    peer.conn.send(b"".join(bytes([i]) * MSS for i in range(n)))
    wire.run()
    for i in range(min(n, 10)):
        peer.expect(ACK, data=bytes([i]) * MSS)
    peer.expect_nothing(rtt)
    return peer, start


def test_initial_window(wire):
    """RFC 6928: ten segments, and slow start doubles them."""
    peer, start = sender(wire, 40)
    for i in range(1, 6):
        peer.send(ACK, ack=start + i * MSS)
        for j in (8 + 2 * i, 9 + 2 * i):
            peer.expect(ACK, data=bytes([j]) * MSS)
        peer.expect_nothing()
    assert wire.row["cwnd"] == 15 * MSS


def test_slow_start_counts_bytes(wire):
    """RFC 3465: what was acknowledged counts, not how often."""
    peer, start = sender(wire, 40)
    for i in range(1, 5):
        peer.send(ACK, ack=start + MSS * i // 4)
    assert wire.row["cwnd"] == 11 * MSS
    wire.sent.clear()


def test_congestion_avoidance(wire):
    """RFC 5681 §3.1: a segment for a window."""
    peer, start = sender(wire, 30)
    for _ in range(3):
        peer.send(ACK, ack=start)
    wire.sent.clear()
    peer.send(ACK, ack=int(wire.row["snd_nxt"]))
    assert wire.row["cwnd"] == wire.row["ssthresh"] == 5 * MSS
    wire.sent.clear()
    una = int(wire.row["snd_una"])
    for i in range(1, 5):
        peer.send(ACK, ack=una + i * MSS)
        assert wire.row["cwnd"] == 5 * MSS
    peer.send(ACK, ack=una + 5 * MSS)
    assert wire.row["cwnd"] == 6 * MSS
    wire.sent.clear()


@pytest.mark.parametrize("dups", [1, 2])
def test_limited_transmit(wire, dups):
    """RFC 3042: each of the first two duplicates lets one new segment out."""
    peer, start = sender(wire, 20)
    for i in range(dups):
        peer.send(ACK, ack=start)
        peer.expect(ACK, data=bytes([10 + i]) * MSS)
        peer.expect_nothing()
    assert wire.row["cwnd"] == 10 * MSS
    peer.send(ACK, ack=start + MSS)
    wire.sent.clear()
    assert wire.counted().get("tcp_fast_retransmits") is None


def test_limited_transmit_with_sack(wire):
    peer, start = sender(wire, 20, opt_sack_permitted(), 0.1)
    for i in range(2):
        peer.send(ACK, ack=start, options=opt_sack((start + MSS, start + (2 + i) * MSS)))
        peer.expect(ACK, data=bytes([10 + i]) * MSS)
        peer.expect_nothing()


def test_fast_retransmit(wire):
    """RFC 5681 §3.2: the third duplicate sends the missing segment, half the window remains."""
    peer, start = sender(wire, 10)
    for _ in range(2):
        peer.send(ACK, ack=start)
        peer.expect_nothing()
    peer.send(ACK, ack=start)
    peer.expect(ACK, seq=start, data=bytes([0]) * MSS)
    peer.expect_nothing()
    row = wire.row
    assert row["ssthresh"] == 5 * MSS
    assert row["retransmits"] == 1
    peer.send(ACK)
    peer.expect_nothing()
    assert wire.row["cwnd"] == 5 * MSS
    assert wire.handler.take() == [("acked", 10 * MSS)]
    wire.counters_are(tcp_duplicate_acks=3, tcp_fast_retransmits=1, tcp_retransmits=1, tcp_out_data=10,
                      tcp_out_segments=11, tcp_in_acks=3, tcp_in_segments=1)


def test_not_a_duplicate(wire):
    """RFC 5681 §2: with data, with another window, or with FIN it is no duplicate."""
    peer, start = sender(wire, 10)
    for i in range(4):
        peer.send(ACK, ack=start, wnd=60000 + i)
        peer.send(ACK, ack=start, wnd=60000 + i, data=b"x")
        peer.expect(ACK)
    peer.expect_nothing()
    assert wire.counted().get("tcp_duplicate_acks") is None
    peer.send(ACK)


def test_newreno_partial_ack(wire):
    """RFC 6582 §3.2: a partial ACK sends the next hole at once; recovery ends at `recover`."""
    peer, start = sender(wire, 10)
    for _ in range(3):
        peer.send(ACK, ack=start)
    peer.expect(ACK, seq=start, data=bytes([0]) * MSS)
    peer.send(ACK, ack=start + 3 * MSS)
    peer.expect(ACK, seq=start + 3 * MSS, data=bytes([3]) * MSS)
    peer.expect_nothing()
    peer.send(ACK, ack=start + 7 * MSS)
    peer.expect(ACK, seq=start + 7 * MSS, data=bytes([7]) * MSS)
    peer.expect_nothing()
    peer.send(ACK, ack=start + 10 * MSS)
    peer.expect_nothing(10)
    assert wire.row["cwnd"] == 5 * MSS
    assert wire.counted()["tcp_fast_retransmits"] == 1


def test_newreno_sends_new_data_in_recovery(wire):
    """Duplicates beyond half a window let new segments out (inflation of RFC 5681 §3.2, 4)."""
    peer, start = sender(wire, 30)
    for _ in range(9):
        peer.send(ACK, ack=start)
    datas = [s.data[0] for s in wire.sent]
    wire.sent.clear()
    assert datas[:3] == [10, 11, 0]
    assert datas[3:] == [12, 13]  # 12 in flight, 9 of them gone, 5 allowed: 12 - 9 + 2
    peer.send(ACK, ack=int(wire.row["snd_nxt"]))
    wire.sent.clear()
    assert wire.row["cwnd"] == 5 * MSS


def test_duplicates_after_recovery_do_not_start_another(wire):
    """RFC 6582 §3.2, 1: not while the cumulative ACK is not above `recover`."""
    peer, start = sender(wire, 10)
    for _ in range(3):
        peer.send(ACK, ack=start)
    peer.expect(ACK, seq=start, data=bytes([0]) * MSS)
    peer.send(ACK)
    peer.write(b"z" * MSS)
    peer.expect(ACK, data=b"z" * MSS)
    for _ in range(3):
        peer.send(ACK, ack=start + 10 * MSS)
    assert wire.counted()["tcp_fast_retransmits"] == 1
    wire.sent.clear()
    peer.send(ACK)


def test_sack_holes(wire):
    """RFC 6675: exactly the holes are sent again."""
    peer, start = sender(wire, 10, opt_sack_permitted(), 0.1)
    block = (start + MSS, start + 2 * MSS)
    peer.send(ACK, ack=start, options=opt_sack(block))
    peer.send(ACK, ack=start, options=opt_sack((start + 3 * MSS, start + 4 * MSS), block))
    peer.expect_nothing()
    peer.send(ACK, ack=start, options=opt_sack((start + 5 * MSS, start + 10 * MSS), (start + 3 * MSS, start + 4 * MSS),
                                               block))
    for i in (0, 2, 4):
        peer.expect(ACK, seq=start + i * MSS, data=bytes([i]) * MSS)
    peer.expect_nothing()
    row = wire.row
    assert row["ssthresh"] == 5 * MSS
    peer.send(ACK)
    peer.expect_nothing(10)
    wire.counters_are(tcp_duplicate_acks=3, tcp_fast_retransmits=1, tcp_retransmits=3, tcp_out_data=10,
                      tcp_out_segments=13, tcp_in_segments=4)


def long_flight(make, n):
    """The peer of a connection with `n` segments in flight, a tenth of a second old; the first sequence number."""
    register_unyielding()
    wire = make(congestion="unyielding", send_buffer=1 << 23, pool_packets=4 * n, tx_queue=2 * n)
    peer = Peer(wire)
    peer.connect(opt_mss(MSS) + opt_sack_permitted() + opt_wscale(8), 0.1)
    start = peer.rcv
    peer.conn.send(bytes(n * MSS), reference=True)
    sent = 0
    while sent < n:               # as many at a time as the wire takes
        wire.run()
        sent += len(wire.sent)
        wire.sent.clear()
    wire.advance(0.1)
    return peer, start


def only_holes_are_sent(peer, start, n, *holes):
    for hole in holes:
        peer.expect(ACK, seq=start + hole * MSS, data=bytes(MSS))
    peer.expect_nothing()
    peer.send(ACK, ack=start + n * MSS)
    peer.expect_nothing(10)
    assert peer.wire.counted()["tcp_retransmits"] == len(holes)


def test_holes_thousands_of_segments_apart(make):
    """RFC 6675, with a long flight: exactly the holes, though an ACK names first what came last, behind another hole."""
    n, holes = 6000, (100, 3100, 3110)
    peer, start = long_flight(make, n)
    edges = [hole + 1 for hole in holes]
    for end in range(200, n + 1, 100):
        told = [(left, right) for left, right in zip(edges, [*holes[1:], n], strict=True) if left < end]
        peer.send(ACK, ack=start + holes[0] * MSS, options=opt_sack(
            *((start + left * MSS, start + min(right, end) * MSS) for left, right in reversed(told))))
    only_holes_are_sent(peer, start, n, *holes)


def test_a_block_that_is_longer_than_what_an_ack_looks_at(make):
    """When the ACKs before were lost: what was not marked at once is when it is told again."""
    n = 5000
    peer, start = long_flight(make, n)
    for end in range(n - 4, n + 1):
        peer.send(ACK, ack=start, options=opt_sack((start + MSS, start + end * MSS)))
    only_holes_are_sent(peer, start, n, 0)


def test_sack_of_what_was_never_sent(wire):
    """Old, inverted and future blocks change nothing."""
    peer, start = sender(wire, 10, opt_sack_permitted())
    for block in [(start - 5 * MSS, start - MSS), (start + 5 * MSS, start + 3 * MSS),
                  (start + 9 * MSS, start + 30 * MSS), (start + MSS, start + MSS)] * 2:
        peer.send(ACK, ack=start, options=opt_sack(block))
    peer.expect_nothing()
    assert wire.row["in_flight"] == 10 * MSS
    peer.send(ACK)


def test_sack_that_was_not_negotiated(wire):
    peer, start = sender(wire, 10)
    for i in range(3):
        peer.send(ACK, ack=start, wnd=60000 + i, options=opt_sack((start + MSS, start + 9 * MSS)))
    peer.expect_nothing()
    assert wire.row["in_flight"] == 10 * MSS
    peer.send(ACK)


def test_timeout(wire):
    """RFC 5681 §3.1: the window is one segment, then slow start up to half of what was in flight."""
    peer, start = sender(wire, 10)
    peer.expect(ACK, seq=start, data=bytes([0]) * MSS, after=wire.row["rto"] / 1e9)
    peer.expect_nothing()
    assert wire.row["cwnd"] == MSS
    assert wire.row["ssthresh"] == 5 * MSS
    peer.send(ACK, ack=start + MSS)
    for i in (1, 2):
        peer.expect(ACK, seq=start + i * MSS, data=bytes([i]) * MSS)
    peer.expect_nothing()
    peer.send(ACK, ack=start + 10 * MSS)
    peer.expect_nothing(10)
    assert wire.handler.take() == [("acked", MSS), ("acked", 9 * MSS)]


def test_timeout_twice_halves_once(wire):
    """RFC 5681 §3.1: a retransmission that is lost, too, does not lower ssthresh again."""
    peer, start = sender(wire, 10)
    rto = wire.row["rto"] / 1e9
    peer.expect(ACK, seq=start, size=MSS, after=rto)
    peer.expect(ACK, seq=start, size=MSS, after=2 * rto)
    assert wire.row["ssthresh"] == 5 * MSS
    peer.send(ACK)


def test_reordering_window(wire):
    """RFC 8985 §6.2: what was overtaken has a quarter of the round trip to arrive."""
    peer, start = sender(wire, 10, opt_sack_permitted(), 0.1)
    peer.send(ACK, ack=start, options=opt_sack((start + 2 * MSS, start + 3 * MSS)))
    peer.expect(ACK, seq=start, size=MSS, after=0.025)
    peer.expect_nothing()
    peer.send(ACK, ack=start, options=opt_sack((start + 2 * MSS, start + 5 * MSS)))
    peer.expect_nothing()         # RFC 6937: half as much leaves as arrives
    peer.send(ACK, ack=start, options=opt_sack((start + 2 * MSS, start + 7 * MSS)))
    peer.expect(ACK, seq=start + MSS, size=MSS)
    peer.expect_nothing()
    peer.send(ACK)


def test_late_is_not_lost(wire):
    """What arrives within the reordering window is not sent again."""
    peer, start = sender(wire, 10, opt_sack_permitted(), 0.1)
    peer.send(ACK, ack=start, options=opt_sack((start + 2 * MSS, start + 3 * MSS)))
    peer.expect_nothing(0.02)
    peer.send(ACK, ack=start + 3 * MSS)
    peer.expect_nothing(0.05)
    assert wire.row["cwnd"] >= 10 * MSS
    peer.send(ACK)


def test_tail_loss_probe(wire):
    """RFC 8985 §7: when the end was lost, its last segment is sent again after two round trips."""
    peer, start = sender(wire, 4, opt_sack_permitted(), 0.05)
    peer.expect(ACK, seq=start + 3 * MSS, data=bytes([3]) * MSS, after=0.052)
    peer.expect_nothing(0.05)
    assert wire.counted()["tcp_loss_probes"] == 1
    peer.send(ACK, ack=start + 2 * MSS, options=opt_sack((start + 3 * MSS, start + 4 * MSS)))
    peer.expect(ACK, seq=start + 2 * MSS, data=bytes([2]) * MSS)
    peer.send(ACK)
    peer.expect_nothing(5)
    assert wire.counted().get("tcp_rto_expired") is None


def test_spurious_recovery_is_undone(wire):
    """RFC 3522: the ACK of a segment sent before the retransmission gives the window back."""
    peer, start = sender(wire, 10, opt_sack_permitted() + opt_timestamps(7, 0) + opt_mss(MSS + 12), 0.1)
    before, echo = wire.row["cwnd"], peer.ts_echo
    peer.send(ACK, ack=start, options=opt_sack((start + 3 * MSS, start + 9 * MSS)))
    peer.expect(ACK, seq=start, size=MSS)
    assert wire.row["ssthresh"] < before
    wire.sent.clear()             # what else PRR lets out
    wire.advance(0.01)
    peer.send(ACK, tsecr=echo)
    assert wire.row["cwnd"] >= before and wire.counted()["tcp_undone"] == 1


def test_what_an_undone_recovery_thought_lost_may_be_late_and_may_be_lost(wire):
    """RFC 3522, RFC 8985 §6.2: the first of ten was overtaken by three; what else is missing gets a quarter of a round trip
    more, and is sent again after it."""
    peer, start = sender(wire, 10, opt_sack_permitted() + opt_timestamps(7, 0) + opt_mss(MSS + 12), 0.1)
    echo, block = peer.ts_echo, (start + 7 * MSS, start + 10 * MSS)
    peer.send(ACK, ack=start, options=opt_sack(block))
    again = len(wire.sent)
    assert 1 < again < 6          # of seven that are missing
    for i in range(again):
        peer.expect(ACK, seq=start + i * MSS, size=MSS)
    wire.advance(0.01)
    peer.send(ACK, ack=start + MSS, tsecr=echo, options=opt_sack(block))
    assert wire.counted()["tcp_undone"] == 1
    peer.expect_nothing(0.01)
    peer.expect(ACK, seq=start + again * MSS, size=MSS, after=0.005)
    wire.sent.clear()
    assert wire.counted()["tcp_fast_retransmits"] == 1
    peer.send(ACK)


def resent_once(wire):
    """Recovery in which the first of ten segments was sent again."""
    peer, start = sender(wire, 10, opt_sack_permitted(), 0.1)
    peer.send(ACK, ack=start, options=opt_sack((start + MSS, start + 4 * MSS)))
    peer.expect(ACK, seq=start, size=MSS)
    wire.sent.clear()
    assert wire.row["ssthresh"] == 5 * MSS
    return peer, start


@pytest.mark.parametrize("acked", [4, 10])
def test_duplicates_reported_late_undo_a_recovery(wire, acked):
    """RFC 3708: every retransmission was superfluous, says a D-SACK, on a duplicate ACK while the recovery lasts or after it."""
    peer, start = resent_once(wire)
    peer.send(ACK, ack=start + acked * MSS)
    assert wire.row["ssthresh"] == 5 * MSS and "tcp_undone" not in wire.counted()
    peer.send(ACK, ack=start + acked * MSS, options=opt_sack((start, start + MSS)))
    assert wire.row["cwnd"] >= 10 * MSS and wire.row["ssthresh"] > 1 << 30
    assert wire.counted()["tcp_undone"] == 1
    peer.send(ACK)


def test_a_duplicate_of_one_of_two_undoes_nothing(wire):
    """One of two retransmissions was needed."""
    peer, start = sender(wire, 10, opt_sack_permitted(), 0.1)
    peer.send(ACK, ack=start, options=opt_sack((start + 2 * MSS, start + 5 * MSS)))
    peer.expect(ACK, seq=start, size=MSS)
    peer.send(ACK, ack=start, options=opt_sack((start + 2 * MSS, start + 8 * MSS)))
    peer.expect(ACK, seq=start + MSS, size=MSS)
    peer.send(ACK, ack=start + 10 * MSS)
    peer.send(ACK, ack=start + 10 * MSS, options=opt_sack((start, start + MSS)))
    assert wire.row["ssthresh"] == 5 * MSS and "tcp_undone" not in wire.counted()


def test_a_duplicate_of_what_was_sent_once_undoes_nothing(wire):
    """RFC 3708: the network made that one, and the retransmission before it was needed."""
    peer, start = resent_once(wire)
    peer.send(ACK, ack=start + 10 * MSS)
    peer.conn.send(b"x" * MSS)
    wire.run()
    wire.sent.clear()
    peer.send(ACK, ack=start + 11 * MSS, options=opt_sack((start + 10 * MSS, start + 11 * MSS)))
    assert wire.row["ssthresh"] == 5 * MSS and "tcp_undone" not in wire.counted()


@pytest.mark.parametrize("options", [opt_sack_permitted(), b""])
def test_what_arrives_before_it_is_sent_again_was_not_lost(wire, options):
    """A segment that was overtaken by three, and the ACK of all of them, in one run: nothing is sent again, and the window
    is what it was."""
    peer, start = sender(wire, 10, options, 0.1)
    overtaken = [peer.packet(ACK, ack=start, options=opt_sack((start + MSS, start + i * MSS)) if options else b"")
                 for i in (2, 3, 4)]
    wire.feed(*overtaken, peer.packet(ACK, ack=start + 4 * MSS))
    peer.expect_nothing(0.05)
    assert wire.row["cwnd"] >= 10 * MSS and wire.row["ssthresh"] > 1 << 30
    assert wire.counted()["tcp_undone"] == 1
    peer.send(ACK)


def test_one_of_two_arrives_before_it_is_sent_again(wire):
    """Of two holes one is filled in the same run: the other was lost, and the window stays smaller."""
    peer, start = sender(wire, 10, opt_sack_permitted(), 0.1)
    block = (start + 2 * MSS, start + 5 * MSS)
    wire.feed(peer.packet(ACK, ack=start, options=opt_sack(block)), peer.packet(ACK, ack=start + MSS, options=opt_sack(block)))
    peer.expect(ACK, seq=start + MSS, data=bytes([1]) * MSS)
    peer.expect_nothing()
    assert wire.row["ssthresh"] == 5 * MSS and "tcp_undone" not in wire.counted()
    peer.send(ACK)


def test_timeout_keeps_what_was_sacked(wire):
    peer, start = sender(wire, 10, opt_sack_permitted(), 0.1)
    peer.send(ACK, ack=start, options=opt_sack((start + 2 * MSS, start + 3 * MSS)))
    wire.advance(0.03)
    wire.sent.clear()
    peer.expect(ACK, seq=start, size=MSS, after=wire.row["rto"] / 1e9 - 0.005)
    peer.send(ACK, ack=start + MSS)
    peer.expect(ACK, seq=start + MSS, data=bytes([1]) * MSS)
    peer.expect(ACK, seq=start + 3 * MSS, data=bytes([3]) * MSS)
    peer.expect_nothing()
    peer.send(ACK)


def test_reneging(wire):
    """RFC 2018 §8: SACKed and yet missing: after a timeout it is sent again."""
    peer, start = sender(wire, 3, opt_sack_permitted(), 0.1)
    peer.send(ACK, ack=start, options=opt_sack((start + MSS, start + 3 * MSS)))
    peer.expect(ACK, seq=start, size=MSS, after=0.025)
    peer.expect(ACK, seq=start, size=MSS, after=wire.row["rto"] / 1e9)
    peer.send(ACK, ack=start + MSS)
    rto = wire.row["rto"] / 1e9
    peer.expect(ACK, seq=start + MSS, size=MSS, after=rto)
    peer.send(ACK)


def test_idle_restarts_slow_start(wire):
    """RFC 5681 §4.1."""
    peer, _ = sender(wire, 10)
    peer.send(ACK)
    assert wire.row["cwnd"] == 20 * MSS
    wire.advance(10)
    peer.conn.send(b"x" * 20 * MSS)
    wire.run()
    assert sum(len(s.data) for s in wire.sent) == 10 * MSS
    wire.sent.clear()


def test_fin_is_recovered(wire):
    """A FIN that is lost with its data."""
    peer, start = sender(wire, 5, opt_sack_permitted())
    peer.do("shutdown")
    peer.expect(FIN | ACK)
    peer.send(ACK, ack=start + 5 * MSS)
    peer.expect(FIN | ACK, seq=start + 5 * MSS, after=wire.row["rto"] / 1e9)
    peer.send(ACK)
    assert wire.handler.take() == [("acked", 5 * MSS)]


# -- the blocks that we generate -------------------------------------------------------------------------------

def receiver(wire, options=b""):
    peer = enter(wire, ESTABLISHED, options=opt_sack_permitted() + options)
    return peer, peer.nxt


def blocks(segment, start):
    return [(left - start, right - start) for left, right in segment.options.sack]


def test_blocks_latest_first(wire):
    """RFC 2018 §4."""
    peer, start = receiver(wire)
    seen = []
    for at in (10, 50, 30):
        peer.send(ACK, seq=start + at, data=b"x" * 10)
        seen.append(blocks(peer.expect(ACK, ack=start), start))
    assert seen == [[(10, 20)], [(50, 60), (10, 20)], [(30, 40), (50, 60), (10, 20)]]


def test_blocks_in_the_order_of_arrival(wire):
    """RFC 2018 §4: after the first, those that were reported most recently; a block that grows is the latest again."""
    peer, start = receiver(wire)
    for at in (10, 50, 30, 70):
        peer.send(ACK, seq=start + at, data=b"x" * 10)
        peer.expect(ACK, ack=start)
    peer.send(ACK, seq=start + 60, data=b"x" * 5)
    assert blocks(peer.expect(ACK, ack=start), start) == [(50, 65), (70, 80), (30, 40), (10, 20)]
    peer.send(ACK, seq=start, data=b"x" * 10)
    assert blocks(peer.expect(ACK, ack=start + 20), start) == [(50, 65), (70, 80), (30, 40)]


def test_a_run_tells_of_every_block(wire):
    """However many blocks came between two runs, as when the receiver runs late: what no ACK told of would be sent again."""
    peer, start = receiver(wire)
    wire.feed(*(peer.packet(ACK, seq=start + at + i, data=b"x" * 5) for at in range(10, 150, 20) for i in (0, 5)))
    told = [blocks(peer.expect(ACK, ack=start), start) for _ in range(3)]
    assert {block for few in told for block in few} == {(at, at + 10) for at in range(10, 150, 20)}


def test_a_run_tells_of_its_blocks_first(wire):
    """Not of the segments of the last one only, and then of the oldest."""
    peer, start = receiver(wire)
    for at in (10, 30, 50):
        peer.send(ACK, seq=start + at, data=b"x" * 10)
        peer.expect(ACK, ack=start)
    wire.feed(*(peer.packet(ACK, seq=start + at + 2 * i, data=b"x" * 2) for at in (70, 90) for i in range(5)))
    assert blocks(peer.expect(ACK, ack=start), start)[:2] == [(90, 100), (70, 80)]


# -- duplicates that arrive (RFC 2883) -------------------------------------------------------------------------

def test_duplicate_below_the_window_is_reported(wire):
    """RFC 2883 §4.1.1, and only once."""
    peer, start = receiver(wire)
    peer.send(ACK, seq=start, data=b"x" * 30)
    peer.expect(ACK, ack=start + 30)
    peer.send(ACK, seq=start, data=b"x" * 10)
    assert blocks(peer.expect(ACK, ack=start + 30), start) == [(0, 10)]
    peer.send(ACK, seq=start + 40, data=b"x" * 10)
    assert blocks(peer.expect(ACK, ack=start + 30), start) == [(40, 50)]


def test_duplicate_comes_before_what_waits(wire):
    """RFC 2883 §4.1.2 and §4.2.3."""
    peer, start = receiver(wire)
    peer.send(ACK, seq=start + 20, data=b"x" * 10)
    peer.expect(ACK, ack=start)
    peer.send(ACK, seq=start + 20, data=b"x" * 10)
    assert blocks(peer.expect(ACK, ack=start), start) == [(20, 30), (20, 30)]


def test_duplicate_in_part(wire):
    """RFC 2883 §4.2.1: the part that was there."""
    peer, start = receiver(wire)
    peer.send(ACK, seq=start, data=b"x" * 10)
    peer.expect(ACK, ack=start + 10)
    peer.send(ACK, seq=start, data=b"x" * 25)
    assert blocks(peer.expect(ACK, ack=start + 25), start) == [(0, 10)]


@pytest.mark.parametrize("settings", [{"dsack": False}, {"sack": False}])
def test_duplicate_is_not_reported_when_switched_off(make, settings):
    wire = make(**settings)
    peer, start = receiver(wire)
    peer.send(ACK, seq=start, data=b"x" * 10)
    peer.expect(ACK, ack=start + 10)
    peer.send(ACK, seq=start, data=b"x" * 10)
    assert not peer.expect(ACK, ack=start + 10).options.sack


def test_blocks_merge(wire):
    peer, start = receiver(wire)
    for at in (10, 30, 20):
        peer.send(ACK, seq=start + at, data=b"x" * 10)
        s = peer.expect(ACK, ack=start)
    assert blocks(s, start) == [(10, 40)]


@pytest.mark.parametrize("ts,room", [(False, 4), (True, 3)])
def test_blocks_as_many_as_fit(wire, ts, room):
    peer, start = receiver(wire, opt_timestamps(1, 0) if ts else b"")
    for at in range(10, 130, 20):
        peer.send(ACK, seq=start + at, data=b"x" * 10)
        s = peer.expect(ACK, ack=start)
    got = blocks(s, start)
    assert len(got) == room
    assert got[0] == (110, 120)
    assert got[1:] == [(90, 100), (70, 80), (50, 60)][:room - 1]


def test_blocks_after_a_partial_fill(wire):
    peer, start = receiver(wire)
    for at in (10, 30):
        peer.send(ACK, seq=start + at, data=b"x" * 10)
        peer.expect(ACK, ack=start)
    peer.send(ACK, seq=start, data=b"x" * 10)
    s = peer.expect(ACK, ack=start + 20)
    assert blocks(s, start) == [(30, 40)]
    peer.send(ACK, seq=start + 20, data=b"x" * 10)
    s = peer.expect(ACK, ack=start + 40)
    assert s.options.sack == ()


def test_no_blocks_without_negotiation(make):
    wire = make(sack=False)
    peer = enter(wire, ESTABLISHED, options=opt_sack_permitted())
    start = peer.nxt
    peer.send(ACK, seq=start + 10, data=b"x")
    assert peer.expect(ACK, ack=start).options.sack == ()


def test_blocks_beside_full_segments(wire):
    """Both directions lose: no segment exceeds the MTU, and the blocks travel all the same."""
    peer, start = receiver(wire, opt_mss(1460 if wire.version == 4 else 1440) + opt_timestamps(1, 0))
    peer.send(ACK, seq=start + 10, data=b"x" * 10)
    peer.expect(ACK, ack=start)
    mss = peer.conn.mss
    wire.feed(peer.packet(ACK, seq=start + 30, data=b"x" * 10), run=False)
    peer.conn.send(b"y" * 3 * mss)
    wire.run()
    assert all(len(s.raw) <= 1500 for s in wire.sent)
    assert sum(len(s.data) for s in wire.sent) == 3 * mss
    assert blocks(wire.sent[-1], start) == [(30, 40), (10, 20)]
    wire.sent.clear()
