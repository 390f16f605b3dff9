"""Options: MSS (RFC 9293 §3.7.1), window scale and timestamps (RFC 7323), SACK permitted (RFC 2018)."""
import pytest

from tests.harness.packets import ACK, FIN, RST, SYN, Options, opt_mss, opt_sack_permitted, opt_timestamps, opt_wscale
from tests.harness.peer import Peer
from tests.harness.states import CLOSE_WAIT, ESTABLISHED, SYN_RCVD, SYN_SENT, enter

FULL = opt_mss(1400) + opt_sack_permitted() + opt_timestamps(1234, 0) + opt_wscale(7)


# -- what a SYN offers and a SYN-ACK answers -------------------------------------------------------------------

@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("sack", [True, False])
@pytest.mark.parametrize("ts", [True, False])
def test_offer(make, version, scale, sack, ts):
    wire = make(window_scale=scale, sack=sack, timestamps=ts)
    peer = Peer(wire)
    syn = peer.called()
    assert syn.options.mss == (1460 if version == 4 else 1440)
    assert syn.options.wscale == (5 if scale else None)
    assert syn.options.sack_permitted == sack
    assert (syn.options.timestamps is not None) == ts
    assert not ts or syn.options.timestamps[1] == 0
    peer.do("abort")


@pytest.mark.parametrize("ours", [True, False], ids=["we do", "we do not"])
@pytest.mark.parametrize("theirs", [True, False], ids=["they do", "they do not"])
@pytest.mark.parametrize("option", ["window_scale", "sack", "timestamps"])
@pytest.mark.parametrize("role", ["passive", "active"])
def test_negotiation(make, option, ours, theirs, role):
    """An option is in force when both sides offered it, and answered only when it was offered."""
    wire = make(**{option: ours})
    raw = {"window_scale": opt_wscale(3), "sack": opt_sack_permitted(), "timestamps": opt_timestamps(9, 0)}[option]
    peer = Peer(wire)
    if role == "passive":
        answer = peer.connect(raw if theirs else b"").options
        assert {"window_scale": answer.wscale is not None, "sack": answer.sack_permitted,
                "timestamps": answer.timestamps is not None}[option] == (ours and theirs)
        assert answer.mss
    else:
        peer.called()
        peer.ts = option == "timestamps" and theirs and ours
        peer.answer(raw if theirs else b"")
    row = wire.row
    both = ours and theirs
    assert row["sack"] == (both and option == "sack")
    assert row["timestamps"] == (both and option == "timestamps")
    assert row["snd_wscale"] == (3 if both and option == "window_scale" else 0)
    assert row["rcv_wscale"] == (5 if both and option == "window_scale" else 0)


def test_syn_ack_offers_nothing_unasked(wire, version):
    peer = Peer(wire)
    answer = peer.connect()
    assert answer.options == Options(mss=1460 if version == 4 else 1440)


@pytest.mark.parametrize("buffer,scale", [
    (65535, 0), (65536, 1), (131_070, 1), (131_072, 2), (1 << 20, 5), (1 << 30, 14)])
def test_scale_of_the_buffer(make, buffer, scale):
    """The smallest shift that can offer the whole buffer."""
    wire = make(receive_buffer=buffer)
    peer = Peer(wire)
    answer = peer.connect(opt_wscale(0))
    assert answer.options.wscale == scale
    assert answer.wnd == min(buffer, 65535)


def test_syn_window_is_not_scaled(wire):
    """RFC 7323 §2.2."""
    peer = Peer(wire)
    peer.wnd = 1000
    peer.connect(opt_wscale(7) + opt_mss(500))
    peer.conn.send(b"x" * 100_000)
    assert wire.row["snd_wnd"] == 1000 << 7
    peer = Peer(wire, port=40001)
    peer.wnd = 1000
    wire.engine.tcp_listen(80)
    peer.syn(opt_wscale(7))
    wire.run()
    rows = wire.engine.connections()
    assert rows[rows["remote_port"] == 40001]["snd_wnd"] == 1000
    wire.sent.clear()


def test_scale_of_more_than_14(wire):
    """RFC 7323 §2.3: taken as 14."""
    peer = Peer(wire)
    peer.connect(opt_wscale(15))
    assert wire.row["snd_wscale"] == 14


def test_window_is_scaled(make):
    wire = make(receive_buffer=1 << 20)
    peer = Peer(wire)
    peer.connect(opt_wscale(0))
    peer.send(ACK, data=b"x")
    assert peer.expect(ACK).wnd == (1 << 20) >> 5


def test_scaled_window_never_promises_more_than_the_buffer(make):
    """Rounding to the scale neither moves the edge to the left (by more than the scale's unit) nor lets many
    small segments in beyond the buffer."""
    wire = make(receive_buffer=1 << 20)
    wire.handler.consume = False
    peer = Peer(wire)
    peer.connect(opt_wscale(0))
    start, edge = peer.nxt, 0
    for n in [1000] * 3 + [1] * 300:
        peer.send(ACK, data=b"x" * n)
        s = peer.expect(ACK)
        right = s.ack + (s.wnd << 5)
        assert right <= start + (1 << 20)
        assert right > edge - 32
        edge = max(edge, right)


def test_large_scale_does_not_shrink_the_window(make):
    wire = make(receive_buffer=1 << 28)
    wire.handler.consume = False
    peer = Peer(wire)
    scale = peer.connect(opt_wscale(0)).options.wscale
    assert scale == 13
    edge = 0
    for i in range(30):
        peer.send(ACK, data=b"x" * 1400)
        if i % 2:
            peer.conn.consume(2500)
            wire.run()
        for s in wire.sent:
            right = s.ack + (s.wnd << scale)
            assert right > edge - (1 << scale)
            edge = max(edge, right)
        wire.sent.clear()


# -- MSS -------------------------------------------------------------------------------------------------------

def default_mss(version):
    return 536 if version == 4 else 1220


@pytest.mark.parametrize("role", ["passive", "active"])
def test_mss_without_the_option(wire, version, role):
    peer = enter(wire, ESTABLISHED, role)
    assert peer.conn.mss == default_mss(version)
    peer.write(b"x" * default_mss(version))
    peer.expect(ACK, size=default_mss(version))
    peer.send(ACK)


@pytest.mark.parametrize("theirs", [100, 536, 1220, 1400, 1460, 9000])
@pytest.mark.parametrize("ts", [True, False])
def test_effective_mss(wire, version, theirs, ts):
    """The least of what the peer takes and what our MTU holds, less the options (RFC 9293 §3.7.1, RFC 6691)."""
    peer = Peer(wire)
    peer.connect(opt_mss(theirs) + (opt_timestamps(1, 0) if ts else b""))
    expected = min(theirs, 1500 - (40 if version == 4 else 60)) - (12 if ts else 0)
    assert peer.conn.mss == expected
    peer.write(b"x" * 2 * expected)
    peer.expect(ACK, size=expected)
    s = peer.expect(ACK, size=expected)
    assert len(s.raw) <= 1500


def test_mss_setting(make):
    wire = make(mss=700)
    peer = Peer(wire)
    answer = peer.connect(opt_mss(1400))
    assert answer.options.mss == 700
    assert peer.conn.mss == 700


def test_mss_that_only_makes_work(wire):
    """A peer that asks for crumbs does not get them."""
    peer = Peer(wire)
    peer.connect(opt_mss(1))
    assert peer.conn.mss == 64


def test_mtu(make, version):
    wire = make(mtu=1280)
    peer = Peer(wire)
    answer = peer.connect(opt_mss(9000))
    assert answer.options.mss == 1280 - (40 if version == 4 else 60)
    assert peer.conn.mss == answer.options.mss


# -- timestamps ------------------------------------------------------------------------------------------------

def with_timestamps(wire, **kwargs):
    return enter(wire, ESTABLISHED, options=FULL, **kwargs)


def test_in_every_segment(wire):
    """RFC 7323 §3.2, and their clock runs in ms."""
    peer = with_timestamps(wire)
    peer.write(b"x")
    first = peer.expect(ACK, data=b"x").options.timestamps
    wire.advance(0.1)
    peer.send(ACK, data=b"y")
    second = peer.expect(ACK).options.timestamps
    assert second[0] - first[0] == 100
    wire.advance(0.05)
    peer.do("shutdown")
    third = peer.expect(FIN | ACK).options.timestamps
    assert third[0] - second[0] == 50


def test_offset_differs_between_connections(wire):
    """RFC 7323 §5.4, RFC 7323 §7.1: nothing about the machine leaks."""
    first = with_timestamps(wire, port=1)
    other = Peer(wire, port=2)
    other.connect(FULL)
    assert abs(other.ts_echo - first.ts_echo) > 1000


def test_echo(wire):
    """RFC 7323 §4.3: TS.Recent is from the last segment that advanced the window's left edge."""
    peer = with_timestamps(wire)
    start = peer.nxt
    peer.send(ACK, data=b"a", tsval=20_000)
    assert peer.expect(ACK).options.timestamps[1] == 20_000
    peer.send(ACK, seq=start + 5, data=b"f", tsval=20_005)
    assert peer.expect(ACK, ack=start + 1).options.timestamps[1] == 20_000
    peer.send(ACK, seq=start + 1, data=b"bcde", tsval=20_003)
    assert peer.expect(ACK, ack=start + 6).options.timestamps[1] == 20_003


@pytest.mark.parametrize("flags", [ACK, ACK | FIN, ACK | SYN, ACK | RST], ids=["data", "fin", "syn", "rst"])
def test_paws(wire, flags):
    """RFC 7323 §5.3, R1: an old timestamp: an ACK; an RST is not tested."""
    peer = with_timestamps(wire)
    peer.send(flags, seq=peer.nxt, data=b"" if flags & RST else b"old", tsval=100)
    if flags & RST:
        peer.expect_nothing()
        assert wire.engine.n_connections == 0
        return
    peer.expect(ACK)
    assert wire.handler.take() == []
    assert wire.state == ESTABLISHED
    wire.counters_are(tcp_paws=1, tcp_out_segments=1)


def test_paws_wraps(wire):
    """RFC 7323 §5.2: compared as sequence numbers are."""
    peer = with_timestamps(wire)
    for value in (0x7FFFFFFF, 0xFFFFFFF0, 5):
        peer.send(ACK, data=b"x", tsval=value)
        peer.expect(ACK)
    wire.mark()
    peer.send(ACK, seq=peer.nxt, data=b"x", tsval=0xFFFFFFF0)
    peer.expect(ACK)
    wire.counters_are(tcp_paws=1, tcp_out_segments=1)


def test_paws_after_24_days(wire):
    """RFC 7323 §5.5: what we remember is outdated."""
    peer = with_timestamps(wire)
    wire.advance(24 * 86400 + 1)
    peer.send(ACK, data=b"after a long time", tsval=100)
    peer.expect(ACK)
    assert wire.handler.take() == [("payload", b"after a long time")]


def test_equal_timestamps_are_fine(wire):
    peer = with_timestamps(wire)
    for _ in range(3):
        peer.send(ACK, data=b"x", tsval=9000)
        peer.expect(ACK)
    assert len(wire.handler.take()) == 3


def test_missing_timestamp_does_not_abort(wire):
    """RFC 7323 §3.2: never abort because an option is missing."""
    peer = with_timestamps(wire)
    peer.send(ACK, data=b"x", ts=False)
    wire.sent.clear()
    assert wire.state == ESTABLISHED


def test_timestamps_that_were_not_negotiated(wire):
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK, data=b"x", options=opt_timestamps(5, 5))
    assert peer.expect(ACK).options.timestamps is None
    assert wire.handler.take() == [("payload", b"x")]


@pytest.mark.parametrize("state", [SYN_SENT, SYN_RCVD], ids=["syn", "syn-ack"])
def test_retransmitted_syn_has_the_same_options(wire, state):
    peer = enter(wire, state, options=FULL if state == SYN_RCVD else b"")
    flags = SYN if state == SYN_SENT else SYN | ACK
    s = peer.expect(flags, seq=peer.rcv - 1, ack=0 if state == SYN_SENT else None, after=1)
    assert s.options.mss
    assert s.options.wscale == 5
    assert s.options.sack_permitted
    assert s.options.timestamps
    peer.do("abort") if state == SYN_SENT else peer.send(RST)


def test_fin_and_close_wait_keep_the_options(wire):
    peer = with_timestamps(wire)
    peer.send(FIN | ACK)
    assert peer.expect(ACK).options.timestamps[1] == peer.ts_now()
    assert wire.state == CLOSE_WAIT


def test_in_a_reset(wire):
    """RFC 7323 §3.2: an RST should carry it, too."""
    peer = with_timestamps(wire)
    peer.do("abort")
    s = peer.expect(RST | ACK)
    assert s.options.timestamps[1] == peer.ts_now()


def test_none_in_a_reset_without_the_option(wire):
    peer = enter(wire, ESTABLISHED)
    peer.do("abort")
    assert peer.expect(RST | ACK).options.timestamps is None


def test_remembered_for_24_days(wire):
    """RFC 7323 §5.5: then TS.Recent says nothing any more, and whatever comes replaces it."""
    peer = with_timestamps(wire)
    recent = peer.ts_now()
    wire.advance(23 * 86400)
    peer.send(ACK, data=b"x", seq=peer.nxt, tsval=recent - 1)
    peer.expect(ACK)
    assert wire.handler.take() == []
    wire.advance(86400 + 1)
    peer.send(ACK, data=b"x", tsval=recent - 1)
    assert peer.expect(ACK).options.timestamps[1] == (recent - 1) & 0xFFFFFFFF
    assert wire.handler.take() == [("payload", b"x")]


@pytest.mark.parametrize("strict", [True, False])
def test_missing(make, strict):
    """RFC 7323 §3.2: a segment without the option that was agreed upon should be dropped; most stacks do not."""
    wire = make(strict_timestamps=strict)
    peer = with_timestamps(wire)
    peer.send(ACK, data=b"x", seq=peer.nxt, ts=False)
    if strict:
        peer.expect_nothing()
        wire.counters_are(tcp_no_timestamp=1)
    else:
        peer.nxt += 1
        peer.expect(ACK)
    assert wire.handler.take() == ([] if strict else [("payload", b"x")])
    peer.send(RST, ts=False)
    assert wire.engine.n_connections == 0
