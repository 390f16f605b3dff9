"""IPv4 and IPv6 input: every verdict, with all counters compared."""
import struct

import pytest
from scapy.layers.inet import TCP, IPOption_LSRR, IPOption_NOP, IPOption_RR, IPOption_SSRR
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6ParamProblem,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Pad1,
    PadN,
    RouterAlert,
)

from tests.net.frames import (
    BROADCAST,
    ICMP,
    IP,
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

RX_IP_CSUM_OK = 0x10
RX_L4_CSUM_OK = 0x20


def tcp(version, data=b""):
    return (v4 if version == 4 else v6)(TCP(sport=1, dport=2, flags="A") / Raw(data))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("cuts", [(), (14,), (20,), (14 + 20 + 3,), (15, 16, 17, 40, 70)])
@pytest.mark.parametrize("padding", [0, 1, 7])
def test_packet_for_the_transport(probe, version, cuts, padding):
    """Whole or in pieces, with link padding or without."""
    packet = tcp(version, b"0123456789")
    frame = eth(packet) + bytes(padding)
    cuts = tuple(c for c in cuts if c >= 14)
    verdict, rx = probe.feed(frame, cuts=cuts)
    assert verdict == "ok"
    assert rx == {"src": PEER4 if version == 4 else PEER6, "dst": ME4 if version == 4 else ME6, "proto": 6, "ttl": 64,
                  "tos": 0, "version": version, "multicast": False, "checksum_ok": True,
                  "payload": raw(packet)[20 if version == 4 else 40:]}
    assert probe.counters() == {}


@pytest.mark.parametrize("version", [4, 6])
def test_wrong_transport_checksum_is_seen_unless_the_device_checked(probe, version):
    frame = bytearray(eth(tcp(version, b"0123456789")))
    frame[-1] ^= 1
    assert probe.feed(frame)[1]["checksum_ok"] is False
    assert probe.feed(frame, flags=RX_L4_CSUM_OK)[1]["checksum_ok"] is True


def test_device_checked_the_header(probe):
    frame = bytearray(eth(tcp(4)))
    frame[14 + 10] ^= 1
    assert probe.feed(frame)[0] == "ip_bad_checksum"
    assert probe.feed(frame, flags=RX_IP_CSUM_OK)[0] == "ok"
    assert probe.counters() == {"ip_bad_checksum": 1}


def changed(packet, at, value):
    """The frame with a byte of the IP packet replaced, the IPv4 checksum made right again."""
    data = bytearray(raw(packet))
    data[at] = value
    if data[0] >> 4 == 4 and at != 10 and len(data) >= 20:
        data[10:12] = b"\0\0"
        hlen = max((data[0] & 15) * 4, 20)
        total = sum(struct.unpack(f"!{hlen // 2}H", bytes(data[:hlen])))
        total = (total & 0xFFFF) + (total >> 16)
        data[10:12] = struct.pack("!H", 0xFFFF ^ ((total & 0xFFFF) + (total >> 16)))
    return frame_of(bytes(data))


def frame_of(packet):
    return bytes.fromhex("020000000002" "020000000001") + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


@pytest.mark.parametrize("frame, verdict", [
    (eth(tcp(4))[:14 + 19], "ip_bad_total_length"),
    (frame_of(b"\x45"), "ip_bad_total_length"),
    (bytes.fromhex("0200000000020200000000010800") + b"\x65" + raw(tcp(4))[1:], "ip_bad_version"),
    (changed(tcp(4), 0, 0x44), "ip_bad_header_length"),
    (frame_of(b"\x4f" + raw(tcp(4))[1:40]), "ip_bad_header_length"),
    (changed(tcp(4), 3, 19), "ip_bad_total_length"),
    (changed(tcp(4), 3, 41), "ip_bad_total_length"),
    (changed(tcp(4), 10, 0), "ip_bad_checksum"),
    (eth(v4(TCP(), dst="10.0.0.3")), "ip_not_ours"),
    (eth(v4(TCP(), dst="127.0.0.1")), "ip_not_ours"),
    (eth(v4(TCP(), dst="224.0.0.9"), dst="01:00:5e:00:00:09"), "ip_not_ours"),
    (eth(v4(TCP(), src="0.0.0.0")), "ip_bad_source"),
    (eth(v4(TCP(), src="127.0.0.1")), "ip_bad_source"),
    (eth(v4(TCP(), src="224.0.0.1")), "ip_bad_source"),
    (eth(v4(TCP(), src="255.255.255.255")), "ip_bad_source"),
    (eth(v4(TCP(), src="10.0.0.255")), "ip_bad_source"),
    (eth(v4(TCP(), src="240.0.0.1")), "ip_bad_source"),
    (eth(v4(TCP(), src=ME4)), "ip_bad_source"),  # land
    (eth(v4(TCP(), options=[IPOption_LSRR(routers=["10.0.0.9"])])), "ip_source_route"),
    (eth(v4(TCP(), options=[IPOption_NOP(), IPOption_SSRR(routers=["10.0.0.9"])])), "ip_source_route"),
    (eth(v4(TCP(), options=[Raw(b"\x07\x01\x00\x00")])), "ip_bad_options"),
    (eth(v4(TCP(), options=[Raw(b"\x07\x05\x00\x00")])), "ip_bad_options"),
    (eth(v4(TCP(), options=[Raw(b"\x01\x01\x01\x07")])), "ip_bad_options"),
])
def test_ipv4_dropped(probe, frame, verdict):
    assert probe.feed(frame) == (verdict, None)
    assert probe.counters() == {verdict: 1}
    assert probe.take_output() == []


def test_ipv4_options_are_ignored(probe):
    verdict, rx = probe.feed(eth(v4(TCP(sport=7), options=[IPOption_NOP(), IPOption_RR(routers=["0.0.0.0"])])))
    assert verdict == "ok" and rx["payload"][:2] == b"\x00\x07" and rx["checksum_ok"]
    assert probe.feed(eth(v4(TCP(), options=[Raw(b"\x00\x07\x01\x00")])))[0] == "ok"  # nothing counts after the end
    assert probe.counters() == {}


def test_ipv4_unknown_protocol(probe):
    know_peer(probe)
    packet = v4(Raw(b"what is this" * 100), proto=253)
    assert probe.feed(eth(packet))[0] == "ip_unknown_protocol"
    (error,) = output(probe)
    assert valid(error) and error[IP].len == 576
    assert (error[ICMP].type, error[ICMP].code, error[IP].src, error[IP].dst) == (3, 2, ME4, PEER4)
    assert raw(error[ICMP])[8:] == raw(packet)[:548]
    assert probe.counters() == KNOWING_PEER | {"ip_unknown_protocol": 1, "icmp_out_error": 1}


@pytest.mark.parametrize("frame, verdict", [
    (frame_of(raw(tcp(6))[:39]), "ip6_bad_payload_length"),
    (frame_of(b"\x60"), "ip6_bad_payload_length"),
    (bytes.fromhex("02000000000202000000000186dd") + b"\x40" + raw(tcp(6))[1:], "ip_bad_version"),
    (changed(tcp(6), 5, 21), "ip6_bad_payload_length"),
    (eth(v6(TCP(), plen=0)), "ip6_bad_payload_length"),
    (eth(v6(IPv6ExtHdrHopByHop() / TCP(), plen=0)), "ip6_bad_payload_length"),  # no jumbograms
    (eth(v6(TCP(), dst="fd00::3")), "ip_not_ours"),
    (eth(v6(TCP(), dst="::1")), "ip_not_ours"),
    (eth(v6(TCP(), dst="::")), "ip_not_ours"),
    (eth(v6(TCP(), dst="ff02::99"), dst="33:33:00:00:00:99"), "ip_not_ours"),
    (eth(v6(TCP(), dst="::ffff:10.0.0.2")), "ip_not_ours"),  # must not pass as IPv4
    (eth(v6(TCP(), src="::ffff:10.0.0.1")), "ip_bad_source"),
    (eth(v6(TCP(), src="::1")), "ip_bad_source"),
    (eth(v6(TCP(), src="::")), "ip_bad_source"),
    (eth(v6(TCP(), src="ff02::1")), "ip_bad_source"),
    (eth(v6(TCP(), src=ME6)), "ip_bad_source"),
    (eth(v6(Raw(b"\x06\x01" + bytes(6)), nh=60)), "ip6_bad_extension"),  # longer than the packet
    (eth(v6(Raw(b"\x06\x00"), nh=43)), "ip6_bad_extension"),
    (eth(v6(Raw(b"\x06\x00"), nh=44)), "ip6_bad_extension"),
    (eth(v6(Raw(b"\x06\x00\x3e\x05" + bytes(4)), nh=60)), "ip6_bad_extension"),  # option beyond its header
    (eth(v6(Raw(b"\x06\x00\x01\x03\x00\x00\x00\x3e"), nh=60)), "ip6_bad_extension"),  # option without a length
    (eth(v6(IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0x7E)]) / TCP())), "ip6_unknown_option"),  # 01: be silent
    (eth(v6(IPv6ExtHdrDestOpt(options=[Pad1()] * 38) / TCP())), "ip6_too_many_extensions"),
    (eth(v6(Raw((b"\x3c\x00\x01\x04" + bytes(4)) * 9), nh=60)), "ip6_too_many_extensions"),
    (eth(v6(Raw(b"\x06\x4f\x01\xff" + bytes(636)), nh=60)), "ip6_too_many_extensions"),
    (eth(v6(Raw(b""), nh=59)), "consumed"),
])
def test_ipv6_dropped(probe, frame, verdict):
    assert probe.feed(frame) == (verdict, None)
    assert probe.counters() == {verdict: 1}
    assert probe.take_output() == []


@pytest.mark.parametrize("packet, verdict, code, pointer", [
    (v6(IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / TCP()), "ip6_bad_extension", 1, 40),
    (v6(IPv6ExtHdrRouting(type=0, segleft=1, addresses=["fd00::9"]) / TCP()), "ip6_routing_header", 0, 42),
    (v6(IPv6ExtHdrRouting(type=4, segleft=2, addresses=["fd00::9"]) / TCP()), "ip6_routing_header", 0, 42),
    (v6(IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=0xBE)]) / TCP()), "ip6_unknown_option", 2, 42),
    (v6(IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0"), HBHOptUnknown(otype=0xFE)]) / TCP()),
     "ip6_unknown_option", 2, 46),
    (v6(Raw(b"data"), nh=253), "ip_unknown_protocol", 1, 6),
    (v6(IPv6ExtHdrDestOpt(nh=253) / Raw(b"data")), "ip_unknown_protocol", 1, 40),
])
def test_ipv6_parameter_problems(probe, packet, verdict, code, pointer):
    know_peer(probe)
    assert probe.feed(eth(packet)) == (verdict, None)
    (error,) = output(probe)
    assert valid(error)
    error = error[ICMPv6ParamProblem]
    assert (error.code, error.ptr) == (code, pointer)
    assert raw(error)[8:] == raw(packet)
    assert probe.counters() == KNOWING_PEER | {verdict: 1, "icmp_out_error": 1}


@pytest.mark.parametrize("cuts", [(), (50,), (14, 16, 55, 60, 63, 66)])
def test_ipv6_extension_headers_are_stepped_over(probe, cuts):
    packet = v6(IPv6ExtHdrHopByHop(options=[RouterAlert(), HBHOptUnknown(otype=0x1E, optdata=b"123")])
                / IPv6ExtHdrRouting(type=0, segleft=0, addresses=["fd00::9"])
                / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0\0\0")]) / UDP(sport=5, dport=6) / b"payload")
    probe.bind(6)
    verdict, rx = probe.feed(eth(packet), cuts=cuts)
    assert (verdict, rx["checksum_ok"], rx["payload"]) == ("udp_in", True, raw(packet[UDP]))
    assert probe.counters() == {"udp_in": 1}


@pytest.mark.parametrize("version", [4, 6])
def test_accept_any(make, version):
    """A transparent proxy: any destination that is one host, answered from there."""
    probe = make(accept_any=True)
    know_peer(probe)
    dst = "198.51.100.7" if version == 4 else "2001:db8::7"
    assert probe.feed(udp(version, dst=dst))[0] == "udp_no_port"
    (error,) = output(probe)
    assert error.payload.src == dst
    for bad in ("224.0.0.77", "127.0.0.1", "255.255.255.254") if version == 4 else ("ff02::77", "::1"):
        assert probe.feed(udp(version, dst=bad))[0] == "ip_not_ours"
    assert probe.feed(udp(version, dst=dst, src=ME4 if version == 4 else ME6))[0] == "ip_bad_source"
    assert probe.counters() == KNOWING_PEER | {"udp_no_port": 1, "icmp_out_error": 1, "ip_bad_source": 1,
                                               "ip_not_ours": 3 if version == 4 else 2}


def test_bare_ip_medium(make):
    probe = make(medium="ip", mac=None)
    probe.bind(0)
    for version in (4, 6):
        assert probe.feed(udp(version)[14:])[0] == "udp_in"
        assert probe.udp_send(PEER4 if version == 4 else "2001:db8::1", 9, b"x") == "ok"
    assert [f[0] >> 4 for f in probe.take_output()] == [4, 6]
    assert probe.feed(b"")[0] == "ip_bad_version"
    assert probe.feed(b"\x55" * 40)[0] == "ip_bad_version"
    assert probe.counters() == {"udp_in": 2, "udp_out": 2, "ip_bad_version": 2}


def test_no_errors_about_broadcasts(probe):
    know_peer(probe)
    assert probe.feed(eth(v4(Raw(b"x" * 30), proto=253, dst="10.0.0.255"), dst=BROADCAST))[0] == "ip_unknown_protocol"
    assert probe.feed(eth(v4(Raw(b"x" * 30), proto=253), dst=BROADCAST))[0] == "ip_unknown_protocol"
    frame = eth(v6(Raw(b"x" * 30), nh=253, dst="ff02::1"), dst="33:33:00:00:00:01")
    assert probe.feed(frame)[0] == "ip_unknown_protocol"
    assert probe.take_output() == []
    assert probe.counters() == KNOWING_PEER | {"ip_unknown_protocol": 3}


def test_unknown_option_in_a_group_packet(probe):
    """Action 10 is reported even then, action 11 is not (RFC 8200 §4.2)."""
    know_peer(probe)
    for otype in (0xBE, 0xFE):
        packet = v6(IPv6ExtHdrDestOpt(options=[HBHOptUnknown(otype=otype)]) / UDP(), dst="ff02::1")
        assert probe.feed(eth(packet, dst="33:33:00:00:00:01"))[0] == "ip6_unknown_option"
    (error,) = output(probe)
    assert (error.payload.src, error[ICMPv6ParamProblem].code) == (ME6, 2)
    assert probe.counters() == KNOWING_PEER | {"ip6_unknown_option": 2, "icmp_out_error": 1}
