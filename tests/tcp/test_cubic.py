"""CUBIC packet by packet (RFC 9438 §4.6-4.9), and what a window is after a pause."""
import pytest

from tests.harness.packets import ACK, opt_mss, opt_sack, opt_sack_permitted, opt_timestamps
from tests.harness.peer import Peer

MSS = 1000


def sender(wire, n, options=b"", rtt=0.1):
    """`n` segments to send, of which ten are in flight; the peer, and the first sequence number."""
    peer = Peer(wire)
    peer.connect(opt_mss(MSS) + options, rtt)
    start = peer.rcv
    peer.conn.send(b"d" * (n * MSS))
    wire.run()
    wire.sent.clear()
    wire.mark()
    return peer, start


def lose(wire, peer, una):
    """Three duplicates by SACK: the segment at `una` is lost."""
    peer.send(ACK, ack=una, options=opt_sack((una + MSS, una + 4 * MSS)))
    wire.sent.clear()


def test_a_loss_takes_three_tenths(wire):
    peer, start = sender(wire, 40, opt_sack_permitted())
    lose(wire, peer, start)
    assert wire.row["ssthresh"] == 7 * MSS


def test_never_below_two_segments(wire):
    peer, start = sender(wire, 2)
    wire.advance(5)
    wire.sent.clear()
    assert wire.row["ssthresh"] == 2 * MSS
    peer.send(ACK, ack=start + 2 * MSS)


def test_a_timeout(wire):
    """§4.8: one segment, and seven tenths to grow to."""
    sender(wire, 60)
    wire.advance_to_output()
    wire.sent.clear()
    assert wire.row["cwnd"] == MSS
    assert wire.row["ssthresh"] == 7 * MSS


def test_a_spurious_reduction_is_taken_back(wire):
    """§4.9: Eifel says that the original arrived."""
    peer, start = sender(wire, 40, opt_sack_permitted() + opt_timestamps(1, 0))
    old = peer.ts_echo
    wire.advance(0.02)
    peer.send(ACK, ack=start, options=opt_sack((start + MSS, start + 4 * MSS)), tsecr=old)
    wire.advance(0.05)
    wire.sent.clear()
    assert wire.row["ssthresh"] < 10 * MSS
    peer.send(ACK, ack=start + 4 * MSS, tsecr=old)
    wire.sent.clear()
    assert wire.row["cwnd"] >= 10 * (MSS - 12)        # the timestamps take their part
    assert wire.row["ssthresh"] == 0x7FFFFFFF


@pytest.mark.parametrize("pause, ssthresh", [(0.0015, 16 * MSS), (0.0025, 0x7FFFFFFF)])
def test_a_train_of_acks_ends_slow_start(wire, pause, ssthresh):
    """ACKs without a pause for half of the smallest round trip, 8 ms: what they let out fills the path. Pauses break the train."""
    peer, start = sender(wire, 60, rtt=0.016)
    wire.advance(0.016)
    for i in range(1, 11):
        peer.send(ACK, ack=start + i * MSS)
        wire.advance(pause)
    wire.sent.clear()
    assert wire.row["ssthresh"] == ssthresh


def test_a_window_decays_while_nothing_is_sent(wire):
    """RFC 2861, RFC 5681 §4.1: a half for each timeout of a pause, down to the initial window."""
    peer, _ = sender(wire, 60)
    for _ in range(3):
        wire.advance(0.1)
        peer.send(ACK, ack=int(wire.row["snd_nxt"]))
        wire.sent.clear()
    assert wire.row["unsent"] == 0
    peer.send(ACK, ack=int(wire.row["snd_nxt"]))
    before, rto = int(wire.row["cwnd"]), int(wire.row["rto"])
    assert before >= 40 * MSS
    wire.advance(1.5 * rto / 1e9)
    peer.write(b"x" * MSS)
    wire.sent.clear()
    assert wire.row["cwnd"] == before // 2
    peer.send(ACK, ack=int(wire.row["snd_nxt"]))
    wire.advance(60)
    peer.write(b"x" * MSS)
    wire.sent.clear()
    assert wire.row["cwnd"] == 10 * MSS
    peer.send(ACK, ack=int(wire.row["snd_nxt"]))
