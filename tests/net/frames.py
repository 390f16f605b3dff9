"""Frames for tests, built and read by scapy: an implementation that shares nothing with ours."""
import logging

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)

from scapy.layers.inet import ICMP, IP, UDP  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from scapy.layers.l2 import ARP, Ether  # noqa: E402
from scapy.packet import Raw, raw  # noqa: E402

ME = "02:00:00:00:00:02"
PEER = "02:00:00:00:00:01"
OTHER = "02:00:00:00:00:09"
BROADCAST = "ff:ff:ff:ff:ff:ff"
ME4, PEER4 = "10.0.0.2", "10.0.0.1"
ME6, PEER6 = "fd00::2", "fd00::1"
SECOND = 1_000_000_000


def eth(payload, dst=ME, src=PEER):
    return raw(Ether(dst=dst, src=src) / payload)


def v4(payload, src=PEER4, dst=ME4, **fields):
    return IP(src=src, dst=dst, **fields) / payload


def v6(payload, src=PEER6, dst=ME6, **fields):
    return IPv6(src=src, dst=dst, **fields) / payload


def udp4(data=b"hello", sport=1000, dport=53, **fields):
    return eth(v4(UDP(sport=sport, dport=dport) / Raw(data), **fields))


def udp6(data=b"hello", sport=1000, dport=53, **fields):
    return eth(v6(UDP(sport=sport, dport=dport) / Raw(data), **fields))


def udp(version, **fields):
    return udp4(**fields) if version == 4 else udp6(**fields)


def arp(op=1, src=PEER, psrc=PEER4, pdst=ME4, dst=None, **fields):
    return raw(Ether(dst=dst or (BROADCAST if op == 1 else ME), src=src) / ARP(op=op, hwsrc=src, psrc=psrc, pdst=pdst,
                                                                             **fields))


def know_peer(probe):
    """Let the peer answer for its addresses, as if asked, and forget that it was counted."""
    from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr
    probe.send(PEER4, b"x" * 8)
    probe.send(PEER6, b"x" * 8)
    assert probe.feed(arp(op=2))[0] == "arp_in_replies"
    advert = ICMPv6ND_NA(tgt=PEER6, R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=PEER)
    assert probe.feed(eth(v6(advert, hlim=255)))[0] == "nd_in"
    probe.take_output()


KNOWING_PEER = {"neighbour_queued": 2, "arp_out_requests": 1, "arp_in_replies": 1, "nd_out": 1, "nd_in": 1}


def output(probe):
    """What was sent, as scapy packets."""
    return [Ether(frame) for frame in probe.take_output()]


def valid(packet):
    """Whether a frame of ours carries the checksums and lengths that scapy would give it."""
    again = packet.copy()
    layer = again
    while layer:
        for name in ("chksum", "cksum", "len", "plen"):
            if name in getattr(layer, "fields", {}) and not isinstance(layer, ARP):
                del layer.fields[name]
        layer = layer.payload
    return raw(again) == raw(packet)


__all__ = [
    "ARP",
    "BROADCAST",
    "ICMP",
    "IP",
    "KNOWING_PEER",
    "ME",
    "ME4",
    "ME6",
    "OTHER",
    "PEER",
    "PEER4",
    "PEER6",
    "SECOND",
    "UDP",
    "Ether",
    "IPv6",
    "Raw",
    "arp",
    "eth",
    "know_peer",
    "output",
    "raw",
    "udp",
    "udp4",
    "udp6",
    "v4",
    "v6",
    "valid",
]
