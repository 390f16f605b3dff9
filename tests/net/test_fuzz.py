"""Frames that no one would send: nothing crashes, nothing leaks, and what is answered is well formed."""
import random

import pytest
from scapy.layers.inet import TCP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    RouterAlert,
)

from iip.verdict import Verdict
from tests.net.frames import BROADCAST, ICMP, IP, ME, ME4, ME6, PEER, PEER4, PEER6, SECOND, UDP, Raw, arp, eth, v4, v6

NAMES = {v.name for v in Verdict}


def seeds():
    """One good frame of every kind."""
    data = Raw(bytes(range(200)))
    yield arp()
    yield arp(op=2)
    for ip in (v4, v6):
        yield eth(ip(UDP(sport=1, dport=53) / data))
        yield eth(ip(TCP(sport=1, dport=80, flags="S") / data))
    for at in (0, 80, 160):
        yield eth(v4(Raw(bytes(80)), proto=17, id=7, frag=at // 8, flags="MF" if at < 160 else 0))
        yield eth(v6(IPv6ExtHdrFragment(nh=17, id=7, offset=at // 8, m=at < 160) / Raw(bytes(80))))
    yield eth(v4(ICMP() / data))
    yield eth(v4(ICMP(type=3, code=4, nexthopmtu=1000) / IP(src=ME4, dst=PEER4) / UDP() / data))
    yield eth(v6(ICMPv6EchoRequest(data=b"x" * 300)))
    yield eth(v6(ICMPv6PacketTooBig(mtu=1300) / v6(UDP() / data, src=ME6, dst=PEER6)))
    yield eth(v6(ICMPv6DestUnreach() / v6(IPv6ExtHdrFragment(nh=17) / UDP() / data, src=ME6, dst=PEER6)))
    yield eth(v6(ICMPv6ND_NS(tgt=ME6) / ICMPv6NDOptSrcLLAddr(lladdr=PEER), hlim=255))
    yield eth(v6(ICMPv6ND_NA(tgt=PEER6, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=PEER), hlim=255))
    yield eth(v6(IPv6ExtHdrHopByHop(options=[RouterAlert()]) / IPv6ExtHdrRouting(segleft=0, addresses=[ME6])
                 / IPv6ExtHdrDestOpt() / UDP() / data))
    yield eth(v4(Raw(b"\x11\x0a\xee\xf5\0\0\0\0\0\0\0\0"), proto=2, dst="224.0.0.1"), dst="01:00:5e:00:00:01")


def mutate(rng, frame):
    """A few changes anywhere, mostly in the headers; sometimes shorter or longer."""
    data = bytearray(frame)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        at = rng.randrange(min(len(data), rng.choice((60, 100, len(data))))) if data else 0
        if data:
            data[at] = rng.choice((0, 1, 0xFF, data[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
    if rng.random() < 0.2:
        del data[rng.randrange(len(data) + 1):]
    if rng.random() < 0.1:
        data += rng.randbytes(rng.randrange(100))
    return bytes(data)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("settings", [{}, {"accept_any": True}, {"medium": "ip", "mac": None},
                                      {"packet_size": 256, "pool_packets": 64, "neighbours": 4, "udp_queue": 8,
                                       "reassembly_packets": 4, "tx_queue": 16}])
def test_mutated_frames(make, seed, settings):
    rng = random.Random(seed)
    probe = make(caps=rng.choice((0, 0x10, 0x1C)), address_check=rng.random() < 0.5, link_local=True, **settings)
    probe.bind(53)
    frames = list(seeds())
    now = 0
    for _ in range(2500):
        frame = mutate(rng, rng.choice(frames))
        if settings.get("medium") == "ip":
            frame = frame[14:]
        cuts = tuple(sorted(rng.randrange(1, 400) for _ in range(rng.choice((0, 0, 1, 3)))))
        try:
            verdict, rx = probe.feed(frame, cuts=cuts, flags=rng.choice((0, 0x10, 0x20, 0x30, 0x30)))
        except MemoryError:                           # the pool is empty: the program would wait
            probe.take_output()
            probe.events()
            now += 60 * SECOND
            probe.set_time(now)
            probe.timers()
            continue
        assert verdict in NAMES
        if rx is not None:
            assert len(rx["payload"]) <= 65535
        if rng.random() < 0.1:
            probe.udp_send(rng.choice((PEER4, PEER6, "10.0.0.9", "fd00::9", ME4, ME6)), 9, bytes(rng.randrange(4000)))
        if rng.random() < 0.1:
            now += rng.randrange(10 * SECOND)
            probe.set_time(now)
            probe.timers()
            probe.loop()
            probe.events()
            check(probe, settings)


def check(probe, settings):
    """Frames we send have headers that make sense, whatever provoked them."""
    for sent, _, _, _, pieces in probe.take_output(marks=True):
        frame = sent
        if settings.get("medium") != "ip":
            assert frame[6:12] == bytes.fromhex(ME.replace(":", "")) and len(frame) <= 1514
            kind, frame = frame[12:14], frame[14:]
            if kind == b"\x08\x06":
                assert len(frame) == 28
                continue
            assert kind == (b"\x08\x00" if frame[0] >> 4 == 4 else b"\x86\xdd")
        size = int.from_bytes(frame[2:4], "big") if frame[0] >> 4 == 4 else 40 + int.from_bytes(frame[4:6], "big")
        assert size == len(frame)
        assert pieces >= 1


@pytest.mark.parametrize("seed", range(4))
def test_noise(make, seed):
    """Random bytes behind a link header that leads somewhere."""
    rng = random.Random(seed)
    probe = make()
    for _ in range(3000):
        head = bytes.fromhex((ME if rng.random() < 0.8 else BROADCAST).replace(":", "") + PEER.replace(":", ""))
        kind = rng.choice((b"\x08\x00", b"\x86\xdd", b"\x08\x06"))
        first = {b"\x08\x00": b"\x45", b"\x86\xdd": b"\x60", b"\x08\x06": b"\x00"}[kind]
        assert probe.feed(head + kind + first + rng.randbytes(rng.randrange(100)))[0] in NAMES
        probe.take_output()


def test_all_fragment_orders(make):
    """Random fragments of one datagram, overlapping and not: what is delivered is the datagram."""
    rng = random.Random(1)
    data = rng.randbytes(192)
    whole = bytes(v4(UDP(sport=1, dport=53) / Raw(data)))[20:]
    delivered = 0
    probe = None
    for n in range(1000):
        probe = make() if n % 100 == 0 else probe
        probe.bind(53)
        for _ in range(rng.randrange(2, 12)):
            at = 8 * rng.randrange(25)
            end = min(at + 8 * rng.randrange(1, 26), len(whole))
            probe.feed(eth(v4(Raw(whole[at:end]), proto=17, id=n % 65536, frag=at // 8, flags=int(end < len(whole)))))
        for event in probe.events():
            if event["type"] == "udp":
                assert event["data"] == data
                delivered += 1
        probe.set_time((n + 1) * 31 * SECOND)
        probe.timers()
        probe.take_output()
        assert probe.held == 0
    assert delivered
