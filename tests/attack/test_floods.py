"""Floods of everything but SYNs: answered within limits, and forgotten."""
import numpy as np
import pytest

import iip
from tests.attack.forge import forge, strangers, template
from tests.attack.world import CLIENT, SERVER, World
from tests.harness.packets import ACK, FIN, M32, PSH, RST, SYN, URG, ip, opt_mss, opt_sack, opt_sack_permitted, tcp
from tests.harness.packets import TCP as TCP_PROTO
from tests.harness.states import ESTABLISHED, enter


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("flags", [ACK, FIN | ACK, FIN, RST, PSH | ACK | URG, SYN | ACK, 0, SYN | FIN, 0x3F])
@pytest.mark.parametrize("port", [80, 81], ids=["listening", "closed"])
def test_floods_for_nobody(version, flags, port):
    """A hundred thousand segments that belong to no connection: errands go on, and RSTs stay within their limit."""
    rng = np.random.default_rng(flags)
    world = World(version)
    base = template(CLIENT[version], SERVER[version], 1, port, flags)
    for i in range(40):
        if i < 20:
            world.errands(5, 2000, rng)
        world.step(forge(base, 500, sources=strangers(rng, 500, version), sport=rng.integers(1, 65536, 500),
                         seq=rng.integers(0, 1 << 32, 500), ack=rng.integers(0, 1 << 32, 500)))
    world.settle(5)
    assert world.clients.good == 100
    assert world.to_strangers <= 1500
    world.close()


@pytest.mark.parametrize("version", [4, 6])
def test_land(version):
    """From our address and port to our address and port: no loop, no connection."""
    world = World(version)
    for flags in (SYN, SYN | ACK, ACK, FIN | ACK, RST):
        base = template(SERVER[version], SERVER[version], 80, 80, flags)
        world.step([base] * 100)
    assert world.server.stats()["tcp_out_segments"] == 0
    world.close()


def test_optimistic_acks(wire):
    """Acknowledging what was not sent yet makes nobody send faster (RFC 5961 §5, and no window grows)."""
    peer = enter(wire, ESTABLISHED, options=opt_mss(1460))
    assert peer.conn.send(bytes(1 << 20)) == 1 << 20
    wire.run()
    wire.sent.clear()
    before = wire.row.copy()
    for i in range(1, 2000):
        peer.send(ACK, ack=int(before["snd_nxt"]) + 1460 * i)
        wire.sent.clear()
    after = wire.row
    assert (after["cwnd"], after["snd_nxt"], after["snd_una"]) == (before["cwnd"], before["snd_nxt"], before["snd_una"])
    assert wire.counted()["tcp_bad_ack"] == 1999


def test_duplicate_acks_without_end(wire):
    """Each says that one segment has left: never more than were in flight, so never more than a window leaves."""
    peer = enter(wire, ESTABLISHED, options=opt_mss(1460))
    peer.conn.send(bytes(1 << 20))
    wire.run()
    una = int(wire.row["snd_una"])
    sent, sizes = {}, {}
    for _ in range(3000):
        for s in wire.sent:
            sent[s.seq] = sent.get(s.seq, 0) + 1
            sizes[s.seq] = len(s.data)
        wire.sent.clear()
        peer.send(ACK, ack=una)
    wire.sent.clear()
    assert max(sent.values()) <= 2
    assert sum(sizes.values()) <= 65535


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_option_bombs(wire, seed):
    """Options of any bytes at all, on SYNs and inside a connection."""
    rng = np.random.default_rng(seed)
    peer = enter(wire, ESTABLISHED, options=opt_mss(1460) + opt_sack_permitted())
    kinds = np.array([0, 1, 2, 3, 4, 5, 8, 34, 254, 255, 10, 40], dtype=np.uint8)
    for i in range(5000):
        raw = rng.choice(kinds, 4 * int(rng.integers(1, 11))).tobytes() if i % 2 else rng.bytes(4 * int(rng.integers(1, 11)))
        if i % 3:
            segment = tcp(peer.remote, peer.local, peer.port, 80, peer.nxt, peer.rcv, ACK, options=raw)
        else:
            sport, seq = int(rng.integers(1, 60000)), int(rng.integers(0, M32))
            segment = tcp(peer.remote, peer.local, sport, 80, seq, 0, SYN, options=raw)
        wire.feed(ip(peer.remote, peer.local, TCP_PROTO, segment))
        wire.sent.clear()
    wire.advance(200)
    wire.sent.clear()
    assert wire.state == ESTABLISHED              # the half-open ones are gone
    peer.send(ACK, data=b"honest")
    peer.expect(ACK)


@pytest.mark.parametrize("seed", [1, 2])
def test_sack_blocks_without_sense(wire, seed):
    """Blocks that overlap, go backwards, lie outside or say what an earlier one denied: everything is delivered."""
    rng = np.random.default_rng(seed)
    peer = enter(wire, ESTABLISHED, options=opt_mss(1000) + opt_sack_permitted())
    data = bytes(i % 251 for i in range(60_000))
    assert peer.conn.send(data) == len(data)
    wire.run()
    start, got, have = peer.rcv, {}, 0
    for i in range(2500):
        for s in wire.sent:
            got[s.seq - start] = s.data
        wire.sent.clear()
        if i % 5 == 4:
            while got.get(have):
                have += len(got[have])
        edges = rng.integers(-5000, 70_000, (int(rng.integers(1, 5)), 2))
        peer.send(ACK, ack=start + have, options=opt_sack(*(start + edges)))
        wire.advance(0.01)
        if have == len(data):
            break
    assert have == len(data)
    assert b"".join(got[k] for k in sorted(got) if got[k]) [:1000] == data[:1000]
    wire.sent.clear()
    assert wire.row["in_flight"] == 0


# -- those who take and give nothing -------------------------------------------------------------------------------

class Generous(iip.Handler):
    """Sends as much as there is room for, to everybody."""

    def __init__(self):
        self.conns = {}
        self.closed = []
        self.sending = True

    def tcp_accepted(self, conn):
        self.conns[conn.remote[1]] = conn
        self.tcp_acked(conn, 0)

    def tcp_acked(self, conn, n):
        if self.sending:
            conn.send(bytes(100_000))

    def tcp_closed(self, conn, reason):
        self.closed.append(reason)


@pytest.mark.parametrize("wnd", [0, 100], ids=["zero-window", "slow-reader"])
def test_holders(make, wnd):
    """Two hundred connections that open no window, or hardly any: what waits for them is bounded by the pool, which
    keeps room for what comes in; `persist_timeout` ends those that take nothing."""
    from tests.harness.peer import Peer
    wire = make(handler=Generous(), pool_packets=2048, max_connections=256, send_buffer=65536, persist_timeout=30)
    wire.engine.tcp_listen(80)
    holders = [Peer(wire, port=i + 1) for i in range(200)]
    for peer in holders:
        peer.wnd = wnd
        peer.syn(opt_mss(1460))
        peer.rcv = wire.sent.popleft().seq + 1
        peer.send(ACK)
        wire.sent.clear()
    pool = wire.engine.pool
    assert pool.free_packets >= pool.packets // 16
    assert all(r["unsent"] + r["in_flight"] <= 65536 for r in wire.engine.connections())
    honest = Peer(wire, port=9999)
    honest.syn(opt_mss(1460))
    honest.expect(SYN | ACK)
    honest.send(ACK)
    wire.sent.clear()
    for _ in range(80):
        wire.advance(0.5)
        for s in [s for s in wire.sent if not s.data and not s.flags & RST]:
            if s.dport <= 200:
                holders[s.dport - 1].send(ACK, wnd=0)
        wire.sent.clear()
    if wnd == 0:
        assert len(wire.handler.closed) == 200
        assert set(wire.handler.closed) == {iip.Reason.TIMEOUT}
    wire.handler.sending = False
    for conn in list(wire.handler.conns.values()):
        conn.abort()
    wire.run()
    wire.sent.clear()
    assert wire.engine.n_connections == 0
    assert pool.full
