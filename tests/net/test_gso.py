"""Segmentation in software: what the memory link makes of a frame with TSO for an end without LRO."""
import struct

import pytest

from iip.drivers import DriverProbe, Impair, Impairments, MemoryLink
from iip.memory.pool import PacketPool
from tests.harness.packets import ACK, CWR, ECE, FIN, PSH, checksum, ip, opt_timestamps, parse_tcp, pseudo_header, tcp

TX_IP, TX_L4, TSO4, TSO6 = 0x0100, 0x0200, 0x0400, 0x0800
ADDRESSES = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}
ETHERNET = bytes(range(12))


def frame(version, data, flags=ACK, *, seq=100, ident=7, options=b"", ethernet=False):
    """As TCP builds it: the checksum field has the sum of the pseudo-header."""
    a, b = ADDRESSES[version]
    segment = tcp(a, b, 1000, 2000, seq, 5, flags, 77, options=options, data=data)
    partial = 0xFFFF ^ checksum(pseudo_header(a, b, 6, len(segment)))
    segment = segment[:16] + struct.pack("!H", partial) + segment[18:]
    raw = ip(a, b, 6, segment, ident=ident)
    link = ETHERNET + (b"\x08\x00" if version == 4 else b"\x86\xdd") if ethernet else b""
    return link + raw


def cut(version, data, mss, flags=ACK, *, ethernet=False, capacity=4096, limit=4096, pools=None, link=None, **fields):
    """The segments, parsed (which verifies checksums and lengths)."""
    medium = "ethernet" if ethernet else "ip"
    link = link or MemoryLink(medium, tso=True, lro=False, rx_checksum=False, capacity=capacity)
    a, b = pools or (PacketPool(256), PacketPool(256))
    here, there = DriverProbe(link.a, a), DriverProbe(link.b, b)
    off = 14 if ethernet else 0
    marks = TX_L4 | (TSO4 | TX_IP if version == 4 else TSO6)
    assert here.tx(frame(version, data, flags, ethernet=ethernet, **fields), flags=marks, l3=off,
                   l4=off + (20 if version == 4 else 40), gso_size=mss) == 1
    out = []
    for _ in range(1000):
        frames = there.rx(limit=limit)
        if not frames:
            break
        for raw in frames:
            if ethernet:
                assert raw[:12] == ETHERNET
            out.append(parse_tcp(raw[off:]))
        here.tx()                 # the link goes on when it is looked at
    assert a.full and b.full
    return out


def pattern(n):
    return bytes(i % 253 for i in range(n))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("ethernet", [False, True])
@pytest.mark.parametrize("n, mss", [(5000, 1000), (5001, 1000), (1000, 1000), (999, 1000), (60000, 1448), (3000, 100), (7, 3)])
def test_segments(version, ethernet, n, mss):
    data = pattern(n)
    segments = cut(version, data, mss, ethernet=ethernet)
    assert [len(s.data) for s in segments] == [mss] * (n // mss) + ([n % mss] if n % mss else [])
    assert b"".join(s.data for s in segments) == data
    assert [s.seq for s in segments] == [100 + at for at in range(0, n, mss)]
    assert {(s.ack, s.wnd, s.flags) for s in segments} == {(5, 77, ACK)}


@pytest.mark.parametrize("version", [4, 6])
def test_flags_only_where_they_belong(version):
    """FIN and PSH on the last, CWR on the first (RFC 3168 §6.1.2), ECE on all."""
    flags = [s.flags for s in cut(version, pattern(3000), 1000, ACK | FIN | PSH | CWR | ECE)]
    assert flags == [ACK | CWR | ECE, ACK | ECE, ACK | ECE | FIN | PSH]
    assert [s.flags for s in cut(version, pattern(10), 1000, ACK | FIN | PSH | CWR)] == [ACK | CWR | FIN | PSH]


def test_identification_counts():
    idents = [struct.unpack_from("!H", s.raw, 4)[0] for s in cut(4, pattern(4000), 1000, ident=0xFFFE)]
    assert idents == [0xFFFE, 0xFFFF, 0, 1]


@pytest.mark.parametrize("version", [4, 6])
def test_options_and_sequence_numbers_that_wrap(version):
    segments = cut(version, pattern(3000), 1000, seq=0xFFFFFC00, options=opt_timestamps(1, 2))
    assert [s.seq for s in segments] == [0xFFFFFC00, 0xFFFFFFE8, 976]
    assert {s.options.timestamps for s in segments} == {(1, 2)}


@pytest.mark.parametrize("capacity, limit", [(1, 1), (3, 2), (64, 64)])
@pytest.mark.parametrize("version", [4, 6])
def test_little_room_at_the_other_end(version, capacity, limit):
    """It goes on where it stopped."""
    data = pattern(20000)
    segments = cut(version, data, 1000, ACK | FIN | CWR, capacity=capacity, limit=limit)
    assert b"".join(s.data for s in segments) == data
    assert [s.flags for s in segments] == [ACK | CWR] + [ACK] * 18 + [ACK | FIN]


@pytest.mark.parametrize("shared", [False, True])
def test_little_memory(shared):
    """As many segments at a time as there are cells: a frame of 11 cells, and 4 more."""
    here = PacketPool(15)
    pools = (here, here) if shared else (here, PacketPool(2))
    data = pattern(20000)
    segments = cut(4, data, 1000, pools=pools, limit=1)
    assert b"".join(s.data for s in segments) == data


def test_segments_of_a_receiver_that_trusts_are_not_summed():
    link = MemoryLink(tso=True, lro=False)
    here, there = DriverProbe(link.a, PacketPool(64)), DriverProbe(link.b, PacketPool(64))
    here.tx(frame(4, pattern(3000)), flags=TX_L4 | TX_IP | TSO4, l4=20, gso_size=1000)
    assert [flags & 0x30 for _, flags in there.rx_flags()] == [0x30] * 3


def test_without_pieces_segments_are_copied():
    link = MemoryLink(tso=True, lro=False, scatter_gather=False)
    here, there = DriverProbe(link.a, PacketPool(64)), DriverProbe(link.b, PacketPool(64))
    here.tx(frame(4, pattern(3000)), flags=TX_L4 | TX_IP | TSO4, l4=20, gso_size=1000)
    packets = there.rx_packets()
    assert [there.pool.pieces(p) for p in packets] == [1, 1, 1]
    for p in packets:
        there.pool.free(p)


def test_an_end_that_trusts_nobody_gets_whole_checksums():
    """tx_checksum without rx_checksum: the link computes what was left to it."""
    link = MemoryLink(rx_checksum=False)
    here, there = DriverProbe(link.a, PacketPool(64)), DriverProbe(link.b, PacketPool(64))
    here.tx(frame(6, pattern(500)), flags=TX_L4, l4=40)
    [raw] = there.rx()
    assert parse_tcp(raw).data == pattern(500)


@pytest.mark.parametrize("direction", ["tx", "rx"])
def test_a_bad_wire_loses_segments_not_frames(direction):
    link = MemoryLink(tso=True)
    bad = Impairments(loss=0.3)
    ends = [Impair(link.a, seed=1, **{direction: bad}), link.b]
    if direction == "rx":
        ends.reverse()
    here, there = DriverProbe(ends[0], PacketPool(256)), DriverProbe(ends[1], PacketPool(256))
    for _ in range(2):
        here.tx(frame(4, pattern(50000)), flags=TX_L4 | TX_IP | TSO4, l4=20, gso_size=1000, now=1)
    sizes = [len(raw) for raw in there.rx(limit=256, now=1)] + [len(raw) for raw in there.rx(limit=256, now=2)]
    assert set(sizes) == {1040} and 40 < len(sizes) < 100
    assert here.pool.full and there.pool.full


def test_what_is_no_segment_is_dropped():
    """A driver that marks nonsense loses it, and nothing else."""
    link = MemoryLink(tso=True, lro=False)
    here, there = DriverProbe(link.a, PacketPool(64)), DriverProbe(link.b, PacketPool(64))
    here.tx(b"E" * 30, b"E" * 300, b"fine", flags=TSO4, l3=0, l4=20, gso_size=0)
    there.rx()
    assert here.pool.full and there.pool.full
