"""Records of many segments: what leaves for a device with TSO, and what loss, SACK blocks and timers make of it."""
import pytest

from iip.memory.pool import PacketPool
from tests.harness.packets import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    SYN,
    icmp_error,
    opt_mss,
    opt_sack,
    opt_sack_permitted,
    opt_timestamps,
    opt_wscale,
)
from tests.harness.peer import Peer

MSS = 1000


@pytest.fixture
def whole(make):
    """An engine whose large segments are seen as they leave it."""
    return make(device="whole", congestion="newreno")


@pytest.fixture
def device():
    return "whole"


def data(n):
    return bytes(i % 251 for i in range(n))


def established(wire, options=b"", rtt=0.0, **fields):
    peer = Peer(wire)
    peer.connect(opt_mss(MSS) + options, rtt, **fields)
    wire.handler.take()
    wire.mark()
    return peer


def sender(wire, n=10, options=b"", rtt=0.0):
    """`n` segments in one frame, in flight for `rtt` seconds."""
    peer = established(wire, options, rtt)
    start = peer.rcv
    peer.write(data(n * MSS))
    peer.expect(ACK, data=data(min(n, 10) * MSS))
    peer.expect_nothing(rtt)
    return peer, start


def sack(peer, start, *blocks):
    peer.send(ACK, ack=start, options=opt_sack(*((start + a * MSS, start + b * MSS) for a, b in blocks)))


def test_the_initial_window_leaves_as_one(whole):
    peer, start = sender(whole, 30)
    whole.counters_are(tcp_out_segments=10, tcp_out_data=10)
    peer.send(ACK, ack=start + 10 * MSS)
    peer.expect(ACK, data=data(30 * MSS)[10 * MSS:])
    whole.counters_are(tcp_out_segments=20, tcp_out_data=20, tcp_in_acks=1)


def test_the_largest_frame_is_an_ip_packet(make):
    wire = make(initial_window=64, send_buffer=1 << 18)
    peer = established(wire, opt_wscale(7))
    peer.wnd = 65535
    peer.send(ACK)
    whole = 65535 - 12 - (40 if wire.version == 4 else 60)
    whole -= whole % MSS
    peer.write(data(whole + MSS)) if whole < 64 * MSS else peer.write(data(64 * MSS))
    first = wire.sent[0]
    assert len(first.data) == min(whole, 64 * MSS)
    wire.sent.clear()


@pytest.mark.parametrize("tso, expected", [(0, MSS), (999, MSS), (2500, 2 * MSS), (5000, 5 * MSS)])
def test_the_setting_bounds_it(make, tso, expected):
    wire = make(tso=tso)
    peer = established(wire)
    peer.write(data(8 * MSS))
    sizes = [len(s.data) for s in wire.sent]
    assert sizes[0] == expected and sum(sizes) == 8 * MSS
    wire.sent.clear()


@pytest.mark.parametrize("caps", [{"tx_checksum": False}, {"scatter_gather": False}])
def test_without_checksums_or_pieces_there_is_no_tso(version, caps):
    """As with every device: it cannot cut what it cannot sum, nor take what is in pieces."""
    import iip
    from iip.drivers import DriverProbe, MemoryLink

    link = MemoryLink(tso=True, **caps)
    far = DriverProbe(link.b, PacketPool(256))
    a, b = ("10.0.0.1", "10.0.0.2") if version == 4 else ("fd00::1", "fd00::2")
    engine = iip.Engine(iip.Config(addresses=[f"{a}/{24 if version == 4 else 64}"]), iip.Handler(), link.a)
    engine.tcp_connect(b, 80)
    engine.run(10**9)
    assert len(far.rx()) >= 1
    engine.close()
    assert engine.pool.full


def test_a_short_tail_goes_along(whole):
    """Only a short segment in flight makes it wait (Minshall), as if every segment were sent for itself."""
    peer = established(whole)
    peer.write(data(5 * MSS + 10))
    peer.expect(ACK | PSH, data=data(5 * MSS + 10))
    peer.write(data(2 * MSS + 20))
    peer.expect(ACK, data=data(2 * MSS))
    peer.expect_nothing()
    peer.send(ACK, ack=peer.rcv)
    peer.expect(ACK | PSH, data=data(2 * MSS + 20)[2 * MSS:])


def test_congestion_window_reduced_is_said_by_one_segment(whole):
    """RFC 3168 §6.1.2. Not every device knows that CWR is not for all that it cuts."""
    whole.engine.tcp_listen(80)
    peer = Peer(whole)
    peer.send(SYN | ECE | CWR, options=opt_mss(MSS))
    peer.expect(SYN | ACK | ECE)
    peer.send(ACK)
    start = peer.rcv
    peer.write(data(20 * MSS))
    peer.expect(ACK, data=data(10 * MSS))
    peer.send(ACK | ECE, ack=start + 10 * MSS)
    peer.expect(ACK | CWR, size=MSS)
    peer.expect(ACK, size=4 * MSS)                          # half the window


@pytest.mark.parametrize("rtt, segments", [(0.0, 2), (0.03, 3)])
def test_pacing_bounds_a_frame(make, rtt, segments):
    """About a thousandth of a second's worth at once; less where the round trip is short, but two segments."""
    wire = make(device="whole", max_pacing_rate=4_000_000, initial_window=64)
    peer = established(wire, rtt=rtt)
    peer.write(data(8 * MSS))
    wire.advance(0.01)
    sizes = [len(s.data) for s in wire.sent]
    assert max(sizes) == segments * MSS and sum(sizes) == 8 * MSS
    wire.sent.clear()


def test_a_short_tail_goes_along_without_nagle(make):
    wire = make(nagle=False)
    peer = established(wire)
    peer.write(data(5 * MSS + 10))
    peer.expect(ACK | PSH, data=data(5 * MSS + 10))
    wire.counters_are(tcp_out_segments=6, tcp_out_data=6)


def test_fin_goes_with_the_last_segment(whole):
    peer = established(whole)
    peer.conn.send(data(5 * MSS + 10))
    peer.do("close")
    peer.expect(ACK | PSH | FIN, data=data(5 * MSS + 10))
    peer.send(ACK, ack=peer.rcv)
    peer.send(ACK | FIN)
    peer.expect(ACK)


def test_the_peers_window_bounds_it(whole):
    peer = Peer(whole)
    peer.wnd = 4500
    peer.connect(opt_mss(MSS))
    peer.write(data(9 * MSS))
    peer.expect(ACK, data=data(4 * MSS))
    peer.send(ACK, ack=peer.rcv)
    peer.expect(ACK, data=data(9 * MSS)[4 * MSS:8 * MSS])
    whole.sent.clear()


def test_many_small_sends_are_gathered(whole):
    """Referenced pieces of odd sizes: more pieces than a device takes make shorter frames of whole segments."""
    peer = established(whole)
    text = data(10 * MSS)
    for at in range(0, 10 * MSS, 100):
        assert peer.conn.send(text[at:at + 100], reference=True) == 100
    whole.run()
    got = b""
    while whole.sent:
        got += (piece := whole.sent.popleft()).data
        assert len(piece.data) % MSS == 0
    assert got == text


def test_a_partial_ack_takes_the_front_off(whole):
    """The peer's device did not join segments: its ACKs come for two each."""
    peer, start = sender(whole, 10, rtt=0.05)
    for i in range(2, 10, 2):
        peer.send(ACK, ack=start + i * MSS)
        peer.expect_nothing()
    assert whole.row["srtt"] == pytest.approx(50_000_000, rel=0.3)
    peer.send(ACK, ack=start + 10 * MSS)
    peer.expect_nothing(60)


def test_a_block_splits_the_record(whole):
    """RFC 6675: only the hole is sent again, in one frame as far as the window allows."""
    peer, start = sender(whole, 10, opt_sack_permitted(), 0.1)
    sack(peer, start, (4, 8))
    peer.expect(ACK, seq=start, data=data(3 * MSS))          # proportional rate reduction: three of the four lost
    peer.expect_nothing()
    assert whole.row["in_flight"] == 5 * MSS
    whole.sent.clear()
    sack(peer, start, (4, 8), (9, 10))
    whole.sent.clear()
    info = peer.conn.info()
    assert (info.unacked, info.sacked) == (10, 5)
    peer.send(ACK, ack=start + 10 * MSS)
    whole.sent.clear()
    whole.advance(60)
    assert not whole.sent


def test_holes_are_filled_exactly(whole):
    peer, start = sender(whole, 10, opt_sack_permitted(), 0.1)
    sack(peer, start, (1, 3), (4, 6), (7, 10))
    again = b""
    for _ in range(20):
        while whole.sent:
            s = whole.sent.popleft()
            again += s.data
            assert s.data == data(10 * MSS)[s.seq - start:s.seq - start + len(s.data)]
            assert (s.seq - start) // MSS in (0, 3, 6) and len(s.data) == MSS
        whole.advance(0.1)
        if len(again) >= 3 * MSS:
            break
    assert len(again) == 3 * MSS
    peer.send(ACK, ack=start + 10 * MSS)
    peer.expect_nothing(60)


def test_crooked_blocks_count_for_whole_segments(whole):
    """Blocks that begin and end inside segments: nobody can cut records into crumbs."""
    peer, start = sender(whole, 10, opt_sack_permitted(), 0.1)
    for i in range(50):
        peer.send(ACK, ack=start, options=opt_sack((start + 3001 + i, start + 4999 - i), (start + 6500, start + 8500 + i)))
    whole.sent.clear()
    assert peer.conn.info().sacked == 1            # of 6500-8549 only 7000-8000
    pool = whole.engine.pool
    assert pool.views - pool.free_views < 20
    peer.send(ACK, ack=start + 10 * MSS)
    whole.sent.clear()


def test_three_duplicates_without_sack_resend_one_segment(whole):
    """RFC 5681 §3.2."""
    peer, start = sender(whole, 10, rtt=0.1)
    for _ in range(3):
        peer.send(ACK, ack=start)
    peer.expect(ACK, seq=start, data=data(MSS))
    whole.sent.clear()
    peer.send(ACK, ack=start + 3 * MSS)            # a partial acknowledgement: the next hole
    peer.expect(ACK, seq=start + 3 * MSS, data=data(4 * MSS)[3 * MSS:])
    whole.sent.clear()
    peer.send(ACK, ack=start + 10 * MSS)
    whole.sent.clear()


def test_a_timeout_sends_one_segment_and_then_frames(whole):
    peer, start = sender(whole, 10)
    peer.expect(ACK, seq=start, data=data(MSS), after=0.2)
    peer.expect_nothing()
    got = MSS
    peer.send(ACK, ack=start + got)
    while got < 10 * MSS:
        assert whole.sent
        while whole.sent:
            s = whole.sent.popleft()
            assert s.seq == start + got
            got += len(s.data)
        peer.send(ACK, ack=start + got)
    peer.expect_nothing(60)
    counted = whole.counted()
    assert counted["tcp_retransmits"] == 10
    assert peer.conn.info().total_retrans == 10


def test_the_loss_probe_is_the_last_segment(whole):
    """RFC 8985 §7.3."""
    peer, start = sender(whole, 10, opt_sack_permitted(), 0.05)
    whole.advance_to_output()
    s = whole.sent.popleft()
    assert (s.seq, len(s.data)) == (start + 9 * MSS, MSS)
    assert whole.counted()["tcp_loss_probes"] == 1
    peer.send(ACK, ack=start + 10 * MSS)
    peer.expect_nothing(60)


def test_the_probe_of_a_short_end_with_fin(make):
    wire = make(nagle=False)
    peer = established(wire, opt_sack_permitted(), 0.05)
    start = peer.rcv
    peer.conn.send(data(4 * MSS + 7))
    peer.do("close")
    peer.expect(ACK | FIN, data=data(4 * MSS + 7))
    wire.advance_to_output()
    s = wire.sent.popleft()
    assert (s.seq, len(s.data), s.flags & FIN) == (start + 4 * MSS, 7, FIN)
    peer.send(ACK, ack=peer.rcv)
    peer.send(ACK | FIN)
    peer.expect(ACK)


def test_a_smaller_path_mtu_sends_everything_again(version, make):
    """RFC 1191 §6.4: everything that was longer than the new MSS, in segments that fit."""
    wire = make(mtu=3000)
    peer = Peer(wire)
    peer.connect(opt_mss(2900))
    wire.handler.take()
    start = peer.rcv
    peer.write(data(17400))
    first = peer.expect(ACK, size=17400)
    quote = first.raw[:48 if version == 4 else 88]
    peer.wire.feed(too_big(wire, version, 1500, quote))
    mss = 1500 - (40 if version == 4 else 60)
    assert peer.conn.mss == mss
    got = b""
    for _ in range(40):
        while wire.sent:
            s = wire.sent.popleft()
            assert s.seq == start + len(got)
            got += s.data
        peer.send(ACK, ack=start + len(got))
        if len(got) == 17400:
            break
    assert got == data(17400)
    peer.expect_nothing(60)


def too_big(wire, version, mtu, quote):
    kind, code = (3, 4) if version == 4 else (2, 0)
    return icmp_error(wire.remote, wire.local, kind, code, mtu, quote)


def test_timestamps_and_blocks_of_ours(whole):
    """A frame of many segments carries timestamps and no SACK blocks; an ACK of its own brings those."""
    peer = established(whole, opt_sack_permitted() + opt_timestamps(5000, 0), ts=False)
    peer.send(ACK, seq=peer.nxt + 500, data=b"x" * 100)
    whole.sent.clear()
    peer.write(data(5 * MSS))
    sizes = [(len(s.data), s.options.timestamps is not None) for s in whole.sent]
    assert sum(n for n, _ in sizes) + 12 * 5 >= 4 * MSS and all(ts for _, ts in sizes)
    whole.sent.clear()


def test_a_small_pool_sends_segment_by_segment(make):
    wire = make(pool_packets=24)
    peer = established(wire)
    text = data(8 * MSS)
    got, at = b"", 0
    for _ in range(100):
        at += peer.conn.send(text[at:])
        wire.run()
        while wire.sent:
            got += wire.sent.popleft().data
        peer.send(ACK, ack=(peer.rcv + len(got)))
        if len(got) == len(text):
            break
        wire.advance(0.01)
    assert got == text
