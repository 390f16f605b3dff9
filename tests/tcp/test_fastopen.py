"""TCP Fast Open (RFC 7413), both sides."""
import pytest

import iip
from iip import Reason
from tests.harness.packets import (
    ACK,
    FIN,
    RST,
    SYN,
    opt_fastopen,
    opt_mss,
    opt_sack_permitted,
    opt_timestamps,
    opt_wscale,
)
from tests.harness.peer import Peer
from tests.harness.states import ESTABLISHED, SYN_RCVD

HOUR = 3600


# -- server --------------------------------------------------------------------------------------------------

@pytest.fixture
def server(make):
    wire = make(fastopen="server")
    wire.engine.tcp_listen(80)
    return wire


def cookie_for(wire, **peer):
    """Ask for a cookie, as a client does with its first connection."""
    peer = Peer(wire, port=39999, **peer)
    peer.syn(opt_mss(1460) + opt_fastopen())
    cookie = peer.expect(SYN | ACK).options.fastopen
    peer.send(RST, seq=peer.nxt)
    wire.mark()
    wire.handler.take()
    return cookie


def open_with(peer, cookie, data, **fields):
    peer.syn(opt_mss(1460) + opt_fastopen(cookie), data=data, **fields)


def test_a_cookie_is_given_to_who_asks(server):
    """RFC 7413 §4.1.2: 4 to 16 bytes, an even number."""
    peer = Peer(server)
    peer.syn(opt_fastopen())
    cookie = peer.expect(SYN | ACK).options.fastopen
    assert 4 <= len(cookie) <= 16
    assert len(cookie) % 2 == 0
    server.counters_are(tcp_passive_opens=1, tcp_in_segments=1, tcp_out_segments=1, tcp_fastopen_cookies_out=1)
    peer.send(ACK)
    assert server.handler.take() == [("accepted",)]


def test_who_does_not_ask_gets_none(server):
    peer = Peer(server)
    peer.syn()
    assert peer.expect(SYN | ACK).options.fastopen is None


@pytest.mark.parametrize("fastopen", ["off", "client"])
def test_a_host_that_is_no_server_gives_none(make, fastopen):
    wire = make(fastopen=fastopen)
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    open_with(peer, bytes(8), b"hello")
    answer = peer.expect(SYN | ACK, ack=peer.iss + 1)
    assert answer.options.fastopen is None
    peer.nxt = peer.iss + 1
    peer.send(ACK, data=b"hello")
    peer.expect(ACK)
    assert wire.handler.take() == [("accepted",), ("payload", b"hello")]


def test_cookies_are_for_one_address(server, version):
    """Not for a port (§4.1.2), so that later connections can use them; and nobody can derive one from another."""
    other = "10.0.0.77" if version == 4 else "fd00::77"
    one = cookie_for(server)
    assert cookie_for(server) == one
    assert cookie_for(server, address=other) != one
    peer = Peer(server, address=other)
    open_with(peer, one, b"stolen")
    assert peer.expect(SYN | ACK, ack=peer.iss + 1).options.fastopen != one
    server.counters_are(tcp_passive_opens=1, tcp_in_segments=1, tcp_out_segments=1, tcp_fastopen_bad_cookie=1,
                        tcp_fastopen_cookies_out=1)
    assert server.handler.take() == []


def test_data_of_the_syn_is_delivered_at_once(server):
    """§4.2.2: SYN-ACK for all of it, and the application has it right after `tcp_accepted`."""
    cookie = cookie_for(server)
    peer = Peer(server)
    open_with(peer, cookie, b"GET /")
    assert server.handler.take() == [("accepted",), ("payload", b"GET /")]
    answer = peer.expect(SYN | ACK)
    assert answer.ack == peer.iss + 1 + 5
    assert answer.options.fastopen is None       # it has a good one
    assert server.state == SYN_RCVD
    server.counters_are(tcp_passive_opens=1, tcp_in_segments=1, tcp_out_segments=1, tcp_fastopen_in=1)
    peer.send(ACK)
    assert server.state == ESTABLISHED
    assert server.handler.take() == []           # it was accepted long ago
    peer.send(ACK, data=b"more")
    peer.expect(ACK)
    assert server.handler.take() == [("payload", b"more")]


def test_the_answer_does_not_wait_for_the_handshake(server):
    """§4.2.2: response data may follow the SYN-ACK at once, as far as the initial window goes."""
    cookie = cookie_for(server)
    answer = bytes(range(250)) * 100
    server.handler.on["payload"] = lambda conn: conn.send(answer)
    peer = Peer(server)
    open_with(peer, cookie, b"GET /")
    peer.expect(SYN | ACK)
    got = b""
    while server.sent:
        got += peer.expect(ACK, size=len(server.sent[0].data)).data
    assert 10 * 1200 <= len(got) <= 10 * 1460
    assert answer.startswith(got)
    assert server.state == SYN_RCVD
    while len(got) < len(answer):
        peer.send(ACK)
        while server.sent:
            got += peer.expect(ACK, size=len(server.sent[0].data)).data
    assert got == answer
    peer.send(ACK)
    assert server.row["in_flight"] == 0
    assert sum(e[1] for e in server.handler.take() if e[0] == "acked") == len(answer)


def test_a_short_answer_and_close(server):
    """The FIN waits for the end of the handshake; the data does not wait for Nagle."""
    cookie = cookie_for(server)

    def answer(conn):
        conn.send(b"200 OK")
        conn.close()

    server.handler.on["payload"] = answer
    peer = Peer(server)
    open_with(peer, cookie, b"GET /")
    peer.expect(SYN | ACK)
    peer.expect(ACK, data=b"200 OK")
    peer.expect_nothing()
    peer.send(ACK)
    peer.expect(FIN | ACK)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    assert server.handler.take()[-1] == ("closed", Reason.NORMAL)


def test_early_answer_is_lost(server):
    cookie = cookie_for(server)
    server.handler.on["payload"] = lambda conn: conn.send(b"answer")
    peer = Peer(server)
    open_with(peer, cookie, b"GET /")
    peer.expect(SYN | ACK)
    peer.expect(ACK, data=b"answer")
    start = peer.rcv - 6
    peer.send(ACK, ack=start)                    # of the SYN-ACK alone
    assert server.state == ESTABLISHED
    peer.expect(ACK, seq=start, data=b"answer", after=0.2)
    peer.send(ACK, ack=start + 6)
    assert server.row["in_flight"] == 0


def test_synack_is_lost(server):
    """It is sent again without touching the data that followed it; the client's SYN may come again without its data."""
    cookie = cookie_for(server)
    server.handler.on["payload"] = lambda conn: conn.send(b"answer")
    peer = Peer(server)
    open_with(peer, cookie, b"GET /")
    peer.expect(SYN | ACK)
    first = peer.rcv
    peer.expect(ACK, data=b"answer")
    peer.expect(SYN | ACK, seq=first - 1, after=1)
    peer.send(SYN, seq=peer.iss)
    peer.expect(SYN | ACK, seq=first - 1)
    peer.rcv = first + 6
    peer.send(ACK)
    assert server.state == ESTABLISHED
    assert server.row["in_flight"] == 0
    assert [e[0] for e in server.handler.take()] == ["accepted", "payload", "acked"]


def test_application_refuses(server):
    """Nothing of the data reaches it."""
    cookie = cookie_for(server)
    server.handler.accept = False
    peer = Peer(server)
    open_with(peer, cookie, b"GET /")
    peer.expect(RST | ACK, seq=0)
    assert server.handler.take() == []
    assert server.engine.n_connections == 0
    assert server.engine.pool.full


def test_application_aborts_at_once(server):
    cookie = cookie_for(server)
    server.handler.on["payload"] = lambda conn: conn.abort()
    peer = Peer(server)
    open_with(peer, cookie, b"GET /")
    server.sent.popleft()
    assert server.handler.take() == [("accepted",), ("payload", b"GET /"), ("closed", Reason.ABORTED)]
    assert server.engine.n_connections == 0


def test_peer_resets(server):
    cookie = cookie_for(server)
    peer = Peer(server)
    open_with(peer, cookie, b"GET /")
    peer.expect(SYN | ACK)
    peer.send(RST)
    assert server.handler.take() == [("accepted",), ("payload", b"GET /"), ("closed", Reason.RESET)]


def test_peer_says_nothing_more(make):
    wire = make(fastopen="server", synack_retries=2)
    wire.engine.tcp_listen(80)
    cookie = cookie_for(wire)
    peer = Peer(wire)
    open_with(peer, cookie, b"GET /")
    wire.advance(30)
    wire.sent.clear()
    assert wire.handler.take()[-1] == ("closed", Reason.TIMEOUT)
    assert wire.engine.n_connections == 0


def test_valid_cookie_without_data(server):
    cookie = cookie_for(server)
    peer = Peer(server)
    open_with(peer, cookie, b"")
    assert server.handler.take() == [("accepted",)]
    peer.expect(SYN | ACK)
    peer.write(b"banner")
    peer.expect(ACK, data=b"banner")
    peer.send(ACK)
    assert server.state == ESTABLISHED


@pytest.mark.parametrize("hours,good,fresh", [(0, True, False), (3.9, True, None), (4.1, True, True), (8.1, False, True),
                                              (24, False, True)])
def test_cookies_age(server, hours, good, fresh):
    """Good for four to eight hours; with an old one comes a new one."""
    cookie = cookie_for(server)
    server.advance(hours * HOUR)
    peer = Peer(server)
    open_with(peer, cookie, b"x")
    answer = peer.expect(SYN | ACK, ack=peer.iss + 1 + good)
    assert (server.handler.take() != []) == good
    if fresh is not None:
        assert (answer.options.fastopen is not None) == fresh


@pytest.mark.parametrize("cookie", [b"1", b"123", bytes(5), bytes(18), bytes(20)])
def test_impossible_lengths_count_as_not_there(server, cookie):
    """§4.1.1."""
    peer = Peer(server)
    peer.syn(opt_fastopen(cookie), data=b"x")
    assert peer.expect(SYN | ACK, ack=peer.iss + 1).options.fastopen is None


@pytest.mark.parametrize("cookie", [bytes(4), bytes(8), b"\xff" * 8, bytes(16)])
def test_forged_cookies(server, cookie):
    peer = Peer(server)
    peer.syn(opt_fastopen(cookie), data=b"forged")
    assert len(peer.expect(SYN | ACK, ack=peer.iss + 1).options.fastopen) == 8
    assert server.handler.take() == []
    assert server.counted()["tcp_fastopen_bad_cookie"] == 1
    peer.nxt = peer.iss + 1
    peer.send(ACK, data=b"forged")               # once more, after the handshake
    peer.expect(ACK)
    assert server.handler.take() == [("accepted",), ("payload", b"forged")]


def test_experimental_form(server):
    """§7 and RFC 6994: answered in the same form."""
    peer = Peer(server, port=1)
    peer.syn(opt_fastopen(experimental=True))
    options = peer.expect(SYN | ACK).options
    assert options.fastopen is None
    cookie = options.fastopen_experimental
    peer = Peer(server, port=2)
    peer.syn(opt_fastopen(cookie, experimental=True), data=b"x")
    assert ("payload", b"x") in server.handler.take()
    peer.expect(SYN | ACK)


def test_all_options_fit(server):
    peer = Peer(server, ts=True)
    peer.syn(opt_mss(1460) + opt_wscale(7) + opt_sack_permitted() + opt_fastopen())
    options = peer.expect(SYN | ACK).options
    assert None not in (options.wscale, options.timestamps, options.fastopen, options.mss)
    assert options.sack_permitted


def test_pending_limit(make):
    """§5.1: beyond it the handshake is the usual one; it goes down with every handshake that ends."""
    wire = make(fastopen="server", fastopen_pending=2)
    wire.engine.tcp_listen(80)
    cookie = cookie_for(wire)
    peers = [Peer(wire, port=i) for i in range(1, 4)]
    for peer in peers:
        open_with(peer, cookie, b"x")
        peer.expect(SYN | ACK, ack=peer.iss + 1 + (peer.port < 3))
    assert wire.counted()["tcp_fastopen_limited"] == 1
    peers[0].send(ACK)
    fourth = Peer(wire, port=4)
    open_with(fourth, cookie, b"x")
    fourth.expect(SYN | ACK)


def test_resets_go_on_counting(make):
    """§5.1: the RSTs of a victim whose address somebody uses do not make room for more."""
    wire = make(fastopen="server", fastopen_pending=2)
    wire.engine.tcp_listen(80)
    cookie = cookie_for(wire)
    for port in (1, 2):
        peer = Peer(wire, port=port)
        open_with(peer, cookie, b"x")
        peer.expect(SYN | ACK)
        peer.send(RST)
    third = Peer(wire, port=3)
    open_with(third, cookie, b"x")
    third.expect(SYN | ACK, ack=third.iss + 1)
    third.send(RST, seq=third.iss + 1)
    wire.advance(61)
    fourth = Peer(wire, port=4)
    open_with(fourth, cookie, b"x")
    fourth.expect(SYN | ACK)


def test_syn_cookies_come_first(make):
    wire = make(fastopen="server", max_half_open=1)
    wire.engine.tcp_listen(80)
    cookie = cookie_for(wire)
    Peer(wire, port=1).syn()
    wire.sent.clear()
    peer = Peer(wire)
    open_with(peer, cookie, b"hello")
    peer.expect(SYN | ACK, ack=peer.iss + 1)
    assert wire.handler.take() == []
    peer.nxt = peer.iss + 1
    peer.send(ACK, data=b"hello")
    peer.expect(ACK)
    assert wire.handler.take() == [("accepted",), ("payload", b"hello")]


def test_repeated_syn_with_data_that_was_not_taken(server):
    """The SYN-ACK again, and the connection goes on."""
    peer = Peer(server)
    open_with(peer, bytes(8), b"hello")
    peer.expect(SYN | ACK, ack=peer.iss + 1)
    first = peer.rcv
    open_with(peer, bytes(8), b"hello", seq=peer.iss)
    peer.expect(SYN | ACK, seq=first - 1, ack=peer.iss + 1)
    peer.nxt = peer.iss + 1
    peer.send(ACK)
    assert server.state == ESTABLISHED


# -- client --------------------------------------------------------------------------------------------------

@pytest.fixture
def client(make):
    return make(fastopen="client")


COOKIE = b"cookie!!"


def call(peer, data=b"GET /", **fields):
    """The engine connects to the peer with data for its SYN; the SYN."""
    wire = peer.wire
    conn = wire.engine.tcp_connect(peer.remote, peer.port, data=data, source_port=peer.local_port, **fields)
    wire.handler.conns[peer.port] = conn
    wire.run()
    return wire.sent.popleft()


def learn(wire, cookie=COOKIE, mss=1460, experimental=False):
    """A first connection that brings a cookie."""
    peer = Peer(wire, port=443, local_port=999)
    syn = call(peer)
    assert syn.data == b""
    assert syn.options.fastopen == b""
    peer.rcv = syn.seq + 1
    peer.send(SYN | ACK, options=opt_mss(mss) + opt_fastopen(cookie, experimental=experimental))
    peer.expect(ACK, data=b"GET /")
    peer.send(ACK)
    peer.do("abort")
    peer.expect(RST | ACK)
    wire.handler.take()
    wire.mark()


def test_first_contact_asks_for_a_cookie(client):
    """§4.1.3; the data follows the handshake."""
    learn(client)


def test_data_goes_with_the_syn(client):
    learn(client)
    peer = Peer(client, port=443)
    syn = call(peer, b"GET / again")
    assert syn.flags & SYN
    assert syn.data == b"GET / again"
    assert syn.options.fastopen == COOKIE
    client.counters_are(tcp_active_opens=1, tcp_out_segments=1, tcp_fastopen_out=1)
    peer.rcv = syn.seq + 1 + len(syn.data)
    peer.send(SYN | ACK, options=opt_mss(1460))
    peer.expect(ACK)
    peer.expect_nothing(5)
    assert client.handler.take() == [("connected",), ("acked", 11)]
    client.counters_are(tcp_established=1, tcp_in_segments=1, tcp_out_segments=1, tcp_fastopen_acked=1)
    peer.write(b"and on")
    peer.expect(ACK, data=b"and on")


def test_the_answer_comes_with_the_synack(client):
    learn(client)
    peer = Peer(client, port=443)
    syn = call(peer)
    peer.rcv = syn.seq + 1 + len(syn.data)
    peer.send(SYN | ACK, options=opt_mss(1460))
    peer.expect(ACK)
    peer.send(ACK, data=b"200 OK")
    peer.expect(ACK)
    assert client.handler.take() == [("connected",), ("acked", 5), ("payload", b"200 OK")]


def test_synack_does_not_acknowledge_the_data(client):
    """§4.2.1: sent again at once, as the first segment of the connection."""
    learn(client)
    peer = Peer(client, port=443)
    syn = call(peer)
    peer.rcv = syn.seq + 1
    peer.send(SYN | ACK, options=opt_mss(1460) + opt_fastopen(b"new cookie--"))
    peer.expect(ACK, data=b"GET /")
    peer.expect_nothing()
    assert client.counted()["tcp_fastopen_fallback"] == 1
    peer.send(ACK)
    assert client.row["in_flight"] == 0
    assert client.handler.take() == [("connected",), ("acked", 5)]
    peer = Peer(client, port=443, local_port=81)
    assert call(peer).options.fastopen == b"new cookie--"
    peer.do("abort")


def test_synack_acknowledges_some_of_the_data(client):
    learn(client)
    peer = Peer(client, port=443)
    syn = call(peer, b"0123456789")
    peer.rcv = syn.seq + 1 + 4
    peer.send(SYN | ACK, options=opt_mss(1460))
    peer.expect(ACK, data=b"456789")
    peer.send(ACK)
    assert client.row["in_flight"] == 0
    assert sum(e[1] for e in client.handler.take() if e[0] == "acked") == 10


def test_lost_syn_is_sent_again_plain(client):
    """§4.1.3.1: without option and data, which something on the way may have disliked; and if it happens again, SYNs to
    that server stay plain for a while."""
    learn(client)
    peer = Peer(client, port=443)
    syn = call(peer)
    peer.rcv = syn.seq
    again = peer.expect(SYN, ack=0, seq=syn.seq, after=1)
    assert again.options.fastopen is None
    assert client.counted()["tcp_fastopen_fallback"] == 1
    peer.rcv = syn.seq + 1
    peer.send(SYN | ACK, options=opt_mss(1460))
    peer.expect(ACK, data=b"GET /")
    peer.send(ACK)
    assert client.handler.take() == [("connected",), ("acked", 5)]
    second = Peer(client, port=443, local_port=81)
    assert call(second).data == b"GET /"
    client.advance(1.1)
    client.sent.clear()
    second.do("abort")
    third = Peer(client, port=443, local_port=82)
    assert call(third).options.fastopen is None
    third.do("abort")
    client.advance(60)
    fourth = Peer(client, port=443, local_port=83)
    assert call(fourth).data == b"GET /"
    fourth.do("abort")


def test_data_arrived_but_the_synack_got_lost(client):
    """The server has it: its next SYN-ACK says so, though our second SYN had no data."""
    learn(client)
    peer = Peer(client, port=443)
    syn = call(peer)
    peer.rcv = syn.seq
    peer.expect(SYN, ack=0, seq=syn.seq, after=1)
    peer.rcv = syn.seq + 1 + 5
    peer.send(SYN | ACK, options=opt_mss(1460))
    peer.expect(ACK)
    peer.expect_nothing(5)
    assert client.handler.take() == [("connected",), ("acked", 5)]


@pytest.mark.parametrize("mss", [536, 1000])
def test_no_more_than_the_servers_mss(client, mss):
    """§4.1.3: it is remembered with the cookie; options count, too."""
    learn(client, mss=mss)
    peer = Peer(client, port=443)
    data = bytes(i % 251 for i in range(3000))
    syn = call(peer, data)
    options = len(syn.raw) - len(syn.data) - (40 if client.version == 4 else 60)
    assert len(syn.data) == mss - options
    peer.rcv = syn.seq + 1 + len(syn.data)
    peer.send(SYN | ACK, options=opt_mss(mss))
    got = syn.data
    peer.expect(ACK) if not client.sent[0].data else None
    while len(got) < len(data):
        while client.sent:
            got += peer.expect(ACK, size=len(client.sent[0].data)).data
        peer.send(ACK)
    client.sent.clear()
    assert got == data


def test_without_data_nothing_is_asked(client):
    """Only those who want it: `tcp_connect(data=...)`."""
    learn(client)
    peer = Peer(client, port=443)
    syn = peer.called()
    assert syn.options.fastopen is None
    assert syn.data == b""
    peer.do("abort")


def test_off_by_default(wire):
    """`data` is then sent after the handshake."""
    peer = Peer(wire, port=443)
    syn = call(peer)
    assert syn.options.fastopen is None
    peer.rcv = syn.seq + 1
    peer.send(SYN | ACK, options=opt_mss(1460))
    peer.expect(ACK, data=b"GET /")
    peer.send(ACK)


def test_experimental_cookie_is_kept_in_its_form(client):
    learn(client, experimental=True)
    peer = Peer(client, port=443)
    assert call(peer).options.fastopen_experimental == COOKIE
    peer.do("abort")


def test_refused(client):
    learn(client)
    peer = Peer(client, port=443)
    syn = call(peer)
    peer.send(RST | ACK, seq=0, ack=syn.seq + 1 + 5)
    assert client.handler.take() == [("closed", Reason.REFUSED)]
    assert client.engine.pool.full


def test_simultaneous_open(client):
    """The data is in flight like any other."""
    learn(client)
    peer = Peer(client, port=443)
    syn = call(peer)
    peer.syn(opt_mss(1460))
    peer.rcv = syn.seq
    peer.expect(SYN | ACK, seq=syn.seq)
    peer.rcv = syn.seq + 1
    peer.send(ACK)
    peer.expect(ACK, data=b"GET /", after=0.2)
    peer.send(ACK)
    assert client.row["in_flight"] == 0


def test_data_larger_than_the_send_buffer(make):
    wire = make(fastopen="client", send_buffer=4096)
    with pytest.raises(iip.Exhausted, match=r"Config\.send_buffer"):
        wire.engine.tcp_connect(wire.remote, 80, data=bytearray(5000))
    wire.run()
    assert wire.engine.n_connections == 0


def test_cache_is_bounded(make, version):
    """Of many servers some are remembered, and those used last are."""
    wire = make(fastopen="client", fastopen_cache=16)
    known = 0
    for i in range(200):
        address = f"10.0.0.{i + 2}" if version == 4 else f"fd00::{i + 2}"
        peer = Peer(wire, port=443, local_port=1000 + i, address=address)
        syn = call(peer)
        peer.rcv = syn.seq + 1
        peer.send(SYN | ACK, options=opt_fastopen(COOKIE))
        wire.sent.clear()
        peer.do("abort")
        wire.sent.clear()
    for i in range(200):
        address = f"10.0.0.{i + 2}" if version == 4 else f"fd00::{i + 2}"
        peer = Peer(wire, port=443, local_port=2000 + i, address=address)
        known += call(peer).options.fastopen == COOKIE
        peer.do("abort")
    assert 8 <= known <= 16


def test_syn_ack_with_timestamps(client):
    learn(client)
    peer = Peer(client, port=443, ts=True)
    syn = call(peer)
    peer.ts_echo = syn.options.timestamps[0]
    peer.rcv = syn.seq + 1 + len(syn.data)
    client.advance(0.03)
    peer.send(SYN | ACK, options=opt_mss(1460))
    peer.expect(ACK)
    assert client.row["srtt"] == 30_000_000
    assert client.row["timestamps"]
    peer.send(ACK, options=opt_timestamps(peer.ts_now(), peer.ts_echo), ts=False, data=b"x")
    peer.expect(ACK)


def test_engine_to_engine(version):
    """Our client and our server: the second request is answered within one round trip."""
    from iip.drivers import MemoryLink
    a, b = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    bits = 24 if version == 4 else 64
    got = []

    class Server(iip.Handler):
        def tcp_payload(self, conn, data):
            conn.send(bytes(data).upper())
            conn.consume(len(data))
            conn.close()

    class Client(iip.Handler):
        def tcp_payload(self, conn, data):
            got.append((now, bytes(data)))
            conn.consume(len(data))

    link = MemoryLink()
    common = {"fastopen": "both", "time_wait": 0.01, "medium": "ip"}
    left = iip.Engine(iip.Config(addresses=(f"{a}/{bits}",), **common), Client(), link.a, seed=1)
    right = iip.Engine(iip.Config(addresses=(f"{b}/{bits}",), **common), Server(), link.b, seed=2)
    right.tcp_listen(80)
    now = 10**9
    trips = []
    for _ in range(2):
        left.tcp_connect(b, 80, data=b"request")
        began = now
        for _ in range(10):
            left.run(now)
            right.run(now)
            now += 1_000_000
        trips.append((got[-1][0] - began) // 1_000_000)
        now += 10**9
        left.run(now)
        right.run(now)
    assert [data for _, data in got] == [b"REQUEST"] * 2
    assert trips == [2, 1]
    assert left.stats()["tcp_fastopen_acked"] == right.stats()["tcp_fastopen_in"] == 1
    for _ in range(300):
        now += 10**8
        left.run(now)
        right.run(now)
    assert left.n_connections == right.n_connections == 0
    left.close()
    right.close()
    link.close()
    assert left.pool.full
    assert right.pool.full


@pytest.mark.parametrize("value", ["on", "", None, True])
def test_setting(value):
    with pytest.raises(iip.ConfigError, match="fastopen"):
        iip.Config(fastopen=value)
