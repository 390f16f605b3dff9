"""What the application sets for one connection."""
import pytest

import iip
from iip import Reason
from tests.harness.packets import ACK, FIN, RST, SYN, opt_mss
from tests.harness.states import ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, enter

MSS = 1000


def established(wire, **kwargs):
    return enter(wire, ESTABLISHED, options=opt_mss(MSS), **kwargs)


# -- every option: what it is at first, what it may be ---------------------------------------------------------

@pytest.mark.parametrize("name,first,values,wrong", [
    ("nodelay", False, (True, False), ()),
    ("cork", False, (True, False), ()),
    ("quickack", True, (False, True), ()),
    ("keepalive", False, (True, False), ()),
    ("keepalive_idle", 7200.0, (1.5, 86400.0), (0, -1, 1e9)),
    ("keepalive_interval", 75.0, (0.5,), (0,)),
    ("keepalive_probes", 9, (1, 255), (0, 256)),
    ("user_timeout", 0.0, (0.25, 0.0), (-1,)),
    ("linger", None, (0.0, 3.5, None), (-1, 1e9)),
    ("unsent_low", 0, (1, 100_000, 0), (-1, 1 << 31)),
    ("max_seg", 0, (88, 0), (-1, 65536)),
    ("traffic_class", 0, (0x10, 0xFC, 0), (-1, 256)),
    ("ttl", 64, (1, 255), (0, 256)),
    ("send_buffer", 1 << 20, (1, 1 << 30), (0, 1 << 31)),
    ("receive_buffer", 65535, (1, 65535), (0, 1 << 31)),
])
def test_values(wire, name, first, values, wrong):
    conn = established(wire).conn
    assert getattr(conn, name) == first
    for value in values:
        setattr(conn, name, value)
        assert getattr(conn, name) == value
    for value in wrong:
        with pytest.raises(iip.ConfigError, match=f"^{name}: must be from"):
            setattr(conn, name, value)
    wire.run()


# -- keepalive and user timeout --------------------------------------------------------------------------------

def test_keepalive_of_one_connection(wire):
    peer = established(wire)
    peer.conn.keepalive_idle, peer.conn.keepalive_interval, peer.conn.keepalive_probes = 5.0, 2.0, 2
    peer.conn.keepalive = True
    wire.run()
    peer.expect(ACK, seq=peer.rcv - 1, after=5.0)
    peer.send(ACK)
    peer.expect(ACK, seq=peer.rcv - 1, after=5.0)
    peer.expect(ACK, seq=peer.rcv - 1, after=2.0)
    peer.expect(RST | ACK, after=2.0)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]


def test_keepalive_with_a_user_timeout(wire):
    """The time decides, not the number of probes."""
    peer = established(wire)
    peer.conn.keepalive_idle, peer.conn.keepalive_interval, peer.conn.keepalive_probes = 5.0, 2.0, 1
    peer.conn.user_timeout = 10.0
    peer.conn.keepalive = True
    wire.run()
    peer.expect(ACK, seq=peer.rcv - 1, after=5.0)
    peer.expect(ACK, seq=peer.rcv - 1, after=2.0)
    peer.expect(ACK, seq=peer.rcv - 1, after=2.0)
    peer.expect(RST | ACK, after=2.0)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]


def test_user_timeout_of_one_connection(wire):
    peer = established(wire)
    peer.conn.user_timeout = 1.0
    peer.write(b"x")
    peer.expect(ACK, data=b"x")
    wire.advance(0.99)
    wire.sent.clear()
    assert wire.state == ESTABLISHED
    peer.expect_nothing(0.11)
    assert wire.handler.take() == [("closed", Reason.TIMEOUT)]


# -- linger ----------------------------------------------------------------------------------------------------

def test_linger_zero_is_an_abort(wire):
    peer = established(wire)
    peer.conn.linger = 0
    peer.conn.send(b"never sent")
    peer.do("close")
    peer.expect(RST | ACK)
    assert wire.handler.take() == [("closed", Reason.ABORTED)]


def test_linger_ends_in_an_abort(wire):
    peer = established(wire)
    peer.conn.linger = 3.0
    peer.do("close")
    peer.expect(FIN | ACK)
    peer.send(ACK)
    assert wire.state == FIN_WAIT_2
    peer.expect(RST | ACK, after=3.0)
    assert wire.handler.take() == [("closed", Reason.ABORTED)]
    assert wire.engine.n_connections == 0
    assert wire.engine.stats()["tcp_linger_expired"] == 1


def test_linger_that_is_not_needed(wire):
    peer = established(wire)
    peer.conn.linger = 3.0
    peer.do("close")
    peer.expect(FIN | ACK)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    peer.expect_nothing(100)
    assert wire.handler.take() == [("closed", Reason.NORMAL)]


def test_without_linger_the_peer_may_take_its_time(wire):
    peer = established(wire)
    peer.do("close")
    peer.expect(FIN | ACK)
    assert wire.state == FIN_WAIT_1
    wire.advance(20)
    wire.sent.clear()
    assert wire.state == FIN_WAIT_1
    peer.do("abort")
    peer.expect(RST | ACK)


# -- back-pressure ---------------------------------------------------------------------------------------------

def test_unsent_low(wire):
    """`send` takes little, and `tcp_acked` waits until that little is on its way."""
    peer = established(wire)
    peer.conn.unsent_low = 3 * MSS
    assert peer.conn.send_room == 3 * MSS
    assert peer.conn.send(b"x" * 100 * MSS) == 3 * MSS
    assert peer.conn.unsent == 3 * MSS
    assert peer.conn.send(b"x") == 0
    wire.run()                                  # the window takes all of it: room again
    assert wire.handler.take() == [("acked", 0)]
    assert peer.conn.unsent == 0
    wire.sent.clear()


def test_unsent_low_holds_acked_back(wire):
    peer = established(wire)
    peer.send(ACK, wnd=2 * MSS, seq=peer.nxt)
    peer.write(b"x" * 10 * MSS)
    assert [len(s.data) for s in wire.sent] == [MSS] * 2
    peer.conn.unsent_low = 5 * MSS
    peer.rcv += 2 * MSS
    wire.sent.clear()
    peer.send(ACK, wnd=2 * MSS, seq=peer.nxt)
    assert wire.handler.take() == []            # 6 segments are unsent now
    peer.rcv += 2 * MSS
    wire.sent.clear()
    peer.send(ACK, wnd=2 * MSS, seq=peer.nxt)
    assert wire.handler.take() == [("acked", 4 * MSS)]      # 4
    wire.sent.clear()


def test_unsent_low_as_a_setting(make):
    wire = make(unsent_low=2000)
    assert established(wire).conn.unsent_low == 2000


# -- pause and resume ------------------------------------------------------------------------------------------

def test_pause(make):
    wire = make(receive_buffer=4 * MSS)
    peer = established(wire)
    peer.conn.pause()
    assert peer.conn.paused
    for i in range(4):
        peer.send(ACK, data=bytes([i]) * MSS)
        window = peer.expect(ACK).wnd
    assert window == 0
    assert wire.handler.take() == []
    peer.conn.resume()
    wire.run()
    assert wire.handler.take() == [("payload", bytes([i]) * MSS) for i in range(4)]
    peer.expect(ACK, wnd=4 * MSS)


def test_pause_holds_the_fin_back(wire):
    peer = established(wire)
    peer.conn.pause()
    peer.send(FIN | ACK, data=b"the end")
    peer.expect(ACK)
    assert wire.handler.take() == []
    peer.do("resume")
    assert wire.handler.take() == [("payload", b"the end"), ("shutdown",)]


def test_pause_in_the_callback(wire):
    peer = established(wire)
    wire.handler.on["payload"] = lambda conn: conn.pause()
    wire.feed(peer.packet(ACK, data=b"1"), peer.packet(ACK, data=b"2"))
    peer.expect(ACK)
    assert wire.handler.take() == [("payload", b"1")]
    peer.do("resume")
    assert wire.handler.take() == [("payload", b"2")]


def test_a_connection_that_is_over_does_not_wait(wire):
    peer = established(wire)
    peer.do("shutdown")
    peer.expect(FIN | ACK)
    peer.conn.pause()
    peer.send(FIN | ACK, data=b"bye")
    peer.expect(ACK)
    assert wire.handler.take() == [("payload", b"bye"), ("shutdown",), ("closed", Reason.NORMAL)]


# -- the packets -----------------------------------------------------------------------------------------------

def test_traffic_class_and_ttl(wire, version):
    peer = established(wire)
    peer.conn.traffic_class, peer.conn.ttl = 0xB9, 7
    wire.run()
    peer.write(b"x")
    raw = peer.expect(ACK, data=b"x").raw
    if version == 4:
        assert (raw[1], raw[8]) == (0xB8, 7)
    else:
        assert ((raw[0] << 4 | raw[1] >> 4) & 0xFF, raw[7]) == (0xB8, 7)


def test_max_seg(wire):
    peer = established(wire)
    peer.conn.max_seg = 500
    wire.run()
    peer.write(b"x" * 1000)
    peer.expect(ACK, size=500)
    peer.expect(ACK, size=500)
    assert peer.conn.mss == 500


def test_max_seg_before_the_connection_opens(wire):
    from tests.harness.peer import Peer
    peer = Peer(wire)
    conn = wire.engine.tcp_connect(wire.remote, peer.port, source_port=peer.local_port)
    conn.max_seg = 700
    wire.handler.conns[peer.port] = conn
    wire.run()
    assert peer.expect(SYN, ack=0).options.mss == 700
    peer.answer(opt_mss(1460))
    assert conn.mss == 700
