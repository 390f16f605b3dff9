"""A connection in each of the eleven states of RFC 9293 §3.3.2, from both sides where there are two ways."""
from __future__ import annotations

from iip import State
from tests.harness.packets import ACK, FIN, SYN
from tests.harness.peer import Peer

S = State
CLOSED, LISTEN, SYN_SENT, SYN_RCVD, ESTABLISHED = S.CLOSED, S.LISTEN, S.SYN_SENT, S.SYN_RCVD, S.ESTABLISHED
FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT = (
    S.FIN_WAIT_1, S.FIN_WAIT_2, S.CLOSE_WAIT, S.CLOSING, S.LAST_ACK, S.TIME_WAIT)

SYNCHRONIZED = (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT)
RECEIVING = (ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2)
AFTER_FIN = (CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT)
ROLES = ("passive", "active")


def matrix(*states):
    """(state, role) pairs: both roles where both lead there."""
    pairs = []
    for state in states:
        if state in (CLOSED, LISTEN):
            pairs.append((state, "passive"))
        elif state == SYN_SENT:
            pairs.append((state, "active"))
        else:
            pairs += [(state, role) for role in ROLES]
    return pairs


def ids(pair):
    return f"{pair[0].name}-{pair[1]}"


def enter(wire, state, role="passive", options=b"", **peer):
    """Bring the engine to `state`; the peer of the connection. SYN_RCVD of an active open is the simultaneous
    one. Sending ends by `shutdown`, so that the application still receives. Events are those of the way."""
    peer = Peer(wire, **peer)
    if state == CLOSED:
        return peer
    if state == SYN_SENT:
        role = "active"
    if role == "passive":
        wire.engine.tcp_listen(peer.local_port)
        if state == LISTEN:
            return peer
        peer.syn(options)
        peer.ts = peer.expect(SYN | ACK).options.timestamps is not None
        if state == SYN_RCVD:
            return peer
        peer.send(ACK)
    else:
        wants = peer.called().options.timestamps is not None
        if state == SYN_SENT:
            return peer
        if state == SYN_RCVD:
            peer.syn(options)
            peer.expect(SYN | ACK)
            return peer
        peer.ts = wants and b"\x08\x0a" in options
        peer.answer(options)
    if state != ESTABLISHED:
        _finish(peer, state)
    wire.handler.take()
    wire.mark()
    peer.expect_nothing()
    assert wire.state == state
    return peer


def _finish(peer, state):
    if state in (CLOSE_WAIT, LAST_ACK):
        peer.send(FIN | ACK)
        peer.expect(ACK)
    if state == CLOSE_WAIT:
        return
    peer.do("shutdown")
    before = peer.rcv
    peer.expect(FIN | ACK)
    if state in (FIN_WAIT_2, TIME_WAIT):
        peer.send(ACK)
    if state == CLOSING:
        peer.send(FIN | ACK, ack=before)
        peer.expect(ACK)
    if state == TIME_WAIT:
        peer.send(FIN | ACK)
        peer.expect(ACK)
