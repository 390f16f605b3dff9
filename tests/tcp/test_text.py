"""Segment text, in every state (RFC 9293 §3.10.7.4, first and seventh)."""
import random

import pytest

from iip import Reason
from tests.harness.packets import ACK, FIN, RST, opt_mss, opt_sack_permitted
from tests.harness.peer import Peer
from tests.harness.states import AFTER_FIN, ESTABLISHED, RECEIVING, SYN_SENT, TIME_WAIT, enter, ids, matrix

receiving = pytest.mark.parametrize("state,role", matrix(*RECEIVING), ids=map(ids, matrix(*RECEIVING)))
after_fin = pytest.mark.parametrize("state,role", matrix(*AFTER_FIN), ids=map(ids, matrix(*AFTER_FIN)))


def test_syn_sent(wire):
    peer = enter(wire, SYN_SENT)
    wire.mark()
    peer.send(ACK, data=b"too early")
    peer.expect_nothing()
    wire.counters_are(tcp_bad_flags=1)


@receiving
def test_in_order(wire, state, role):
    peer = enter(wire, state, role)
    una = int(wire.row["snd_una"])
    peer.send(ACK, data=b"hello", ack=una)
    peer.expect(ACK)
    peer.expect_nothing()
    assert wire.handler.take() == [("payload", b"hello")]
    assert wire.state == state


@receiving
def test_duplicate(wire, state, role):
    peer = enter(wire, state, role)
    una = int(wire.row["snd_una"])
    peer.send(ACK, data=b"hello", ack=una)
    peer.expect(ACK)
    wire.mark()
    peer.send(ACK, seq=peer.nxt - 5, data=b"hello", ack=una)
    peer.expect(ACK)
    assert wire.handler.take() == [("payload", b"hello")]
    wire.counters_are(tcp_out_of_window=1, tcp_out_segments=1)


@receiving
def test_overlap_with_what_was_received(wire, state, role):
    peer = enter(wire, state, role)
    una = int(wire.row["snd_una"])
    peer.send(ACK, data=b"hello", ack=una)
    peer.expect(ACK)
    peer.send(ACK, seq=peer.nxt - 3, data=b"XXXworld", ack=una)
    peer.nxt += 5
    peer.expect(ACK)
    assert wire.handler.take() == [("payload", b"hello"), ("payload", b"world")]


@receiving
def test_beyond_the_window(make, state, role):
    wire = make(receive_buffer=4000)
    peer = enter(wire, state, role)
    una = int(wire.row["snd_una"])
    peer.send(ACK, seq=peer.nxt + 4000, data=b"far", ack=una)
    peer.expect(ACK)
    assert wire.handler.take() == []
    wire.counters_are(tcp_out_of_window=1, tcp_out_segments=1)


def test_partly_beyond_the_window(make):
    wire = make(receive_buffer=4000)
    wire.handler.consume = False
    peer = enter(wire, ESTABLISHED)
    for n in (1400, 1400):
        peer.send(ACK, data=b"x" * n)
        peer.expect(ACK)
    wire.mark()
    peer.send(ACK, data=b"y" * 1300, seq=peer.nxt)
    peer.nxt += 1200
    peer.expect(ACK, wnd=0)
    assert wire.handler.take()[-1] == ("payload", b"y" * 1200)
    wire.counters_are(tcp_rx_window_exceeded=1, tcp_out_segments=1)


@after_fin
def test_after_the_peers_fin(wire, state, role):
    """Nothing can come after a FIN."""
    peer = enter(wire, state, role)
    una = int(wire.row["snd_una"])
    peer.send(ACK, seq=peer.nxt, data=b"more", ack=una)
    peer.expect(ACK)
    assert wire.handler.take() == []
    assert wire.state == state
    wire.counters_are(tcp_old_duplicate=1, tcp_out_segments=1)


@after_fin
def test_old_after_the_peers_fin(wire, state, role):
    peer = enter(wire, state, role)
    una = int(wire.row["snd_una"])
    peer.send(ACK, seq=peer.nxt - 1, data=b"", ack=una)
    peer.expect(ACK)
    assert wire.state == state


@pytest.mark.parametrize("fin_acked", [False, True], ids=["fin-wait-1", "fin-wait-2"])
def test_after_close(wire, fin_acked):
    """RFC 9293 §3.6.1: nobody will read it: RST, in answer to that segment."""
    peer = enter(wire, ESTABLISHED)
    peer.do("close")
    peer.expect(FIN | ACK)
    if fin_acked:
        peer.send(ACK)
    wire.mark()
    peer.send(ACK, data=b"anybody there?")
    peer.expect(RST)
    peer.expect_nothing(200)
    assert wire.handler.take() == [("closed", Reason.ABORTED)]
    wire.counters_are(tcp_after_close=1, tcp_closed=1, tcp_rst_out=1, tcp_out_segments=1)


def test_retransmission_after_close_is_not_new(wire):
    """Text that was received before: an ACK is enough."""
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK, data=b"seen")
    peer.expect(ACK)
    peer.do("close")
    peer.expect(FIN | ACK)
    peer.send(ACK, seq=peer.nxt - 4, data=b"seen")
    peer.expect(ACK)


# -- out of order ----------------------------------------------------------------------------------------------

@receiving
def test_gap(wire, state, role):
    """RFC 5681 §4.2: a duplicate ACK at once; when the gap is filled, one for everything."""
    peer = enter(wire, state, role)
    una = int(wire.row["snd_una"])
    start = peer.nxt
    peer.send(ACK, seq=start + 3, data=b"def", ack=una)
    peer.expect(ACK, ack=start)
    assert wire.handler.take() == []
    assert wire.row["out_of_order"] == 1
    wire.counters_are(tcp_out_of_order=1, tcp_out_segments=1)
    peer.send(ACK, seq=start, data=b"abc", ack=una)
    peer.expect(ACK, ack=start + 6)
    assert wire.handler.take() == [("payload", b"abc"), ("payload", b"def")]
    assert wire.row["out_of_order"] == 0


@pytest.mark.parametrize("sack", [True, False])
def test_what_waits_is_counted(wire, sack):
    """Segments that continue each other, in two blocks: each counts until its block is delivered."""
    peer = Peer(wire)
    peer.connect(opt_mss(1000) + (opt_sack_permitted() if sack else b""))
    wire.handler.take()
    start = peer.nxt
    for n, at in enumerate((1, 2, 3, 5, 6), 1):
        peer.send(ACK, seq=start + 300 * at, data=bytes([at]) * 300)
        assert wire.row["out_of_order"] == n
    peer.send(ACK, seq=start, data=bytes(300))
    assert wire.row["out_of_order"] == 2
    peer.send(ACK, seq=start + 1200, data=bytes([4]) * 300)
    assert wire.row["out_of_order"] == 0 and wire.row["rcv_nxt"] == start + 2100
    assert stream(wire) == b"".join(bytes([at]) * 300 for at in range(7))
    wire.sent.clear()


def stream(wire):
    return b"".join(event[1] for event in wire.handler.take() if event[0] == "payload")


DATA = bytes(range(64))

ORDERS = {
    "reverse": [(40, 64), (20, 40), (0, 20)],
    "twice": [(20, 40), (20, 40), (0, 20), (40, 64)],
    "inside": [(20, 60), (30, 40), (0, 20), (60, 64)],
    "around": [(30, 40), (20, 60), (0, 20), (60, 64)],
    "around two": [(30, 35), (40, 45), (20, 60), (0, 20), (60, 64)],
    "front": [(30, 50), (20, 35), (0, 20), (50, 64)],
    "back": [(20, 40), (30, 50), (0, 20), (50, 64)],
    "bridge": [(20, 30), (40, 50), (25, 45), (0, 20), (50, 64)],
    "filled and more": [(20, 40), (0, 64)],
    "front over the gap": [(20, 40), (0, 30), (40, 64)],
    "two gaps": [(10, 20), (30, 40), (20, 30), (0, 10), (40, 64)],
    "same start, longer": [(20, 30), (20, 50), (0, 20), (50, 64)],
    "same start, shorter": [(20, 50), (20, 30), (0, 20), (50, 64)],
    "same end": [(20, 50), (40, 50), (0, 20), (50, 64)],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("sack", [False, True], ids=["plain", "sack"])
def test_overlaps(wire, order, sack):
    peer = enter(wire, ESTABLISHED, options=opt_sack_permitted() if sack else b"")
    start = peer.nxt
    for left, right in order:
        peer.send(ACK, seq=start + left, data=DATA[left:right])
        answers = len(wire.sent)
        assert answers >= 1
        assert wire.sent[-1].ack == wire.row["rcv_nxt"]
        wire.sent.clear()
    assert stream(wire) == DATA
    assert wire.row["out_of_order"] == 0
    assert wire.engine.pool.full


def runs(arrived):
    """The stretches [left, right) of bytes that have arrived, from a set of their numbers."""
    edges = sorted({i for i in arrived if i - 1 not in arrived} | {i + 1 for i in arrived if i + 1 not in arrived})
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_every_ack_tells_of_whole_blocks(make, seed):
    """Long and short segments in any order, over gaps and over each other, as large as a packet and as small as a byte: what
    waits is told in its whole extent, the latest first, as much as there is room for (RFC 2018 §4)."""
    dice = random.Random(seed)
    wire = make(dsack=False)
    peer = enter(wire, ESTABLISHED, options=opt_sack_permitted())
    start, data = peer.nxt, dice.randbytes(12_000)
    arrived, got = set(), b""
    while len(got) < len(data):
        left = dice.randrange(len(data)) if dice.random() < 0.9 else len(got)
        right = min(left + dice.choice([1, 5, 100, 250, 300, 1000, 1400]), len(data))
        peer.send(ACK, seq=start + left, data=data[left:right])
        arrived |= set(range(left, right))
        got += stream(wire)
        waiting = [run for run in runs(arrived) if run[0] > len(got)]
        assert len(got) == next((a for a in range(len(data)) if a not in arrived), len(data))
        blocks = [(a - start, b - start) for a, b in wire.sent[-1].options.sack]
        assert set(blocks) <= set(waiting)
        assert len(blocks) == min(4, len(waiting)) == len(set(blocks))
        if left > len(got):
            assert blocks[0][0] <= left < blocks[0][1]
        wire.sent.clear()
    assert got == data


def test_first_copy_wins(wire):
    """Bytes that were received cannot be changed by later copies."""
    peer = enter(wire, ESTABLISHED)
    start = peer.nxt
    peer.send(ACK, seq=start + 2, data=b"good")
    peer.send(ACK, seq=start + 1, data=b"-EVIL-")
    peer.send(ACK, seq=start, data=b"+")
    wire.sent.clear()
    assert stream(wire) == b"+-good-"


def test_queue_is_bounded(make):
    wire = make(out_of_order=4)
    peer = enter(wire, ESTABLISHED)
    start = peer.nxt
    for i in range(1, 6):
        peer.send(ACK, seq=start + 2 * i, data=b"x")
        peer.expect(ACK, ack=start)
    assert wire.row["out_of_order"] == 4
    wire.counters_are(tcp_out_of_order=4, tcp_ooo_full=1, tcp_out_segments=5)


def test_fin_out_of_order(wire):
    peer = enter(wire, ESTABLISHED)
    start = peer.nxt
    peer.send(ACK | FIN, seq=start + 3, data=b"def")
    peer.expect(ACK, ack=start)
    assert wire.state == ESTABLISHED
    peer.send(ACK, seq=start, data=b"abc")
    peer.expect(ACK, ack=start + 7)
    assert wire.handler.take() == [("payload", b"abc"), ("payload", b"def"), ("shutdown",)]


def test_bare_fin_out_of_order(wire):
    peer = enter(wire, ESTABLISHED)
    start = peer.nxt
    peer.send(ACK | FIN, seq=start + 3)
    peer.expect(ACK, ack=start)
    peer.send(ACK, seq=start, data=b"abc")
    peer.expect(ACK, ack=start + 4)
    assert wire.handler.take() == [("payload", b"abc"), ("shutdown",)]


def test_text_beyond_a_known_fin(wire):
    """A FIN does not move, and nothing comes after it."""
    peer = enter(wire, ESTABLISHED)
    start = peer.nxt
    peer.send(ACK | FIN, seq=start + 3)
    peer.expect(ACK, ack=start)
    peer.send(ACK, seq=start + 2, data=b"cdef")
    peer.send(ACK | FIN, seq=start + 10)
    wire.sent.clear()
    peer.send(ACK, seq=start, data=b"ab")
    peer.expect(ACK, ack=start + 4)
    assert wire.handler.take() == [("payload", b"ab"), ("payload", b"c"), ("shutdown",)]


def test_several_in_one_burst_one_ack(wire):
    """One ACK answers everything that came in one run."""
    peer = enter(wire, ESTABLISHED)
    wire.feed(*(peer.packet(ACK, data=b"%d" % i) for i in range(10)))
    peer.expect(ACK)
    assert stream(wire) == b"0123456789"


def test_each_gap_of_a_burst_has_its_duplicate_ack(wire):
    """Without SACK the peer counts duplicates: every out-of-order segment sends one (RFC 5681 §4.2)."""
    peer = enter(wire, ESTABLISHED)
    start = peer.nxt
    wire.feed(*(peer.packet(ACK, seq=start + 10 * i, data=b"x" * 10) for i in range(1, 4)))
    for _ in range(3):
        peer.expect(ACK, ack=start)


def test_time_wait_text(wire):
    peer = enter(wire, TIME_WAIT)
    peer.send(ACK, seq=peer.nxt - 5, data=b"old")
    peer.expect(ACK)
    wire.counters_are(tcp_old_duplicate=1, tcp_out_segments=1)
