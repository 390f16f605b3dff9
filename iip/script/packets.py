"""Packets as bytes: built from what a script says, and parsed from what the stack sent."""
from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field
from typing import Any

from iip.script.syntax import Option
from iip.wire.checksum import checksum

M32 = 0xFFFFFFFF
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
_LETTERS = "FSRP.UEWA"

ICMP4_TYPES = {"echo_reply": 0, "unreachable": 3, "source_quench": 4, "redirect": 5, "echo_request": 8,
               "time_exceeded": 11, "parameter_problem": 12, "timestamp_request": 13, "timestamp_reply": 14}
UNREACHABLE4 = {"net_unreachable": 0, "host_unreachable": 1, "protocol_unreachable": 2, "port_unreachable": 3,
                "frag_needed": 4, "source_route_failed": 5, "net_unknown": 6, "host_unknown": 7,
                "source_host_isolated": 8, "net_prohibited": 9, "host_prohibited": 10, "net_unreachable_for_tos": 11,
                "host_unreachable_for_tos": 12, "packet_filtered": 13, "admin_prohibited": 13,
                "precedence_violation": 14, "precedence_cutoff": 15}
TIME4 = {"ttl_exceeded": 0, "exceed_ttl": 0, "exceed_fragtime": 1, "frag_time_exceeded": 1}
ICMP6_TYPES = {"unreachable": 1, "packet_too_big": 2, "time_exceeded": 3, "parameter_problem": 4, "echo_request": 128,
               "echo_reply": 129}
UNREACHABLE6 = {"no_route": 0, "admin_prohibited": 1, "not_neighbour": 2, "not_neighbor": 2, "beyond_scope": 2,
                "address_unreachable": 3, "port_unreachable": 4, "source_address_policy": 5, "reject_route": 6,
                "net_unreachable": 0, "host_unreachable": 3}
PARAMETER6 = {"bad_header": 0, "unknown_next_header": 1, "unknown_option": 2}
TIME6 = {"exceed_hop_limit": 0, "hop_limit_exceeded": 0, "exceed_fragment_time": 1, "exceed_fragtime": 1}


def pseudo_header(source: Any, destination: Any, protocol: int, length: int) -> bytes:
    if source.version == 4:
        return source.packed + destination.packed + struct.pack("!BBH", 0, protocol, length)    # type: ignore[no-any-return]
    return source.packed + destination.packed + struct.pack("!I3xB", length, protocol)          # type: ignore[no-any-return]


def _sum(data: bytes) -> bytes:
    return struct.pack("!H", checksum(data))


def ip_packet(source: Any, destination: Any, protocol: int, payload: bytes, *, ttl: int = 255, tos: int = 0,
              flow_label: int = 0, ident: int = 0) -> bytes:
    """An IPv4 or IPv6 packet, by its addresses."""
    if source.version == 6:
        start = struct.pack("!IHBB", 6 << 28 | tos << 20 | flow_label, len(payload), protocol, ttl)
        return b"".join((start, source.packed, destination.packed, payload))
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(payload), ident, 0, ttl, protocol, 0)
    head += source.packed + destination.packed
    return b"".join((head[:10], _sum(head), head[12:], payload))


def tcp_segment(source: Any, destination: Any, sport: int, dport: int, seq: int, ack: int, flags: int, window: int,
                urgent: int, options: bytes, data: bytes) -> bytes:
    offset = (20 + len(options)) // 4
    head = struct.pack("!HHIIHHHH", sport, dport, seq & M32, ack & M32, offset << 12 | flags & 0x1FF, window & 0xFFFF, 0,
                       urgent)
    whole = head + options + data
    value = _sum(pseudo_header(source, destination, TCP, len(whole)) + whole)
    return whole[:16] + value + whole[18:]


def udp_datagram(source: Any, destination: Any, sport: int, dport: int, data: bytes) -> bytes:
    whole = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    value = _sum(pseudo_header(source, destination, UDP, len(whole)) + whole)
    return whole[:6] + (b"\xff\xff" if value == b"\0\0" else value) + whole[8:]


def icmp_message(source: Any, destination: Any, kind: int, code: int, parameter: int, body: bytes) -> bytes:
    whole = struct.pack("!BBHI", kind, code, 0, parameter) + body
    over = whole if source.version == 4 else pseudo_header(source, destination, ICMP6, len(whole)) + whole
    return whole[:2] + _sum(over) + whole[4:]


# -- options -----------------------------------------------------------------------------------------------

def encode_option(option: Option) -> bytes:
    """The bytes of an option whose values are numbers."""
    kind, value = option.kind, option.value
    if kind == "eol":
        return b"\0"
    if kind == "nop":
        return b"\1"
    if kind == "mss":
        return struct.pack("!BBH", 2, 4, value & 0xFFFF)
    if kind == "wscale":
        return struct.pack("!BBB", 3, 3, value & 0xFF)
    if kind == "sackOK":
        return b"\4\2"
    if kind == "sack":
        return struct.pack("!BB", 5, 2 + 8 * len(value)) + b"".join(struct.pack("!II", a, b) for a, b in value)
    if kind == "TS":
        return struct.pack("!BBII", 8, 10, *value)
    if kind == "md5":
        return struct.pack("!BB", 19, 18) + value      # type: ignore[no-any-return]
    if kind == "FO":
        return struct.pack("!BB", 34, 2 + len(value)) + value      # type: ignore[no-any-return]
    if kind == "FOEXP":
        return struct.pack("!BBH", 254, 4 + len(value), 0xF989) + value      # type: ignore[no-any-return]
    if kind == "ECN":
        number, counters = value
        return struct.pack("!BB", number, 2 + 3 * len(counters)) + b"".join(n.to_bytes(3, "big") for n in counters)
    number, data = value
    return struct.pack("!BB", number, 2 + len(data)) + data      # type: ignore[no-any-return]


def encode_options(options: tuple[Option, ...]) -> bytes:
    """All of them, filled up to a multiple of four bytes."""
    raw = b"".join(map(encode_option, options))
    return raw + bytes(-len(raw) % 4)


def _decode(kind: int, data: bytes) -> Option:
    if kind == 2 and len(data) == 2:
        return Option("mss", int.from_bytes(data, "big"))
    if kind == 3 and len(data) == 1:
        return Option("wscale", data[0])
    if kind == 4 and not data:
        return Option("sackOK")
    if kind == 5 and len(data) % 8 == 0:
        return Option("sack", tuple(struct.iter_unpack("!II", data)))
    if kind == 8 and len(data) == 8:
        return Option("TS", struct.unpack("!II", data))
    if kind == 19:
        return Option("md5", data)
    if kind == 34:
        return Option("FO", data)
    if kind in (172, 174) and len(data) % 3 == 0:
        return Option("ECN", (kind, tuple(int.from_bytes(data[i:i + 3], "big") for i in range(0, len(data), 3))))
    if kind == 254 and data[:2] == b"\xf9\x89":
        return Option("FOEXP", data[2:])
    return Option("unknown", (kind, data))


def decode_options(raw: bytes) -> tuple[Option, ...]:
    """Each option and padding byte in order; a zero byte ends the list and is one `eol` per byte."""
    out, at = [], 0
    while at < len(raw):
        if raw[at] < 2:
            out.append(Option("nop" if raw[at] else "eol"))
            at += 1
            continue
        size = max(raw[at + 1], 2) if at + 1 < len(raw) else 2
        out.append(_decode(raw[at], raw[at + 2:at + size]))
        at += size
    return tuple(out)


def option_text(option: Option) -> str:
    kind, value = option.kind, option.value
    if kind == "TS":
        return f"TS val {value[0]!r} ecr {value[1]!r}"
    if kind == "sack":
        return "sack " + " ".join(f"{a}:{b}" for a, b in value)
    if kind == "ECN":
        names = ("e1b", "ceb", "e0b") if value[0] == 174 else ("e0b", "ceb", "e1b")
        return " ".join(["ECN", *(f"{name} {n}" for name, n in zip(names, value[1], strict=False))])
    if kind in ("FO", "FOEXP", "md5"):
        return f"{kind} {value.hex()}".rstrip()
    if kind == "unknown":
        return f"kind {value[0]} {value[1].hex()}"
    return kind if value is None else f"{kind} {value!r}"


def flag_text(flags: int) -> str:
    return "".join(letter for letter in "FSRP.UEWA" if flags >> _LETTERS.index(letter) & 1) or "-"


# -- what left ---------------------------------------------------------------------------------------------

@dataclass
class Live:
    """A packet that left, `at` microseconds of the script's time."""

    at: int
    raw: bytes
    version: int = 4
    source: Any = None
    destination: Any = None
    protocol: int = 0
    tos: int = 0
    ttl: int = 0
    flow_label: int = 0
    body: bytes = b""
    sport: int = 0
    dport: int = 0
    seq: int = 0
    ack: int = 0
    flags: int = 0
    window: int = 0
    urgent: int = 0
    options: tuple[Option, ...] = ()
    data: bytes = b""
    icmp_type: int = 0
    icmp_code: int = 0
    icmp_parameter: int = 0
    merged: int = field(default=1)


def parse_packet(raw: bytes, at: int) -> Live:
    """An IP packet of the stack's, checksums aside."""
    p = Live(at, raw)
    if raw[0] >> 4 == 4:
        length = raw[0] % 16 * 4
        p.tos, p.ttl, p.protocol = raw[1], raw[8], raw[9]
        p.source, p.destination = ipaddress.IPv4Address(raw[12:16]), ipaddress.IPv4Address(raw[16:20])
        p.body = raw[length:]
    else:
        p.version = 6
        head = int.from_bytes(raw[:4], "big")
        p.tos, p.flow_label, p.protocol, p.ttl = head >> 20 & 0xFF, head & 0xFFFFF, raw[6], raw[7]
        p.source, p.destination = ipaddress.IPv6Address(raw[8:24]), ipaddress.IPv6Address(raw[24:40])
        p.body = raw[40:]
    if p.protocol == TCP:
        p.sport, p.dport, p.seq, p.ack, bits, p.window, _, p.urgent = struct.unpack("!HHIIHHHH", p.body[:20])
        p.flags = bits & 0x1FF
        end = (bits >> 12) * 4
        p.options, p.data = decode_options(p.body[20:end]), p.body[end:]
    elif p.protocol == UDP:
        p.sport, p.dport = struct.unpack("!HH", p.body[:4])
        p.data = p.body[8:]
    elif p.protocol in (ICMP, ICMP6):
        p.icmp_type, p.icmp_code, _, p.icmp_parameter = struct.unpack("!BBHI", p.body[:8])
        p.data = p.body[8:]
    return p
