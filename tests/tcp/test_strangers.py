"""Limits to what strangers can make us keep and send; what keeps a connection alive, and what does not."""
import itertools

import pytest

from iip import Reason
from tests.harness.packets import ACK, FIN, RST, SYN, opt_mss, opt_sack, opt_sack_permitted
from tests.harness.peer import Peer
from tests.harness.states import ESTABLISHED, TIME_WAIT, enter


def address(version, host, net=0):
    return f"10.{net}.0.{host}" if version == 4 else f"fd00:{net}::{host}"


def local_net(version, net=0):
    return {"gateway": "10.0.0.254"} if version == 4 else {"gateway6": "fd00::fe"}


# -- half-open connections and connections per peer and per port ------------------------------------------------

def opens(wire, *peers):
    """Which SYNs made a half-open connection."""
    made = []
    for peer in peers:
        wire.mark()
        peer.syn()
        made.append(wire.counted().get("tcp_passive_opens", 0))
    wire.sent.clear()
    return made


def test_half_open_per_port(make):
    wire = make(half_open_per_port=2, syn_cookies="off")
    wire.engine.tcp_listen(80)
    wire.engine.tcp_listen(81)
    on80 = [Peer(wire, port=i) for i in range(1, 5)]
    on81 = [Peer(wire, port=i, local_port=81) for i in range(1, 5)]
    assert opens(wire, *on80, *on81) == [1, 1, 0, 0, 1, 1, 0, 0]
    row = wire.engine.connections()[0]
    on80[0].rcv = int(row["iss"]) + 1
    on80[0].send(ACK)
    assert wire.handler.take() == [("accepted",)]
    assert opens(wire, Peer(wire, port=9), Peer(wire, port=10)) == [1, 0]


def test_half_open_per_peer(make, version):
    wire = make(half_open_per_peer=2, syn_cookies="off", **local_net(version))
    wire.engine.tcp_listen(80)
    one = [Peer(wire, port=i, address=address(version, 1, 1)) for i in range(1, 4)]
    other = [Peer(wire, port=i, address=address(version, 1, 2)) for i in range(1, 4)]
    assert opens(wire, *one, *other) == [1, 1, 0, 1, 1, 0]
    one[0].send(RST)
    assert opens(wire, Peer(wire, port=9, address=address(version, 1, 1))) == [1]


def test_half_open_limits_lead_to_cookies(make):
    wire = make(half_open_per_peer=1)
    wire.engine.tcp_listen(80)
    peers = [Peer(wire, port=i) for i in range(1, 4)]
    for peer in peers:
        peer.connect()
    assert len(wire.engine.connections()) == 3
    for peer in peers:
        peer.nxt += 1
        peer.send(RST, seq=peer.nxt - 1)


def test_a_network_of_ipv6_is_one_peer(make, version):
    """Whoever has a /64 has all its addresses; an IPv4 address stands for itself."""
    wire = make(connections_per_peer=2, **local_net(version))
    wire.engine.tcp_listen(80)
    peers = [Peer(wire, port=7, address=address(version, i, 5)) for i in range(1, 4)]
    assert opens(wire, *peers) == ([1, 1, 1] if version == 4 else [1, 1, 0])


def test_connections_per_peer(make, version):
    """In any state, TIME-WAIT included, until they are gone."""
    wire = make(connections_per_peer=2, time_wait=5, **local_net(version))
    wire.engine.tcp_listen(80)
    first, second, third = (Peer(wire, port=i) for i in range(1, 4))
    first.connect()
    second.connect()
    wire.mark()
    third.syn()
    third.expect_nothing()
    wire.counters_are(tcp_peer_limit=1)
    assert opens(wire, Peer(wire, port=1, address=address(version, 9, 1))) == [1]
    first.do("close")
    first.expect(FIN | ACK)
    first.send(FIN | ACK)
    first.expect(ACK)
    assert opens(wire, Peer(wire, port=4)) == [0]
    wire.advance(5.1)
    wire.sent.clear()
    third.nxt = third.iss
    third.connect()


def test_connections_per_peer_and_cookies(make):
    """What was true when the SYN came may not be when the ACK does."""
    wire = make(connections_per_peer=2, syn_cookies="always")
    wire.engine.tcp_listen(80)
    peers = [Peer(wire, port=i) for i in range(1, 4)]
    for peer in peers:
        peer.syn()
        peer.expect(SYN | ACK)
    for peer in peers[:2]:
        peer.send(ACK)
    peers[2].send(ACK)
    peers[2].expect(RST, seq=peers[2].rcv)
    assert wire.handler.take() == [("accepted",)] * 2
    assert wire.counted()["tcp_peer_limit"] == 1


def test_our_own_connections_do_not_count(make):
    wire = make(connections_per_peer=1)
    for port in (1, 2, 3):
        peer = Peer(wire, port=port)
        peer.called()
        peer.answer()
    Peer(wire, port=9).connect()


def test_counts_come_back_to_nothing(make, version):
    """Many peers come and go in many ways; afterwards each has all its connections again."""
    wire = make(connections_per_peer=3, half_open_per_port=50, time_wait=1, synack_retries=1, **local_net(version))
    wire.handler.close = True
    wire.engine.tcp_listen(80)
    for turn in range(3):
        for i in range(40):
            where = address(version, 1, i + 1)
            one, two, three = (Peer(wire, port=turn * 10 + p, address=where) for p in (1, 2, 3))
            one.connect()
            two.syn()
            wire.sent.clear()
            three.connect()
            wire.sent.clear()
            one.send(RST)
            two.send(RST)
            three.send(FIN | ACK)
            three.expect(FIN | ACK)
            three.send(ACK)
        assert wire.engine.n_connections == 0
    last = [Peer(wire, port=100 + p, address=address(version, 1, 7)) for p in range(4)]
    assert opens(wire, *last) == [1, 1, 1, 0]
    wire.advance(30)
    wire.sent.clear()
    assert opens(wire, last[3]) == [1]


# -- answers a second ------------------------------------------------------------------------------------------

def test_resets_are_limited(make):
    """Half of `rst_rate` to one and a half in a second, drawn anew each second."""
    wire = make(rst_rate=100)
    numbers = []
    for _ in range(20):
        for i in range(300):
            wire.feed(Peer(wire, port=1000 + i).packet(ACK, ack=7))
        numbers.append(len(wire.sent))
        wire.sent.clear()
        counted = wire.counted()
        assert counted["tcp_no_connection"] == 300
        assert counted["tcp_rst_out"] + counted["tcp_rst_limited"] == 300
        wire.advance(1.0)
    assert all(50 <= n <= 150 for n in numbers)
    assert len(set(numbers)) > 10


def test_no_resets(make):
    wire = make(rst_rate=0)
    Peer(wire).send(ACK, ack=7)
    wire.counters_are(tcp_no_connection=1, tcp_rst_limited=1)


def test_challenges_are_limited_over_all_connections(make):
    """RFC 5961 §7; the number of each second is random (CVE-2016-5696)."""
    wire = make(challenge_rate=20)
    wire.engine.tcp_listen(80)
    peers = [Peer(wire, port=i) for i in range(1, 51)]
    for peer in peers:
        peer.connect()
    numbers = []
    for _ in range(20):
        wire.mark()
        for peer in peers:
            peer.send(SYN, seq=peer.nxt + 5)
        numbers.append(len(wire.sent))
        wire.sent.clear()
        counted = wire.counted()
        assert counted["tcp_challenge_ack"] == numbers[-1]
        assert counted["tcp_challenge_limited"] == 50 - numbers[-1]
        wire.advance(1.0)
    assert all(10 <= n <= 30 for n in numbers)
    assert len(set(numbers)) > 5


def test_bare_acks_outside_the_window_build_no_storm(wire):
    """Two ends that disagree would answer each other for ever: one answer a millisecond."""
    peer = enter(wire, ESTABLISHED)
    for _ in range(10):
        peer.send(ACK, seq=peer.nxt - 1)
    assert len(wire.sent) == 1
    wire.sent.clear()
    wire.counters_are(tcp_out_of_window=10, tcp_challenge_limited=9, tcp_out_segments=1)
    wire.advance(0.001)
    peer.send(ACK, seq=peer.nxt - 1)              # a keepalive
    peer.expect(ACK)


# -- signs of life ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("forged", [
    {"flags": ACK, "seq": 1 << 30},               # outside the window
    {"flags": RST, "seq": 1000},                  # not the next number
    {"flags": SYN, "seq": 1000},
    {"flags": ACK, "seq": 0, "ack": 1 << 30},     # acknowledges what was never sent
], ids=["outside", "rst", "syn", "ack"])
def test_only_valid_segments_keep_a_connection_alive(make, forged):
    wire = make(keepalive=10, keepalive_interval=1, keepalive_probes=2)
    peer = enter(wire, ESTABLISHED)
    for _ in range(4):
        wire.advance(2.4)
        fields = {k: (v + (peer.nxt if k == "seq" else peer.rcv)) for k, v in forged.items() if k != "flags"}
        peer.send(forged["flags"], **fields)
        wire.sent.clear()
    peer.expect(ACK, seq=peer.rcv - 1, after=0.4)
    wire.advance(3)
    wire.sent.clear()
    assert wire.handler.take()[-1] == ("closed", Reason.TIMEOUT)


def test_valid_segments_do(make):
    wire = make(keepalive=10, keepalive_interval=1, keepalive_probes=2)
    peer = enter(wire, ESTABLISHED)
    for _ in range(10):
        wire.advance(4)
        peer.send(ACK)
    peer.expect_nothing()
    peer.expect(ACK, seq=peer.rcv - 1, after=10)
    peer.send(ACK)
    peer.expect_nothing(9)


# -- windows that stay closed ----------------------------------------------------------------------------------

def hold(peer, seconds, step=0.5):
    """Answer every probe with a closed window for so long, or until the connection ends; the probes."""
    wire = peer.wire
    n = 0
    end = wire.now + round(seconds * 1e9)
    while wire.now < end and wire.engine.n_connections:
        wire.advance(step)
        while wire.sent:
            s = wire.sent.popleft()
            if s.flags & RST:
                return n
            n += 1
            peer.send(ACK, wnd=0)
    return n


def closed_window(wire):
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK, wnd=0)
    peer.write(b"waits")
    return peer


def test_closed_window_holds_a_connection_as_long_as_it_is_wanted(make):
    """RFC 9293 §3.8.6.1."""
    wire = make(retries=4, rto_max=2)
    peer = closed_window(wire)
    assert hold(peer, 100) > 20
    assert wire.state == ESTABLISHED
    peer.send(ACK)
    peer.expect(ACK, data=b"waits")


def test_nobody_waits_for_a_closed_window(make):
    """The application has closed: the connection ends after `retries` probes, answered or not, with a RST."""
    wire = make(retries=4, rto_max=2)
    peer = closed_window(wire)
    peer.do("close")
    assert hold(peer, 100) == 4
    assert wire.engine.n_connections == 0
    assert wire.handler.take()[-1] == ("closed", Reason.TIMEOUT)
    assert wire.counted()["tcp_persist_timeout"] == 1


@pytest.mark.parametrize("timeout", [5, 30])
def test_persist_timeout(make, timeout):
    """RFC 6429: a policy of ours may end it."""
    wire = make(persist_timeout=timeout, rto_max=10)
    peer = closed_window(wire)
    start = wire.now
    hold(peer, 100, step=0.1)
    assert wire.engine.n_connections == 0
    assert (wire.now - start) / 1e9 == pytest.approx(timeout, abs=0.5)
    assert wire.counted()["tcp_persist_timeout"] == 1


def test_persist_timeout_begins_anew_when_the_window_opens(make):
    wire = make(persist_timeout=5, rto_max=1)
    peer = closed_window(wire)
    for _ in range(4):
        hold(peer, 3)
        peer.send(ACK, wnd=2000)
        (s,) = wire.sent
        wire.sent.clear()
        peer.rcv += len(s.data)
        peer.send(ACK, wnd=0)
        peer.write(b"waits")
    assert wire.state == ESTABLISHED


def test_fin_beyond_a_closed_window(wire):
    """A FIN goes to the edge of the window like the octet that may always be sent (RFC 9293 §3.8.6.1), and never
    beyond data that does not fit."""
    peer = closed_window(wire)
    peer.do("close")
    peer.expect(ACK, seq=peer.rcv - 1, after=0.2)
    peer.expect_nothing()


# -- TIME-WAIT -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("offset", [0, 1, -1, 5000])
def test_time_wait_assassination(wire, offset):
    """RFC 1337: neither a RST nor an old segment ends it."""
    peer = enter(wire, TIME_WAIT)
    peer.send(RST, seq=peer.nxt + offset)
    assert wire.state == TIME_WAIT
    peer.send(ACK, seq=peer.nxt - 100, data=b"old")
    peer.expect(ACK)
    peer.send(RST, seq=peer.rcv)
    assert wire.state == TIME_WAIT


# -- segments behind gaps ----------------------------------------------------------------------------------------

def pieces(peer, order, size=1):
    """Single pieces of a stream of which the first is missing."""
    start = peer.nxt
    for i in order:
        peer.send(ACK, seq=start + size * i, data=bytes([i % 251]) * size)
        peer.wire.sent.clear()


@pytest.mark.parametrize("order", [list(range(1, 400)), list(range(399, 0, -1)),
                                   list(range(1, 400, 2)) + list(range(2, 400, 2)),
                                   list(range(398, 0, -2)) + list(range(1, 400, 2))],
                         ids=["up", "down", "odd-even", "even-odd"])
@pytest.mark.parametrize("size", [1, 7])
def test_crumbs_share_cells(make, order, size):
    """However they arrive: a handful of packets of the pool holds them."""
    wire = make(pool_packets=4096)
    peer = enter(wire, ESTABLISHED, options=opt_mss(1460) + opt_sack_permitted())
    free = wire.engine.pool.free_packets
    pieces(peer, order, size)
    assert free - wire.engine.pool.free_packets <= 24
    assert wire.row["out_of_order"] <= 24
    start = peer.nxt
    peer.send(ACK, seq=start, data=b"\0" * size)
    (ack,) = wire.sent
    wire.sent.clear()
    assert ack.ack == start + 400 * size
    data = b"".join(e[1] for e in wire.handler.take())
    assert data == b"".join(bytes([i % 251]) * size for i in range(400))


def test_blocks_of_merged_crumbs(make):
    wire = make()
    peer = enter(wire, ESTABLISHED, options=opt_mss(1460) + opt_sack_permitted())
    start = peer.nxt
    for i in (1, 2, 4, 3):
        peer.send(ACK, seq=start + i, data=b"x")
    last = list(wire.sent)[-1]
    wire.sent.clear()
    assert last.options.sack == ((start + 1, start + 5),)
    peer.send(ACK, data=b"x")
    peer.expect(ACK, ack=start + 5)


def test_gaps_hold_a_quarter_of_the_pool(make):
    """Of many connections with gaps the oldest gives way; nothing that was acknowledged is lost."""
    wire = make(pool_packets=256, max_connections=64)
    wire.engine.tcp_listen(80)
    peers = [Peer(wire, port=i) for i in range(1, 21)]
    for peer in peers:
        peer.connect(opt_mss(1460) + opt_sack_permitted())
        for i in range(1, 17):
            peer.send(ACK, seq=peer.nxt + 600 * i, data=b"y" * 300)
        wire.sent.clear()
        assert wire.engine.connections()["out_of_order"].sum() <= 64
    rows = wire.engine.connections()
    held = {int(r["remote_port"]): int(r["out_of_order"]) for r in rows}
    assert held[20] == 16
    assert held[1] == 0
    assert wire.counted()["tcp_ooo_pruned"] > 0
    first = peers[0]
    for _ in range(17):                           # what gave way is sent again
        first.send(ACK, data=b"z" * 600)
    wire.sent.clear()
    assert wire.handler.conns[1].info().bytes_received == 17 * 600


def test_one_connection_alone_is_bounded_by_the_pool(make):
    wire = make(pool_packets=128)
    peer = enter(wire, ESTABLISHED, options=opt_mss(1460) + opt_sack_permitted())
    pieces(peer, range(1, 200, 2), 300)
    assert wire.row["out_of_order"] == 32
    assert wire.counted()["tcp_ooo_full"] > 0


# -- SACK that is not true ---------------------------------------------------------------------------------------

def test_reneging_peer_gets_everything(wire):
    """RFC 2018 §8: what was SACKed and not acknowledged may be dropped by the receiver: it is kept and sent again."""
    peer = enter(wire, ESTABLISHED, options=opt_mss(1000) + opt_sack_permitted())
    data = bytes(i % 251 for i in range(5000))
    peer.write(data)
    start = peer.rcv
    wire.sent.clear()
    peer.send(ACK, ack=start, options=opt_sack((start + 1000, start + 5000)))
    wire.sent.clear()
    got, have = {}, 0
    for _ in range(40):                           # it forgets what it has SACKed
        wire.advance(1)
        for s in wire.sent:
            got[s.seq - start] = s.data
        wire.sent.clear()
        while have in got:
            have += len(got[have])
        peer.send(ACK, ack=start + have)
        if have == 5000:
            break
    assert have == 5000
    assert b"".join(got[k] for k in sorted(got)) == data
    assert wire.row["in_flight"] == 0


@pytest.mark.parametrize("mss", [1, 24, 48, 63, 64])
def test_tiny_mss(wire, mss):
    peer = enter(wire, ESTABLISHED, options=opt_mss(mss))
    assert peer.conn.mss == 64


# -- local ports -------------------------------------------------------------------------------------------------

def test_ports_to_one_server_say_nothing_about_those_to_another(make, version):
    """RFC 6056 §3.3.4: where ports to a server begin is secret, their steps are random, and opens to others do not
    move them (but for those few that share a counter)."""
    def ports(others):
        wire = make(max_connections=512, rst_rate=0)
        out = []
        for _ in range(30):
            out.append(wire.engine.tcp_connect(wire.remote, 80).local[1])
            for k in range(others):
                wire.engine.tcp_connect(address(version, 50 + k), 443).abort()
            wire.run()
            wire.sent.clear()
        wire.engine.abort_all()
        wire.run()
        return out

    alone, busy = ports(0), ports(5)
    low, high = 32768, 60999
    assert all(low <= p <= high for p in alone + busy)
    assert alone[0] == busy[0]                    # the same seed: the same secret
    steps = {(b - a) % (high - low + 1) for a, b in itertools.pairwise(alone)}
    assert steps <= set(range(1, 9))
    assert len(steps) > 3
    span = (busy[-1] - busy[0]) % (high - low + 1)
    assert 29 <= span <= 29 * 8                   # five times as many opens to others left no trace


def test_every_port_is_used_before_none_is_free(make):
    wire = make(ports=(50000, 50019), max_connections=64)
    used = {wire.engine.tcp_connect(wire.remote, 80).local[1] for _ in range(20)}
    assert used == set(range(50000, 50020))
    wire.engine.abort_all()
    wire.run()
    wire.sent.clear()
