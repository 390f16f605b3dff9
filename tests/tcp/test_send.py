"""When segments leave: Nagle, cork, nodelay, delayed ACK, silly windows, probes (RFC 9293 §3.7.4, §3.8.6)."""
import pytest

from iip import Reason
from tests.harness.packets import ACK, FIN, PSH, RST, opt_mss, opt_timestamps
from tests.harness.peer import Peer
from tests.harness.states import CLOSE_WAIT, ESTABLISHED, FIN_WAIT_1, enter

MSS = 1000


def established(wire, options=b"", **kwargs):
    return enter(wire, ESTABLISHED, options=opt_mss(MSS) + options, **kwargs)


# -- Nagle -----------------------------------------------------------------------------------------------------

def test_nagle(wire):
    """§3.7.4: a short segment waits while anything is unacknowledged; what came meanwhile leaves together."""
    peer = established(wire)
    peer.write(b"a")
    peer.expect(ACK | PSH, data=b"a")
    for c in (b"b", b"c", b"d"):
        peer.write(c)
        peer.expect_nothing()
    peer.send(ACK)
    peer.expect(ACK | PSH, data=b"bcd")
    peer.expect_nothing()


def test_nagle_full_segments_do_not_wait(wire):
    peer = established(wire)
    peer.write(b"a")
    peer.expect(ACK, data=b"a")
    peer.write(b"b" * (MSS + 1))
    peer.expect(ACK, data=b"b" * MSS)
    peer.expect_nothing()
    peer.send(ACK)
    peer.expect(ACK, data=b"b")


def test_nagle_short_end_of_a_long_write_does_not_wait(wire):
    """Minshall's modification: full segments in flight do not hold it back, a short one does."""
    peer = established(wire)
    peer.write(b"x" * (MSS + 10))
    peer.expect(ACK, size=MSS)
    peer.expect(ACK | PSH, size=10)
    peer.write(b"y" * (MSS + 10))
    peer.expect(ACK, size=MSS)
    peer.expect_nothing()
    peer.send(ACK)
    peer.expect(ACK | PSH, size=10)


def test_nagle_fin_does_not_wait(wire):
    peer = established(wire)
    peer.write(b"a")
    peer.expect(ACK, data=b"a")
    peer.write(b"b")
    peer.do("shutdown")
    peer.expect(FIN | ACK, data=b"b")


def test_nodelay(wire):
    peer = established(wire)
    peer.conn.nodelay = True
    assert peer.conn.nodelay
    for c in (b"a", b"b", b"c"):
        peer.write(c)
        peer.expect(ACK | PSH, data=c)


def test_nodelay_by_default(make):
    wire = make(nagle=False)
    peer = established(wire)
    assert peer.conn.nodelay
    peer.write(b"a")
    peer.expect(ACK, data=b"a")
    peer.write(b"b")
    peer.expect(ACK, data=b"b")


def test_nodelay_releases_what_waits(wire):
    peer = established(wire)
    peer.write(b"a")
    peer.expect(ACK, data=b"a")
    peer.write(b"b")
    peer.conn.nodelay = True
    wire.run()
    peer.expect(ACK, data=b"b")


def test_cork(wire):
    peer = established(wire)
    peer.conn.cork = True
    peer.write(b"header ")
    peer.expect_nothing(0.19)
    peer.write(b"x" * MSS)
    peer.expect(ACK, data=b"header " + b"x" * (MSS - 7))
    peer.expect_nothing(0.01)
    peer.send(ACK)
    peer.expect_nothing(0.15)
    peer.conn.cork = False
    wire.run()
    peer.expect(ACK, data=b"x" * 7)


def test_cork_ends_after_a_while(wire):
    """A short segment waits 200 ms for more, then leaves; the next one waits anew."""
    peer = established(wire)
    peer.conn.cork = True
    for text in (b"first", b"second"):
        peer.write(text)
        peer.expect(ACK, data=text, after=0.2)
        peer.send(ACK)
    peer.expect_nothing(1)


def test_writes_of_one_run_leave_together(wire):
    peer = established(wire)
    for i in range(10):
        peer.conn.send(b"%d" % i)
    wire.run()
    peer.expect(ACK | PSH, data=b"0123456789")


def test_push_marks_the_end_of_what_was_written(wire):
    """§3.9.1.2: the last segment of the queue carries PSH."""
    peer = established(wire)
    peer.write(b"x" * (2 * MSS))
    first = peer.expect(ACK, size=MSS)
    assert not first.flags & PSH
    peer.expect(ACK | PSH, size=MSS)


@pytest.mark.parametrize("size", [*range(1, 19), 255, 257, MSS, 5000, 20_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_content(wire, size, kind):
    """Copied or referenced, in any size: the bytes arrive in order."""
    peer = established(wire)
    data = bytes(i * 7 % 251 for i in range(size))
    peer.conn.nodelay = True
    assert peer.conn.send(kind(data)) == size
    got = b""
    wire.run()
    while len(got) < size:
        assert wire.sent
        got += b"".join(s.data for s in wire.sent)
        last = wire.sent[-1]
        peer.rcv = last.seq + last.space
        wire.sent.clear()
        peer.send(ACK)
    assert got == data
    assert wire.engine.pool.full


# -- delayed ACK -----------------------------------------------------------------------------------------------

def test_delayed_ack_timer(make):
    wire = make(delayed_ack=0.04)
    peer = established(wire)
    peer.send(ACK, data=b"x")
    peer.expect(ACK, after=0.04)
    peer.expect_nothing(1)
    wire.counters_are(tcp_in_order=1, tcp_delayed_acks=1, tcp_out_segments=1)


def test_delayed_ack_every_second_full_segment(make):
    wire = make(delayed_ack=0.04)
    peer = established(wire)
    for _ in range(3):
        peer.send(ACK, data=b"x" * MSS)
        peer.expect_nothing()
        peer.send(ACK, data=b"x" * MSS)
        peer.expect(ACK)


def test_delayed_ack_rides_on_data(make):
    wire = make(delayed_ack=0.04)
    peer = established(wire)
    peer.send(ACK, data=b"question")
    peer.expect_nothing()
    peer.write(b"answer")
    peer.expect(ACK, data=b"answer")
    peer.send(ACK)
    peer.expect_nothing(1)


def test_delayed_ack_answer_in_the_callback(make):
    wire = make(delayed_ack=0.04)
    wire.handler.on["payload"] = lambda conn: conn.send(b"answer")
    peer = established(wire)
    peer.send(ACK, data=b"question")
    peer.expect(ACK, data=b"answer")
    peer.send(ACK)
    peer.expect_nothing(1)


def test_delayed_ack_not_for_gaps_and_fin(make):
    """RFC 5681 §4.2: out of order and what fills a gap at once; so is a FIN."""
    wire = make(delayed_ack=0.04)
    peer = established(wire)
    start = peer.nxt
    peer.send(ACK, seq=start + 5, data=b"fghij")
    peer.expect(ACK, ack=start)
    peer.send(ACK, seq=start, data=b"abcde")
    peer.expect(ACK, ack=start + 10)
    peer.nxt = start + 10
    peer.send(FIN | ACK)
    peer.expect(ACK)
    peer.expect_nothing(1)


def test_delayed_ack_echoes_the_first_timestamp(make):
    """RFC 7323 §4.3: so that the peer's measurement includes the delay."""
    wire = make(delayed_ack=0.04)
    peer = established(wire, opt_timestamps(1, 0))
    first = peer.ts_now()
    peer.send(ACK, data=b"a")
    wire.advance(0.02)
    peer.send(ACK, data=b"b")
    assert peer.expect(ACK, after=0.02).options.timestamps[1] == first
    wire.advance(0.1)
    third = peer.ts_now()
    peer.send(ACK, data=b"c")
    assert peer.expect(ACK, after=0.04).options.timestamps[1] == third


# -- zero window -----------------------------------------------------------------------------------------------

def shut(wire, data=b"x" * 10):
    peer = established(wire)
    peer.send(ACK, wnd=0)
    peer.write(data)
    peer.expect_nothing()
    return peer


def test_probes_back_off(wire):
    """§3.8.6.1: the first after an RTO, then at doubled intervals."""
    peer = shut(wire)
    rto = wire.row["rto"] / 1e9
    for i in range(5):
        peer.expect(ACK, seq=peer.rcv - 1, after=rto * 2**i)
        peer.send(ACK, wnd=0)
        peer.expect_nothing()
    assert wire.counted()["tcp_window_probes"] == 5


def test_probed_for_ever_while_the_peer_answers(make):
    wire = make(retries=3, rto_max=2)
    peer = shut(wire)
    for _ in range(50):
        wire.advance_to_output()
        peer.expect(ACK, seq=peer.rcv - 1)
        peer.send(ACK, wnd=0)
    assert wire.state == ESTABLISHED
    peer.send(ACK, wnd=1000)
    peer.expect(ACK, data=b"x" * 10)


def test_probes_without_an_answer(make):
    wire = make(retries=3, rto_max=2)
    peer = shut(wire)
    for _ in range(3):
        wire.advance_to_output()
        peer.expect(ACK, seq=peer.rcv - 1)
    peer.expect_nothing(100)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]


def test_window_reopens(wire):
    peer = shut(wire)
    peer.send(ACK, wnd=5000)
    peer.expect(ACK, data=b"x" * 10)
    peer.send(ACK)
    peer.expect_nothing(100)
    assert wire.handler.take() == [("acked", 10)]


def test_window_reopens_after_probes(wire):
    peer = shut(wire)
    for _ in range(3):
        wire.advance_to_output()
        peer.expect(ACK, seq=peer.rcv - 1)
    peer.send(ACK, wnd=5000)
    peer.expect(ACK, data=b"x" * 10)
    rto = wire.row["rto"] / 1e9
    peer.expect(ACK, seq=peer.rcv - 10, data=b"x" * 10, after=rto)
    peer.send(ACK)


def test_window_of_an_old_segment(wire):
    """§3.10.7.4, fifth: SND.WL1 and SND.WL2 keep old segments from changing the window."""
    peer = established(wire)
    peer.send(ACK, data=b"new", wnd=0)
    peer.expect(ACK)
    peer.send(ACK, seq=peer.nxt - 3, data=b"new", wnd=5000)
    peer.expect(ACK)
    peer.write(b"x")
    peer.expect_nothing()
    assert wire.row["snd_wnd"] == 0
    peer.do("abort")
    peer.expect(RST | ACK)


def test_window_that_shrinks(wire):
    """§3.8.6: what is beyond the new edge is not sent; what was sent stays retransmittable."""
    peer = established(wire)
    peer.write(b"x" * 3 * MSS)
    for _ in range(3):
        peer.expect(ACK, size=MSS)
    peer.send(ACK, ack=peer.rcv - 2 * MSS, wnd=0)
    peer.write(b"y" * MSS)
    peer.expect_nothing()
    peer.expect(ACK, seq=peer.rcv - 2 * MSS, size=MSS, after=wire.row["rto"] / 1e9)
    peer.send(ACK, wnd=5000)
    peer.expect(ACK, data=b"y" * MSS)


# -- silly windows: our side as sender -------------------------------------------------------------------------

def test_sender_waits_for_a_worthwhile_window(wire):
    """§3.8.6.2.1: less than a segment and less than half the largest window: wait."""
    peer = established(wire)
    peer.send(ACK, wnd=100)
    peer.write(b"x" * 3 * MSS)
    peer.expect_nothing()
    peer.send(ACK, wnd=MSS)
    peer.expect(ACK, size=MSS)
    peer.expect_nothing()


def test_sender_uses_half_of_a_small_window(wire):
    """§3.8.6.2.1 (3): a peer whose windows are always small."""
    peer = Peer(wire)
    peer.wnd = 600
    peer.connect(opt_mss(MSS))
    peer.write(b"x" * 3 * MSS)
    peer.expect(ACK, size=600)
    peer.send(ACK, wnd=299)
    peer.expect_nothing()
    peer.send(ACK, wnd=300)
    peer.expect(ACK, size=300)
    peer.expect_nothing()


def test_sender_override(wire):
    """§3.8.6.2.1 (4): after a while even a small window is used."""
    peer = established(wire)
    peer.send(ACK, wnd=100)
    peer.write(b"x" * 3 * MSS)
    peer.expect(ACK, data=b"x" * 100, after=wire.row["rto"] / 1e9)
    peer.expect_nothing()
    peer.send(ACK, wnd=5000)
    peer.expect(ACK, size=MSS)
    peer.expect(ACK, size=MSS)
    peer.expect(ACK | PSH, size=MSS - 100)


# -- our side as receiver --------------------------------------------------------------------------------------

def test_receiver_window(make):
    """The window is what the application has not consumed less; it opens in worthwhile steps (§3.8.6.2.2)."""
    wire = make(receive_buffer=4000)
    wire.handler.consume = False
    peer = established(wire)
    for left in (3000, 2000, 1000, 0):
        peer.send(ACK, data=b"x" * 1000)
        peer.expect(ACK, wnd=left)
    peer.conn.consume(500)
    wire.run()
    peer.expect_nothing()
    peer.conn.consume(499)
    wire.run()
    peer.expect_nothing()
    peer.conn.consume(1001)
    wire.run()
    peer.expect(ACK, wnd=2000)
    peer.conn.consume(2000)
    wire.run()
    peer.expect_nothing()


def test_receiver_answers_probes_of_a_shut_window(make):
    wire = make(receive_buffer=2048)
    wire.handler.consume = False
    peer = established(wire)
    for left in (1024, 0):
        peer.send(ACK, data=b"x" * 1024)
        peer.expect(ACK, wnd=left)
    peer.send(ACK, seq=peer.nxt, data=b"y")
    peer.expect(ACK, wnd=0)
    peer.send(ACK, seq=peer.nxt - 1)
    peer.expect(ACK, wnd=0)
    assert wire.handler.take() == [("payload", b"x" * 1024)] * 2


def test_receiver_shut_window_still_takes_acks_and_fin(make):
    """§3.10.7.4, first: ACK and RST are processed, and a FIN in order."""
    wire = make(receive_buffer=2048)
    wire.handler.consume = False
    peer = established(wire)
    peer.send(ACK, data=b"x" * 2048)
    peer.expect(ACK, wnd=0)
    peer.write(b"answer")
    peer.expect(ACK, data=b"answer")
    peer.send(ACK)
    wire.handler.take()
    peer.write(b"more")
    peer.expect(ACK, data=b"more")
    peer.send(ACK, seq=peer.nxt, data=b"y")
    peer.expect(ACK, wnd=0)
    assert wire.handler.take() == [("acked", 4)]
    peer.send(FIN | ACK)
    peer.expect(ACK, wnd=0)
    assert wire.state == CLOSE_WAIT


def test_window_never_shrinks(make):
    """§3.8.6: the right edge never moves to the left, however little the application consumes."""
    wire = make(receive_buffer=10_000)
    wire.handler.consume = False
    peer = established(wire)
    edge, unread = 0, 0
    for i in range(200):
        room = max(0, edge - peer.nxt) if edge else 1000
        n = min(room, (i * 37) % 400 + 1)
        if n:
            peer.send(ACK, data=b"x" * n)
            unread += n
        if i % 3 == 0:
            take = min(unread, (i * 53) % 500)
            peer.conn.consume(take)
            unread -= take
            wire.run()
        for s in wire.sent:
            assert s.ack + s.wnd >= edge
            edge = s.ack + s.wnd
            assert edge - s.ack + unread <= 10_000
        wire.sent.clear()


@pytest.mark.parametrize("state", [ESTABLISHED, FIN_WAIT_1], ids=lambda s: s.name)
def test_window_update_is_for_those_who_still_receive(make, state):
    wire = make(receive_buffer=4000)
    wire.handler.consume = False
    peer = established(wire)
    if state == FIN_WAIT_1:
        peer.do("shutdown")
        peer.expect(FIN | ACK)
    peer.send(ACK, data=b"x" * 2000)
    peer.expect(ACK, wnd=2000)
    peer.send(ACK, data=b"x" * 2000)
    peer.expect(ACK, wnd=0)
    peer.conn.consume(4000)
    wire.run()
    peer.expect(ACK, wnd=4000)
