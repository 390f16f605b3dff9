"""SYN cookies (RFC 4987 §3.6): handshakes of which nothing is kept."""
import itertools

import pytest

import iip
from iip import Reason
from tests.harness.packets import (
    ACK,
    FIN,
    M32,
    RST,
    SYN,
    opt_mss,
    opt_sack_permitted,
    opt_timestamps,
    opt_wscale,
)
from tests.harness.peer import Peer

PERIOD = 64.0


@pytest.fixture
def cookies(make):
    """An engine that listens on port 80 and answers every SYN with a cookie."""
    wire = make(syn_cookies="always")
    wire.engine.tcp_listen(80)
    return wire


def syn(peer, *, mss=1460, wscale=7, sack=True):
    """SYN with timestamps if the peer has them; the SYN-ACK."""
    options = opt_mss(mss)
    if wscale is not None:
        options += opt_wscale(wscale)
    if sack:
        options += opt_sack_permitted()
    peer.syn(options)
    answer = peer.expect(SYN | ACK)
    peer.expect_nothing()
    return answer


def test_nothing_is_kept_before_the_ack(cookies):
    peer = Peer(cookies, ts=True)
    syn(peer)
    assert cookies.engine.n_connections == 0
    assert cookies.handler.syns == []
    assert cookies.engine.pool.full
    cookies.counters_are(tcp_cookies_sent=1, tcp_out_segments=1)
    peer.expect_nothing(100)          # nobody is there who could send it again


def test_the_ack_makes_the_connection(cookies):
    peer = Peer(cookies, ts=True)
    syn(peer)
    cookies.mark()
    peer.send(ACK)
    assert cookies.handler.take() == [("accepted",)]
    assert len(cookies.handler.syns) == 1
    cookies.counters_are(tcp_cookies_received=1, tcp_passive_opens=1, tcp_established=1, tcp_in_segments=1)
    peer.send(ACK, data=b"request")
    peer.expect(ACK)
    assert cookies.handler.take() == [("payload", b"request")]
    peer.write(b"answer")
    peer.expect(ACK, data=b"answer")
    peer.send(FIN | ACK)
    peer.expect(ACK)
    peer.do("close")
    peer.expect(FIN | ACK)
    peer.send(ACK)
    assert cookies.engine.n_connections == 0
    assert cookies.handler.take()[-1] == ("closed", Reason.NORMAL)


@pytest.mark.parametrize("ts", [True, False])
def test_data_comes_with_the_ack(cookies, ts):
    """The bare ACK may get lost: the first data brings it again."""
    peer = Peer(cookies, ts=ts)
    syn(peer)
    peer.send(ACK, data=b"hello")
    assert cookies.handler.take() == [("accepted",), ("payload", b"hello")]
    peer.expect(ACK)


def test_data_and_fin_come_with_the_ack(cookies):
    peer = Peer(cookies)
    syn(peer)
    peer.send(FIN | ACK, data=b"bye")
    assert cookies.handler.take() == [("accepted",), ("payload", b"bye"), ("shutdown",)]
    peer.expect(ACK)


@pytest.mark.parametrize("wscale", [None, 0, 3, 14])
@pytest.mark.parametrize("sack", [True, False])
def test_options_survive_in_the_timestamp(cookies, wscale, sack):
    peer = Peer(cookies, ts=True)
    answer = syn(peer, wscale=wscale, sack=sack)
    assert (answer.options.wscale is None) == (wscale is None)
    assert answer.options.sack_permitted == sack
    assert answer.options.timestamps is not None
    peer.send(ACK, wnd=1000)
    row = cookies.row
    assert row["sack"] == sack
    assert row["timestamps"]
    assert row["snd_wscale"] == (wscale or 0)
    assert row["snd_wnd"] == 1000 << (wscale or 0)
    assert (row["rcv_wscale"] > 0) == (wscale is not None)
    cookies.handler.take()


def test_without_timestamps_no_options(cookies):
    """There is no place to keep them: none is offered that we could not remember."""
    peer = Peer(cookies)
    answer = syn(peer)
    assert answer.options.wscale is None
    assert not answer.options.sack_permitted
    assert answer.options.timestamps is None
    peer.send(ACK, wnd=1000)
    assert cookies.row["snd_wnd"] == 1000
    assert not cookies.row["sack"]


def test_timestamp_is_not_from_the_future(cookies):
    """It is rounded down for what it carries, by less than 128 ms, and later ones do not go back."""
    seen = []
    for i in range(70):
        peer = Peer(cookies, port=5000, iss=i << 16, ts=True)
        seen.append(syn(peer).options.timestamps[0])
        cookies.advance(0.001)
    peer.send(ACK, data=b"x")
    now = peer.expect(ACK).options.timestamps[0]
    for i, stamp in enumerate(seen):
        assert 0 <= (now - (70 - i) - stamp) & M32 < 128


@pytest.mark.parametrize("mss", [50, 64, 536, 1000, 1220, 1400, 1460, 9000, None])
def test_mss_is_rounded_down(cookies, mss, version):
    peer = Peer(cookies, ts=True)
    peer.syn(b"" if mss is None else opt_mss(mss))
    peer.expect(SYN | ACK)
    peer.send(ACK)
    got = cookies.row["mss"]
    if mss is None:
        mss = 536 if version == 4 else 1220
    known = max([m for m in (64, 536, 1220, 1360, 1400, 1440, 1460) if m <= mss], default=64)
    headers = 40 if version == 4 else 60
    assert got == max(min(known, 1500 - headers) - 12, 64)


def test_application_says_no(cookies):
    cookies.handler.accept = False
    peer = Peer(cookies)
    syn(peer)
    cookies.mark()
    peer.send(ACK, data=b"x")
    peer.expect(RST | ACK, seq=peer.rcv, ack=peer.nxt)
    assert cookies.handler.take() == []
    assert cookies.engine.n_connections == 0
    assert cookies.counted()["tcp_not_accepted"] == 1


def test_application_sees_what_the_syn_said(cookies):
    peer = Peer(cookies, ts=True)
    syn(peer, mss=1000)
    peer.send(ACK)
    (seen,) = cookies.handler.syns
    assert (seen.remote_port, seen.local_port, seen.mss) == (peer.port, 80, 536)
    assert seen.sack
    assert seen.timestamps
    assert seen.window_scale


@pytest.mark.parametrize("wrong", [{"ack": -1}, {"ack": 1}, {"ack": 8}, {"ack": 0x10000}, {"seq": 1}, {"seq": -1}])
def test_a_wrong_number_is_no_cookie(cookies, wrong):
    """The hash covers both sequence numbers."""
    peer = Peer(cookies)
    syn(peer)
    cookies.mark()
    seq, ack = peer.nxt + wrong.get("seq", 0), peer.rcv + wrong.get("ack", 0)
    peer.send(ACK, seq=seq, ack=ack)
    peer.expect(RST, seq=ack)
    assert cookies.engine.n_connections == 0
    cookies.counters_are(tcp_cookies_failed=1, tcp_rst_out=1, tcp_out_segments=1)
    peer.send(ACK)                    # the right one still works
    assert cookies.handler.take() == [("accepted",)]


def test_a_cookie_is_for_one_connection(cookies):
    """Neither another port nor another address can use it."""
    peer = Peer(cookies)
    syn(peer)
    other = "10.0.0.9" if cookies.version == 4 else "fd00::9"
    for thief in (Peer(cookies, port=peer.port + 1), Peer(cookies, address=other)):
        thief.nxt, thief.rcv = peer.nxt, peer.rcv
        thief.send(ACK)
        thief.expect(RST, seq=peer.rcv)
    assert cookies.engine.n_connections == 0


@pytest.mark.parametrize("wait,good", [(0.1, True), (30, True), (PERIOD, True), (2 * PERIOD, False), (3 * PERIOD, False),
                                       (4 * PERIOD, False)])
def test_validity(cookies, wait, good):
    """A cookie is good for one to two periods, whatever came after it."""
    peer = Peer(cookies)
    syn(peer)
    cookies.advance(wait)
    later = Peer(cookies, port=9)
    syn(later)                        # cookies go on being sent: the check itself must say no
    peer.send(ACK)
    if good:
        assert cookies.handler.take() == [("accepted",)]
    else:
        peer.expect(RST, seq=peer.rcv)
        assert cookies.engine.n_connections == 0


def test_when_none_were_sent_no_ack_is_looked_at(make):
    """A flood of ACKs is guesswork only while cookies are about."""
    wire = make()
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    peer.send(ACK, ack=7)
    peer.expect(RST, seq=7)
    wire.counters_are(tcp_no_connection=1, tcp_rst_out=1, tcp_out_segments=1)


def test_only_when_there_are_too_many(make):
    """`auto`, the default: handshakes are remembered while there is room."""
    wire = make(max_half_open=2)
    wire.engine.tcp_listen(80)
    peers = [Peer(wire, port=100 + i) for i in range(5)]
    for peer in peers:
        syn(peer)
    counted = wire.counted()
    assert (counted["tcp_passive_opens"], counted["tcp_cookies_sent"]) == (2, 3)
    assert wire.engine.n_connections == 2
    for peer in reversed(peers):
        peer.send(ACK)
    assert wire.handler.take() == [("accepted",)] * 5
    wire.mark()
    last = Peer(wire, port=1)
    syn(last)                         # there is room again
    assert wire.counted()["tcp_passive_opens"] == 1
    last.send(RST, seq=last.nxt)


def test_slots_are_left_for_handshakes_that_end(make):
    """Half-open connections do not take the last eighth of the slots."""
    wire = make(max_connections=16, synack_retries=0)
    wire.engine.tcp_listen(80)
    for i in range(30):
        syn(Peer(wire, port=100 + i))
    assert wire.engine.n_connections == 14
    real = [Peer(wire, port=5000 + i) for i in range(2)]
    for peer in real:
        peer.connect()
    third = Peer(wire, port=6000)
    syn(third)
    third.send(ACK)                   # no slot: not a word, the peer will send again
    third.expect_nothing()
    assert wire.counted()["tcp_table_full"] == 1
    wire.advance(2)
    wire.sent.clear()                 # the others were given up
    third.send(ACK, data=b"again")
    third.expect(ACK)
    assert wire.handler.take() == [("accepted",)] * 3 + [("payload", b"again")]


def test_off(make):
    wire = make(max_half_open=1, syn_cookies="off")
    wire.engine.tcp_listen(80)
    syn(Peer(wire, port=1))
    Peer(wire, port=2).syn()
    assert not wire.sent
    assert wire.counted()["tcp_half_open_full"] == 1


def test_old_connection_in_time_wait_is_not_given_up_for_a_cookie(make):
    """Reusing it needs a connection; without room for one the peer waits."""
    wire = make(max_half_open=1, syn_cookies="auto")
    wire.handler.close = True
    peer = Peer(wire)
    peer.connect()
    peer.do("close")
    peer.expect(FIN | ACK)
    peer.send(FIN | ACK)
    peer.expect(ACK)
    Peer(wire, port=1).syn()
    wire.sent.clear()
    again = Peer(wire, iss=peer.nxt + 100000)
    again.syn()
    again.expect_nothing()
    assert wire.counted()["tcp_half_open_full"] == 1


def test_sequence_numbers_say_nothing(make):
    """Cookies for one peer, of which only its initial number changes, look random: no bit above the low four is
    constant, and differences do not repeat."""
    wire = make(syn_cookies="always")
    wire.engine.tcp_listen(80)
    numbers = [syn(Peer(wire, iss=i)).seq for i in range(200)]
    for bit in range(4, 32):
        ones = sum(n >> bit & 1 for n in numbers)
        assert 50 < ones < 150, bit
    differences = {(b - a) & M32 for a, b in itertools.pairwise(numbers)}
    assert len(differences) == len(numbers) - 1


def test_round_trip_is_not_made_up(cookies):
    """When the SYN-ACK left is not kept: the first sample comes from data."""
    peer = Peer(cookies, ts=True)
    syn(peer)
    cookies.advance(3)
    peer.send(ACK)
    assert cookies.row["srtt"] == 0
    peer.write(b"x")
    peer.expect(ACK, data=b"x")
    cookies.advance(0.05)
    peer.send(ACK)
    assert cookies.row["srtt"] == 50_000_000


@pytest.mark.parametrize("value", ["on", "", None, True])
def test_setting(value):
    with pytest.raises(iip.ConfigError, match="syn_cookies"):
        iip.Config(syn_cookies=value)


def test_paws_begins_with_the_ack(cookies):
    peer = Peer(cookies, ts=True)
    syn(peer)
    peer.send(ACK)
    peer.send(ACK, data=b"x", seq=peer.nxt, options=opt_timestamps(peer.ts_now() - 10, peer.ts_echo), ts=False)
    peer.expect(ACK, ack=peer.nxt)
    assert cookies.counted()["tcp_paws"] == 1
