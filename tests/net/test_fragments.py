"""Reassembly, and fragmentation on send: for both IP versions, with all counters compared."""
import random

import pytest
from scapy.layers.inet import TCP, defragment
from scapy.layers.inet6 import (
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    defragment6,
)

from tests.net.frames import (
    ICMP,
    IP,
    KNOWING_PEER,
    ME4,
    ME6,
    PEER4,
    PEER6,
    SECOND,
    UDP,
    Raw,
    eth,
    know_peer,
    output,
    raw,
    v4,
    v6,
    valid,
)

VERSIONS = pytest.mark.parametrize("version", [4, 6])


def datagram(version, data):
    """A whole UDP datagram: the IP payload, checksum included."""
    packet = (v4 if version == 4 else v6)(UDP(sport=1, dport=53) / Raw(data))
    return raw(packet)[20 if version == 4 else 40:]


def fragment(version, at, data, more, ident=7, proto=17, **fields):
    """The frame of one fragment; `at` in bytes."""
    if version == 4:
        return eth(v4(Raw(data), proto=proto, id=ident, frag=at // 8, flags="MF" if more else 0, **fields))
    return eth(v6(IPv6ExtHdrFragment(nh=proto, offset=at // 8, m=more, id=ident) / Raw(data), **fields))


def split(version, payload, size, **fields):
    return [fragment(version, at, payload[at:at + size], at + size < len(payload), **fields)
            for at in range(0, len(payload), size)]


def pattern(n):
    return random.Random(n).randbytes(n)


@VERSIONS
@pytest.mark.parametrize("order", ["in order", "reversed", "shuffled"])
@pytest.mark.parametrize("size, n", [(8, 30), (1480, 3000), (1480, 65507 - 20), (560, 60000)])
def test_reassembly(make, version, order, size, n):
    probe = make()
    probe.bind(53)
    data = pattern(n)
    frames = split(version, datagram(version, data), size)
    if order == "reversed":
        frames.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(frames)
    for frame in frames[:-1]:
        assert probe.feed(frame)[0] == "ip_fragment_queued"
    assert probe.feed(frames[-1])[0] == "udp_in"
    (event,) = probe.events()
    assert event["data"] == data
    assert probe.held == 0
    assert probe.counters() == {"ip_fragment_queued": len(frames) - 1, "ip_reassembled": 1, "udp_in": 1}


@VERSIONS
def test_fragments_in_pieces_with_padding(probe, version):
    probe.bind(53)
    data = pattern(100)
    for frame in split(version, datagram(version, data), 40):
        verdict = probe.feed(frame + b"\xEE" * 5, cuts=(14, 30, 54, 58, 70, 71))[0]
    assert verdict == "udp_in"
    assert probe.events()[0]["data"] == data


@VERSIONS
def test_device_checksum_of_fragments_means_nothing(probe, version):
    probe.bind(53)
    payload = bytearray(datagram(version, pattern(40)))
    payload[-1] ^= 1
    verdicts = [probe.feed(f, flags=0x20)[0] for f in split(version, bytes(payload), 24)]
    assert verdicts == ["ip_fragment_queued"] * (len(verdicts) - 1) + ["udp_bad_checksum"]


@VERSIONS
@pytest.mark.parametrize("at, n, more", [
    (8, 24, True),     # within and beyond the first
    (0, 24, True),     # begins like the first, but longer
    (16, 32, True),    # reaches over the second
    (0, 8, True),      # a part of the first
    (24, 8, True),     # a part of the second
    (16, 48, False),   # over the second, as the last
])
def test_overlap_condemns_the_datagram(probe, version, at, n, more):
    """RFC 5722: it and what is still to come of it is dropped, silently."""
    payload = datagram(version, pattern(72))
    assert probe.feed(fragment(version, 0, payload[:16], True))[0] == "ip_fragment_queued"
    assert probe.feed(fragment(version, 24, payload[24:40], True))[0] == "ip_fragment_queued"
    assert probe.feed(fragment(version, at, bytes(n), more))[0] == "ip_fragment_overlap"
    assert probe.held == 0
    assert probe.feed(fragment(version, 40, payload[40:], False))[0] == "ip_fragment_overlap"
    probe.set_time(31 * SECOND)
    probe.timers()
    assert probe.counters() == {"ip_fragment_queued": 2, "ip_fragment_overlap": 2} | AFTER_TIMERS


AFTER_TIMERS = {"arp_out_requests": 1, "mld_out": 1}  # the announcements of our address and groups


@VERSIONS
def test_duplicates_do_not_matter(probe, version):
    probe.bind(53)
    data = pattern(50)
    a, b, c = split(version, datagram(version, data), 24)
    assert [probe.feed(f)[0] for f in (a, a, c, c, a, b)] == [
        "ip_fragment_queued", "ip_fragment_duplicate", "ip_fragment_queued", "ip_fragment_duplicate",
        "ip_fragment_duplicate", "udp_in"]
    assert probe.events()[0]["data"] == data
    assert probe.counters() == {"ip_fragment_queued": 2, "ip_fragment_duplicate": 3, "ip_reassembled": 1, "udp_in": 1}


@VERSIONS
@pytest.mark.parametrize("second", [
    (40, 8, False),   # ends elsewhere
    (24, 8, False),   # the end before what is there
    (56, 8, True),    # beyond the end
    (40, 16, True),   # more to come where the end was
])
def test_contradictory_ends(probe, version, second):
    payload = datagram(version, pattern(48))  # 56 bytes
    assert probe.feed(fragment(version, 48, payload[48:], False))[0] == "ip_fragment_queued"
    at, n, more = second
    assert probe.feed(fragment(version, at, bytes(n), more))[0] == "ip_fragment_bad"
    assert probe.held == 0
    assert probe.counters() == {"ip_fragment_queued": 1, "ip_fragment_bad": 1}


@pytest.mark.parametrize("frame", [
    fragment(4, 0, b"x" * 23, True),                       # length not a multiple of 8
    fragment(4, 65528, b"x" * 8, False),                   # beyond 64 KiB: the ping of death
    fragment(4, 8, b"", False),
    fragment(4, 0, b"x" * 16, True, proto=6),              # a TCP header cut short
    fragment(4, 8, b"x" * 16, False, proto=6),             # or overwritten
    fragment(6, 0, b"x" * 16, True, proto=6),
    fragment(6, 8, b"x" * 16, False, proto=6),
    fragment(6, 8, b"", True),
])
def test_bad_fragments(probe, frame):
    assert probe.feed(frame)[0] == "ip_fragment_bad"
    assert probe.counters() == {"ip_fragment_bad": 1}


@pytest.mark.parametrize("frame, pointer", [
    (fragment(6, 0, b"x" * 23, True), 4),
    (fragment(6, 65528, b"x" * 16, False), 42),
])
def test_bad_ipv6_fragments_are_reported(probe, frame, pointer):
    know_peer(probe)
    assert probe.feed(frame)[0] == "ip_fragment_bad"
    (error,) = output(probe)
    assert (error[ICMPv6ParamProblem].code, error[ICMPv6ParamProblem].ptr) == (0, pointer)
    assert probe.counters() == KNOWING_PEER | {"ip_fragment_bad": 1, "icmp_out_error": 1}


def test_too_many_fragments(make):
    probe = make(pool_packets=512)
    for at in range(128):
        assert probe.feed(fragment(4, at * 8, b"x" * 8, True))[0] == "ip_fragment_queued"
    assert probe.feed(fragment(4, 128 * 8, b"x" * 8, True))[0] == "ip_fragment_bad"
    assert probe.held == 0
    assert probe.counters() == {"ip_fragment_queued": 128, "ip_fragment_bad": 1}


def test_atomic_fragment(probe):
    """RFC 6946: not queued, and not confused with fragments of the same identification."""
    probe.bind(53)
    payload = datagram(6, b"whole")
    probe.feed(fragment(6, 0, payload[:8], True))
    assert probe.feed(fragment(6, 0, payload, False))[0] == "udp_in"
    assert probe.events()[0]["data"] == b"whole"
    assert probe.counters() == {"ip_fragment_queued": 1, "udp_in": 1}


def test_headers_in_front_of_and_behind_the_fragment_header(probe):
    probe.bind(53)
    data = pattern(64)
    inner = bytes([17, 0, 1, 4, 0, 0, 0, 0]) + datagram(6, data)
    frames = [eth(v6(IPv6ExtHdrDestOpt(nh=44) / IPv6ExtHdrFragment(nh=60, offset=at // 8, m=at == 0, id=9)
                     / Raw(inner[at:at + 40]))) for at in (0, 40)]
    assert [probe.feed(f)[0] for f in reversed(frames)] == ["ip_fragment_queued", "udp_in"]
    assert probe.events()[0]["data"] == data


@VERSIONS
def test_datagrams_are_kept_apart(probe, version):
    """By identification, addresses, and (IPv4) protocol."""
    probe.bind(53)
    data = [pattern(30 + n) for n in range(3)]
    one, two = (split(version, datagram(version, d), 24, ident=n) for n, d in enumerate(data[:2]))
    verdicts = [probe.feed(f)[0] for pair in zip(one, two, strict=True) for f in pair]
    assert verdicts == ["ip_fragment_queued"] * 2 + ["udp_in"] * 2
    assert [e["data"] for e in probe.events()] == data[:2]


@VERSIONS
def test_tcp_over_fragments(probe, version):
    """The transport header comes in one piece, wherever the fragments ended."""
    packet = (v4 if version == 4 else v6)(TCP(options=[("NOP", None)] * 20) / Raw(b"data" * 9))
    payload = raw(packet)[20 if version == 4 else 40:]
    frames = split(version, payload, 24, proto=6)
    for frame in frames[:-1]:
        probe.feed(frame)
    verdict, rx = probe.feed(frames[-1])
    assert (verdict, rx["checksum_ok"], rx["payload"]) == ("ok", True, payload)


@VERSIONS
def test_timeout(probe, version):
    """Time exceeded, code 1, if the first fragment is there (RFC 1122 §3.3.2, RFC 8200 §4.5)."""
    know_peer(probe)
    probe.timers()
    probe.take_output()
    first = fragment(version, 0, b"a" * 24, True)
    probe.feed(first)
    probe.feed(fragment(version, 48, b"b" * 8, False, ident=8))
    probe.set_time(29 * SECOND)
    probe.timers()
    probe.take_output()
    assert probe.held
    probe.set_time(30 * SECOND)
    probe.timers()
    (error,) = output(probe)
    assert probe.held == 0
    assert valid(error)
    if version == 4:
        assert (error[ICMP].type, error[ICMP].code) == (11, 1)
        assert raw(error[ICMP])[8:] == first[14:]
    else:
        assert (error[ICMPv6TimeExceeded].type, error[ICMPv6TimeExceeded].code) == (3, 1)
        assert raw(error[ICMPv6TimeExceeded])[8:] == first[14:]
    counters = probe.counters()
    assert counters.pop("arp_out_requests") >= 2
    assert counters == {k: v for k, v in KNOWING_PEER.items() if k != "arp_out_requests"} | {
        "ip_fragment_queued": 2, "ip_fragment_timeout": 2, "icmp_out_error": 1, "mld_out": 2}


def test_number_of_datagrams_is_bounded(make):
    """The oldest makes room."""
    probe = make(reassembly_packets=2)
    probe.bind(53)
    data = pattern(30)
    frames = [split(4, datagram(4, data), 24, ident=n) for n in range(3)]
    for pair in frames:
        assert probe.feed(pair[0])[0] == "ip_fragment_queued"
    assert probe.feed(frames[2][1])[0] == "udp_in"
    assert probe.feed(frames[1][1])[0] == "udp_in"
    assert probe.feed(frames[0][1])[0] == "ip_fragment_queued"
    assert probe.counters() == {"ip_fragment_queued": 4, "ip_fragment_no_room": 1, "ip_reassembled": 2, "udp_in": 2}


def test_memory_of_reassembly_is_bounded(make):
    probe = make(reassembly_bytes=3 * 2048)
    for at in range(3):
        assert probe.feed(fragment(4, at * 8, b"x" * 8, True))[0] == "ip_fragment_queued"
    assert probe.feed(fragment(4, 24, b"x" * 8, True))[0] == "ip_fragment_no_room"  # itself the oldest
    assert probe.feed(fragment(4, 0, b"x" * 8, True, ident=8))[0] == "ip_fragment_queued"  # the other goes
    assert probe.held == 2048
    assert probe.counters() == {"ip_fragment_queued": 4, "ip_fragment_no_room": 2}


def test_fragments_leave_some_of_the_pool(make):
    probe = make(pool_packets=64)
    verdicts = [probe.feed(fragment(4, 0, b"x" * 8, True, ident=n))[0] for n in range(63)]
    assert verdicts == ["ip_fragment_queued"] * 55 + ["ip_fragment_no_room"] * 8


def test_no_reassembly(make):
    probe = make(reassembly_packets=0)
    assert probe.feed(fragment(4, 0, b"x" * 8, True))[0] == "ip_fragment_no_room"
    assert probe.counters() == {"ip_fragment_no_room": 1}


# -- sending --------------------------------------------------------------------------------------------
CAP_SG, CAP_TX_IP_CSUM, CAP_TX_L4_CSUM = 0x10, 0x04, 0x08


@VERSIONS
@pytest.mark.parametrize("caps", [0, CAP_SG, CAP_SG | CAP_TX_L4_CSUM])
@pytest.mark.parametrize("n", [1472, 1473, 3000, 65507 - 20])
def test_udp_is_fragmented(make, version, caps, n):
    probe = make(caps=caps, tx_queue=64)
    know_peer(probe)
    data = pattern(n)
    assert probe.udp_send(PEER4 if version == 4 else PEER6, 53, data) == "ok"
    frames = output(probe)
    whole = n + 8 + (20 if version == 4 else 40) <= 1500
    if whole:
        assert len(frames) == 1 and frames[0].payload.payload.name == "UDP"
        assert raw(frames[0][UDP].payload) == data
    else:
        assert all(len(f) <= 1514 for f in frames) and all(valid(f) for f in frames if version == 4)
        again = (defragment(f[IP] for f in frames)[0] if version == 4 else defragment6([f.payload for f in frames]))
        again = again.__class__(raw(again))
        assert raw(again[UDP].payload) == data
        assert valid(again)
    assert probe.counters() == KNOWING_PEER | {"udp_out": 1} | ({} if whole else {"ip_fragmented": 1})


@VERSIONS
def test_fragments_of_what_waited_for_the_neighbour(probe, version):
    """One place in the queue; fragmented when the address is known."""
    data = pattern(4000)
    assert probe.udp_send(PEER4 if version == 4 else PEER6, 53, data) == "ok"
    assert len(probe.take_output()) == 1
    know_peer_quietly(probe)
    assert len([f for f in output(probe) if f.haslayer(IPv6ExtHdrFragment) or (f.haslayer(IP) and f[IP].id)]) == 3
    assert probe.counters()["ip_fragmented"] == 1


def know_peer_quietly(probe):
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr

    from tests.net.frames import PEER, arp
    probe.feed(arp(op=2))
    probe.feed(eth(v6(ICMPv6ND_NA(tgt=PEER6, R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=PEER), hlim=255)))


def test_do_not_fragment(probe):
    know_peer(probe)
    assert probe.udp_send(PEER4, 53, pattern(1473), df=True) == "ip_too_big"
    assert probe.udp_send(PEER4, 53, pattern(1472), df=True) == "ok"
    (frame,) = output(probe)
    assert (frame[IP].flags, frame[IP].id) == ("DF", 0)
    assert probe.udp_send(PEER4, 53, pattern(65508)) == "ip_too_big"
    assert probe.udp_send(PEER6, 53, pattern(65528)) == "ip_too_big"
    assert probe.ping(PEER4, pattern(65508)) == "ip_too_big"
    assert probe.counters() == KNOWING_PEER | {"ip_too_big": 4, "udp_out": 1}


def test_no_room_for_all_fragments(make):
    """All or none."""
    probe = make(tx_queue=16)
    know_peer(probe)
    assert probe.udp_send(PEER4, 53, pattern(16 * 1480)) == "tx_queue_full"
    assert probe.take_output() == []
    assert probe.udp_send(PEER4, 53, pattern(16 * 1480 - 8)) == "ok"
    assert len(probe.take_output()) == 16
    assert probe.counters() == KNOWING_PEER | {"tx_queue_full": 1, "udp_out": 1, "ip_fragmented": 1}


def test_no_cells_for_fragments(make):
    probe = make(pool_packets=16)
    know_peer(probe)
    assert probe.udp_send(PEER4, 53, pattern(20000)) == "tx_no_buffer"
    assert probe.udp_send(PEER4, 53, pattern(40000)) == "tx_no_buffer"
    assert probe.counters() == KNOWING_PEER | {"tx_no_buffer": 2}


def test_identifications_differ(probe):
    know_peer(probe)
    for n in range(20):
        probe.udp_send(PEER4, 53, b"x" * n)
    assert len({f[IP].id for f in output(probe)}) == 20


@pytest.mark.parametrize("dst, src", [(PEER4, ME4), (PEER6, ME6)])
def test_header_checksum_left_to_the_device(make, dst, src):
    probe = make(caps=CAP_TX_IP_CSUM | CAP_SG)
    know_peer(probe)
    probe.udp_send(dst, 53, pattern(3000), src=src)
    for frame, flags, _, _, pieces in probe.take_output(marks=True):
        assert pieces in (2, 3)  # the header, and views of one or two cells of payload
        assert bool(flags & 0x100) == (dst == PEER4)
        assert dst == PEER6 or frame[24:26] == b"\0\0"
