"""A peer that knows everything about our connections and keeps to nothing.

It reads sequence numbers out of the engine's own snapshot, so that what it sends passes the first checks."""
import struct

from tests.fuzz.packets import ACK, FIN, PSH, RST, SYN, URG, fragments, icmp, tcp, udp
from tests.fuzz.world import LISTENING, MS, PEERS4, PEERS6, US, World, settings

SYN_SENT, SYN_RCVD, ESTABLISHED = 2, 3, 4
NEAR = (0, 0, 0, 0, 1, -1, 2, 100, -100, 1460, -1460, 65535, 1 << 20, 1 << 31, (1 << 31) - 1)
SIZES = (0, 0, 1, 5, 100, 536, 1200)
STEPS = (0, 0, 1000, MS, MS, 5 * MS, 45 * MS, 250 * MS, 1100 * MS)
JUNK = bytes(range(256)) * 6


class Hostile:
    def __init__(self, rng, world):
        self.rng = rng
        self.world = world
        self.clock = rng.getrandbits(32)

    def options(self, syn, row=None):
        rng = self.rng
        out = b""
        if syn:
            if rng.random() < 0.8:
                out += struct.pack("!BBH", 2, 4, rng.choice((0, 1, 64, 536, 1460, 65535)))
            if rng.random() < 0.7:
                out += struct.pack("!BBB", 3, 3, rng.choice((0, 1, 7, 14, 15, 255)))
            if rng.random() < 0.7:
                out += b"\4\2"
        if rng.random() < 0.75:
            self.clock += rng.choice((0, 1, 1, 10, 100))
            value = self.clock - rng.choice((0, 0, 0, 0, 0, 0, 50, 1 << 30))
            out += struct.pack("!BBII", 8, 10, value & 0xFFFFFFFF, rng.getrandbits(32))
        if row is not None and rng.random() < 0.3:
            out += self.sack(row, (38 - len(out)) // 8)
        if rng.random() < 0.03:
            out = rng.randbytes(rng.randrange(1, 40))
        return out[:40]

    def sack(self, row, room):
        rng = self.rng
        una, flight = row["snd_una"], (row["snd_nxt"] - row["snd_una"]) & 0xFFFFFFFF
        blocks = b""
        n = rng.randrange(1, max(2, min(5, room)))
        for _ in range(n):
            left = una + rng.randrange(flight + 1) + rng.choice((0, 0, 0, 0, -1, 1 << 31))
            right = left + rng.choice((row["mss"], row["mss"], 3 * row["mss"], 1, 0, -5, flight))
            blocks += struct.pack("!II", left & 0xFFFFFFFF, right & 0xFFFFFFFF)
        return struct.pack("!BB", 5, 2 + 8 * n) + blocks

    def segment(self, row):
        """A segment for a connection that exists."""
        rng = self.rng
        state = row["state"]
        seq, ack, flags = row["rcv_nxt"], row["snd_nxt"], ACK
        payload = b""
        if state == SYN_SENT:
            seq, flags = rng.getrandbits(32), SYN | ACK if rng.random() < 0.8 else SYN
        elif state == SYN_RCVD and rng.random() < 0.7:
            pass
        else:
            kind = rng.randrange(24)
            if kind < 10:
                payload = JUNK[:rng.choice(SIZES)]
                flags |= PSH
            elif kind < 12:
                seq += rng.choice((500, 1000, 1460, 3000, 10000, -500))
                payload = JUNK[:rng.choice(SIZES)]
            elif kind < 16:
                flight = (row["snd_nxt"] - row["snd_una"]) & 0xFFFFFFFF
                ack = row["snd_una"] + rng.choice((0, 0, 1, flight // 2, min(flight, row["mss"])))
            elif kind == 16:
                flags |= FIN
                payload = JUNK[:rng.choice(SIZES)]
            elif kind == 17 and rng.random() < 0.5:
                flags = rng.choice((RST, RST | ACK))
                seq += rng.choice((0, 1, 100))
            elif kind == 18:
                flags = rng.choice((SYN, SYN | ACK, 0, URG | ACK, FIN, 255, FIN | SYN | ACK))
            else:
                seq += rng.choice(NEAR)
                ack += rng.choice(NEAR)
                flags = rng.choice((ACK, ACK, ACK, PSH | ACK, FIN | ACK))
                payload = JUNK[:rng.choice(SIZES)]
        window = rng.choice((65535, 65535, 8192, 1000, 100, 1, 0))
        options = self.options(flags & SYN, row)
        return tcp(row["remote"], row["local"], row["remote_port"], row["local_port"], seq, ack, flags, window, options,
                   payload)

    def opening(self, version):
        rng = self.rng
        peer = rng.choice(PEERS4 if version == 4 else PEERS6)
        port = rng.choice((*LISTENING, rng.randrange(65536)))
        return tcp(peer, US[version], rng.choice((1000, 1001, 1002, rng.randrange(65536))), port, rng.getrandbits(32),
                   rng.getrandbits(32), rng.choice((SYN, SYN, SYN, SYN, SYN | ACK, ACK, SYN | FIN, RST, 0)),
                   rng.choice((65535, 0, 1000)), self.options(True), JUNK[:rng.choice((0, 0, 0, 100))])

    def message(self, version):
        """ICMP errors about what we were sent, and echo requests."""
        rng = self.rng
        peer = rng.choice(PEERS4 if version == 4 else PEERS6)
        quotes = [p[self.world.offset:] for p in self.world.sent if p[self.world.offset] >> 4 == version]
        if not quotes or rng.random() < 0.3:
            return icmp(peer, US[version], 8 if version == 4 else 128, 0, 1, JUNK[:rng.choice((0, 1, 56, 1000))])
        quote = rng.choice(quotes)[:rng.choice((8, 28, 48, 68, 1232))]
        mtu = rng.choice((0, 1, 68, 576, 1000, 1280, 1400, 65535, 1 << 31))
        if version == 4:
            kind, code = rng.choice(((3, 4), (3, 4), (3, 1), (3, 3), (11, 0), (12, 0), (5, 0)))
        else:
            kind, code = rng.choice(((2, 0), (2, 0), (1, 0), (1, 4), (3, 0), (4, 1), (137, 0)))
        return icmp(peer, US[version], kind, code, mtu, quote)

    def datagram(self, version):
        rng = self.rng
        peer = rng.choice(PEERS4 if version == 4 else PEERS6)
        return udp(peer, US[version], 7, rng.choice((7, 7, 8)), JUNK[:rng.choice((0, 1, 100, 1200))])

    def packets(self, n):
        """The next packets, from one look at the connections."""
        rng = self.rng
        rows = self.world.engine.connections()
        rows = [dict(zip(rows.dtype.names, row, strict=True)) for row in rows.tolist()]
        for row in rows:
            row["local"], row["remote"] = _address(row["local"]), _address(row["remote"])
        out = []
        for _ in range(n):
            r = rng.random()
            version = rng.choice((4, 6))
            if rows and r < 0.8:
                packet = self.segment(rng.choice(rows))
            elif r < 0.93:
                packet = self.opening(version)
            elif r < 0.97:
                packet = self.message(version)
            else:
                packet = self.datagram(version)
            if rng.random() < 0.03:
                pieces = fragments(packet, rng.choice((8, 24, 64, 512)), rng.getrandbits(16))
                rng.random() < 0.3 and rng.shuffle(pieces)
                out += pieces[:40]
            else:
                out.append(packet)
        return out


def _address(raw):
    raw = bytes(raw)
    return raw[12:] if raw[:12] == b"\0" * 10 + b"\xff\xff" else raw


def hostile(rng, seed, n):
    """One engine against the hostile peer for `n` packets."""
    config = settings(rng, medium=rng.choice(("ip", "ip", "ethernet")))
    world = World(rng, config, seed=seed, wild=rng.choice((0.0, 0.05, 0.2)))
    peer = Hostile(rng, world)
    batches = 0
    while world.packets < n:
        packets = peer.packets(rng.choice((1, 4, 16, 48)))
        if world.offset:
            packets = [world.frame(p) for p in packets]
        world.step(packets, rng.choice(STEPS))
        batches += 1
        if batches % 8 == 0:
            world.check()
        if rng.random() < 0.002:
            world.now += 70_000 * MS
    world.end()
    return world
