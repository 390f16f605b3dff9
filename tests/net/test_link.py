"""Frames and ARP: every verdict, with all counters compared."""
from itertools import pairwise

import pytest
from scapy.layers.l2 import Dot1Q

from tests.net.frames import (
    ARP,
    BROADCAST,
    ME,
    ME4,
    OTHER,
    PEER,
    PEER4,
    SECOND,
    UDP,
    Ether,
    arp,
    eth,
    output,
    raw,
    udp4,
    v4,
)


@pytest.mark.parametrize("frame, verdict", [
    (b"", "link_too_short"),
    (b"\x02" * 13, "link_too_short"),
    (raw(Ether(dst=ME, src=PEER, type=0x88CC) / b"lldp"), "link_unknown_type"),
    (raw(Ether(dst=ME, src=PEER, type=46) / bytes(46)), "link_unknown_type"),  # IEEE 802.3 length
    (eth(v4(UDP()), dst=OTHER), "link_not_ours"),
    (raw(Ether(dst=ME, src=PEER) / Dot1Q(vlan=5) / v4(UDP())), "link_vlan"),
])
def test_frames_that_end_at_the_link(probe, frame, verdict):
    assert probe.feed(frame) == (verdict, None)
    assert probe.counters() == {verdict: 1}
    assert probe.take_output() == []


def test_broadcast_frame_is_marked(probe):
    probe.bind(53)
    assert probe.feed(eth(v4(UDP(sport=1, dport=53), dst="10.0.0.255"), dst=BROADCAST))[0] == "udp_in"
    assert probe.events()[0]["multicast"]
    assert probe.feed(eth(v4(UDP(sport=1, dport=53), dst="255.255.255.255"), dst=BROADCAST))[1]["multicast"]
    assert probe.feed(udp4())[1]["multicast"] is False


def test_request_is_answered(probe):
    assert probe.feed(arp()) == ("arp_in_requests", None)
    (reply,) = output(probe)
    assert (reply.dst, reply.src) == (PEER, ME)
    reply = reply[ARP]
    assert (reply.op, reply.hwsrc, reply.psrc, reply.hwdst, reply.pdst) == (2, ME, ME4, PEER, PEER4)
    assert probe.counters() == {"arp_in_requests": 1, "arp_out_replies": 1}
    assert probe.neighbours() == {PEER4: ("stale", PEER, 0)}


def test_probe_is_answered_but_not_learnt(probe):
    """RFC 5227 §2.1.1: the sender of a probe has no address yet."""
    assert probe.feed(arp(psrc="0.0.0.0"))[0] == "arp_in_requests"
    (reply,) = output(probe)
    assert (reply[ARP].op, reply[ARP].pdst) == (2, "0.0.0.0")
    assert probe.neighbours() == {}


@pytest.mark.parametrize("frame", [
    arp()[:14 + 27],
    arp(hwtype=6),
    arp(ptype=0x86DD),
    arp(hwlen=8),
    arp(plen=16),
    arp(op=3),
    arp(op=0),
    arp(psrc="224.0.0.1"),
    arp(psrc="255.255.255.255"),
    arp(psrc="10.0.0.255"),
    raw(Ether(dst=BROADCAST, src=PEER) / ARP(op=1, hwsrc="01:00:5e:00:00:01", psrc=PEER4, pdst=ME4)),
    raw(Ether(dst=BROADCAST, src=PEER) / ARP(op=1, hwsrc="00:00:00:00:00:00", psrc=PEER4, pdst=ME4)),
    arp(op=2, psrc="0.0.0.0"),
])
def test_malformed(probe, frame):
    assert probe.feed(frame)[0] == "arp_malformed"
    assert probe.counters() == {"arp_malformed": 1}
    assert probe.take_output() == []
    assert probe.neighbours() == {}


def test_not_for_us_updates_what_is_known_only(probe):
    assert probe.feed(arp(pdst="10.0.0.7"))[0] == "arp_not_for_us"
    assert probe.neighbours() == {}
    probe.feed(arp())
    assert probe.feed(arp(pdst=PEER4, src=OTHER))[0] == "arp_not_for_us"  # PEER4 moved and announces it
    assert probe.neighbours() == {PEER4: ("stale", OTHER, 0)}
    assert probe.counters() == {"arp_not_for_us": 2, "arp_in_requests": 1, "arp_out_replies": 1}


def test_unasked_reply_makes_no_entry(probe):
    assert probe.feed(arp(op=2))[0] == "arp_in_replies"
    assert probe.neighbours() == {}
    assert probe.counters() == {"arp_in_replies": 1}


def test_own_frame_comes_back(probe):
    assert probe.feed(arp(src=ME, psrc=ME4))[0] == "link_looped"
    assert probe.counters() == {"link_looped": 1}


def test_conflict_is_defended_once_in_ten_seconds(probe):
    """RFC 5227 §2.4."""
    for now, defended in ((0, True), (9 * SECOND, False), (11 * SECOND, True)):
        probe.set_time(now)
        assert probe.feed(arp(src=OTHER, psrc=ME4, pdst=PEER4))[0] == "arp_conflict"
        assert [(f[ARP].op, f[ARP].psrc, f[ARP].pdst, f.dst) for f in output(probe)] == (
            [(1, ME4, ME4, BROADCAST)] if defended else [])
        (event,) = probe.events()
        assert (event["type"], event["dst"], event["mac"]) == ("conflict", ME4, OTHER)
    assert probe.counters() == {"arp_conflict": 3, "arp_out_requests": 2}


def test_asking(probe):
    assert probe.arp_request(PEER4) == "ok"
    (request,) = output(probe)
    assert (request.dst, request[ARP].op, request[ARP].psrc, request[ARP].pdst) == (BROADCAST, 1, ME4, PEER4)
    probe.feed(arp(op=2))
    probe.feed(arp(op=2))
    (event,) = probe.events()
    assert (event["type"], event["src"], event["mac"]) == ("arp_reply", PEER4, PEER)
    assert probe.counters() == {"arp_out_requests": 1, "arp_in_replies": 2}
    assert probe.neighbours() == {PEER4: ("reachable", PEER, 0)}


def test_asking_needs_ethernet_and_ipv4(make):
    probe = make(medium="ip", mac=None)
    assert probe.arp_request(PEER4) == "ip_no_route"
    probe6 = make(addresses=("fd00::2/64",))
    assert probe6.arp_request(PEER4) == "ip_no_route"
    assert probe6.arp_request("fd00::1") == "ip_no_route"
    assert probe6.counters() == {"ip_no_route": 2}


def test_check_and_announcement(make):
    """RFC 5227 §2.1.1, §2.3: three probes a second or two apart, then two announcements; used meanwhile."""
    probe = make(address_check=True, addresses=(ME4 + "/24",))
    sent = []
    assert probe.feed(arp())[0] == "arp_in_requests"
    assert probe.take_output()
    now = 0
    while now is not None:
        probe.set_time(now)
        following = probe.timers()
        sent += [(now, f[ARP].psrc, f[ARP].pdst) for f in output(probe)]
        now = following
    assert [s[1:] for s in sent] == [("0.0.0.0", ME4)] * 3 + [(ME4, ME4)] * 2
    gaps = [b[0] - a[0] for a, b in pairwise(sent)]
    assert all(SECOND <= gap <= 2 * SECOND for gap in gaps) and gaps[2:] == [2 * SECOND] * 2
    assert probe.counters() == {"arp_in_requests": 1, "arp_out_replies": 1, "arp_out_requests": 5}


def test_two_that_probe_the_same_address(make):
    probe = make(address_check=True)
    assert probe.feed(arp(src=OTHER, psrc="0.0.0.0"))[0] == "arp_conflict"
    assert probe.events()[0]["type"] == "conflict"
    assert probe.counters() == {"arp_conflict": 1, "arp_out_requests": 1}


def test_no_room_for_events(make):
    probe = make(udp_queue=1)
    probe.arp_request(PEER4)
    probe.feed(arp(src=OTHER, psrc=ME4, pdst=PEER4))
    probe.feed(arp(src=OTHER, psrc=ME4, pdst=PEER4))
    probe.feed(arp(op=2))
    assert len(probe.events()) == 1
    assert probe.counters() == {"arp_conflict": 2, "arp_out_requests": 2, "arp_in_replies": 1, "icmp_queue_full": 2}


def test_table_full_of_neighbours_in_use(make):
    probe = make(neighbours=4, neighbour_lifetime=60)
    for n in range(10, 14):
        assert probe.send(f"10.0.0.{n}", b"x" * 8) == "ok"
    assert probe.feed(arp())[0] == "arp_in_requests"
    assert probe.send("10.0.0.14", b"x" * 8) == "neighbour_table_full"
    assert probe.counters() == {"arp_out_requests": 4, "neighbour_queued": 4, "arp_in_requests": 1,
                                "arp_out_replies": 1, "neighbour_table_full": 2}


def test_stale_neighbours_make_room(make):
    probe = make(neighbours=4)
    for n in range(10, 30):
        probe.feed(arp(psrc=f"10.0.0.{n}"))
    assert len(probe.neighbours()) == 4
    assert probe.counters() == {"arp_in_requests": 20, "arp_out_replies": 20}
