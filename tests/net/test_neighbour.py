"""Neighbour discovery and the neighbour table, for ARP and IPv6 alike; all counters compared."""
import pytest
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6Unknown,
)

from tests.net.frames import (
    ARP,
    BROADCAST,
    KNOWING_PEER,
    ME,
    ME4,
    ME6,
    OTHER,
    PEER,
    PEER4,
    PEER6,
    SECOND,
    UDP,
    IPv6,
    Raw,
    arp,
    eth,
    know_peer,
    output,
    v6,
    valid,
)

VERSIONS = pytest.mark.parametrize("version", [4, 6])
SOLICITED_ME, SOLICITED_MAC = "ff02::1:ff00:2", "33:33:ff:00:00:02"


def ns(target=ME6, src=PEER6, dst=ME6, lladdr=PEER, mac=ME, hlim=255, link_src=PEER, **fields):
    message = ICMPv6ND_NS(tgt=target, **fields)
    if lladdr:
        message = message / ICMPv6NDOptSrcLLAddr(lladdr=lladdr)
    return eth(v6(message, src=src, dst=dst, hlim=hlim), dst=mac, src=link_src)


def na(target=PEER6, src=PEER6, dst=ME6, lladdr=PEER, S=1, O=1, hlim=255, link_src=PEER, mac=ME, **fields):  # noqa: E741
    message = ICMPv6ND_NA(tgt=target, R=0, S=S, O=O, **fields)
    if lladdr:
        message = message / ICMPv6NDOptDstLLAddr(lladdr=lladdr)
    return eth(v6(message, src=src, dst=dst, hlim=hlim), dst=mac, src=link_src)


# -- messages -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dst, mac", [(ME6, ME), (SOLICITED_ME, SOLICITED_MAC)])
@pytest.mark.parametrize("lladdr", [PEER, None])
def test_solicitation_is_answered(probe, dst, mac, lladdr):
    assert probe.feed(ns(dst=dst, mac=mac, lladdr=lladdr)) == ("nd_in", None)
    (reply,) = output(probe)
    assert valid(reply) and (reply.dst, reply[IPv6].src, reply[IPv6].dst, reply[IPv6].hlim) == (PEER, ME6, PEER6, 255)
    message = reply[ICMPv6ND_NA]
    assert (message.tgt, message.S, message.O, message.R) == (ME6, 1, 1, 0)
    assert reply[ICMPv6NDOptDstLLAddr].lladdr == ME
    assert probe.neighbours() == ({PEER6: ("stale", PEER, 0)} if lladdr else {})
    assert probe.counters() == {"nd_in": 1, "nd_out": 1}


def test_check_of_another_is_answered_to_all(probe):
    """Somebody checks whether he may have our address (RFC 4862 §5.4.3)."""
    assert probe.feed(ns(src="::", dst=SOLICITED_ME, mac=SOLICITED_MAC, lladdr=None))[0] == "nd_in"
    (reply,) = output(probe)
    assert valid(reply) and (reply.dst, reply[IPv6].dst) == ("33:33:00:00:00:01", "ff02::1")
    assert (reply[ICMPv6ND_NA].S, reply[ICMPv6ND_NA].O) == (0, 1)
    assert probe.neighbours() == {}


@pytest.mark.parametrize("frame", [
    ns(hlim=254),
    ns(code=1),
    na(hlim=254),
    na(code=1),
    eth(v6(ICMPv6Unknown(type=135, msgbody=bytes(16)), hlim=255)),            # too short
    ns(target="ff02::5"),
    ns(target="::ffff:10.0.0.2"),
    na(target="ff02::5"),
    ns(src="::", dst="ff02::1", mac="33:33:00:00:00:01", lladdr=None),       # a check is for the group
    ns(src="::", dst=SOLICITED_ME, mac=SOLICITED_MAC, lladdr=PEER),           # and says no address
    ns(lladdr="33:33:00:00:00:01"),
    na(dst="ff02::1", mac="33:33:00:00:00:01", S=1),                          # a solicited answer to a group
    eth(v6(ICMPv6ND_NS(tgt=ME6) / ICMPv6NDOptSrcLLAddr(len=0, lladdr=PEER), hlim=255)),
    eth(v6(ICMPv6ND_NS(tgt=ME6) / ICMPv6NDOptSrcLLAddr(len=2, lladdr=PEER), hlim=255)),
    eth(v6(ICMPv6ND_NS(tgt=ME6) / Raw(b"\x01\x01\x02"), hlim=255)),
])
def test_malformed(probe, frame):
    verdict = probe.feed(frame)[0]
    if verdict == "icmp_malformed" or verdict == "icmp_bad_checksum":
        pytest.fail("the frame is not what the test wants to send")  # ICMP checks come first
    assert verdict == "nd_malformed"
    assert probe.counters() == {"nd_malformed": 1}
    assert probe.take_output() == [] and probe.neighbours() == {}


def test_not_for_us(probe):
    assert probe.feed(ns(target="fd00::7"))[0] == "nd_not_for_us"
    assert probe.counters() == {"nd_not_for_us": 1}


def test_other_options_are_skipped(probe):
    frame = eth(v6(ICMPv6ND_NS(tgt=ME6) / ICMPv6NDOptMTU() / ICMPv6NDOptSrcLLAddr(lladdr=PEER), hlim=255))
    assert probe.feed(frame, cuts=(60, 80, 91))[0] == "nd_in"
    assert probe.neighbours() == {PEER6: ("stale", PEER, 0)}


def test_own_message_comes_back(probe):
    assert probe.feed(ns(src="fd00::9", lladdr=ME))[0] == "link_looped"
    assert probe.feed(na(target=ME6, src="fd00::9", lladdr=None, link_src=ME))[0] == "link_looped"
    assert probe.counters() == {"link_looped": 2}


# -- routers ---------------------------------------------------------------------------------------------
def ra(*options, src="fe80::1", hlim=255, link_src=PEER, **fields):
    message = ICMPv6ND_RA(**fields)
    for option in options:
        message = message / option
    return eth(v6(message, src=src, dst="ff02::1", hlim=hlim), dst="33:33:00:00:00:01", src=link_src)


def test_router_advertisements_are_for_the_application(probe):
    frame = ra(ICMPv6NDOptMTU(mtu=1400), ICMPv6NDOptSrcLLAddr(lladdr=PEER), routerlifetime=1800)
    assert probe.feed(frame, cuts=(60, 70))[0] == "nd_in"
    (event,) = probe.events()
    assert (event["type"], event["src"], event["mac"], event["data"]) == ("router", "fe80::1", PEER, frame[54:])
    assert probe.counters() == {"nd_in": 1}
    assert probe.neighbours() == {}


@pytest.mark.parametrize("frame, verdict", [
    (ra(hlim=64), "nd_malformed"),
    (ra(src="fd00::7"), "nd_malformed"),
    (ra(code=1), "nd_malformed"),
    (ra(Raw(b"\x03\x00" + bytes(6))), "nd_malformed"),
    (ra(Raw(b"\x03\x02" + bytes(6))), "nd_malformed"),
    (ra(link_src=ME), "link_looped"),
])
def test_what_is_no_good_advertisement(probe, frame, verdict):
    assert probe.feed(frame)[0] == verdict
    assert probe.events() == []


def test_too_many_advertisements(make):
    probe = make(udp_queue=4)
    for _ in range(6):
        probe.feed(ra())
    assert len(probe.events()) == 4
    assert probe.counters() == {"nd_in": 6, "icmp_queue_full": 2}


def test_no_routers_on_a_bare_ip_medium(make):
    assert make(medium="ip", mac=None).feed(ra()[14:])[0] == "icmp_ignored"


def test_no_neighbours_on_a_bare_ip_medium(make):
    probe = make(medium="ip", mac=None)
    assert probe.feed(ns()[14:])[0] == "icmp_ignored"
    assert probe.counters() == {"icmp_ignored": 1}


# -- duplicate address detection ------------------------------------------------------------------------
def checking(make, **settings):
    probe = make(address_check=True, addresses=(ME6 + "/64",), **settings)
    probe.timers()
    (check, *report) = output(probe)
    assert valid(check) and (check.dst, check[IPv6].src, check[IPv6].dst) == (SOLICITED_MAC, "::", SOLICITED_ME)
    assert check[ICMPv6ND_NS].tgt == ME6 and not check.haslayer(ICMPv6NDOptSrcLLAddr)
    assert len(report) == 1
    return probe


CHECKING = {"nd_out": 1, "mld_out": 1}


def test_address_is_used_while_it_is_checked(make):
    """RFC 4429: advertised without override, solicitations without a link-layer address."""
    probe = checking(make)
    probe.feed(ns())
    (reply,) = output(probe)
    assert reply[ICMPv6ND_NA].O == 0
    probe.udp_send("fd00::7", 9, b"x")
    (question,) = output(probe)
    assert question[IPv6].src == ME6 and not question.haslayer(ICMPv6NDOptSrcLLAddr)
    probe.set_time(SECOND)
    probe.timers()
    probe.take_output()
    probe.feed(ns())
    assert output(probe)[0][ICMPv6ND_NA].O == 1
    probe.udp_send("fd00::8", 9, b"x")
    assert output(probe)[0][ICMPv6NDOptSrcLLAddr].lladdr == ME


@pytest.mark.parametrize("frame", [
    na(target=ME6, src="fd00::9", dst="ff02::1", mac="33:33:00:00:00:01", S=0, link_src=OTHER, lladdr=OTHER),
    ns(src="::", dst=SOLICITED_ME, mac=SOLICITED_MAC, lladdr=None, link_src=OTHER),
])
def test_duplicate_goes_out_of_use(make, frame):
    probe = checking(make)
    assert probe.feed(frame)[0] == "nd_conflict"
    (event,) = probe.events()
    assert (event["type"], event["dst"], event["mac"]) == ("conflict", ME6, OTHER)
    assert probe.udp_send(PEER6, 9, b"x") == "ip_no_route"
    assert probe.feed(ns())[0] == "ip_not_ours"
    assert probe.counters() == CHECKING | {"nd_conflict": 1, "ip_no_route": 1, "ip_not_ours": 1}


def test_conflict_later_is_only_told(make):
    probe = checking(make)
    probe.set_time(SECOND)
    probe.timers()
    probe.take_output()
    assert probe.feed(na(target=ME6, src="fd00::9", S=0, link_src=OTHER, lladdr=OTHER))[0] == "nd_conflict"
    assert probe.events()[0]["mac"] == OTHER
    assert probe.feed(ns())[0] == "nd_in"
    assert probe.counters() == {"nd_out": 2, "mld_out": 2, "nd_conflict": 1, "nd_in": 1}


# -- the table ------------------------------------------------------------------------------------------
def peer(version):
    return PEER4 if version == 4 else PEER6


def answer(version, src=PEER):
    return arp(op=2, src=src) if version == 4 else na(lladdr=src, link_src=src)


def question(version):
    """The frame that asks for the peer: broadcast or multicast, or to the peer alone."""
    def check(frame):
        if version == 4:
            assert (frame[ARP].op, frame[ARP].psrc, frame[ARP].pdst) == (1, ME4, PEER4)
            return "all" if frame.dst == BROADCAST else frame.dst
        assert valid(frame) and (frame[IPv6].src, frame[ICMPv6ND_NS].tgt) == (ME6, PEER6)
        assert frame[ICMPv6NDOptSrcLLAddr].lladdr == ME
        return "all" if (frame.dst, frame[IPv6].dst) == ("33:33:ff:00:00:01", "ff02::1:ff00:1") else frame.dst
    return check


def out(version):
    return "arp_out_requests" if version == 4 else "nd_out"


def quiet(make, version, **settings):
    """With one address, past its announcements."""
    probe = make(addresses=((ME4 + "/24") if version == 4 else ME6 + "/64",), **settings)
    probe.run_until(10 * SECOND)
    probe.take_output()
    base = probe.counters()
    return probe, lambda: {k: n - base.get(k, 0) for k, n in probe.counters().items() if n != base.get(k, 0)}


@VERSIONS
def test_packets_wait_for_the_answer(make, version):
    probe, counted = quiet(make, version)
    for n in range(3):
        assert probe.udp_send(peer(version), 9, bytes([n])) == "ok"
    (frame,) = output(probe)
    assert question(version)(frame) == "all"
    assert probe.neighbours() == {peer(version): ("incomplete", None, 3)}
    probe.feed(answer(version))
    frames = output(probe)
    assert [(f.dst, bytes(f[UDP].payload)) for f in frames] == [(PEER, bytes([n])) for n in range(3)]
    assert all(valid(f) for f in frames)
    assert probe.neighbours() == {peer(version): ("reachable", PEER, 0)}
    assert counted() == {"udp_out": 3, "neighbour_queued": 3, out(version): 1,
                         "arp_in_replies" if version == 4 else "nd_in": 1}


@VERSIONS
def test_nobody_answers(make, version):
    """Three questions, a second apart (RFC 4861 §10); then the packets are lost, and the application is told."""
    probe, counted = quiet(make, version)
    start = 10 * SECOND
    probe.udp_send(peer(version), 9, b"x", sport=77)
    probe.udp_send(peer(version), 9, b"y", sport=78)
    asked = []
    at = start
    while at is not None:
        probe.set_time(at)
        following = probe.timers()
        asked += [at - start] * len(output(probe))
        at = following
    assert [round(a / SECOND, 1) for a in asked] == [0, 1.0, 2.0]
    first, second = probe.events()
    assert {k: first[k] for k in ("type", "dst", "proto", "sport", "dport")} == {
        "type": "unreachable", "dst": peer(version), "proto": 17, "sport": 77, "dport": 9}
    assert second["sport"] == 78
    assert counted() == {"udp_out": 2, "neighbour_queued": 2, out(version): 3, "neighbour_unreachable": 1}
    assert probe.udp_send(peer(version), 9, b"x") == "ok"  # asks anew
    assert len(probe.take_output()) == 1


@VERSIONS
def test_states(make, version):
    """RFC 4861 §7.3.2: reachable, stale, delay, probe, and again reachable or gone."""
    probe, _ = quiet(make, version, neighbour_lifetime=30)

    def state():
        return probe.neighbours()[peer(version)][0]

    probe.udp_send(peer(version), 9, b"x")
    probe.feed(answer(version))
    assert state() == "reachable"
    probe.run_until(39 * SECOND)
    probe.udp_send(peer(version), 9, b"x")
    assert state() == "reachable"
    probe.run_until(41 * SECOND)
    probe.take_output()
    probe.udp_send(peer(version), 9, b"x")
    assert state() == "delay" and len(probe.take_output()) == 1   # sent, and five seconds of grace
    probe.run_until(45 * SECOND)
    assert state() == "delay" and probe.take_output() == []
    probe.run_until(46 * SECOND + SECOND // 50)
    assert state() == "probe"
    (frame,) = output(probe)
    assert question(version)(frame) == PEER                       # asked directly
    probe.feed(answer(version))
    assert state() == "reachable"
    probe.run_until(80 * SECOND)
    probe.udp_send(peer(version), 9, b"x", sport=5)
    probe.take_output()
    probe.run_until(100 * SECOND)
    assert state() == "incomplete"
    assert [question(version)(f) for f in output(probe)] == [PEER] * 3
    assert [(e["type"], e["dst"]) for e in probe.events()] == [("unreachable", peer(version))]


@VERSIONS
def test_progress_confirms(make, version):
    """What the transport reports makes a stale neighbour reachable, without a question (RFC 4861 §7.3.1)."""
    probe, counted = quiet(make, version, neighbour_lifetime=30)
    probe.send(peer(version), b"x" * 20)
    probe.feed(answer(version))
    probe.set_time(60 * SECOND)
    probe.send(peer(version), b"x" * 20)
    assert probe.neighbours()[peer(version)][0] == "delay"
    probe.send(peer(version), b"x" * 20, confirm=True)
    assert probe.neighbours()[peer(version)][0] == "reachable"
    probe.run_until(80 * SECOND)
    assert counted()[out(version)] == 1


def test_advertisements_change_entries(make):
    """RFC 4861 §7.2.5."""
    probe, _ = quiet(make, 6)
    probe.feed(na())                          # nobody asked: nothing is made
    assert probe.neighbours() == {}
    probe.udp_send(PEER6, 9, b"x")
    probe.feed(na(S=0))                       # heard of, and checked after use
    assert probe.neighbours()[PEER6][:2] == ("delay", PEER)
    probe.feed(na())
    assert probe.neighbours()[PEER6][:2] == ("reachable", PEER)
    probe.feed(na(lladdr=OTHER, O=0))         # somebody else, without override: doubt
    assert probe.neighbours()[PEER6][:2] == ("stale", PEER)
    probe.feed(na(lladdr=OTHER, S=0))         # with override: believed, not proven
    assert probe.neighbours()[PEER6][:2] == ("stale", OTHER)
    probe.feed(na(lladdr=PEER))
    assert probe.neighbours()[PEER6][:2] == ("reachable", PEER)


@VERSIONS
def test_queue_of_a_neighbour_is_bounded(make, version):
    """The oldest makes room (RFC 4861 §7.2.2)."""
    probe, counted = quiet(make, version, neighbour_queue=2)
    for n in range(5):
        assert probe.udp_send(peer(version), 9, bytes([n])) == "ok"
    probe.take_output()
    probe.feed(answer(version))
    assert [bytes(f[UDP].payload) for f in output(probe)] == [b"\3", b"\4"]
    assert counted()["neighbour_queue_full"] == 3


def test_all_queues_together_are_bounded(make):
    """By a quarter of the pool."""
    probe = make(pool_packets=64)
    verdicts = [probe.udp_send(f"10.0.0.{10 + n}", 9, b"x") for n in range(20)]
    assert verdicts == ["ok"] * 16 + ["neighbour_queue_full"] * 4
    assert probe.counters() == {"udp_out": 16, "neighbour_queued": 16, "arp_out_requests": 16,
                                "neighbour_queue_full": 4}


def test_flow_survives_that_its_neighbour_entry_is_taken(make):
    """A flow whose entry went to another address is routed again, not sent to the wrong station."""
    probe = make(neighbours=4)
    know_peer(probe)
    for n in range(20):
        probe.feed(arp(psrc=f"10.0.0.{100 + n}", src=OTHER))
        probe.take_output()
        probe.udp_send(PEER4, 9, b"x")
        for frame in output(probe):
            assert frame.haslayer(ARP) or frame.dst == PEER
    assert KNOWING_PEER.items() <= probe.counters().items() or probe.counters()["arp_out_requests"] > 1


# -- routes ---------------------------------------------------------------------------------------------
def test_routes_and_sources(make):
    probe = make(addresses=("10.0.0.2/24", "10.0.1.2/24", "fd00::2/64", "fd01::2/64"), link_local=True,
                 gateway="10.0.0.1", gateway6="fd00::1",
                 routes=(("192.0.2.0/24", "10.0.1.9"), ("192.0.2.128/25", "10.0.0.9"), ("2001:db8::/32", "fd01::9")))
    local = "fe80::ff:fe00:2"
    assert probe.addresses == ["10.0.0.2", "10.0.1.2", "fd00::2", "fd01::2", local]

    def way(dst):
        verdict, route = probe.route(dst)
        assert verdict == "ok"
        return route["src"], route["hop"]

    assert way("10.0.0.7") == ("10.0.0.2", "10.0.0.7")
    assert way("10.0.1.7") == ("10.0.1.2", "10.0.1.7")
    assert way("192.0.2.1") == ("10.0.1.2", "10.0.1.9")
    assert way("192.0.2.200") == ("10.0.0.2", "10.0.0.9")
    assert way("198.51.100.1") == ("10.0.0.2", "10.0.0.1")
    assert way("fd00::7") == ("fd00::2", "fd00::7")
    assert way("fd01::7") == ("fd01::2", "fd01::7")
    assert way("2001:db8::7") == ("fd01::2", "fd01::9")
    assert way("2001:db9::7") == ("fd00::2", "fd00::1")
    assert way("fe80::7") == (local, "fe80::7")
    assert way("ff02::7") == (local, "group")
    assert way("ff0e::7")[0] in ("fd00::2", "fd01::2")
    assert way("224.0.0.251") == ("10.0.0.2", "group")
    assert way("10.0.1.255")[1] == "group"
    assert probe.route("198.51.100.1", src="10.0.1.2")[1]["src"] == "10.0.1.2"
    assert probe.route("224.0.0.251")[1]["ttl"] == 1
    for dst in ("0.0.0.0", "0.1.2.3", "127.0.0.1", "::"):
        assert probe.route(dst)[0] == "ip_no_route"
    assert probe.counters() == {"ip_no_route": 4}


def test_no_address_of_the_version(make):
    assert make(addresses=("10.0.0.2/24",)).route("fd00::1")[0] == "ip_no_route"
    assert make(addresses=("fd00::2/64",), medium="ip", mac=None).route("10.0.0.1")[0] == "ip_no_route"


def test_mac_from_the_seed(make):
    one, two, three = make(mac=None, seed=5), make(mac=None, seed=5), make(mac=None, seed=6)
    assert one.mac == two.mac != three.mac
    assert int(one.mac[:2], 16) & 3 == 2
