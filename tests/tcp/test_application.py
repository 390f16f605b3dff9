"""What applications see: callbacks and their exceptions, payload views, handles, snapshots, times."""
import gc

import numpy as np
import pytest

import iip
from iip import Reason, State
from iip.tcp.inspect import ROW
from tests.harness.packets import ACK, FIN, RST, SYN, opt_mss, opt_sack_permitted, opt_timestamps, opt_wscale
from tests.harness.peer import Peer
from tests.harness.states import ESTABLISHED, LAST_ACK, LISTEN, SYN_SENT, TIME_WAIT, enter


class Boom(Exception):
    pass


def boom(conn):
    raise Boom(conn.remote[1])


@pytest.mark.parametrize("event", ["accepted", "payload", "acked", "shutdown", "closed"])
def test_exceptions_come_out_of_run(wire, event):
    """After the pass is complete: the protocol goes on as if nothing had been."""
    wire.engine.tcp_listen(80)
    wire.handler.on[event] = boom
    peer = Peer(wire)
    peer.syn()
    peer.expect(SYN | ACK)
    raised = 0
    for flags, data in ((ACK, b""), (ACK, b"x"), (FIN | ACK, b"")):
        try:
            peer.send(flags, data=data)
        except Boom:
            raised += 1
            wire.run()
        wire.sent.clear()
    peer.rcv = int(wire.row["snd_nxt"])
    peer.conn.send(b"y")
    wire.run()
    peer.expect(ACK, data=b"y")
    try:
        peer.send(ACK)
    except Boom:
        raised += 1
        wire.run()
    try:
        peer.send(RST)
    except Boom:
        raised += 1
        wire.run()
    assert raised == 1
    assert [e[0] for e in wire.handler.take()] == ["accepted", "payload", "shutdown", "acked", "closed"]
    assert wire.engine.n_connections == 0


def test_exception_of_connected(wire):
    wire.handler.on["connected"] = boom
    peer = enter(wire, SYN_SENT)
    with pytest.raises(Boom):
        peer.send(SYN | ACK)
    wire.run()
    wire.sent.clear()
    assert wire.state == ESTABLISHED


def test_exception_of_accept_refuses(wire):
    def accept(syn):
        raise Boom

    wire.handler.accept = accept
    peer = enter(wire, LISTEN)
    with pytest.raises(Boom):
        peer.syn()
    wire.run()
    peer.expect(RST | ACK, seq=0)
    assert wire.engine.n_connections == 0


def test_handler_without_methods(make):
    """Whatever is left out has a default: accept, consume, close when the peer does."""

    class Nothing:
        def __init__(self):
            self.conns = {}

    wire = make(handler=Nothing(), receive_buffer=3000)
    peer = Peer(wire)
    peer.connect()
    for _ in range(10):
        peer.send(ACK, data=b"x" * 1000)
        peer.expect(ACK)
    peer.send(FIN | ACK)
    peer.expect(FIN | ACK)
    peer.send(ACK)
    assert wire.engine.n_connections == 0


def test_context_belongs_to_the_application(wire):
    peer = enter(wire, ESTABLISHED)
    peer.conn.context = {"mine": 1}
    seen = []
    wire.handler.on["payload"] = lambda conn: seen.append(conn.context)
    peer.send(ACK, data=b"x")
    peer.expect(ACK)
    assert seen == [{"mine": 1}]


def test_connections_cannot_be_made():
    with pytest.raises(TypeError, match="tcp_connect"):
        iip.Connection()
    with pytest.raises(TypeError, match="engine"):
        iip.Payload()


# -- payload ---------------------------------------------------------------------------------------------------

@pytest.fixture
def keeper(make):
    class Keeper(iip.Handler):
        def __init__(self):
            self.kept, self.conns = [], {}

        def tcp_accepted(self, conn):
            self.conns[conn.remote[1]] = conn

        def tcp_payload(self, conn, data):
            self.kept.append(data)
            conn.consume(len(data))

        def tcp_closed(self, conn, reason):
            pass

    return make(handler=Keeper())


def test_kept_payload_pins_its_packet(keeper):
    """The bytes stay as they are while somebody looks, over the end of the connection, and go back afterwards."""
    wire, kept = keeper, keeper.handler.kept
    peer = Peer(wire)
    peer.connect()
    for i in range(5):
        peer.send(ACK, data=bytes([i]) * 100)
        peer.expect(ACK)
    pool = wire.engine.pool
    assert pool.packets - pool.free_packets == 5
    assert [bytes(k) for k in kept] == [bytes([i]) * 100 for i in range(5)]
    peer.send(RST)
    for _ in range(100):          # other packets come and go meanwhile
        peer.send(ACK)
        peer.expect(RST, seq=peer.rcv)
    assert [bytes(k) for k in kept] == [bytes([i]) * 100 for i in range(5)]
    view = memoryview(kept[0])
    kept.clear()
    gc.collect()
    assert pool.packets - pool.free_packets == 1
    assert bytes(view) == b"\0" * 100
    view.release()
    assert pool.full


def test_payload_is_like_bytes(keeper):
    wire, kept = keeper, keeper.handler.kept
    peer = Peer(wire)
    peer.connect()
    peer.send(ACK, data=b"hello world")
    peer.expect(ACK)
    (data,) = kept
    assert len(data) == 11
    assert data == b"hello world"
    assert data != b"hello"
    assert data[0] == ord("h")
    assert data[-5:] == b"world"
    assert np.frombuffer(data, np.uint8).sum() == sum(b"hello world")
    assert "11 bytes" in repr(data)
    with pytest.raises(TypeError):
        memoryview(data)[0] = 1
    with pytest.raises(IndexError):
        data[11]
    kept.clear()
    del data


def test_payload_not_kept_is_free_at_once(wire):
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK, data=b"x" * 1000)
    peer.expect(ACK)
    assert wire.engine.pool.full


def test_referenced_buffer_is_released_when_acknowledged(wire):
    """`send` of a long `bytes` holds it, and only until the peer has it."""
    peer = enter(wire, ESTABLISHED, options=opt_mss(1000))
    data = bytearray(b"r" * 5000)
    assert peer.conn.send(data, reference=True) == 5000
    wire.run()
    with pytest.raises(BufferError):
        data.append(1)
    for _ in range(5):
        peer.expect(ACK, data=b"r" * 1000)
    peer.send(ACK)
    data.append(1)
    assert wire.engine.pool.full


def test_referenced_buffer_is_released_on_abort(wire):
    peer = enter(wire, ESTABLISHED)
    data = bytearray(50_000)
    peer.conn.send(data, reference=True)
    peer.do("abort")
    wire.sent.clear()
    data.append(1)


def test_consume_of_a_negative_number(wire):
    peer = enter(wire, ESTABLISHED)
    with pytest.raises(ValueError, match="negative"):
        peer.conn.consume(-1)


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
def test_send_of_something_else(wire, data):
    peer = enter(wire, ESTABLISHED)
    with pytest.raises(TypeError):
        peer.conn.send(data)


# -- snapshot --------------------------------------------------------------------------------------------------

def test_snapshot_empty(wire):
    rows = wire.engine.connections()
    assert rows.dtype == ROW
    assert len(rows) == 0


def test_snapshot(make, version):
    wire = make(receive_buffer=1 << 17)
    peer = Peer(wire)
    wire.engine.tcp_listen(80)
    peer.syn(opt_mss(1000) + opt_sack_permitted() + opt_timestamps(1, 0) + opt_wscale(4))
    answer = peer.expect(SYN | ACK)
    wire.advance(0.05)
    peer.ts = True
    peer.send(ACK, wnd=2000)
    wire.handler.consume = False
    peer.send(ACK, data=b"x" * 10, wnd=2000)
    peer.expect(ACK)
    peer.conn.send(b"y" * 500)
    wire.run()
    peer.expect(ACK, data=b"y" * 500)
    row = wire.row
    mapped = {4: bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 1]), 6: b"\xfd" + bytes(14) + b"\x01"}
    assert bytes(row["local"]) == mapped[version]
    assert bytes(row["remote"]) == mapped[version][:-1] + b"\x02"
    assert row["state"] == State.ESTABLISHED
    expected = {"local_port": 80, "remote_port": 40000, "passive": 1, "sack": 1, "timestamps": 1, "snd_wscale": 4,
                "rcv_wscale": 2, "iss": answer.seq, "irs": peer.iss, "snd_una": answer.seq + 1,
                "snd_nxt": answer.seq + 501, "snd_wnd": 2000 << 4, "rcv_nxt": peer.nxt, "rcv_buffered": 10,
                "in_flight": 500, "unsent": 0, "mss": 988, "mtu": 1500, "bytes_received": 10, "bytes_acked": 0,
                "srtt": 50_000_000, "cwnd": 9880, "out_of_order": 0, "retransmits": 0, "backoff": 0}
    assert {name: int(row[name]) for name in expected} == {k: v & 0xFFFFFFFFFFFFFFFF for k, v in expected.items()}


def test_snapshot_of_many(wire):
    for port, state in ((1, ESTABLISHED), (2, LAST_ACK), (3, TIME_WAIT)):
        peer = Peer(wire, port=port)
        peer.connect()
        if state == LAST_ACK:
            peer.send(FIN | ACK)
            peer.expect(ACK)
            peer.do("shutdown")
            peer.expect(FIN | ACK)
        elif state == TIME_WAIT:
            peer.do("shutdown")
            peer.expect(FIN | ACK)
            peer.send(FIN | ACK)
            peer.expect(ACK)
    rows = wire.engine.connections()
    assert {int(r["remote_port"]): State(int(r["state"])) for r in rows} == {1: ESTABLISHED, 2: LAST_ACK, 3: TIME_WAIT}
    assert wire.engine.n_connections == 3
    copy = rows.copy()
    wire.handler.conns[1].abort()
    wire.run()
    wire.sent.clear()
    assert (rows == copy).all()   # a snapshot, not a view


# -- time and repeatability ------------------------------------------------------------------------------------

def test_run_says_when_to_run_again(make):
    wire = make(keepalive=0)
    assert wire.next is None
    peer = enter(wire, ESTABLISHED)
    wire.advance(2)               # deadlines that were cancelled wake it once
    assert wire.next is None
    peer.write(b"x")
    peer.expect(ACK, data=b"x")
    rto = int(wire.row["rto"])
    assert abs(wire.next - wire.now - rto) <= 2_000_000
    peer.send(ACK)
    while wire.next is not None:
        assert wire.next > wire.now
        wire.run_until(wire.next)
    peer.expect_nothing()


def test_same_seed_same_packets(version):
    """Any run can be repeated bit by bit."""
    from tests.harness.wire import Wire

    def run():
        wire = Wire(version)
        peer = Peer(wire)
        peer.connect(opt_mss(1000) + opt_timestamps(1, 0))
        peer.conn.send(b"x" * 10_000)
        wire.run()
        wire.advance(10)
        raw = [s.raw for s in wire.sent]
        wire.sent.clear()
        wire.finish()
        return raw

    first = run()
    assert len(first) > 10
    assert run() == first


def test_late_runs_lose_nothing(wire):
    """The program was busy for an hour: everything due happens, and time goes on from there."""
    peer = enter(wire, ESTABLISHED)
    peer.write(b"x")
    peer.expect(ACK, data=b"x")
    wire.now += 3600 * 10**9
    wire.run()
    peer.expect(ACK, seq=peer.rcv - 1, data=b"x")
    peer.send(ACK)
    assert wire.handler.take() == [("acked", 1)]


def test_closed_is_told_once_and_last(wire):
    peer = enter(wire, ESTABLISHED)
    wire.feed(peer.packet(ACK, data=b"a"), peer.packet(FIN | ACK, data=b"b"))
    peer.conn.shutdown()
    wire.run()
    wire.sent.clear()
    peer.rcv = int(wire.row["snd_nxt"])
    peer.send(ACK)
    wire.advance(100)
    events = wire.handler.take()
    assert events[-1] == ("closed", Reason.NORMAL)
    assert [e[0] for e in events].count("closed") == 1


def test_connect_errors(wire):
    with pytest.raises(iip.ConfigError, match=r"port=0.*from 1 to 65535"):
        wire.engine.tcp_connect(wire.remote, 0)
    with pytest.raises(iip.ConfigError, match=r"port=65536"):
        wire.engine.tcp_connect(wire.remote, 65536)
    with pytest.raises(iip.ConfigError, match="source_port"):
        wire.engine.tcp_connect(wire.remote, 80, source_port=-1)
    with pytest.raises(iip.ConfigError, match="address"):
        wire.engine.tcp_connect("not an address", 80)
    with pytest.raises(iip.ConfigError, match="no route"):
        wire.engine.tcp_connect("0.0.0.0", 80)
    with pytest.raises(iip.ConfigError, match=r"port=70000.*from 0 to 65535"):
        wire.engine.tcp_listen(70000)
    assert wire.engine.n_connections == 0


def test_connection_with_ourselves(wire):
    """Over the engine's own loopback: both ends are ours."""
    wire.engine.tcp_listen(80)
    conn = wire.engine.tcp_connect(wire.local, 80)
    wire.run()
    assert sorted(e[0] for e in wire.handler.take()) == ["accepted", "connected"]
    conn.send(b"to myself")
    wire.run()
    assert ("payload", b"to myself") in wire.handler.take()
    conn.close()
    wire.run()
    assert not wire.sent


@pytest.mark.parametrize("call", ["run", "close"])
def test_engine_calls_in_a_callback(wire, call):
    """`run` is not re-entrant, and the engine cannot end while it runs."""
    def misuse(conn):
        if call == "run":
            wire.engine.run(wire.now)
        else:
            wire.engine.close()

    peer = enter(wire, ESTABLISHED)
    wire.handler.on["payload"] = misuse
    with pytest.raises(iip.IipError, match=rf"{call}\(\) was called from a callback"):
        peer.send(ACK, data=b"x")
    wire.run()
    peer.expect(ACK)
    assert wire.state == ESTABLISHED
