"""Packets for tests, built and parsed with `struct` alone: nothing here shares code with the stack."""
from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR, AE = (1 << i for i in range(9))
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58

_LETTERS = "FSRPAUECN"
M32 = 0xFFFFFFFF


def flag_names(flags):
    return "".join(letter for i, letter in enumerate(_LETTERS) if flags >> i & 1) or "none"


def checksum(data):
    """RFC 1071, the plain way."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _packed(address):
    return ipaddress.ip_address(address).packed


def pseudo_header(source, destination, protocol, length):
    src, dst = _packed(source), _packed(destination)
    if len(src) == 4:
        return src + dst + struct.pack("!BBH", 0, protocol, length)
    return src + dst + struct.pack("!I3xB", length, protocol)


def ip(source, destination, protocol, payload, *, ttl=64, total=None, ident=0, frag=0, options=b"",
       bad_checksum=False):
    """An IPv4 or IPv6 packet, by the addresses. `total`: what the length field says, if not the truth."""
    src, dst = _packed(source), _packed(destination)
    if len(src) == 16:
        length = len(payload) if total is None else total
        return struct.pack("!IHBB", 6 << 28, length, protocol, ttl) + src + dst + payload
    header = 20 + len(options)
    length = header + len(payload) if total is None else total
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | header // 4, 0, length, ident, frag, ttl, protocol, 0, src, dst)
    head += options
    value = checksum(head) ^ (0x5555 if bad_checksum else 0)
    return head[:10] + struct.pack("!H", value) + head[12:] + payload


def tcp(source, destination, sport, dport, seq, ack, flags, wnd=65535, *, options=b"", data=b"", urg=0, header=None,
        bad_checksum=False):
    """A TCP segment with its checksum. `header`: what the data offset says in bytes, if not the truth."""
    options += bytes(-len(options) % 4)
    offset = (20 + len(options) if header is None else header) // 4
    head = struct.pack("!HHIIHHHH", sport, dport, seq & M32, ack & M32, offset << 12 | flags, wnd, 0, urg)
    segment = head + options + data
    value = checksum(pseudo_header(source, destination, TCP, len(segment)) + segment) ^ (0x5555 if bad_checksum else 0)
    return segment[:16] + struct.pack("!H", value) + segment[18:]


def icmp_error(source, destination, kind, code, parameter, quoted):
    """An ICMP or ICMPv6 error about `quoted`, a whole packet."""
    body = struct.pack("!BBHI", kind, code, 0, parameter) + quoted
    if ipaddress.ip_address(source).version == 4:
        protocol, value = ICMP, checksum(body)
    else:
        protocol, value = ICMP6, checksum(pseudo_header(source, destination, ICMP6, len(body)) + body)
    return ip(source, destination, protocol, body[:2] + struct.pack("!H", value) + body[4:])


# -- options ------------------------------------------------------------------------------------------------

def opt_mss(value):
    return struct.pack("!BBH", 2, 4, value)


def opt_wscale(shift):
    return struct.pack("!BBBB", 1, 3, 3, shift)


def opt_sack_permitted():
    return b"\x01\x01\x04\x02"


def opt_timestamps(value, echo):
    return struct.pack("!BBBBII", 1, 1, 8, 10, value & M32, echo & M32)


def opt_sack(*blocks):
    return struct.pack("!BBBB", 1, 1, 5, 2 + 8 * len(blocks)) + b"".join(
        struct.pack("!II", left & M32, right & M32) for left, right in blocks)


def opt_fastopen(cookie=b"", *, experimental=False):
    value = (b"\xf9\x89" if experimental else b"") + cookie
    return struct.pack("!BB", 254 if experimental else 34, 2 + len(value)) + value


def opt_accecn(*counters, kind=174):
    """Accurate ECN: ECT(1), CE, ECT(0) bytes, the last ones may be left out; of kind 172 in the opposite order."""
    return struct.pack("!BB", kind, 2 + 3 * len(counters)) + b"".join(n.to_bytes(3, "big") for n in counters)


@dataclass
class Options:
    mss: int | None = None
    wscale: int | None = None
    sack_permitted: bool = False
    timestamps: tuple[int, int] | None = None
    sack: tuple[tuple[int, int], ...] = ()
    fastopen: bytes | None = None
    fastopen_experimental: bytes | None = None
    accecn: tuple[int, ...] | None = None


def parse_options(raw):
    out, at = Options(), 0
    while at < len(raw) and raw[at] != 0:
        if raw[at] == 1:
            at += 1
            continue
        kind, size = raw[at], raw[at + 1]
        assert size >= 2, "an option of ours has a bad length"
        assert at + size <= len(raw), "an option of ours is cut off"
        value = raw[at + 2:at + size]
        if kind == 2:
            (out.mss,) = struct.unpack("!H", value)
        elif kind == 3:
            (out.wscale,) = struct.unpack("!B", value)
        elif kind == 4:
            out.sack_permitted = True
        elif kind == 5:
            words = struct.unpack(f"!{len(value) // 4}I", value)
            out.sack = tuple(zip(words[::2], words[1::2], strict=True))
        elif kind == 174:
            out.accecn = tuple(int.from_bytes(value[i:i + 3], "big") for i in range(0, len(value), 3))
        elif kind == 34:
            out.fastopen = value
        elif kind == 254:
            assert value[:2] == b"\xf9\x89", "an experiment of ours is unknown"
            out.fastopen_experimental = value[2:]
        elif kind == 8:
            out.timestamps = struct.unpack("!II", value)
        else:
            raise AssertionError(f"an option of ours is unknown: {kind}")
        at += size
    return out


# -- parsing --------------------------------------------------------------------------------------------------

@dataclass
class Segment:
    """What left the engine: addresses, ports and fields of a TCP segment, checksums verified."""

    source: object
    destination: object
    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    wnd: int
    urg: int
    data: bytes
    options: Options
    ttl: int
    at: int                       # ns, when it left
    raw: bytes = field(repr=False)

    @property
    def space(self):
        """Sequence numbers that the segment takes (RFC 9293 §3.4, SEG.LEN)."""
        return len(self.data) + bool(self.flags & SYN) + bool(self.flags & FIN)

    def __str__(self):
        return (f"<{flag_names(self.flags)} {self.sport}>{self.dport} seq={self.seq} ack={self.ack} wnd={self.wnd} "
                f"len={len(self.data)} {self.options}>")


def split_ip(raw):
    """(source, destination, protocol, ttl, payload) of a packet without fragments or options of IPv4."""
    if raw[0] >> 4 == 4:
        assert checksum(raw[:20]) == 0, "IPv4 header checksum"
        assert struct.unpack_from("!H", raw, 2)[0] == len(raw), "IPv4 total length"
        assert not struct.unpack_from("!H", raw, 6)[0] & 0x3FFF, "a fragment"
        return ipaddress.ip_address(raw[12:16]), ipaddress.ip_address(raw[16:20]), raw[9], raw[8], raw[20:]
    assert struct.unpack_from("!H", raw, 4)[0] == len(raw) - 40, "IPv6 payload length"
    return ipaddress.ip_address(raw[8:24]), ipaddress.ip_address(raw[24:40]), raw[6], raw[7], raw[40:]


def parse_tcp(raw, at=0):
    source, destination, protocol, ttl, body = split_ip(raw)
    assert protocol == TCP, f"expected TCP, protocol {protocol} left"
    assert checksum(pseudo_header(source, destination, TCP, len(body)) + body) == 0, "TCP checksum"
    sport, dport, seq, ack, bits, wnd, _, urg = struct.unpack_from("!HHIIHHHH", body)
    header = (bits >> 12) * 4
    return Segment(source, destination, sport, dport, seq, ack, bits & 0x1FF, wnd, urg, body[header:],
                   parse_options(body[20:header]), ttl, at, raw)
