"""UDP for both IP versions; all counters compared."""
import pytest

from tests.net.frames import (
    BROADCAST,
    KNOWING_PEER,
    ME4,
    ME6,
    PEER4,
    PEER6,
    UDP,
    Raw,
    eth,
    know_peer,
    output,
    raw,
    udp,
    v4,
    v6,
    valid,
)

VERSIONS = pytest.mark.parametrize("version", [4, 6])


def ip(version, payload, **fields):
    return (v4 if version == 4 else v6)(payload, **fields)


@VERSIONS
@pytest.mark.parametrize("bound", [53, 0])
def test_datagram_is_an_event(probe, version, bound):
    probe.bind(bound)
    assert probe.feed(udp(version, data=b"hello"))[0] == "udp_in"
    (event,) = probe.events()
    assert {k: event[k] for k in ("type", "version", "src", "dst", "sport", "dport", "data", "ttl", "multicast")} == {
        "type": "udp", "version": version, "src": PEER4 if version == 4 else PEER6,
        "dst": ME4 if version == 4 else ME6, "sport": 1000, "dport": 53, "data": b"hello", "ttl": 64,
        "multicast": False}
    assert probe.counters() == {"udp_in": 1}


@VERSIONS
def test_port_unreachable(probe, version):
    know_peer(probe)
    frame = udp(version)
    assert probe.feed(frame)[0] == "udp_no_port"
    (error,) = output(probe)
    assert valid(error)
    icmp = error.payload.payload
    assert (icmp.type, icmp.code) == ((3, 3) if version == 4 else (1, 4))
    assert raw(icmp)[8:] == frame[14:]
    assert probe.counters() == KNOWING_PEER | {"udp_no_port": 1, "icmp_out_error": 1}


def test_no_port_unreachable_to_broadcasts(probe):
    assert probe.feed(eth(v4(UDP(dport=9), dst="255.255.255.255"), dst=BROADCAST))[0] == "udp_no_port"
    assert probe.feed(eth(v6(UDP(dport=9), dst="ff02::1"), dst="33:33:00:00:00:01"))[0] == "udp_no_port"
    assert probe.take_output() == []
    assert probe.counters() == {"udp_no_port": 2}


@VERSIONS
def test_binding_and_unbinding(probe, version):
    ports = (1, 7, 8, 65535)
    for port in ports:
        probe.bind(port)
    for port in range(20):
        assert probe.feed(udp(version, dport=port))[0] == ("udp_in" if port in ports else "udp_no_port")
    probe.unbind(65535)
    assert probe.feed(udp(version, dport=65535))[0] == "udp_no_port"
    probe.bind(0)
    assert probe.feed(udp(version, dport=65535))[0] == "udp_in"
    probe.unbind(0)
    assert probe.feed(udp(version, dport=65535))[0] == "udp_no_port"
    assert probe.feed(udp(version, dport=7))[0] == "udp_in"


@pytest.mark.parametrize("packet, verdict", [
    (v4(Raw(b"1234567"), proto=17), "udp_malformed"),
    (v6(Raw(b"1234567"), nh=17), "udp_malformed"),
    (v4(UDP(dport=53, len=7)), "udp_malformed"),
    (v4(UDP(dport=53, len=9)), "udp_malformed"),
    (v6(UDP(dport=53, len=9)), "udp_malformed"),
    (v4(UDP(dport=53, chksum=1)), "udp_bad_checksum"),
    (v6(UDP(dport=53, chksum=1)), "udp_bad_checksum"),
    (v6(UDP(dport=53, chksum=0)), "udp_bad_checksum"),  # not allowed with IPv6
])
def test_dropped(probe, packet, verdict):
    probe.bind(0)
    assert probe.feed(eth(packet))[0] == verdict
    assert probe.counters() == {verdict: 1}


def test_ipv4_without_checksum(probe):
    probe.bind(0)
    assert probe.feed(eth(v4(UDP(chksum=0) / b"data")))[0] == "udp_in"
    assert probe.counters() == {"udp_in": 1}


@VERSIONS
def test_device_checked(probe, version):
    probe.bind(0)
    assert probe.feed(eth(ip(version, UDP(chksum=1) / b"data")), flags=0x20)[0] == "udp_in"
    assert probe.counters() == {"udp_in": 1}


@VERSIONS
def test_longer_ip_than_udp(probe, version):
    """What is behind the datagram is not its payload."""
    probe.bind(53)
    packet = ip(version, UDP(sport=1, dport=53, len=12, chksum=0 if version == 4 else None) / Raw(b"datatail"))
    if version == 6:
        right = ip(6, UDP(sport=1, dport=53) / Raw(b"data"))
        packet[UDP].chksum = UDP(raw(right[UDP])).chksum
    assert probe.feed(eth(packet))[0] == "udp_in"
    assert probe.events()[0]["data"] == b"data"


@VERSIONS
def test_queue_full(make, version):
    probe = make(udp_queue=3)
    probe.bind(53)
    for _ in range(5):
        probe.feed(udp(version))
    assert probe.counters() == {"udp_in": 3, "udp_queue_full": 2}
    assert len(probe.events()) == 3
    assert probe.feed(udp(version))[0] == "udp_in"


@VERSIONS
@pytest.mark.parametrize("n", [0, 1, 100, 1452])
@pytest.mark.parametrize("packet_size", [256, 2048])
def test_send(make, version, n, packet_size):
    probe = make(packet_size=packet_size, caps=0x10)
    know_peer(probe)
    data = bytes(range(256)) * 6
    assert probe.udp_send(PEER4 if version == 4 else PEER6, 53, data[:n], sport=99) == "ok"
    (frame,) = output(probe)
    assert valid(frame)
    assert (frame.payload.src, frame[UDP].sport, frame[UDP].dport) == (ME4 if version == 4 else ME6, 99, 53)
    assert raw(frame[UDP].payload) == data[:n]
    assert probe.counters() == KNOWING_PEER | {"udp_out": 1}


@VERSIONS
def test_checksum_that_would_be_zero(probe, version):
    """It is sent as all ones (RFC 768)."""
    know_peer(probe)
    peer = PEER4 if version == 4 else PEER6
    probe.udp_send(peer, 53, b"\0\0", sport=1)
    (frame,) = output(probe)
    probe.udp_send(peer, 53, frame[UDP].chksum.to_bytes(2, "big"), sport=1)
    (frame,) = output(probe)
    assert frame[UDP].chksum == 0xFFFF


@VERSIONS
def test_checksum_left_to_the_device(make, version):
    """The field holds the sum of the pseudo-header, not complemented; the marks say where."""
    probe = make(caps=0x18)
    know_peer(probe)
    probe.udp_send(PEER4 if version == 4 else PEER6, 53, b"data")
    ((frame, flags, l4, csum_off, _),) = probe.take_output(marks=True)
    assert flags & 0x200 and (l4, csum_off) == (34 if version == 4 else 54, 6)
    addresses = frame[26:34] if version == 4 else frame[22:54]
    words = addresses + (12).to_bytes(2, "big") + (17).to_bytes(2, "big")
    total = sum(int.from_bytes(words[i:i + 2], "big") for i in range(0, len(words), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert int.from_bytes(frame[l4 + 6:l4 + 8], "big") == total


def test_send_to_broadcast_and_groups(probe):
    for dst, mac in (("255.255.255.255", BROADCAST), ("10.0.0.255", BROADCAST), ("224.0.0.251", "01:00:5e:00:00:fb"),
                     ("239.129.2.3", "01:00:5e:01:02:03"), ("ff02::fb", "33:33:00:00:00:fb")):
        assert probe.udp_send(dst, 5353, b"x") == "ok"
        (frame,) = output(probe)
        assert (frame.dst, frame.payload.dst) == (mac, dst)
        assert valid(frame)
    assert probe.counters() == {"udp_out": 5}


@VERSIONS
def test_no_route(probe, version):
    assert probe.udp_send("192.0.2.1" if version == 4 else "2001:db8::1", 53, b"x") == "ip_no_route"
    assert probe.counters() == {"ip_no_route": 1}


def test_pool_empty(make):
    probe = make(pool_packets=16)
    know_peer(probe)
    probe.bind(0)
    for _ in range(16):
        assert probe.feed(udp(4))[0] == "udp_in"
    assert probe.udp_send(PEER4, 1, b"x") == "tx_no_buffer"
    assert probe.counters() == KNOWING_PEER | {"udp_in": 16, "tx_no_buffer": 1}
    assert len(probe.events()) == 16


def test_output_full(make):
    probe = make(tx_queue=16)
    know_peer(probe)
    for _ in range(17):
        probe.udp_send(PEER4, 1, b"x")
    assert probe.counters() == KNOWING_PEER | {"udp_out": 16, "tx_queue_full": 1}
