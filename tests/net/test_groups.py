"""Multicast groups: reception, IGMPv3 and MLDv2; all counters compared."""
import struct
from ipaddress import ip_address

import pytest
from scapy.layers.inet6 import ICMPv6MLQuery2, ICMPv6MLReport, ICMPv6MLReport2, IPv6ExtHdrHopByHop, RouterAlert
from scapy.utils import checksum

from tests.net.frames import IP, ME4, ME6, SECOND, UDP, IPv6, Raw, eth, output, raw, v4, v6, valid

VERSIONS = pytest.mark.parametrize("version", [4, 6])
GROUP4, GROUP6 = "239.1.2.3", "ff05::1234"
SOLICITED = "ff02::1:ff00:2"
LOCAL = "fe80::ff:fe00:2"


def group(version):
    return GROUP4 if version == 4 else GROUP6


def to_group(version):
    if version == 4:
        return eth(v4(UDP(dport=53), dst=GROUP4), dst="01:00:5e:01:02:03")
    return eth(v6(UDP(dport=53), dst=GROUP6), dst="33:33:00:00:12:34")


def igmp(data):
    data = data[:2] + struct.pack("!H", checksum(data[:2] + b"\0\0" + data[4:])) + data[4:]
    return eth(v4(Raw(data), proto=2, dst="224.0.0.1", ttl=1), dst="01:00:5e:00:00:01")


def query(version, delay=10, src="fe80::1", hlim=1):
    if version == 4:
        return igmp(bytes([0x11, delay]) + bytes(10))
    return eth(v6(IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLQuery2(mrd=delay), src=src, dst="ff02::1",
                  hlim=hlim), dst="33:33:00:00:00:01")


def reported(frame):
    """(group, record type) of a report, its form checked."""
    assert frame.src == "02:00:00:00:00:02"
    if frame.haslayer(IP):
        assert (frame.dst, frame[IP].dst, frame[IP].src, frame[IP].ttl) == ("01:00:5e:00:00:16", "224.0.0.22", ME4, 1)
        assert raw(frame[IP])[20:24] == b"\x94\x04\0\0" and valid(frame)
        data, size, kind = raw(frame[IP])[24:], 4, 0x22
    else:
        assert (frame.dst, frame[IPv6].dst, frame[IPv6].hlim) == ("33:33:00:00:00:16", "ff02::16", 1)
        assert frame[RouterAlert].value == 0 and valid(frame)
        data, size, kind = raw(frame[ICMPv6MLReport2]), 16, 143
    assert data[0] == kind
    records = [data[at:at + 4 + size] for at in range(8, len(data), 4 + size)]
    assert struct.unpack("!H", data[6:8])[0] == len(records)
    return [(str(ip_address(r[4:])), r[0]) for r in records]


@VERSIONS
def test_join_and_leave(make, version):
    probe = make(address_check=False)
    probe.run_until(10 * SECOND)
    probe.take_output()
    base = probe.counters()
    probe.bind(53)
    assert probe.feed(to_group(version))[0] == "ip_not_ours"
    assert probe.join(group(version)) == probe.join(group(version)) == "ok"
    verdict, rx = probe.feed(to_group(version))
    assert (verdict, rx["multicast"]) == ("udp_in", True)
    probe.run_until(20 * SECOND)
    assert [reported(f) for f in output(probe)] == [[(group(version), 4)]] * 2   # to exclude {}: twice
    probe.leave(group(version))
    assert probe.feed(to_group(version))[0] == "udp_in"                          # joined twice
    probe.leave(group(version))
    assert probe.feed(to_group(version))[0] == "ip_not_ours"
    probe.run_until(30 * SECOND)
    assert [reported(f) for f in output(probe)] == [[(group(version), 3)]] * 2   # to include {}
    probe.leave(group(version))
    assert probe.timers() is None
    counted = {k: n - base.get(k, 0) for k, n in probe.counters().items() if n != base.get(k, 0)}
    assert counted == {"ip_not_ours": 2, "udp_in": 2, "mld_out": 4}


@VERSIONS
def test_left_before_it_was_reported(make, version):
    probe = make()
    probe.run_until(10 * SECOND)
    probe.take_output()
    probe.join(group(version))
    probe.leave(group(version))
    probe.join(group(version))
    probe.run_until(20 * SECOND)
    assert [reported(f) for f in output(probe)] == [[(group(version), 4)]] * 2
    probe.bind(53)
    assert probe.feed(to_group(version))[0] == "udp_in"


def test_configured_groups_and_our_own(make):
    """At start: what was configured, and the solicited-node groups; never the all-hosts groups."""
    probe = make(multicast=(GROUP4, GROUP6), addresses=(ME4 + "/24", ME6 + "/64"), link_local=True)
    probe.timers()
    groups = [r for f in output(probe) if f.haslayer(ICMPv6MLReport2) or (f.haslayer(IP) and f[IP].proto == 2)
              for r in reported(f)]
    assert sorted(groups) == sorted([(GROUP4, 4), (GROUP6, 4), (SOLICITED, 4)])
    probe.bind(53)
    assert [probe.feed(to_group(v))[0] for v in (4, 6)] == ["udp_in", "udp_in"]


@VERSIONS
def test_query_is_answered_in_the_time_it_allows(make, version):
    probe = make(multicast=(GROUP4, GROUP6), link_local=True)
    probe.run_until(10 * SECOND)
    probe.take_output()
    base = probe.counters()
    delay = 100 if version == 4 else 10000
    assert probe.feed(query(version, delay))[0] == "mld_in"
    at = probe.timers()
    assert 10 * SECOND <= at < 20 * SECOND
    assert probe.feed(query(version, delay))[0] == "mld_in"     # a second one does not put it off
    assert probe.timers() <= at
    probe.run_until(20 * SECOND)
    (frame,) = output(probe)
    if version == 4:
        assert reported(frame) == [(GROUP4, 2)]                 # is exclude {}
    else:
        assert frame[IPv6].src == LOCAL
        assert sorted(reported(frame)) == sorted([(GROUP6, 2), (SOLICITED, 2)])
    counted = {k: n - base.get(k, 0) for k, n in probe.counters().items() if n != base.get(k, 0)}
    assert counted == {"mld_in": 2, "mld_out": 1}


def test_many_groups_take_several_reports(make):
    groups = [f"ff05::{n:x}" for n in range(1, 200)]
    probe = make(multicast=tuple(groups), addresses=(ME6 + "/64",))
    probe.timers()
    frames = output(probe)
    assert len(frames) == 3 and all(len(f) <= 1514 for f in frames)
    assert sorted(r[0] for f in frames for r in reported(f)) == sorted(groups + [SOLICITED])


def test_long_delays(make):
    """Codes of 128 (IGMP) and 32768 (MLD) and more are floating-point numbers."""
    probe = make(multicast=(GROUP4, GROUP6), link_local=True)
    for version, code, longest in ((4, 0xFF, 3174.4), (6, 0xFFFF, 8387.584)):
        latest = 0
        for n in range(40):
            now = (n + 1) * 10000 * SECOND
            probe.run_until(now)
            probe.feed(query(version, code))
            latest = max(latest, probe.timers() - now)
        assert longest / 2 * SECOND < latest <= longest * SECOND


@pytest.mark.parametrize("frame, verdict", [
    (query(6, src="fd00::1"), "icmp_malformed"),
    (query(6, hlim=2), "icmp_malformed"),
    (eth(v6(Raw(b"\x82\0\0\0" + bytes(8)), nh=58, src="fe80::1", dst="ff02::1", hlim=1), dst="33:33:00:00:00:01"),
     "icmp_bad_checksum"),
    (eth(v4(Raw(b"\x11\0\xee\xff"), proto=2, dst="224.0.0.1"), dst="01:00:5e:00:00:01"), "icmp_malformed"),
    (eth(v4(Raw(b"\x11\0\0\0\0\0\0\0"), proto=2, dst="224.0.0.1"), dst="01:00:5e:00:00:01"), "icmp_bad_checksum"),
    (eth(v6(ICMPv6MLReport(mladdr="ff02::5"), src="fe80::1", dst="ff02::1", hlim=1), dst="33:33:00:00:00:01"),
     "icmp_ignored"),
    (igmp(b"\x22" + bytes(7)), "mld_in"),
])
def test_dropped(probe, frame, verdict):
    assert probe.feed(frame)[0] == verdict
    assert probe.counters() == {verdict: 1}


def test_table_full(make):
    probe = make()
    verdicts = [probe.join(f"239.0.{n // 256}.{n % 256}") for n in range(200)]
    full = verdicts.index("group_table_full")
    assert full >= 64 and set(verdicts[:full]) == {"ok"}
    assert probe.counters() == {"group_table_full": 200 - full}
    probe.bind(53)
    assert probe.feed(eth(v4(UDP(dport=53), dst="239.0.0.5"), dst="01:00:5e:00:00:05"))[0] == "udp_in"


def test_leaving_a_group_never_joined(probe):
    assert probe.leave(GROUP4) == "ok"
    assert probe.join("10.0.0.7") == "group_table_full"
