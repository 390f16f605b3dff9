"""The calls CLOSE, SHUTDOWN, ABORT and SEND, in every state (RFC 9293 §3.10.2 to §3.10.5)."""
import pytest

import iip
from iip import Reason
from tests.harness.packets import ACK, FIN, RST, SYN
from tests.harness.peer import Peer
from tests.harness.states import (
    CLOSE_WAIT,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYN_RCVD,
    SYN_SENT,
    SYNCHRONIZED,
    TIME_WAIT,
    enter,
    ids,
    matrix,
)

roles = pytest.mark.parametrize("role", ["passive", "active"])
LIVE = matrix(*(s for s in SYNCHRONIZED if s != TIME_WAIT))


# -- ABORT -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("state,role", LIVE, ids=map(ids, LIVE))
def test_abort(wire, state, role):
    """§3.10.5: <SEQ=SND.NXT><CTL=RST>; the queues are gone."""
    peer = enter(wire, state, role)
    peer.do("abort")
    peer.expect(RST | ACK, seq=peer.rcv)
    peer.expect_nothing(200)
    assert wire.handler.take() == [("closed", Reason.ABORTED)]
    assert wire.engine.n_connections == 0
    wire.counters_are(tcp_closed=1, tcp_rst_out=1, tcp_out_segments=1)


def test_abort_syn_sent(wire):
    """Nothing to reset yet."""
    peer = enter(wire, SYN_SENT)
    peer.do("abort")
    peer.expect_nothing(60)
    assert wire.handler.take() == [("closed", Reason.ABORTED)]
    assert wire.engine.n_connections == 0


def test_abort_syn_received(wire):
    peer = enter(wire, SYN_RCVD, "active")
    peer.do("abort")
    peer.expect(RST | ACK, seq=peer.rcv)
    assert wire.handler.take() == [("closed", Reason.ABORTED)]


def test_abort_time_wait(wire):
    """The application's part is over: nothing happens."""
    peer = enter(wire, TIME_WAIT)
    peer.do("abort")
    peer.expect_nothing()
    assert wire.state == TIME_WAIT


def test_abort_with_data_queued(wire):
    peer = enter(wire, ESTABLISHED)
    peer.wnd = 1000
    peer.send(ACK)
    peer.conn.send(b"x" * 100_000)
    wire.run()
    sent = sum(s.space for s in wire.sent)
    wire.sent.clear()
    peer.do("abort")
    peer.expect(RST | ACK, seq=peer.rcv + sent)
    assert wire.engine.pool.full


@pytest.mark.parametrize("event", ["accepted", "payload", "shutdown"])
def test_abort_in_a_callback(wire, event):
    wire.handler.on[event] = lambda conn: conn.abort()
    peer = Peer(wire)
    wire.engine.tcp_listen(80)
    peer.syn()
    peer.expect(SYN | ACK)
    peer.send(ACK | FIN, data=b"data")
    peer.expect(RST | ACK)
    events = wire.handler.take()
    assert events[-1] == ("closed", Reason.ABORTED)
    assert [e[0] for e in events[:-1]] == ["accepted", "payload", "shutdown"][:len(events) - 1]
    assert events[-2][0] == event
    assert wire.engine.n_connections == 0


# -- SHUTDOWN and CLOSE ----------------------------------------------------------------------------------------

@roles
@pytest.mark.parametrize("call", ["shutdown", "close"])
def test_established(wire, role, call):
    peer = enter(wire, ESTABLISHED, role)
    peer.do(call)
    peer.expect(FIN | ACK)
    assert wire.state == FIN_WAIT_1
    peer.do(call)                 # once more changes nothing
    peer.expect_nothing()
    peer.send(ACK)
    assert wire.state == FIN_WAIT_2
    peer.send(FIN | ACK)
    peer.expect(ACK)
    assert wire.state == TIME_WAIT
    heard = [("shutdown",)] if call == "shutdown" else []
    assert wire.handler.take() == [*heard, ("closed", Reason.NORMAL)]


@roles
@pytest.mark.parametrize("call", ["shutdown", "close"])
def test_close_wait(wire, role, call):
    peer = enter(wire, CLOSE_WAIT, role)
    peer.do(call)
    peer.expect(FIN | ACK)
    assert wire.state == LAST_ACK
    peer.send(ACK)
    assert wire.handler.take() == [("closed", Reason.NORMAL)]
    assert wire.engine.n_connections == 0


@pytest.mark.parametrize("state", [FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK], ids=lambda s: s.name)
@pytest.mark.parametrize("call", ["shutdown", "close"])
def test_closing_already(wire, state, call):
    peer = enter(wire, state)
    peer.do(call)
    peer.expect_nothing()
    assert wire.state == state


def test_close_syn_sent(wire):
    peer = enter(wire, SYN_SENT)
    peer.do("close")
    peer.expect_nothing(60)
    assert wire.handler.take() == [("closed", Reason.ABORTED)]
    assert wire.engine.n_connections == 0


def test_shutdown_syn_sent(wire):
    """What was queued and the FIN follow the handshake."""
    peer = enter(wire, SYN_SENT)
    peer.conn.send(b"request")
    peer.do("shutdown")
    peer.expect_nothing()
    peer.send(SYN | ACK)
    peer.expect(FIN | ACK, data=b"request")
    assert wire.state == FIN_WAIT_1


def test_close_syn_received(wire):
    """§3.10.4: queued until ESTABLISHED."""
    peer = enter(wire, SYN_RCVD, "active")
    peer.do("close")
    peer.expect_nothing()
    peer.send(ACK)
    peer.expect(FIN | ACK)
    assert wire.state == FIN_WAIT_1
    peer.send(FIN | ACK)
    peer.expect(ACK)
    assert wire.handler.take() == [("closed", Reason.NORMAL)]


def test_shutdown_with_data_queued(wire):
    """Everything that was queued goes first, the FIN with the last of it."""
    peer = enter(wire, ESTABLISHED)
    peer.wnd = 1000
    peer.send(ACK)
    peer.conn.send(bytes(range(200)) * 10)
    peer.do("close")
    got, flags = b"", 0
    while not flags & FIN:
        assert wire.sent or wire.advance_to_output()
        for s in wire.sent:
            assert s.seq == peer.rcv
            got += s.data
            peer.rcv += s.space
            flags = s.flags
        wire.sent.clear()
        assert len(got) <= 2000
        peer.send(ACK)
    assert got == bytes(range(200)) * 10
    assert wire.state == FIN_WAIT_2


def test_close_drops_what_was_not_read(wire):
    """Payload and out-of-order segments that nobody will read go back to the pool."""
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK, seq=peer.nxt + 10, data=b"hole before")
    peer.expect(ACK)
    peer.do("close")
    peer.expect(FIN | ACK)
    assert wire.row["out_of_order"] == 0


def test_close_in_the_shutdown_callback(wire):
    """The answer to a FIN: one segment acknowledges and closes."""
    wire.handler.close = True
    peer = enter(wire, ESTABLISHED)
    peer.send(FIN | ACK)
    peer.expect(FIN | ACK)
    peer.expect_nothing()
    assert wire.state == LAST_ACK
    peer.send(ACK)
    assert wire.handler.take() == [("shutdown",), ("closed", Reason.NORMAL)]


def test_answer_and_close_in_the_payload_callback(wire):
    def answer(conn):
        conn.send(b"answer")
        conn.close()

    wire.handler.on["payload"] = answer
    peer = enter(wire, ESTABLISHED)
    wire.feed(peer.packet(ACK, data=b"one"))
    peer.expect(FIN | ACK, data=b"answer")


def test_no_callbacks_but_closed_after_close(wire):
    peer = enter(wire, ESTABLISHED)
    peer.write(b"x")
    peer.expect(ACK, data=b"x")
    peer.do("close")
    peer.expect(FIN | ACK)
    peer.send(ACK)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    assert wire.handler.take() == [("closed", Reason.NORMAL)]


# -- SEND ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("state", [FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK], ids=lambda s: s.name)
@pytest.mark.parametrize("data", [b"x", b"x" * 10_000], ids=["copied", "referenced"])
def test_send_after_shutdown(wire, state, data):
    peer = enter(wire, state)
    with pytest.raises(BrokenPipeError, match="after shutdown"):
        peer.conn.send(data)
    assert peer.conn.send_room == 0


def test_send_is_bounded(make):
    wire = make(send_buffer=5000)
    peer = enter(wire, ESTABLISHED)
    peer.wnd = 0
    peer.send(ACK)
    assert peer.conn.send(b"x" * 3000) == 3000
    assert peer.conn.send(b"x" * 3000) == 2000
    assert peer.conn.send(b"x") == 0
    assert peer.conn.send_room == 0
    assert peer.conn.unacknowledged == 5000
    peer.do("abort")
    peer.expect(RST | ACK)


@pytest.mark.parametrize("call", ["send", "consume", "shutdown", "send_room", "unacknowledged", "mss", "nodelay"])
def test_handle_after_the_end(wire, call):
    peer = enter(wire, ESTABLISHED)
    conn = peer.conn
    peer.send(RST)
    wire.handler.take()
    with pytest.raises(iip.ConnectionGone, match="closed"):
        if call in ("send", "consume"):
            getattr(conn, call)(b"x" if call == "send" else 1)
        elif call == "shutdown":
            conn.shutdown()
        else:
            getattr(conn, call)
    conn.close()
    conn.abort()
    assert conn.closed
    assert conn.state == iip.State.CLOSED
    assert "CLOSED" in repr(conn)


def test_handle_of_a_slot_that_was_reused(make):
    wire = make(max_connections=1)
    first = Peer(wire, port=1)
    first.connect()
    old = first.conn
    first.send(RST)
    second = Peer(wire, port=2)
    second.connect()
    old.abort()
    wire.run()
    with pytest.raises(iip.ConnectionGone):
        old.send(b"x")
    assert wire.state == ESTABLISHED
    assert second.conn.state == ESTABLISHED


def test_handle_after_the_engine_is_closed(wire):
    peer = enter(wire, ESTABLISHED)
    wire.engine.close()
    assert peer.conn.closed
    with pytest.raises(iip.ConnectionGone):
        peer.conn.send(b"x")
    with pytest.raises(iip.IipError, match="engine is closed"):
        wire.engine.run(wire.now)


def test_fin_waits_for_the_window(wire):
    """A FIN takes a sequence number, which has to lie in the window (RFC 9293 §3.4, §3.8.6)."""
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK, wnd=0)
    peer.do("shutdown")
    peer.expect_nothing()
    peer.expect(ACK, seq=peer.rcv - 1, after=0.2)        # the window is probed
    assert wire.state == ESTABLISHED
    peer.send(ACK, wnd=1)
    peer.expect(FIN | ACK)


def test_fin_does_not_ride_beyond_the_window(wire):
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK, wnd=10)
    peer.conn.send(b"0123456789")
    peer.do("shutdown")
    peer.expect(ACK, data=b"0123456789")
    peer.send(ACK, wnd=10)
    peer.expect(FIN | ACK)
