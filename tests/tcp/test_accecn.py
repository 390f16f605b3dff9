"""Accurate ECN (RFC 9768), packet by packet."""
import pytest

from tests.harness.packets import ACK, AE, CWR, ECE, SYN, opt_accecn, opt_mss, opt_sack_permitted, opt_timestamps
from tests.harness.peer import Peer
from tests.tcp.test_ecn import CE, ECT_0, ecn_of, marked

MSS = 1012                        # 1000 with the option
ASK = AE | CWR | ECE
ECT_1 = 1
FIRST = opt_accecn(1, 0, 1)
SHAKE = {0: 2, ECT_1: 3, ECT_0: 4, CE: 6}


def ace(n):
    """The three flags of a counter."""
    return (n & 7) << 6


def ace_of(segment):
    return segment.flags >> 6 & 7


def asked(make, options=b"", **settings):
    """A peer whose accurate SYN was answered."""
    wire = make(**{"congestion": "newreno", "ecn": "accurate", **settings})
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    peer.send(SYN | ASK, options=opt_mss(MSS) + options)
    return wire, peer


def connected(make, options=b"", option=True, **settings):
    """A connection that the peer opened with accurate ECN."""
    wire, peer = asked(make, options, **settings)
    peer.ts = peer.expect(SYN | ACK | ace(2)).options.timestamps is not None
    peer.send(ACK | ace(2), options=FIRST if option else b"")
    wire.handler.take()
    wire.mark()
    return wire, peer


def calling(make, **settings):
    """A connection that we open: the peer, which has our SYN."""
    wire = make(**{"congestion": "newreno", "ecn": "accurate", **settings})
    peer = Peer(wire)
    conn = wire.engine.tcp_connect(peer.remote, peer.port, source_port=80)
    wire.handler.conns[peer.port] = conn
    wire.run()
    return wire, peer


def called(make, **settings):
    wire, peer = calling(make, **settings)
    peer.expect(SYN | ASK, ack=0)
    peer.send(SYN | ACK | ace(2), options=opt_mss(MSS) + FIRST)
    peer.expect(ACK | ace(2))
    wire.handler.take()
    wire.mark()
    return wire, peer


def info(peer):
    return peer.conn.info()


# -- negotiation (§3.1) ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("setting", ["accurate", "accurate-on", "accurate-passive"])
@pytest.mark.parametrize("flags, answer", [
    (0, 0), (CWR | ECE, ECE), (ASK, ace(2)), (AE, ace(2)), (AE | ECE, ace(2)), (ECE, ace(2))])
def test_server(make, setting, flags, answer):
    """Table 2; and what is reserved today means accurate ECN (§3.1.3)."""
    wire = make(ecn=setting)
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    peer.send(SYN | flags)
    assert ecn_of(peer.expect(SYN | ACK | answer)) == 0


@pytest.mark.parametrize("setting, answer", [("off", 0), ("passive", ECE), ("on", ECE)])
def test_server_without(make, setting, answer):
    """A server of RFC 3168 does not look at AE."""
    wire = make(ecn=setting)
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    peer.send(SYN | ASK)
    assert peer.expect(SYN | ACK | answer).options.accecn is None


@pytest.mark.parametrize("setting, flags", [("accurate", ASK), ("accurate-on", CWR | ECE), ("accurate-passive", 0)])
def test_client_asks(make, setting, flags):
    _wire, peer = calling(make, ecn=setting)
    syn = peer.expect(SYN | flags, ack=0)
    assert ecn_of(syn) == 0
    assert syn.options.accecn is None


@pytest.mark.parametrize("answer, mode", [(0, 0), (1, 1), (2, 2), (5, 1), (7, 0)])
def test_client(make, answer, mode):
    """Table 2: accurate, classic or none, by what the server says."""
    _wire, peer = calling(make)
    peer.expect(SYN | ASK, ack=0)
    peer.send(SYN | ACK | ace(answer), options=opt_mss(MSS))
    assert ace_of(peer.expect(ACK | (ace(2) if mode == 2 else 0))) == (2 if mode == 2 else 0)
    assert info(peer).ecn_mode == mode
    peer.write(b"x")
    s = peer.expect(ACK | (ace(5) if mode == 2 else 0), data=b"x")
    assert ecn_of(s) == (ECT_0 if mode else 0)


@pytest.mark.parametrize("answer", [3, 4, 6])
def test_the_syn_was_changed_on_the_way(make, answer):
    """§3.2.2.3: our SYN was not ECN-capable, and arrived as if it was. We send without, and still give feedback."""
    wire, peer = calling(make)
    peer.expect(SYN | ASK, ack=0)
    peer.send(SYN | ACK | ace(answer), options=opt_mss(MSS))
    assert ecn_of(peer.expect(ACK | ace(2))) == 0
    assert wire.counted()["tcp_ecn_mangled"] == 1
    wire.feed(marked(peer.packet(ACK | ace(5), data=b"x")))
    assert ecn_of(peer.expect(ACK | ace(6))) == 0


@pytest.mark.parametrize("field", SHAKE)
def test_answers_tell_how_the_syn_came(make, field):
    wire = make(ecn="accurate")
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    wire.feed(marked(peer.packet(SYN | ASK), field))
    peer.expect(SYN | ACK | ace(SHAKE[field]))
    peer.send(ACK | ace(2))
    peer.send(ACK | ace(5), data=b"x")
    peer.expect(ACK | ace(6 if field == CE else 5))


@pytest.mark.parametrize("field", SHAKE)
def test_the_last_ack_tells_how_the_answer_came(make, field):
    """§3.2.2.1; a marked SYN-ACK counts as a marked packet."""
    wire, peer = calling(make)
    peer.expect(SYN | ASK, ack=0)
    wire.feed(marked(peer.packet(SYN | ACK | ace(2), options=opt_mss(MSS)), field))
    peer.expect(ACK | ace(SHAKE[field]))
    peer.write(b"x")
    peer.expect(ACK | ace(6 if field == CE else 5), data=b"x")
    assert info(peer).received_ce == (field == CE)


def test_a_repeated_answer_gets_the_same_ack(make):
    wire, peer = calling(make)
    peer.expect(SYN | ASK, ack=0)
    again = peer.packet(SYN | ACK | ace(2), options=opt_mss(MSS))
    wire.feed(again)
    peer.expect(ACK | ace(2))
    wire.feed(again)
    peer.expect(ACK | ace(2))
    peer.write(b"x")
    peer.expect(ACK | ace(5), data=b"x")


def test_a_pure_ack_goes_before_data(make):
    """§3.2.2.1: an application that sends at once does not take the server its information."""
    wire, peer = calling(make)
    wire.handler.on["connected"] = lambda conn: conn.send(b"at once")
    peer.expect(SYN | ASK, ack=0)
    peer.send(SYN | ACK | ace(2), options=opt_mss(MSS))
    peer.expect(ACK | ace(2))
    peer.expect(ACK | ace(5), data=b"at once")


# -- losses in the handshake (§3.1.4) ----------------------------------------------------------------------------

def test_syn_is_lost(make):
    """The first repetition asks again, later ones do not; an answer that agrees to the first is good, but we do not send
    ECN-capable packets (§3.1.5)."""
    _wire, peer = calling(make)
    first = peer.expect(SYN | ASK, ack=0)
    peer.expect(SYN | ASK, ack=0, seq=first.seq, after=1.0)
    peer.expect(SYN, ack=0, seq=first.seq, after=2.0)
    peer.send(SYN | ACK | ace(2), options=opt_mss(MSS))
    assert ecn_of(peer.expect(ACK | ace(2))) == 0
    peer.write(b"x")
    assert ecn_of(peer.expect(ACK | ace(5), data=b"x")) == 0


def test_syn_without_flags_is_no_classic_ecn(make):
    _wire, peer = calling(make)
    first = peer.expect(SYN | ASK, ack=0)
    peer.expect(SYN | ASK, ack=0, seq=first.seq, after=1.0)
    peer.expect(SYN, ack=0, seq=first.seq, after=2.0)
    peer.send(SYN | ACK | ECE, options=opt_mss(MSS))
    peer.expect(ACK)
    assert info(peer).ecn_mode == 0


def test_syn_ack_is_lost(make):
    """First without the option, then without flags; the connection stays accurate."""
    wire, peer = asked(make)
    first = peer.expect(SYN | ACK | ace(2))
    assert first.options.accecn == (1, 0, 1)
    again = peer.expect(SYN | ACK | ace(2), seq=first.seq, after=1.0)
    assert again.options.accecn is None
    last = peer.expect(SYN | ACK, seq=first.seq, after=2.0)
    assert last.options.accecn is None
    peer.send(ACK | ace(2))
    wire.feed(marked(peer.packet(ACK | ace(5), data=b"x")))
    assert ecn_of(peer.expect(ACK | ace(6))) == 0


def test_syn_again_without_flags(make):
    """The peer gave up asking: it gets an answer without."""
    _wire, peer = asked(make)
    first = peer.expect(SYN | ACK | ace(2))
    peer.send(SYN, seq=peer.nxt - 1, options=opt_mss(MSS))
    peer.expect(SYN | ACK, seq=first.seq)


@pytest.mark.parametrize("flags, data, capable", [
    (ace(2), b"", True), (ace(1), b"", True), (ace(7), b"", True), (0, b"", False), (ace(3), b"", False),
    (ace(4), b"", False), (ace(6), b"", False), (ace(5), b"x", True), (ace(6), b"x", True), (0, b"x", False)])
def test_first_segment(make, flags, data, capable):
    """Table 4, and §3.2.2.4: zero means that something clears the field; our SYN-ACK was not ECN-capable."""
    wire, peer = asked(make)
    peer.expect(SYN | ACK | ace(2))
    peer.send(ACK | flags, data=data)
    if data:
        assert ecn_of(peer.expect(ACK | ace(5))) == (ECT_0 if capable else 0)
    assert wire.counted().get("tcp_ecn_mangled", 0) == (not capable)
    peer.write(b"y")
    assert ecn_of(peer.expect(ACK | ace(5), data=b"y")) == (ECT_0 if capable else 0)


def test_first_segment_from_a_server(make):
    wire, peer = called(make)
    peer.send(ACK, data=b"x")
    assert ecn_of(peer.expect(ACK | ace(5))) == 0
    assert wire.counted()["tcp_ecn_mangled"] == 1


# -- the receiver (§3.2.2, §3.2.3) ---------------------------------------------------------------------------------

def test_every_mark_counts(make):
    """Three bits, which wrap."""
    wire, peer = connected(make)
    for n in range(6, 20):
        wire.feed(marked(peer.packet(ACK | ace(5), data=b"x" * 10)))
        s = peer.expect(ACK | ace(n))
        assert s.options.accecn == (1, 10 * (n - 5), 1)
        assert ecn_of(s) == ECT_0
    assert info(peer).received_ce == 14
    assert wire.counted()["tcp_ecn_ce"] == 14


def test_bytes_by_field(make):
    wire, peer = connected(make)
    for field, n, expected in ((ECT_0, 5, (1, 0, 6)), (ECT_1, 7, (8, 0, 6)), (CE, 9, (8, 9, 6)), (0, 100, (8, 9, 6))):
        wire.feed(marked(peer.packet(ACK | ace(5), data=b"x" * n), field))
        assert wire.sent.popleft().options.accecn == expected
    got = info(peer)
    assert (got.received_e1_bytes, got.received_ce_bytes, got.received_e0_bytes) == (7, 9, 5)


def test_changes_are_acknowledged_at_once(make):
    """§3.2.3.3; afterwards ACKs wait as usual, until two marks have come (§3.2.2.5.1)."""
    wire, peer = connected(make, delayed_ack=0.04, quick_acks=0)
    wire.feed(marked(peer.packet(ACK | ace(5), data=b"x"), ECT_0))
    peer.expect(ACK | ace(5))
    wire.feed(marked(peer.packet(ACK | ace(5), data=b"x"), ECT_0))
    peer.expect(ACK | ace(5), after=0.04)
    wire.feed(marked(peer.packet(ACK | ace(5), data=b"x")))
    peer.expect(ACK | ace(6))
    wire.feed(marked(peer.packet(ACK | ace(5), data=b"x")))
    peer.expect_nothing()
    wire.feed(marked(peer.packet(ACK | ace(5), data=b"x")))
    peer.expect(ACK | ace(8))


def test_marked_acks(make):
    """ACKs count as packets, not as bytes; six marks are told even without data."""
    wire, peer = connected(make)
    for _ in range(5):
        wire.feed(marked(peer.packet(ACK | ace(5))))
    peer.expect_nothing()
    wire.feed(marked(peer.packet(ACK | ace(5))))
    assert peer.expect(ACK | ace(11)).options.accecn == (1, 0, 1)


def test_marks_of_what_is_not_acceptable_do_not_count(make):
    wire, peer = connected(make)
    wire.feed(marked(peer.packet(ACK | ace(5), seq=peer.nxt + 200000, data=b"x")))
    peer.expect(ACK | ace(5))
    assert "tcp_ecn_ce" not in wire.counted()


# -- the option: when it leaves --------------------------------------------------------------------------------------

def test_only_to_who_sends_it(make):
    _wire, peer = connected(make, option=False)
    peer.send(ACK | ace(5), data=b"x")
    assert peer.expect(ACK | ace(5)).options.accecn is None
    peer.send(ACK | ace(5), data=b"x", options=FIRST)
    assert peer.expect(ACK | ace(5)).options.accecn == (1, 0, 1)


def test_switched_off(make):
    wire, peer = asked(make, ecn_option="off")
    assert peer.expect(SYN | ACK | ace(2)).options.accecn is None
    peer.send(ACK | ace(2), options=FIRST)
    wire.feed(marked(peer.packet(ACK | ace(5), data=b"x", options=FIRST)))
    assert peer.expect(ACK | ace(6)).options.accecn is None


def test_full_segments_have_room_for_it(make):
    _wire, peer = connected(make)
    assert peer.conn.mss == 1000
    peer.write(b"d" * 2000)
    for _ in range(2):
        assert peer.expect(ACK | ace(5), size=1000).options.accecn == (1, 0, 1)


def test_when_needed(make):
    """A change is told by two packets; then the option rests for a third of a round trip."""
    wire, peer = connected(make, opt_timestamps(1, 0), ecn_option="needed", delayed_ack=0.0)
    wire.feed(marked(peer.packet(ACK | ace(5), data=b"x"), ECT_0))
    for expected in ((1, 0, 2), (1, 0, 3)):
        assert wire.sent.popleft().options.accecn == expected
        wire.feed(marked(peer.packet(ACK | ace(5), data=b"x"), ECT_0))
    assert peer.conn.mss == MSS - 12                  # the timestamps alone
    wire.sent.clear()


def gaps(wire, peer, n, field=ECT_0, options=b""):
    """`n` segments, each behind a gap; the latest ACK."""
    for i in range(n):
        wire.feed(marked(peer.packet(ACK | ace(5), seq=peer.nxt + 100 + 200 * i, data=b"x" * 100, options=options), field))
        last = wire.sent.pop()
    wire.sent.clear()
    return last


@pytest.mark.parametrize("field, n, blocks, counters", [
    (ECT_0, 1, 1, 3), (ECT_0, 2, 2, 3), (ECT_0, 3, 3, 3), (ECT_0, 4, 3, 3), (ECT_1, 4, 4, 1), (CE, 4, 3, 3)])
def test_beside_sack(make, field, n, blocks, counters):
    """40 bytes: of four blocks one gives way to the counters that have counted something."""
    wire, peer = connected(make, opt_sack_permitted())
    s = gaps(wire, peer, n, field)
    assert len(s.options.sack) == blocks
    assert len(s.options.accecn) == counters


@pytest.mark.parametrize("field, n, blocks, counters", [
    (ECT_0, 1, 1, 3), (ECT_0, 2, 2, None), (ECT_0, 3, 3, None), (ECT_1, 2, 2, 2), (CE, 2, 2, 2), (ECT_1, 3, 2, 2)])
def test_beside_sack_and_timestamps(make, field, n, blocks, counters):
    """28 bytes: where there is no room it does not leave."""
    wire, peer = connected(make, opt_sack_permitted() + opt_timestamps(1, 0))
    s = gaps(wire, peer, n, field)
    assert len(s.options.sack) == blocks
    assert s.options.accecn is None if counters is None else len(s.options.accecn) == counters


# -- the sender (§3.2.2.5, A.2) ----------------------------------------------------------------------------------------

def sending(make, n=10, **settings):
    """`n` segments of 1000 bytes in flight; where they begin."""
    wire, peer = connected(make, **settings)
    start = peer.rcv
    peer.write(b"d" * (40 * 1000))
    for _ in range(n):
        peer.expect(ACK | ace(5), size=1000)
    return wire, peer, start


def test_one_reduction_per_window(make):
    """Marks halve the window once in a window of data, and there is no CWR."""
    wire, peer, start = sending(make)
    peer.send(ACK | ace(6), ack=start + 1000, options=opt_accecn(1, 1000, 1))
    assert wire.row["ssthresh"] == wire.row["cwnd"] == 5000
    peer.send(ACK | ace(8), ack=start + 6000, options=opt_accecn(1, 3000, 2001))
    assert wire.row["ssthresh"] == 5000
    assert all(ace_of(s) == 5 for s in wire.sent)
    wire.sent.clear()
    peer.send(ACK | ace(8), ack=start + 10000, options=opt_accecn(1, 3000, 6001))
    wire.sent.clear()
    before = int(wire.row["cwnd"])
    peer.send(ACK | ace(9), ack=start + 11000, options=opt_accecn(1, 4000, 6001))
    assert wire.row["cwnd"] < before
    wire.sent.clear()
    got = info(peer)
    assert (got.delivered_ce, got.delivered_ce_bytes, got.delivered_e0_bytes) == (4, 4000, 6000)
    assert wire.counted()["tcp_ecn_reductions"] == 2


def test_no_change_no_reduction(make):
    wire, peer, start = sending(make)
    peer.send(ACK | ace(5), ack=start + 1000)
    assert wire.row["ssthresh"] == 0x7FFFFFFF
    wire.sent.clear()


def test_retransmissions_are_capable(make):
    wire, _peer, start = sending(make, 10)
    wire.advance_to_output()
    while wire.sent[0].seq != start:
        wire.sent.popleft()
        if not wire.sent:
            wire.advance_to_output()
    assert ecn_of(wire.sent[0]) == ECT_0
    wire.sent.clear()


@pytest.mark.parametrize("ce, option, delivered", [
    (5, None, 8), (5, (1, 0, 10001), 0), (5, (1, 8000, 2001), 8), (7, (1, 2000, 8001), 2), (7, None, 10), (6, (1, 1000, 9001), 1)])
def test_an_ack_for_many(make, ce, option, delivered):
    """A.2: ten segments at once may have wrapped the counter. The bytes tell; without them it is the worst case."""
    wire, peer, start = sending(make)
    peer.send(ACK | ace(ce), ack=start + 10000, options=b"" if option is None else opt_accecn(*option))
    assert info(peer).delivered_ce == delivered
    wire.sent.clear()


def test_the_other_order(make):
    wire, peer, start = sending(make)
    peer.send(ACK | ace(6), ack=start + 2000, options=opt_accecn(1001, 1000, 1, kind=172))
    got = info(peer)
    assert (got.delivered_e1_bytes, got.delivered_ce_bytes, got.delivered_e0_bytes) == (0, 1000, 1000)
    wire.sent.clear()


@pytest.mark.parametrize("option", [b"\xae\x04\x01\x01", b"\xae\x0e" + bytes(12), opt_accecn(0, 0, 1)])
def test_bad_options(make, option):
    """An impossible length, or a counter that goes back: the counter of packets stands."""
    wire, peer, start = sending(make)
    peer.send(ACK | ace(6), ack=start + 1000, options=option)
    got = info(peer)
    assert got.delivered_ce == 1
    assert (got.delivered_e1_bytes, got.delivered_ce_bytes, got.delivered_e0_bytes) == (0, 0, 0)
    assert wire.counted()["tcp_ecn_bad_option"] == 1
    wire.sent.clear()


def test_a_mangled_option(make):
    """§3.2.3.2: the first one shows zeros where none can be: it is not believed, nor answered."""
    wire, peer = connected(make, option=False)
    peer.send(ACK | ace(5), data=b"x", options=opt_accecn(0, 0, 0))
    assert peer.expect(ACK | ace(5)).options.accecn is None
    assert info(peer).accecn_opt_seen == 1
    assert wire.counted()["tcp_ecn_mangled"] == 1


def test_an_old_ack_says_nothing(make):
    """Nothing newly acknowledged and no newer timestamp: it may have been overtaken."""
    wire, peer, start = sending(make)
    peer.send(ACK | ace(5), ack=start + 2000)
    wire.sent.clear()
    peer.send(ACK | ace(7), ack=start + 1000)
    assert info(peer).delivered_ce == 0
    wire.sent.clear()


@pytest.mark.parametrize("later", [0, 1])
def test_a_newer_timestamp_says_something(make, later):
    """Without data in flight, only a timestamp tells which of two ACKs is newer."""
    _wire, peer = connected(make, opt_timestamps(1, 0))
    peer.send(ACK | ace(5))
    peer.send(ACK | ace(6), tsval=peer.ts_now() + later)
    assert info(peer).delivered_ce == later


# -- with others ------------------------------------------------------------------------------------------------------

def test_dctcp_takes_the_bytes(make):
    """A tenth of the bytes was marked: alpha, which begins with 1, moves by a sixteenth towards it, and the window loses half
    of alpha."""
    wire, peer, start = sending(make, congestion="dctcp")
    peer.send(ACK | ace(6), ack=start + 10000, options=opt_accecn(1, 1000, 9001))
    alpha = 1 - 1 / 16 + 0.1 / 16
    assert wire.row["ssthresh"] == pytest.approx((10000 + 10000) * (1 - alpha / 2), rel=0.01)
    wire.sent.clear()


def test_cookies_agree_on_classic_ecn(make):
    _wire, peer = asked(make, opt_timestamps(1, 0), syn_cookies="always")
    peer.ts = True
    peer.expect(SYN | ACK | ECE)
    peer.send(ACK)
    assert info(peer).ecn_mode == 1


def test_rst_is_not_capable(make):
    wire, peer = connected(make)
    peer.write(b"x")
    peer.expect(ACK | ace(5), data=b"x")
    peer.do("abort")
    s = wire.sent.popleft()
    assert ecn_of(s) == 0
    assert ace_of(s) == 0
