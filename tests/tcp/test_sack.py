"""SACK blocks of a large window: what they tell is found, kept and believed (RFC 2018, RFC 6675)."""
import random
from collections import deque

import pytest

from iip.apps.bench import register_unyielding
from tests.harness.packets import ACK, M32, opt_mss, opt_sack, opt_sack_permitted, opt_wscale
from tests.harness.peer import Peer
from tests.harness.wire import SECOND

MSS = 1000


def sender(make, total, window):
    """`total` segments to send, of which `window` bytes are in flight; the engine's wire, the peer, the first sequence number."""
    register_unyielding(window)
    wire = make(congestion="unyielding", pool_packets=8192, send_buffer=8 << 20)
    peer = Peer(wire)
    peer.connect(opt_mss(MSS) + opt_wscale(7) + opt_sack_permitted())
    wire.mark()
    start = peer.rcv
    assert peer.conn.send(bytes(total * MSS)) == total * MSS
    wire.run()
    return wire, peer, start


def test_holes_between_runs(make):
    """One ACK tells of three blocks: what lies between them is lost, and sent again at once, the oldest first."""
    wire, peer, start = sender(make, 60, 60 * MSS)
    wire.advance(0.1)
    wire.sent.clear()
    peer.send(ACK, ack=start, options=opt_sack(*((start + a * MSS, start + b * MSS) for a, b in ((41, 60), (21, 40), (1, 20)))))
    for hole in (0, 20, 40):
        peer.expect(ACK, seq=start + hole * MSS, size=MSS)
    peer.expect_nothing()
    peer.send(ACK, ack=start + 60 * MSS)


def blocks_around(arrived, recent):
    """[first, beyond) of the blocks that the latest arrivals lie in, as RFC 2018 §4 orders them."""
    found = []
    for k in recent:
        if not any(first <= k < beyond for first, beyond in found):
            first = beyond = k
            while first - 1 in arrived:
                first -= 1
            while beyond in arrived:
                beyond += 1
            found.append((first, beyond))
    return found[:4]


@pytest.mark.parametrize("seed", range(3))
def test_what_was_told_is_not_sent_again(make, seed):
    """A twentieth of everything is lost, retransmissions too, with a thousand segments in flight: blocks of all lengths come
    back longer. Whatever an ACK told has arrived, and all the rest arrives in the end."""
    chance, total, window = random.Random(seed), 4000, 1000 * MSS
    wire, peer, start = sender(make, total, window)
    line, arrived, recent, told, ack = deque(), set(), deque(maxlen=16), set(), 0
    while ack < total:
        assert wire.now < 60 * SECOND
        for s in wire.sent:
            k = ((s.seq - start) & M32) // MSS
            assert len(s.data) == MSS and k >= ack and k not in told
            if chance.random() > 0.05:
                line.append((wire.now + 50_000_000, k))
        wire.sent.clear()
        fresh = [line.popleft()[1] for _ in range(min(len(line), 4)) if line[0][0] <= wire.now]
        if not fresh:
            wire.advance(0.001)
            continue
        arrived.update(fresh)
        recent.extendleft(fresh)
        while ack in arrived:
            ack += 1
        blocks = blocks_around(arrived, [k for k in recent if k > ack])
        told.update(*(range(*block) for block in blocks))
        peer.send(ACK, ack=start + ack * MSS,
                  options=opt_sack(*((start + a * MSS, start + b * MSS) for a, b in blocks)) if blocks else b"")
    assert wire.counted()["tcp_retransmits"] > 30
