"""Tables and pools that are full: counted, survivable, and nothing is lost for good."""
import pytest

import iip
from iip import Reason
from tests.harness.packets import ACK, FIN, RST, SYN, opt_mss
from tests.harness.peer import Peer
from tests.harness.states import ESTABLISHED, enter


def test_half_open(make):
    """Beyond the limit SYNs are dropped without a word; the peer tries again."""
    wire = make(max_half_open=3, syn_cookies="off")
    wire.engine.tcp_listen(80)
    peers = [Peer(wire, port=100 + i) for i in range(5)]
    for peer in peers:
        peer.syn()
    for peer in peers[:3]:
        peer.expect(SYN | ACK)
    peers[3].expect_nothing()
    wire.counters_are(tcp_passive_opens=3, tcp_in_segments=3, tcp_half_open_full=2, tcp_out_segments=3)
    peers[0].send(ACK)
    peers[1].send(RST)
    for peer in peers[3:]:
        peer.syn(seq=peer.iss)
        peer.expect(SYN | ACK)
    peers[2].send(ACK)
    assert wire.handler.take() == [("accepted",)] * 2


def test_half_open_are_given_up(make):
    wire = make(max_half_open=2, synack_retries=1, rto_initial=0.5)
    wire.engine.tcp_listen(80)
    for port in (1, 2):
        Peer(wire, port=port).syn()
    wire.advance(2)
    wire.sent.clear()
    assert wire.engine.n_connections == 0
    Peer(wire, port=3).connect()


def test_half_open_refusals_do_not_count(make):
    wire = make(max_half_open=1)
    wire.handler.accept = False
    wire.engine.tcp_listen(80)
    for port in range(1, 10):
        peer = Peer(wire, port=port)
        peer.syn()
        peer.expect(RST | ACK, seq=0)


def test_table_full(make):
    wire = make(max_connections=2)
    for port in (1, 2):
        Peer(wire, port=port).connect()
    wire.mark()
    third = Peer(wire, port=3)
    third.syn()
    third.expect_nothing()
    wire.counters_are(tcp_table_full=1)
    with pytest.raises(iip.Exhausted, match=r"raise Config.max_connections"):
        wire.engine.tcp_connect(wire.remote, 9)
    wire.counters_are(tcp_table_full=1)
    wire.handler.conns[1].abort()
    wire.run()
    wire.sent.clear()
    third.nxt = third.iss
    third.connect()


def test_pool_empty_while_sending(make):
    """`send` takes what there is room for and leaves some for what arrives, without which nothing would ever be
    acknowledged; it goes on when packets come back."""
    wire = make(pool_packets=16, send_buffer=1 << 20)
    peer = enter(wire, ESTABLISHED, options=opt_mss(1000))
    taken = peer.conn.send(bytearray(30_000))
    assert 0 < taken < 30_000
    got = 0
    for _ in range(200):
        wire.run()
        for s in wire.sent:
            if s.seq == peer.rcv:
                got += len(s.data)
                peer.rcv += s.space
        wire.sent.clear()
        if got == taken:
            break
        peer.send(ACK)
        wire.advance(0.001)
    assert got == taken
    peer.send(ACK)
    assert wire.engine.pool.full


def test_pool_empty_when_packets_arrive(make):
    """Payload that is kept holds the pool: the driver refuses, and everything works again afterwards."""
    kept = []

    class Keeper(iip.Handler):
        def __init__(self):
            self.conns = {}

        def tcp_accepted(self, conn):
            self.conns[1] = conn

        def tcp_payload(self, conn, data):
            kept.append(data)

        def tcp_closed(self, conn, reason):
            pass

    wire = make(handler=Keeper(), pool_packets=16)
    peer = Peer(wire)
    peer.connect()
    while True:
        packet = peer.packet(ACK, data=b"x" * 100, seq=peer.nxt)
        if not wire.driver.feed(packet):
            break
        peer.nxt += 100
        wire.run()
        assert len(kept) < 20
    assert 10 <= len(kept) <= 16
    wire.sent.clear()
    assert all(bytes(k) == b"x" * 100 for k in kept)
    kept.clear()
    wire.advance(0.01)
    wire.sent.clear()
    peer.send(ACK, data=b"y" * 10)
    peer.expect(ACK)
    assert bytes(kept[0]) == b"y" * 10
    kept.clear()


def test_out_of_order_segments_leave_room_in_the_pool(make):
    """A peer that sends gaps only cannot keep what fills them out."""
    wire = make(pool_packets=16)
    peer = enter(wire, ESTABLISHED)
    start = peer.nxt
    for i in range(1, 20):
        peer.send(ACK, seq=start + 2 * i, data=b"x")
        wire.sent.clear()
    assert wire.row["out_of_order"] < 16
    assert wire.counted()["tcp_ooo_full"] > 0
    for i in range(40):
        peer.send(ACK, seq=start + i, data=b"x")
        wire.sent.clear()
    assert wire.row["rcv_nxt"] == start + 40
    assert b"".join(e[1] for e in wire.handler.take()) == b"x" * 40


def test_transmit_queue_full(make):
    """A driver that takes nothing for a while: output waits."""
    wire = make(tx_queue=16, pool_packets=4096, device="tunnel")
    full = wire.driver
    peer = enter(wire, ESTABLISHED, options=opt_mss(500))
    while True:                   # fill what the driver holds
        before = full.pending
        for _ in range(64):
            assert full.feed(peer.packet(ACK, seq=peer.nxt - 5, data=b"x"))
            wire.engine.run(wire.now)
        if full.pending == before:
            break
    peer.conn.send(b"z" * 5000)
    for _ in range(10):
        wire.now += 1_000_000
        wire.engine.run(wire.now)
    assert wire.counted()["tx_queue_full"] > 0
    full.drain()
    got = b""
    for _ in range(20):
        wire.now += 1_000_000
        wire.run()
        for s in wire.sent:
            if s.data and s.seq == peer.rcv:
                got += s.data
                peer.rcv += s.space
        wire.sent.clear()
        peer.send(ACK)
    assert got == b"z" * 5000
    wire.sent.clear()


def test_many_connections_come_and_go(make):
    """Slots, ports and packets are all given back."""
    wire = make(max_connections=8, time_wait=1)
    wire.handler.close = True
    for i in range(50):
        peer = Peer(wire, port=1000 + i)
        peer.connect()
        peer.send(FIN | ACK, data=b"request")
        peer.expect(FIN | ACK)
        peer.send(ACK)
    assert wire.engine.n_connections == 0
    assert wire.engine.pool.full
    for i in range(50):
        peer = Peer(wire, port=1000 + i)
        peer.connect()
        peer.do("close")
        peer.expect(FIN | ACK)
        peer.send(FIN | ACK)
        peer.expect(ACK)
    wire.advance(1.1)
    assert wire.engine.n_connections == 0
    reasons = [e[1] for e in wire.handler.take() if e[0] == "closed"]
    assert reasons == [Reason.NORMAL] * 100


def test_burst(make):
    """More packets than `burst` are taken in several passes, and `run` says so."""
    wire = make(burst=4)
    peer = enter(wire, ESTABLISHED)
    for i in range(10):
        assert wire.driver.feed(peer.packet(ACK, data=b"%d" % i))
    assert wire.engine.run(wire.now) <= wire.now
    assert len(wire.handler.take()) == 4
    wire.run()
    assert len(wire.handler.take()) == 6
    wire.sent.clear()
