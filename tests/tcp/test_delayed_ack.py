"""When ACKs leave, as a peer with Linux's expectations sees it (RFC 9293 §3.8.6.3, RFC 5681 §4.2)."""
import pytest

from tests.harness.packets import ACK, opt_mss, opt_sack_permitted
from tests.harness.states import ESTABLISHED, enter

MSS = 1000


@pytest.fixture
def linux(make):
    """An engine that acknowledges as it does by default."""
    return make(delayed_ack=0.04, quick_acks=16)


def established(wire, **kwargs):
    return enter(wire, ESTABLISHED, options=opt_mss(MSS) + opt_sack_permitted(), **kwargs)


def data(peer, n=100, **fields):
    peer.send(ACK, data=b"x" * n, **fields)


def past_the_beginning(peer, n=16):
    for _ in range(n):
        data(peer)
        peer.expect(ACK)


def test_the_first_segments_at_once(linux):
    peer = established(linux)
    past_the_beginning(peer)
    data(peer)
    peer.expect(ACK, after=0.04)


def test_the_beginning_can_be_shorter(make):
    wire = make(delayed_ack=0.04, quick_acks=2)
    peer = established(wire)
    past_the_beginning(peer, 2)
    data(peer)
    peer.expect(ACK, after=0.04)


def test_immediate(make):
    wire = make(delayed_ack=0, quick_acks=0)
    past_the_beginning(established(wire), 40)


def test_who_answers_lets_its_acks_wait(linux):
    """An answer shows that ACKs have something to travel with."""
    peer = established(linux)
    data(peer)
    peer.expect(ACK)
    peer.write(b"answer")
    peer.expect(ACK, data=b"answer")
    data(peer)
    peer.expect(ACK, after=0.04)
    data(peer)                                  # nobody answered: it was no conversation
    peer.expect(ACK)


def test_two_segments_at_once(linux):
    """More than the largest segment that came: two full ones, or several short ones."""
    peer = established(linux)
    past_the_beginning(peer)
    data(peer, MSS)
    peer.expect_nothing(0.01)
    data(peer, MSS)
    peer.expect(ACK)
    for _ in range(10):
        data(peer, 100)
        peer.expect_nothing()
    data(peer, 100)
    peer.expect(ACK)


def test_after_a_long_pause_at_once(linux):
    peer = established(linux)
    past_the_beginning(peer)
    linux.advance(5)
    past_the_beginning(peer)
    data(peer)
    peer.expect(ACK, after=0.04)


def test_the_wait_grows_while_nothing_travels_along(make):
    """Doubled each time the timer runs out, up to 200 ms and the round trip."""
    wire = make(delayed_ack=0.04, quick_acks=0)
    peer = enter(wire, ESTABLISHED, "active", options=opt_mss(MSS))
    waits = []
    for _ in range(6):
        data(peer)
        waits.append(round(wire.advance_to_output(), 2))
        peer.expect(ACK)
    assert waits[0] == 0.04
    assert waits == sorted(waits)
    assert max(waits) <= 0.2


def test_the_longest_wait_is_a_setting(make):
    wire = make(delayed_ack=0.04, delayed_ack_max=0.05, quick_acks=0, timestamps=False)
    peer = established(wire)
    wire.advance(0.0)
    for _ in range(6):
        data(peer)
        assert wire.advance_to_output() <= 0.0521
        peer.expect(ACK)


def test_an_old_segment_makes_acks_quick(linux):
    """The peer sends again what we have: its ACK was lost, or late."""
    peer = established(linux)
    past_the_beginning(peer)
    data(peer, 100, seq=peer.nxt - 100)
    peer.expect(ACK)
    past_the_beginning(peer, 15)
    data(peer)
    peer.expect(ACK, after=0.04)


def test_gaps_and_their_end_at_once(linux):
    peer = established(linux)
    past_the_beginning(peer)
    lost = peer.nxt
    data(peer, 100, seq=lost + 100)
    peer.expect(ACK, ack=lost)
    data(peer, 100, seq=lost)
    peer.expect(ACK, ack=lost + 200)


def test_quickack_on(linux):
    """What is owed leaves, and the next segments are acknowledged at once."""
    peer = established(linux)
    past_the_beginning(peer)
    data(peer)
    peer.expect_nothing()
    peer.conn.quickack = True
    linux.run()
    peer.expect(ACK)
    past_the_beginning(peer, 15)
    data(peer)
    peer.expect(ACK, after=0.04)


def test_quickack_off(linux):
    peer = established(linux)
    peer.conn.quickack = False
    data(peer)
    peer.expect(ACK, after=0.04)
