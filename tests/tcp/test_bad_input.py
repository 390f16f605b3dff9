"""Packets that no decent peer sends. Each is counted under the name of what is wrong with it, and nothing else
happens: no answer (unless the RFC wants one), no state, no memory."""
import random
import struct

import pytest

from iip import State
from tests.harness import packets as p
from tests.harness.packets import ACK, FIN, RST, SYN, opt_mss, opt_sack, opt_sack_permitted, opt_timestamps
from tests.harness.peer import Peer
from tests.harness.states import ESTABLISHED, LISTEN, enter


@pytest.fixture
def peer(wire):
    peer = enter(wire, ESTABLISHED)
    wire.advance(0.01)
    return peer


def reject(wire, packet, **verdicts):
    """The packet is counted as `verdicts` say, and that is all."""
    wire.mark()
    before = wire.engine.connections()
    wire.feed(packet)
    assert not wire.sent
    assert not wire.others
    wire.counters_are(**verdicts)
    assert (wire.engine.connections() == before).all()
    assert wire.handler.take() == []
    assert wire.engine.pool.full


def ip_header(wire):
    return 20 if wire.version == 4 else 40


def rebuilt(peer, segment, **fields):
    return p.ip(peer.remote, peer.local, p.TCP, segment, **fields)


def with_checksum(peer, segment):
    """Put the right checksum into a segment that was changed by hand."""
    segment = segment[:16] + b"\0\0" + segment[18:]
    value = p.checksum(p.pseudo_header(peer.remote, peer.local, p.TCP, len(segment)) + segment)
    return segment[:16] + struct.pack("!H", value) + segment[18:]


# -- truncated -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("length", range(1, 20))
def test_tcp_header_cut_off(wire, peer, length):
    segment = peer.packet(ACK, seq=peer.nxt)[ip_header(wire):]
    reject(wire, rebuilt(peer, segment[:length]), tcp_bad_header=1)


def test_no_tcp_header_at_all(wire, peer, version):
    verdict = "tcp_bad_header" if version == 4 else "ip6_bad_payload_length"     # 0: a jumbogram, RFC 2675
    reject(wire, rebuilt(peer, b""), **{verdict: 1})


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_packet_shorter_than_its_ip_header_says(wire, peer, version, cut):
    packet = peer.packet(ACK, seq=peer.nxt, data=b"x" * 20)
    verdict = "ip_bad_total_length" if version == 4 else "ip6_bad_payload_length"
    reject(wire, packet[:-cut], **{verdict: 1})


def test_every_prefix_of_a_segment(wire, peer, version):
    """Wherever it is cut, it is dropped."""
    packet = peer.packet(ACK, seq=peer.nxt, data=b"payload", options=opt_mss(1000))
    for n in range(1, len(packet)):
        wire.feed(packet[:n])
    assert not wire.sent
    assert wire.handler.take() == []
    counted = wire.counted()
    assert sum(counted.values()) == len(packet) - 1
    assert set(counted) <= {"ip_bad_version", "ip_bad_header_length", "ip_bad_total_length", "ip6_bad_payload_length"}
    assert wire.engine.pool.full


# -- contradictory ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("header", [0, 4, 16])
def test_data_offset_too_small(wire, peer, header):
    reject(wire, peer.packet(ACK, seq=peer.nxt, data=b"x" * 40, header=header), tcp_bad_header=1)


@pytest.mark.parametrize("header", [24, 60])
def test_data_offset_beyond_the_segment(wire, peer, header):
    reject(wire, peer.packet(ACK, seq=peer.nxt, header=header), tcp_bad_header=1)


FLAGS = {"none": 0, "fin": FIN, "urg-psh-fin": FIN | 0x28, "psh": 8}


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_flags_that_no_segment_has(wire, peer, flags):
    """Port scanners' favourites; without ACK nothing is done in a connection (§3.10.7.4, fifth)."""
    reject(wire, peer.packet(flags, seq=peer.nxt), tcp_bad_flags=1)


def test_all_flags(wire, peer):
    """RST is looked at first: in the window it is challenged, at its edge it resets."""
    peer.send(0xFF, seq=peer.nxt + 1)
    peer.expect(ACK)
    wire.counters_are(tcp_rst_challenged=1, tcp_challenge_ack=1, tcp_out_segments=1)


@pytest.mark.parametrize("flags", [SYN | FIN, SYN | RST, SYN | FIN | RST | 0x28], ids=["syn-fin", "syn-rst", "xmas"])
def test_syn_with_what_contradicts_it(wire, version, flags):
    peer = enter(wire, LISTEN)
    reject(wire, peer.packet(flags), **{"tcp_no_connection" if flags & RST else "tcp_bad_flags": 1})


def test_fin_that_moves(wire, peer):
    """Two FINs at different places: the first stands."""
    start = peer.nxt
    peer.send(FIN | ACK, seq=start + 10)
    peer.expect(ACK, ack=start)
    peer.send(FIN | ACK, seq=start + 4)
    peer.expect(ACK, ack=start)
    peer.send(ACK, seq=start, data=b"0123456789")
    peer.expect(ACK, ack=start + 11)
    assert wire.handler.take() == [("payload", b"0123456789"), ("shutdown",)]


def test_overlaps_that_contradict_each_other(wire, peer):
    """What was received first stands (the application and an observer see the same)."""
    start = peer.nxt
    for at, data in ((4, b"4567"), (2, b"XXXXXX"), (6, b"YYYYYY"), (0, b"01ZZZZZZZZZZZZ")):
        peer.send(ACK, seq=start + at, data=data)
    wire.sent.clear()
    got = b"".join(e[1] for e in wire.handler.take())
    assert got == b"01XX4567YYYYZZ"


# -- checksums -------------------------------------------------------------------------------------------------

def test_tcp_checksum(wire, peer):
    reject(wire, peer.packet(ACK, seq=peer.nxt, data=b"x", bad_checksum=True), tcp_bad_checksum=1)


def test_tcp_checksum_of_a_syn(wire):
    peer = enter(wire, LISTEN)
    reject(wire, peer.packet(SYN, bad_checksum=True), tcp_bad_checksum=1)
    assert wire.engine.n_connections == 0


def test_every_flipped_bit(wire, peer, version):
    """One wrong bit anywhere in the segment never gets through."""
    packet = bytearray(peer.packet(ACK, seq=peer.nxt, data=b"data"))
    at = ip_header(wire)
    for bit in range(8 * at, 8 * len(packet)):
        packet[bit // 8] ^= 1 << bit % 8
        wire.feed(bytes(packet))
        packet[bit // 8] ^= 1 << bit % 8
    counted = wire.counted()
    assert set(counted) <= {"tcp_bad_checksum", "tcp_bad_header"}
    assert sum(counted.values()) == 8 * (len(packet) - at)
    assert wire.handler.take() == []


def test_ip_checksum(wire, peer, version):
    if version == 6:
        pytest.skip("IPv6 has none")
    segment = peer.packet(ACK, seq=peer.nxt, data=b"x")[20:]
    reject(wire, rebuilt(peer, segment, bad_checksum=True), ip_bad_checksum=1)


def test_checksum_of_another_pseudo_header(wire, peer):
    """A segment that was meant for somebody else."""
    segment = p.tcp(peer.local, peer.remote, peer.port, 80, peer.nxt, peer.rcv, ACK, data=b"x")
    other = p.tcp("10.9.9.9" if wire.version == 4 else "fd00::99", peer.local, peer.port, 80, peer.nxt, peer.rcv, ACK,
                  data=b"x")
    assert p.ip(peer.remote, peer.local, p.TCP, segment)          # swapped: the sum is the same, and it is ours
    reject(wire, rebuilt(peer, other), tcp_bad_checksum=1)


# -- spoofed and land ------------------------------------------------------------------------------------------

def test_land(wire, version):
    """From our own address and port to the same: it never came from us."""
    enter(wire, LISTEN)
    segment = p.tcp(wire.local, wire.local, 80, 80, 1, 0, SYN)
    reject(wire, p.ip(wire.local, wire.local, p.TCP, segment), ip_bad_source=1)
    assert wire.engine.n_connections == 0


def test_our_address_as_source(wire):
    enter(wire, LISTEN)
    segment = p.tcp(wire.local, wire.local, 1234, 80, 1, 0, SYN)
    reject(wire, p.ip(wire.local, wire.local, p.TCP, segment), ip_bad_source=1)


SOURCES = {4: ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.0.0.255"],
           6: ["::", "::1", "ff02::1", "ff0e::1"]}


@pytest.mark.parametrize("index", range(5))
def test_impossible_source(wire, version, index):
    enter(wire, LISTEN)
    source = SOURCES[version][index % len(SOURCES[version])]
    segment = p.tcp(source, wire.local, 1234, 80, 1, 0, SYN)
    reject(wire, p.ip(source, wire.local, p.TCP, segment), ip_bad_source=1)


GROUPS = {4: ["224.0.0.1", "255.255.255.255", "10.0.0.255"], 6: ["ff02::1"]}


@pytest.mark.parametrize("index", range(3))
def test_to_a_group(wire, version, index):
    """RFC 9293 §3.9.2.3: TCP is between two hosts; not even an RST is sent."""
    enter(wire, LISTEN)
    group = GROUPS[version][index % len(GROUPS[version])]
    for flags in (SYN, ACK):
        segment = p.tcp(wire.remote, group, 1234, 80, 1, 0, flags)
        reject(wire, p.ip(wire.remote, group, p.TCP, segment), tcp_bad_address=1)


def test_to_somebody_else(wire, version):
    enter(wire, LISTEN)
    other = "10.0.0.77" if version == 4 else "fd00::77"
    segment = p.tcp(wire.remote, other, 1234, 80, 1, 0, SYN)
    reject(wire, p.ip(wire.remote, other, p.TCP, segment), ip_not_ours=1)


@pytest.mark.parametrize("sport,dport", [(0, 80), (1234, 0)])
def test_port_zero(wire, sport, dport):
    wire.engine.tcp_listen(0)
    segment = p.tcp(wire.remote, wire.local, sport, dport, 1, 0, SYN)
    reject(wire, p.ip(wire.remote, wire.local, p.TCP, segment), tcp_bad_address=1)


def test_spoofed_data_far_from_the_window(wire, peer):
    """Blind injection: only an ACK to the real peer."""
    for offset in (-(1 << 30), -100_000, 100_000, 1 << 30, 1 << 31):
        peer.send(ACK, seq=peer.nxt + offset, data=b"evil")
        peer.expect(ACK)
    assert wire.handler.take() == []
    wire.counters_are(tcp_out_of_window=5, tcp_out_segments=5)


def test_spoofed_ack_far_from_the_range(wire, peer):
    for offset in (1, 100_000, 1 << 30, -(1 << 30)):
        wire.advance(0.01)
        peer.send(ACK, seq=peer.nxt, ack=peer.rcv + offset, data=b"evil")
        peer.expect(ACK)
    assert wire.handler.take() == []
    wire.counters_are(tcp_bad_ack=4, tcp_challenge_ack=4, tcp_out_segments=4)


# -- oversized -------------------------------------------------------------------------------------------------

def test_segment_larger_than_the_mss(wire, peer):
    """What fits into the window is taken, however large the packet."""
    peer.send(ACK, data=b"x" * 9000)
    peer.expect(ACK)
    assert b"".join(e[1] for e in wire.handler.take()) == b"x" * 9000


def test_segment_larger_than_the_window(make):
    wire = make(receive_buffer=4000)
    peer = enter(wire, ESTABLISHED)
    peer.send(ACK, data=b"x" * 9000, seq=peer.nxt)
    peer.nxt += 4000
    peer.expect(ACK)
    assert b"".join(e[1] for e in wire.handler.take()) == b"x" * 4000
    wire.counters_are(tcp_rx_window_exceeded=1, tcp_out_segments=1)
    assert wire.engine.pool.full


def test_largest_packet(wire, peer, version):
    peer.send(ACK, data=b"x" * (65535 - 20 - ip_header(wire)))
    peer.expect(ACK)
    assert wire.row["rcv_nxt"] == peer.nxt


def test_beyond_the_largest_packet(wire, peer):
    assert not wire.driver.feed(bytes(70_000))
    assert not wire.driver.feed(b"")


# -- options ---------------------------------------------------------------------------------------------------

BAD_OPTIONS = {
    "length 0": b"\x02\x00\x05\xb4",
    "length 1": b"\x02\x01\x05\xb4",
    "beyond the header": b"\x01\x01\x08\x0a",
    "no length": b"\x01\x01\x01\x02",
    "mss of 3": b"\x02\x03\x05\x00",
    "mss of 6": b"\x02\x06\x05\xb4\x00\x00\x00\x00",
    "window scale of 4": b"\x03\x04\x07\x07",
    "window scale of 2": b"\x03\x02\x00\x00",
    "sack permitted of 3": b"\x04\x03\x00\x00",
    "timestamps of 8": b"\x08\x08" + bytes(6),
    "timestamps of 12": b"\x08\x0c" + bytes(10),
    "sack of 9": b"\x05\x09" + bytes(10),
    "sack of 5 bytes": b"\x05\x05\x00\x00\x00\x00\x00\x00",
    "unknown of 0": b"\xfd\x00\x00\x00",
    "unknown beyond": b"\xfd\x29\x00\x00",
    "forty bytes of ff": b"\xff" * 40,
}


@pytest.mark.parametrize("options", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
@pytest.mark.parametrize("where", ["listen", "established"])
def test_bad_options(wire, options, where):
    if where == "listen":
        peer = enter(wire, LISTEN)
        reject(wire, peer.packet(SYN, options=options), tcp_bad_options=1)
        assert wire.engine.n_connections == 0
    else:
        peer = enter(wire, ESTABLISHED)
        reject(wire, peer.packet(ACK, seq=peer.nxt, data=b"x", options=options), tcp_bad_options=1)


GOOD_OPTIONS = {
    "unknown": b"\xfd\x04\x12\x34",
    "unknown, 40 bytes": b"\xfd\x28" + bytes(38),
    "nothing but no-operation": b"\x01" * 40,
    "end at once, then rubbish": b"\x00" + b"\xff" * 39,
    "end in the middle": opt_mss(1000) + b"\x00\x02\x00\x00",
    "repeated": opt_mss(1000) * 10,
    "repeated, different": opt_mss(500) + opt_mss(1000),
    "experiment (RFC 6994)": b"\xfe\x06\xf9\x89\x00\x00\x01\x01",
    "empty unknown": b"\xfd\x02" * 20,
}


@pytest.mark.parametrize("options", GOOD_OPTIONS.values(), ids=GOOD_OPTIONS)
def test_odd_but_legal_options(wire, options):
    """RFC 9293 §3.1: unknown options are skipped, wherever they are."""
    peer = Peer(wire)
    peer.connect(options)
    peer.send(ACK, data=b"x", options=options)
    peer.expect(ACK)
    assert wire.handler.take() == [("accepted",), ("payload", b"x")]


def test_signed_segments(wire, peer):
    """RFC 2385 §2: nobody here has a key to check them with."""
    signature = b"\x13\x12" + bytes(16)
    other = Peer(wire, port=40001)
    wire.engine.tcp_listen(80)
    reject(wire, other.packet(SYN, options=signature), tcp_signed=1)
    reject(wire, peer.packet(ACK, seq=peer.nxt, data=b"x", options=signature), tcp_signed=1)


def test_options_of_a_syn_in_a_connection_change_nothing(wire, peer):
    before = wire.row.copy()
    peer.send(ACK, options=opt_mss(100) + b"\x01\x03\x03\x0e" + opt_sack_permitted())
    after = wire.row
    for name in ("mss", "snd_wscale", "rcv_wscale", "sack", "timestamps"):
        assert after[name] == before[name]


def test_sack_bombs(wire):
    """Blocks of nonsense by the thousand: no work that grows, no change."""
    peer = enter(wire, ESTABLISHED, options=opt_mss(1000) + opt_sack_permitted())
    peer.conn.send(b"x" * 10_000)
    wire.run()
    wire.sent.clear()
    una = int(wire.row["snd_una"])
    rng = random.Random(1)
    for _ in range(1000):
        words = [rng.getrandbits(32) for _ in range(8)]
        blocks = tuple(b for b in zip(words[::2], words[1::2], strict=True)
                       if not (0 <= (b[0] - una) % 2**32 < 10_000 and 0 <= (b[1] - una) % 2**32 <= 10_000))
        peer.send(ACK, ack=una, seq=peer.nxt, options=opt_sack(*blocks))
    row = wire.row
    assert row["in_flight"] == 10_000
    assert row["cwnd"] == 10_000
    wire.sent.clear()
    peer.send(ACK, ack=una + 10_000)
    assert wire.engine.pool.full


# -- floods ----------------------------------------------------------------------------------------------------

def test_random_segments(make):
    """Into every state of a listening engine with a connection: nothing is lost, and it still works afterwards."""
    wire = make(synack_retries=0, rto_initial=0.1, max_half_open=8)
    wire.engine.tcp_listen(80)
    rng = random.Random(wire.version)
    peer = enter(wire, ESTABLISHED)
    for i in range(3000):
        options = rng.randbytes(rng.choice((0, 0, 4, 12, 40)))
        seq = peer.nxt + rng.choice((0, 0, 1, -1, rng.getrandbits(32), rng.randrange(70_000)))
        ack = peer.rcv + rng.choice((0, 0, 1, -1, rng.getrandbits(32)))
        flags = rng.getrandbits(8) & ~(RST if i % 50 else 0)
        port = peer.port if i % 3 else rng.randrange(1, 65536)
        segment = p.tcp(peer.remote, peer.local, port, 80, seq, ack, flags, rng.getrandbits(16), options=options,
                        data=rng.randbytes(rng.choice((0, 0, 1, 100))))
        wire.feed(rebuilt(peer, segment))
        if i % 100 == 0:
            wire.advance(0.2)
    wire.advance(1000)
    wire.sent.clear()
    rows = wire.engine.connections()
    assert set(rows["state"]) <= {State.ESTABLISHED, State.CLOSE_WAIT}
    Peer(wire, port=7).connect()


def test_syn_flood(make):
    """As many half-open connections as allowed, all gone after their time, whatever the number of SYNs."""
    wire = make(max_half_open=16, synack_retries=1, rto_initial=0.5, max_connections=32)
    wire.engine.tcp_listen(80)
    for i in range(2000):
        source = f"10.0.{i >> 8 & 3}.{i & 127 | 2}" if wire.version == 4 else f"fd00::{i + 2:x}"
        segment = p.tcp(source, wire.local, 1024 + i, 80, i, 0, SYN, options=opt_timestamps(i, 0))
        wire.driver.feed(p.ip(source, wire.local, p.TCP, segment))
        if i % 16 == 0:
            wire.run()
    wire.run()
    assert wire.engine.n_connections == 16
    wire.sent.clear()
    wire.advance(3)
    wire.sent.clear()
    assert wire.engine.n_connections == 0
    Peer(wire).connect()
