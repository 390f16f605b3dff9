"""Damage to packets: blind, and aware of fields with the checksums repaired, so that deep code sees it."""
import struct

from tests.fuzz.corpus import KINDS, OUT, SEED, Peer, calls_of, config_of, conversation
from tests.fuzz.packets import EXTENSIONS, FRAGMENT, TCP, fragments, icmp, repair
from tests.fuzz.world import EXPECTED, MS, PEERS4, PEERS6, US, Chaos, World

EDGES16 = (0, 1, 7, 8, 19, 20, 21, 39, 40, 63, 64, 255, 256, 1280, 1500, 0x2000, 0x3FFF, 0x7FFF, 0x8000, 0xFFFF)
EDGES32 = (0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000)
OPTIONS = (b"\1", b"\0", b"\2\4\5\xb4", b"\2\4\0\0", b"\2\3\5", b"\3\3\x0e", b"\3\3\xff", b"\4\2", b"\5\2", b"\5\x0a" + bytes(8),
           b"\5\x22" + bytes(range(32)), b"\5\x2a", b"\x08\x0a" + bytes(8), b"\x08\x0a\xff\xff\xff\xff\0\0\0\0", b"\x08\2",
           b"\xfe\4\0\0", b"\xfe\0", b"\xfe\1", b"\xfe\xff", b"\x13\x12" + bytes(16))


def l4_of(p, at):
    """(offset, protocol) of the transport header of a frame whose IP header is at `at`, or None."""
    if len(p) < at + 20:
        return None
    if p[at] >> 4 == 4:
        return at + (p[at] & 15) * 4, p[at + 9]
    if p[at] >> 4 == 6 and len(p) >= at + 40:
        proto, l4 = p[at + 6], at + 40
        while proto in (*EXTENSIONS, FRAGMENT) and l4 + 8 <= len(p):
            proto, l4 = p[l4], l4 + (8 if proto == FRAGMENT else (p[l4 + 1] + 1) * 8)
        return l4, proto
    return None


def flip(rng, p, at):
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        p[rng.randrange(len(p))] ^= 1 << rng.randrange(8)
    return p


def flip_headers(rng, p, at):
    end = min(len(p), at + 80)
    for _ in range(rng.choice((1, 1, 2, 4))):
        p[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return repair(p, at)


def tcp_field(rng, p, at):
    """Sequence numbers, flags, window, data offset, urgent pointer: near the truth or at the edges."""
    where = l4_of(p, at)
    if where is None or where[1] != TCP or len(p) < where[0] + 20:
        return flip_headers(rng, p, at)
    l4 = where[0]
    kind = rng.randrange(7)
    if kind < 2:
        o = l4 + (4, 8)[kind]
        value = struct.unpack_from("!I", p, o)[0] + rng.choice((1, -1, 1460, -1460, 65535, 1 << 20, 1 << 30, 1 << 31, -65536))
        struct.pack_into("!I", p, o, (rng.choice(EDGES32) if rng.random() < 0.1 else value) & 0xFFFFFFFF)
    elif kind == 2:
        p[l4 + 13] = rng.choice((1 << rng.randrange(8) ^ p[l4 + 13], rng.randrange(256)))
    elif kind == 3:
        struct.pack_into("!H", p, l4 + 14, rng.choice(EDGES16))
    elif kind == 4:
        p[l4 + 12] = rng.randrange(16) << 4 | p[l4 + 12] & 15
    elif kind == 5:
        struct.pack_into("!H", p, l4 + 18, rng.choice(EDGES16))
    else:
        struct.pack_into("!H", p, l4 + 2 * rng.randrange(2), rng.choice((0, 7, 80, 9, 81, 65535)))
    return repair(p, at)


def tcp_options(rng, p, at):
    """Other options: a random choice of good and bad ones."""
    where = l4_of(p, at)
    if where is None or where[1] != TCP or len(p) < where[0] + 20:
        return ip_field(rng, p, at)
    l4 = where[0]
    new = b"".join(rng.choices(OPTIONS, k=rng.randrange(6)))[:40]
    new += bytes(-len(new) % 4)
    data = p[l4 + (p[l4 + 12] >> 4) * 4:]
    q = p[:l4 + 20] + new + data
    q[l4 + 12] = (5 + len(new) // 4) << 4
    return repair(lengths(q, at), at)


def lengths(p, at):
    """Make the length in the IP header that of the packet."""
    if len(p) >= at + 20 and p[at] >> 4 == 4:
        struct.pack_into("!H", p, at + 2, len(p) - at & 0xFFFF)
    elif len(p) >= at + 40 and p[at] >> 4 == 6:
        struct.pack_into("!H", p, at + 4, len(p) - at - 40 & 0xFFFF)
    return p


def ip_field(rng, p, at):
    if len(p) < at + 20:
        return flip(rng, p, at)
    if p[at] >> 4 == 4:
        kind = rng.randrange(7)
        if kind == 0:
            struct.pack_into("!H", p, at + 2, rng.choice((*EDGES16, len(p) - at - 1, len(p) - at + 1)))
        elif kind == 1:
            struct.pack_into("!H", p, at + 6, rng.choice((0x2000, 0x4000, 0x8000, 0x1FFF, 0x3FFF, 1, 2, 185, rng.getrandbits(16))))
        elif kind == 2:
            p[at + 8] = rng.choice((0, 1, 255))
        elif kind == 3:
            p[at + 9] = rng.choice((0, 1, 2, 6, 17, 58, 255))
        elif kind == 4:
            p[at] = 0x40 | rng.randrange(16)
        elif kind == 5:
            o = at + rng.choice((12, 16))
            p[o:o + 4] = rng.choice((b"\xff" * 4, b"\x7f\0\0\1", b"\xe0\0\0\1", bytes(4), US[4], b"\x0a\0\0\xff"))
        else:
            options = rng.choice((b"\1\1\1\0", b"\x83\7\4\x0a\0\0\1\0", b"\x07\x27\4" + bytes(37), b"\x94\4\0\0", b"\x44\0\0\0",
                                  b"\x44\xff\5\0", rng.randbytes(4 * rng.randrange(1, 11))))
            q = p[:at + 20] + options + p[at + (p[at] & 15) * 4:]
            q[at] = 0x40 | min(15, 5 + len(options) // 4)
            p = lengths(q, at)
    elif p[at] >> 4 == 6 and len(p) >= at + 40:
        kind = rng.randrange(5)
        if kind == 0:
            struct.pack_into("!H", p, at + 4, rng.choice((*EDGES16, len(p) - at - 41, len(p) - at - 39)))
        elif kind == 1:
            p[at + 6] = rng.choice((0, 43, 44, 60, 59, 58, 6, 17, 51, 255))
        elif kind == 2:
            o = at + rng.choice((8, 24))
            p[o:o + 16] = rng.choice((bytes(16), bytes(15) + b"\1", b"\xff\2" + bytes(13) + b"\1", US[6],
                                      bytes(10) + b"\xff\xff\x0a\0\0\1"))
        elif kind == 3:
            p[at + 7] = rng.choice((0, 1, 255))
        else:
            p = extension_headers(rng, p, at)
    return repair(p, at)


def extension_headers(rng, p, at):
    """A chain of extension headers in front of what follows the IPv6 header."""
    following, chain = p[at + 6], b""
    for _ in range(rng.choice((1, 1, 2, 3, 9, 12))):
        kind = rng.choice((0, 43, 60, 60, FRAGMENT))
        if kind == FRAGMENT:
            field = rng.choice((0, 1, 0, 8, 9, 0xFFF8, 0xFFF9))
            header = struct.pack("!BBHI", following, 0, field, rng.choice((1, 1, rng.getrandbits(32))))
        elif kind == 43:
            header = struct.pack("!BBBBI", following, 0, rng.choice((0, 2, 4)), rng.choice((0, 0, 1, 255)), 0)
        else:
            n = rng.choice((0, 0, 1, 4, 255))
            body = rng.choice((b"\1\4\0\0\0\0", b"\0" * 6, b"\5\2\0\0\1\0", b"\x3e\4\0\0\0\0", b"\x7e\4\0\0\0\0", b"\xbe\4\0\0\0\0",
                               b"\xfe\4\0\0\0\0", b"\1\xff\0\0\0\0", rng.randbytes(6)))
            header = bytes((following, n)) + body + bytes(8 * n if n < 9 else 0)
        chain, following = header + chain, kind
    q = p[:at + 40] + chain + p[at + 40:]
    q[at + 6] = following
    return lengths(q, at)


def cut(rng, p, at):
    q = p[:rng.randrange(1, len(p) + 1)]
    return repair(lengths(q, at), at) if rng.random() < 0.6 else q


def grow(rng, p, at):
    q = p + rng.randbytes(rng.choice((1, 2, 3, 46, 600)))
    return repair(lengths(q, at), at) if rng.random() < 0.6 else q


def payload(rng, p, at):
    """Other bytes behind the headers; in ICMP, ARP and neighbour discovery that is where the fields are."""
    end = len(p)
    for _ in range(rng.choice((1, 2, 4))):
        p[min(end - 1, at + rng.randrange(20, 120))] = rng.choice((0, 1, 255, rng.randrange(256)))
    return repair(p, at)


MUTATIONS = (flip, flip_headers, flip_headers, tcp_field, tcp_field, tcp_field, tcp_field, tcp_options, tcp_options, ip_field,
             ip_field, cut, grow, payload)


def quote(rng, world):
    """An ICMP error about something that was sent."""
    if not world.sent:
        return bytearray(b"\x45")
    sent = rng.choice(world.sent)[world.offset:]
    if sent[:1] and sent[0] >> 4 == 4:
        kind, code = rng.choice(((3, 4), (3, 4), (3, 3), (11, 1), (12, 0), (5, 1)))
        p = icmp(PEERS4[0], US[4], kind, code, rng.choice((0, 576, 1000, 1400, 65535)), sent[:rng.choice((20, 28, 60, 576))])
    else:
        kind, code = rng.choice(((2, 0), (2, 0), (1, 4), (3, 1), (4, 2)))
        p = icmp(PEERS6[0], US[6], kind, code, rng.choice((0, 1280, 1400, 1 << 31)), sent[:rng.choice((40, 60, 1232))])
    return bytearray(world.frame(p))


class Replayed(Chaos):
    """The application of the recording, which now and then does something else as well."""

    def __init__(self, rng, wild):
        super().__init__(rng, wild)
        self.peer = Peer(OUT)

    def tcp_accept(self, syn):
        return True

    def tcp_accepted(self, conn):
        self.also("begin", conn)
        super().tcp_accepted(conn)

    tcp_connected = tcp_accepted

    def tcp_acked(self, conn, n):
        self.also("push", conn)
        super().tcp_acked(conn, n)

    def tcp_shutdown(self, conn):
        self.maybe(conn)

    def tcp_closed(self, conn, reason):
        self.peer.tcp_closed(conn, reason)
        super().tcp_closed(conn, reason)

    def also(self, what, conn):
        try:
            getattr(self.peer, what)(conn)
        except EXPECTED:
            self.peer.queue.pop(conn, None)


def mutants(rng, world, frames, n):
    """`n` damaged packets made of `frames`."""
    at = world.offset
    out = []
    while len(out) < n:
        r = rng.random()
        p = bytearray(rng.choice(frames))
        if r < 0.04:
            p = quote(rng, world)
        elif r < 0.08:            # splice
            other = rng.choice(frames)
            x = rng.randrange(min(len(p), len(other)))
            p = repair(lengths(p[:x] + other[x:], at), at)
        elif r < 0.11 and len(p) > at + 40:
            ident = rng.choice((1, 2, rng.getrandbits(16)))
            pieces = [bytearray(p[:at]) + q for q in fragments(p[at:], rng.choice((8, 16, 24, 200, 1000)), ident)]
            pieces = [rng.choice(MUTATIONS)(rng, q, at) if rng.random() < 0.1 else q for q in pieces[:30]]
            rng.random() < 0.5 and rng.shuffle(pieces)
            out += pieces
            continue
        for _ in range(rng.choice((1, 1, 1, 2))):
            p = rng.choice(MUTATIONS)(rng, p, at)
            if not p:
                break
        out.append(p)
    return out


def mutated(rng, seed, n):
    """Replays of recorded conversations among their own mutants, until `n` packets were fed."""
    total = 0
    while total < n:
        kind = rng.choice(KINDS)
        record = conversation(kind)
        frames = [f for _, _, fs in record for f in fs]
        handler = Replayed(rng, rng.choice((0.0, 0.02, 0.2)))
        world = World(rng, config_of(kind, True), seed=SEED, handler=handler, calls=rng.choice((0.0, 0.0, 0.1)))
        share, loss = rng.choice((1, 2, 8, 30)), rng.choice((0.0, 0.0, 0.1))
        late = 0
        for step, time, genuine in record:
            calls_of(world.engine, step)
            packets = [f for f in genuine if rng.random() >= loss]
            new = mutants(rng, world, genuine if genuine and rng.random() < 0.7 else frames, share)
            for p in new:
                packets.insert(rng.randrange(len(packets) + 1), p)
            if rng.random() < 0.1:
                rng.shuffle(packets)
            if rng.random() < 0.02:
                late += rng.choice((MS, 50 * MS, 1000 * MS, 70_000 * MS))
            world.step(packets, max(0, time + late - world.now))
            if step and step % 16 == 0:
                world.check()
            if total + world.packets >= n:
                break
        total += world.packets
        world.end()
    return world


def noise(rng, seed, n):
    """Random bytes, and random bytes behind plausible beginnings."""
    kind = rng.choice(KINDS)
    world = World(rng, config_of(kind, True), seed=seed, wild=0.1)
    four = b"\x45\0\0\x3c\0\1\0\0\x40%c\0\0" + PEERS4[0] + US[4]
    six = b"\x60\0\0\0\0\x14%c\x40" + PEERS6[0] + US[6]
    while world.packets < n:
        packets = []
        for _ in range(32):
            size = rng.choice((1, 13, 14, 20, 21, 40, 60, 61, 100, 1500, 3000))
            p = rng.randbytes(size)
            r = rng.random()
            if r < 0.4:
                p = bytearray((four if r < 0.2 else six) % rng.choice((0, 1, 2, 6, 17, 43, 44, 58, 60)) + p)
                p = bytes(repair(lengths(p, 0), 0))
            if world.offset and r < 0.8:
                p = world.frame(p) if r < 0.6 else p[:6] + p[6:12] + b"\x08\x06\0\1\x08\0\6\4" + p[12:]
            packets.append(p or b"\0")
        world.step(packets, rng.choice((0, MS, 100 * MS)))
    world.end()
    return world
