"""ICMP for both IP versions: echo, errors in and out, path MTU; all counters compared."""
import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    ICMPv6Unknown,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
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
    SECOND,
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
ROUTER4, ROUTER6 = "10.0.0.254", "fd00::fe"


def echo(version, data=b"hello", ident=0x1234, seq=7, **fields):
    if version == 4:
        return v4(ICMP(type=8, id=ident, seq=seq) / Raw(data), **fields)
    return v6(ICMPv6EchoRequest(id=ident, seq=seq, data=data), **fields)


def echo_reply(version, data=b"hello", ident=1, seq=1):
    if version == 4:
        return v4(ICMP(type=0, id=ident, seq=seq) / Raw(data))
    return v6(ICMPv6EchoReply(id=ident, seq=seq, data=data))


@VERSIONS
@pytest.mark.parametrize("n", [0, 1, 56, 248, 249, 300, 1452])
@pytest.mark.parametrize("cuts", [(), (43, 100, 301)])
@pytest.mark.parametrize("caps", [0, 0x10, 0x1C])
def test_echo(make, version, n, cuts, caps):
    probe = make(caps=caps)
    know_peer(probe)
    data = bytes(range(256)) * 6
    assert probe.feed(eth(echo(version, data[:n])), cuts=cuts)[0] == "icmp_in_echo"
    (reply,) = output(probe)
    if not caps & 4:
        assert valid(reply)
    assert (reply.payload.src, reply.payload.dst) == ((ME4, PEER4) if version == 4 else (ME6, PEER6))
    icmp = reply.payload.payload
    assert (icmp.type, icmp.id, icmp.seq) == (0 if version == 4 else 129, 0x1234, 7)
    assert raw(icmp)[8:] == data[:n]
    assert probe.counters() == KNOWING_PEER | {"icmp_in_echo": 1, "icmp_out_echo_reply": 1}


@VERSIONS
def test_echo_to_groups(probe, version):
    """IPv4 is silent (RFC 1122 §3.2.2.6), IPv6 answers from its own address (RFC 4443 §4.2)."""
    know_peer(probe)
    if version == 4:
        for dst, mac in (("224.0.0.1", "01:00:5e:00:00:01"), ("10.0.0.255", BROADCAST), (ME4, BROADCAST)):
            assert probe.feed(eth(echo(4, dst=dst), dst=mac))[0] == "icmp_ignored"
        assert probe.take_output() == []
        assert probe.counters() == KNOWING_PEER | {"icmp_ignored": 3}
    else:
        assert probe.feed(eth(echo(6, dst="ff02::1"), dst="33:33:00:00:00:01"))[0] == "icmp_in_echo"
        (reply,) = output(probe)
        assert valid(reply) and (reply.payload.src, reply.payload.dst) == (ME6, PEER6)


@VERSIONS
def test_large_echo_comes_in_and_leaves_in_fragments(make, version):
    probe = make()
    know_peer(probe)
    data = bytes(range(250)) * 32
    whole = raw(echo(version, data))[20 if version == 4 else 40:]
    for at in range(0, len(whole), 1400):
        part, more = Raw(whole[at:at + 1400]), at + 1400 < len(whole)
        if version == 4:
            probe.feed(eth(v4(part, proto=1, id=5, frag=at // 8, flags=int(more))))
        else:
            probe.feed(eth(v6(IPv6ExtHdrFragment(nh=58, id=5, offset=at // 8, m=more) / part)))
    frames = output(probe)
    assert len(frames) == 6
    parts = [raw(f.payload.payload) if version == 4 else raw(f[IPv6ExtHdrFragment].payload) for f in frames]
    assert b"".join(parts)[8:] == data
    assert probe.counters() == KNOWING_PEER | {"ip_fragment_queued": 5, "ip_reassembled": 1, "icmp_in_echo": 1,
                                               "icmp_out_echo_reply": 1, "ip_fragmented": 1}


@VERSIONS
def test_echo_without_a_way_back(probe, version):
    src = "192.0.2.1" if version == 4 else "2001:db8::1"
    assert probe.feed(eth(echo(version, src=src)))[0] == "icmp_in_echo"
    assert probe.counters() == {"icmp_in_echo": 1, "ip_no_route": 1}


@VERSIONS
def test_echo_without_room(make, version):
    probe = make(tx_queue=16)
    know_peer(probe)
    for _ in range(18):
        probe.feed(eth(echo(version)))
    assert len(probe.take_output()) == 16
    assert probe.counters() == KNOWING_PEER | {"icmp_in_echo": 18, "icmp_out_echo_reply": 16, "tx_queue_full": 2}


@VERSIONS
@pytest.mark.parametrize("n", [0, 56, 1400, 5000])
def test_ping(probe, version, n):
    know_peer(probe)
    peer = PEER4 if version == 4 else PEER6
    data = bytes(n)
    assert probe.ping(peer, data, ident=0xBEEF, seq=3) == "ok"
    frames = output(probe)
    if n < 5000:
        assert valid(frames[0])
        icmp = frames[0].payload.payload
        assert (icmp.type, icmp.id, icmp.seq, raw(icmp)[8:]) == (8 if version == 4 else 128, 0xBEEF, 3, data)
    assert probe.feed(eth(echo_reply(version, b"pong", 0xBEEF, 3)))[0] == "icmp_in_echo_reply"
    (event,) = probe.events()
    assert (event["type"], event["src"], event["ident"], event["seq"], event["data"], event["ttl"]) == (
        "icmp_reply", peer, 0xBEEF, 3, b"pong", 64)
    assert probe.counters() == KNOWING_PEER | {"icmp_out_echo": 1, "icmp_in_echo_reply": 1} | (
        {"ip_fragmented": 1} if n == 5000 else {})


@VERSIONS
def test_replies_beyond_the_queue(make, version):
    probe = make(udp_queue=2)
    for _ in range(3):
        assert probe.feed(eth(echo_reply(version)))[0] == "icmp_in_echo_reply"
    assert len(probe.events()) == 2
    assert probe.counters() == {"icmp_in_echo_reply": 3, "icmp_queue_full": 1}


@VERSIONS
def test_ourselves(probe, version):
    """A packet to our own address comes back through the loopback queue."""
    me = ME4 if version == 4 else ME6
    assert probe.route(me)[1] == {"src": me, "mtu": 65535, "hop": "self", "ttl": 64}
    assert probe.ping(me, b"x" * 3000) == "ok"
    assert [r[0] for r in probe.loop()] == ["icmp_in_echo"]
    assert [r[0] for r in probe.loop()] == ["icmp_in_echo_reply"]
    assert probe.loop() == []
    assert probe.events()[0]["data"] == b"x" * 3000
    assert probe.take_output() == []
    assert probe.counters() == {"icmp_out_echo": 1, "icmp_in_echo": 1, "icmp_out_echo_reply": 1,
                                "icmp_in_echo_reply": 1}


def test_loopback_is_bounded_and_freed(make):
    probe = make(tx_queue=16)
    for _ in range(17):
        probe.udp_send(ME4, 9, b"x")
    assert probe.counters() == {"udp_out": 16, "tx_queue_full": 1}


@pytest.mark.parametrize("packet, verdict", [
    (v4(ICMP(chksum=1)), "icmp_bad_checksum"),
    (v6(ICMPv6EchoRequest(cksum=1)), "icmp_bad_checksum"),
    (v4(Raw(b"\x08\x00\xf7\xff"), proto=1), "icmp_malformed"),
    (v6(Raw(b"\x80\x00\x00\x00\x00\x00\x00"), nh=58), "icmp_malformed"),
    (v6(ICMPv6EchoRequest(), src="::", dst="ff02::1"), "icmp_malformed"),
    (v4(ICMP(type=13)), "icmp_unknown_type"),
    (v4(ICMP(type=42)), "icmp_unknown_type"),
    (v6(ICMPv6Unknown(type=200, msgbody=b"12345678")), "icmp_unknown_type"),
    (v6(ICMPv6Unknown(type=100, msgbody=b"12345678")), "icmp_unknown_type"),
    (v4(ICMP(type=5, code=1, gw=ROUTER4) / IP(src=ME4, dst=PEER4) / UDP()), "icmp_ignored"),
    (v4(ICMP(type=4) / IP(src=ME4, dst=PEER4) / UDP()), "icmp_ignored"),
    (v6(ICMPv6ND_RA(), hlim=255), "nd_malformed"),        # not from a link-local address
    (v6(ICMPv6ND_RS(), hlim=255), "icmp_ignored"),
    (v6(ICMPv6ND_Redirect(), hlim=255), "icmp_ignored"),
    # errors whose quotation is too short, of the other version, not of ours, or not a first fragment
    (v4(ICMP(type=3, code=1) / raw(IP(src=ME4, dst=PEER4) / UDP())[:27]), "icmp_malformed"),
    (v4(ICMP(type=3, code=1) / raw(IP(src=ME4, dst=PEER4))[:19]), "icmp_malformed"),
    (v4(ICMP(type=3, code=1) / (b"\x44" + raw(IP(src=ME4, dst=PEER4) / UDP())[1:])), "icmp_malformed"),
    (v4(ICMP(type=3, code=1) / v6(UDP(), src=ME6)), "icmp_malformed"),
    (v6(ICMPv6DestUnreach(code=3) / v4(UDP() / Raw(b"x" * 40), src=ME4)), "icmp_malformed"),
    (v6(ICMPv6DestUnreach(code=3) / Raw(raw(v6(UDP(), src=ME6))[:44])), "icmp_malformed"),
    (v6(ICMPv6DestUnreach(code=3) / v6(IPv6ExtHdrDestOpt(nh=60) / IPv6ExtHdrDestOpt(nh=60) / Raw(b""), src=ME6)),
     "icmp_error_not_ours"),
    (v4(ICMP(type=3, code=1) / IP(src="10.0.0.9", dst=PEER4) / UDP()), "icmp_error_not_ours"),
    (v4(ICMP(type=3, code=1) / IP(src=ME4, dst=PEER4, frag=5) / UDP()), "icmp_error_not_ours"),
    (v6(ICMPv6DestUnreach(code=3) / v6(UDP(), src="fd00::9")), "icmp_error_not_ours"),
    (v6(ICMPv6DestUnreach(code=3) / v6(Raw(b"x" * 8), src="::ffff:10.0.0.2", nh=17)), "icmp_error_not_ours"),
    (v6(ICMPv6DestUnreach(code=3) / v6(IPv6ExtHdrFragment(offset=9, nh=17) / Raw(b"x" * 8), src=ME6)),
     "icmp_error_not_ours"),
])
def test_dropped(probe, packet, verdict):
    assert probe.feed(eth(packet))[0] == verdict
    assert probe.counters() == {verdict: 1}
    assert probe.take_output() == [] and probe.events() == []


# -- errors about what we sent --------------------------------------------------------------------------
@pytest.mark.parametrize("error, about", [
    (ICMP(type=3, code=1), {"icmp": (3, 1)}),
    (ICMP(type=3, code=3), {"icmp": (3, 3)}),
    (ICMP(type=11, code=0), {"icmp": (11, 0)}),
    (ICMP(type=12, code=0), {"icmp": (12, 0)}),
    (ICMP(type=3, code=4, nexthopmtu=1400), {"icmp": (3, 4), "mtu": 1400}),
    (ICMP(type=3, code=4, nexthopmtu=68), {"icmp": (3, 4), "mtu": 576}),
    (ICMP(type=3, code=4, nexthopmtu=0), {"icmp": (3, 4), "mtu": 1006}),
])
@pytest.mark.parametrize("l4", ["tcp", "udp"])
def test_error4(probe, error, about, l4):
    sent = TCP(sport=1000, dport=80, seq=99) if l4 == "tcp" else UDP(sport=1000, dport=80)
    quoted = raw(IP(src=ME4, dst=PEER4, len=1480) / sent)[:28]
    assert probe.feed(eth(v4(error / Raw(quoted), src=ROUTER4)))[0] == "icmp_in_error"
    expected = {"src": ME4, "dst": PEER4, "reporter": ROUTER4, "proto": 6 if l4 == "tcp" else 17, "mtu": 0,
                "ports": (1000, 80), "seq": 99 if l4 == "tcp" else 0} | about
    assert probe.icmp_error() == expected
    (event,) = probe.events()
    assert {k: event[k] for k in ("type", "src", "dst", "reporter", "icmp", "mtu", "sport", "dport")} == {
        "type": "icmp_error", "src": ME4, "dst": PEER4, "reporter": ROUTER4, "icmp": expected["icmp"],
        "mtu": expected["mtu"], "sport": 1000, "dport": 80}
    learnt = expected["mtu"] and l4 == "udp"
    assert probe.counters() == {"icmp_in_error": 1} | ({"pmtu_reduced": 1} if learnt else {})
    assert probe.route(PEER4)[1]["mtu"] == (expected["mtu"] if learnt else 1500)


@pytest.mark.parametrize("error, about", [
    (ICMPv6DestUnreach(code=4), {"icmp": (1, 4)}),
    (ICMPv6TimeExceeded(code=0), {"icmp": (3, 0)}),
    (ICMPv6PacketTooBig(mtu=1400), {"icmp": (2, 0), "mtu": 1400}),
    (ICMPv6PacketTooBig(mtu=600), {"icmp": (2, 0), "mtu": 1280}),
])
@pytest.mark.parametrize("extension", [False, True])
def test_error6(probe, error, about, extension):
    sent = UDP(sport=1000, dport=80) / Raw(b"x" * 8)
    if extension:
        sent = IPv6ExtHdrFragment(nh=17, id=7, m=1) / sent
    assert probe.feed(eth(v6(error / v6(sent, src=ME6, dst=PEER6), src=ROUTER6)))[0] == "icmp_in_error"
    expected = {"src": ME6, "dst": PEER6, "reporter": ROUTER6, "proto": 17, "mtu": 0, "ports": (1000, 80), "seq": 0}
    assert probe.icmp_error() == expected | about
    mtu = about.get("mtu")
    assert probe.counters() == {"icmp_in_error": 1} | ({"pmtu_reduced": 1} if mtu else {})
    assert probe.route(PEER6)[1]["mtu"] == (mtu or 1500)


def test_error_about_a_ping(probe):
    probe.feed(eth(v4(ICMP(type=3, code=1) / IP(src=ME4, dst=PEER4) / ICMP(id=5, seq=6), src=ROUTER4)))
    (event,) = probe.events()
    assert (event["proto"], event["ident"], event["seq"], event["sport"]) == (1, 5, 6, 0)


def test_errors_beyond_the_queue(make):
    probe = make(udp_queue=1)
    for _ in range(2):
        probe.feed(eth(v4(ICMP(type=3, code=1) / IP(src=ME4, dst=PEER4) / UDP(), src=ROUTER4)))
    assert probe.counters() == {"icmp_in_error": 2, "icmp_queue_full": 1}


def test_path_mtu_cache(probe):
    """Only down; forgotten after ten minutes; used at once by what is sent."""
    know_peer(probe)
    assert probe.pmtu_update(PEER4, 1000)
    assert not probe.pmtu_update(PEER4, 1400)
    assert not probe.pmtu_update(PEER4, 1000)
    assert probe.pmtu_update(PEER4, 600)
    assert probe.pmtu_update(PEER6, 1300)
    assert (probe.route(PEER4)[1]["mtu"], probe.route(PEER6)[1]["mtu"]) == (600, 1300)
    assert probe.udp_send(PEER4, 9, bytes(1000)) == "ok"
    assert [len(f) for f in probe.take_output()] == [14 + 20 + 576, 14 + 20 + 432]
    probe.set_time(599 * SECOND)
    assert probe.route(PEER4)[1]["mtu"] == 600
    probe.set_time(600 * SECOND)
    assert probe.route(PEER4)[1]["mtu"] == 1500
    assert probe.counters() == KNOWING_PEER | {"pmtu_reduced": 3, "udp_out": 1, "ip_fragmented": 1}


def test_path_mtu_cache_is_bounded(probe):
    for n in range(2000):
        probe.set_time(n)
        assert probe.pmtu_update(f"192.0.2.{n % 256}" if n < 256 else f"198.18.{n // 256}.{n % 256}", 1000)
    kept = sum(not probe.pmtu_update(f"198.18.{n // 256}.{n % 256}", 1000) for n in range(256, 2000))
    assert 0 < kept <= 256


# -- errors that we send --------------------------------------------------------------------------------
@VERSIONS
def test_rate(make, version):
    """`icmp_rate` per second, in bursts of ten at least."""
    probe = make(icmp_rate=20)
    know_peer(probe)
    for _ in range(15):
        probe.feed(udp(version))
    assert len(probe.take_output()) == 10
    probe.set_time(SECOND // 4)
    for _ in range(15):
        probe.feed(udp(version))
    assert len(probe.take_output()) == 5
    assert probe.counters() == KNOWING_PEER | {"udp_no_port": 30, "icmp_out_error": 15, "icmp_rate_limited": 15}


def test_no_errors_at_rate_0(make):
    probe = make(icmp_rate=0)
    probe.feed(udp(4))
    assert probe.counters() == {"udp_no_port": 1, "icmp_rate_limited": 1}


@VERSIONS
def test_error_without_a_way_back(probe, version):
    probe.feed(udp(version, src="192.0.2.1" if version == 4 else "2001:db8::1"))
    assert probe.counters() == {"udp_no_port": 1, "ip_no_route": 1}


def test_quotation_is_limited_to_the_minimum_mtu(probe):
    know_peer(probe)
    probe.feed(udp(6, data=b"x" * 1400))
    (error,) = output(probe)
    assert valid(error) and len(error) == 14 + 1280
