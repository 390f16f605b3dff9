"""Packets of bytes, written from the RFCs and independently of iip.wire: what the fuzzers build and repair."""
import ipaddress
import struct

TCP, UDP, ICMP, ICMP6, FRAGMENT = 6, 17, 1, 58, 44
EXTENSIONS = (0, 43, 60)
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


def checksum(data):
    """RFC 1071: words modulo 65535 are their one's complement sum."""
    if len(data) & 1:
        data = bytes(data) + b"\0"
    return 65535 - int.from_bytes(data, "big") % 65535


def _transport(packet, at, proto, source_destination):
    """Put the right checksum into the transport header at `at`, if there is room for one."""
    n = len(packet) - at
    where = {TCP: 16, UDP: 6, ICMP: 2, ICMP6: 2}.get(proto)
    if where is None or n < where + 2:
        return
    packet[at + where:at + where + 2] = b"\0\0"
    pseudo = b"" if proto == ICMP else source_destination + struct.pack("!II", n, proto)
    struct.pack_into("!H", packet, at + where, checksum(pseudo + packet[at:]))


def repair(packet, at=0):
    """Recompute all checksums of the IP packet at `at` of a bytearray, as far as its lengths make sense; so that
    what was changed reaches the code behind the checks."""
    end = len(packet)
    if end - at < 20:
        return packet
    version = packet[at] >> 4
    if version == 4:
        hlen = (packet[at] & 15) * 4
        if hlen < 20 or at + hlen > end:
            return packet
        packet[at + 10:at + 12] = b"\0\0"
        struct.pack_into("!H", packet, at + 10, checksum(packet[at:at + hlen]))
        if not (packet[at + 6] & 0x3F or packet[at + 7]):
            total = int.from_bytes(packet[at + 2:at + 4], "big")
            tail = packet[at + total:] if total >= hlen else b""
            body = packet[:at + total] if total >= hlen else packet
            _transport(body, at + hlen, packet[at + 9], bytes(packet[at + 12:at + 20]))
            packet[:] = body + tail
    elif version == 6 and end - at >= 40:
        proto, l4 = packet[at + 6], at + 40
        while proto in EXTENSIONS and l4 + 8 <= end:
            proto, l4 = packet[l4], l4 + (packet[l4 + 1] + 1) * 8
        if l4 < end:
            _transport(packet, l4, proto, bytes(packet[at + 8:at + 40]))
    return packet


def ip(source, destination, proto, payload, *, ttl=64, tos=0, ident=0, fragment=0, options=b""):
    """An IP packet between two packed addresses, its transport checksum included."""
    if len(source) == 4:
        hlen = 20 + len(options)
        head = struct.pack("!BBHHHBBH4s4s", 0x40 | hlen // 4, tos, hlen + len(payload), ident, fragment, ttl, proto, 0,
                           source, destination) + options
    else:
        head = struct.pack("!IHBB16s16s", 0x60000000 | tos << 20, len(options) + len(payload), proto, ttl, source,
                           destination) + options
    return repair(bytearray(head) + payload)


def tcp(source, destination, sport, dport, seq, ack, flags, window=65535, options=b"", payload=b"", **fields):
    options += b"\1" * (-len(options) % 4)
    segment = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, (5 + len(options) // 4) << 4 & 255,
                          flags, window & 0xFFFF, 0, 0) + options + payload
    return ip(source, destination, TCP, segment, **fields)


def udp(source, destination, sport, dport, payload=b"", **fields):
    return ip(source, destination, UDP, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload, **fields)


def icmp(source, destination, kind, code, rest=0, payload=b"", **fields):
    proto = ICMP if len(source) == 4 else ICMP6
    return ip(source, destination, proto, struct.pack("!BBHI", kind, code, 0, rest & 0xFFFFFFFF) + payload, **fields)


def fragments(packet, size, ident):
    """An IP packet without extension headers in fragments of `size` payload bytes (a multiple of 8)."""
    four = packet[0] >> 4 == 4
    head, body = (packet[:20], packet[20:]) if four else (packet[:40], packet[40:])
    pieces = []
    for at in range(0, len(body), size):
        part, more = body[at:at + size], at + size < len(body)
        if four:
            piece = bytearray(head)
            struct.pack_into("!HHH", piece, 2, 20 + len(part), ident & 0xFFFF, at >> 3 | (0x2000 if more else 0))
            pieces.append(repair(piece + part))
        else:
            piece = bytearray(head)
            struct.pack_into("!HB", piece, 4, 8 + len(part), FRAGMENT)
            pieces.append(piece + struct.pack("!BBHI", head[6], 0, at | more, ident) + part)
    return pieces


def packed(address):
    return ipaddress.ip_address(address).packed


def ethernet(packet, to, station):
    """The frame around an IP packet."""
    return to + station + (b"\x08\0" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def arp(operation, station, sender, target_station, target, to):
    return to + station + b"\x08\x06" + struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, operation, station, sender,
                                                    target_station, target)


def advertise(station, address, target, to):
    """A solicited neighbour advertisement (RFC 4861 §4.4)."""
    body = icmp(address, target, 136, 0, 0x60000000, address + b"\2\1" + station, ttl=255)
    return ethernet(body, to, station)
