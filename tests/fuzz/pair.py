"""Two engines over a bad wire: whatever the settings, what arrives is what was sent."""
import hashlib

import iip
from iip.drivers import Impair, Impairments, MemoryLink
from iip.memory.pool import PacketPool

S = 10**9
NEVER = 1 << 62
LIMIT = 4000 * S                  # of virtual time; a fifth lost and a window of one segment take long


class Side(iip.Handler):
    """Sends `size` bytes on every connection, hashes what it receives, and checks both at the end."""

    def __init__(self, rng, size):
        self.rng = rng
        self.data = rng.randbytes(size)
        self.digest = hashlib.sha256(self.data).hexdigest()
        self.sent = {}
        self.got = {}
        self.held = {}
        self.finished = []

    def tcp_accepted(self, conn):
        self.sent[conn] = 0
        self.got[conn] = hashlib.sha256()
        self.held[conn] = 0
        self.push(conn)

    tcp_connected = tcp_accepted

    def push(self, conn, n=0):
        at = self.sent.get(conn)
        while at is not None:
            piece = self.data[at:at + self.rng.choice((1, 100, 1460, 6000, 100000))]
            if not piece:
                del self.sent[conn]
                conn.shutdown()
                return
            taken = conn.send(piece)
            at = self.sent[conn] = at + taken
            if taken < len(piece):
                return

    tcp_acked = push

    def tcp_payload(self, conn, data):
        self.got[conn].update(data)
        self.held[conn] += len(data)
        if self.rng.random() < 0.9:
            self.consume(conn)

    def consume(self, conn):
        conn.consume(self.held[conn])
        self.held[conn] = 0

    def tcp_shutdown(self, conn):
        self.push(conn)

    def tcp_closed(self, conn, reason):
        self.sent.pop(conn, None)
        self.held.pop(conn, None)
        self.finished.append((self.got.pop(conn).hexdigest() if conn in self.got else None, reason))


def _config(rng, number, peer, version):
    pick = rng.choice
    address = f"10.0.0.{number}/24" if version == 4 else f"fd00::{number}/64"
    return iip.Config(
        addresses=(address,), medium=pick(("ip", "ethernet")), mtu=pick((1280, 1500, 1500, 9000)),
        sack=pick((True, False)), timestamps=pick((True, False)), window_scale=pick((True, False)),
        send_buffer=pick((2048, 20000, 1 << 20)), receive_buffer=pick((2048, 10000, 65536, 1 << 20)),
        out_of_order=pick((2, 64, 1024)), nagle=pick((True, False)), delayed_ack=pick((0.0, 0.04)),
        copy_threshold=pick((0, 1000, 4096)), pool_packets=pick((48, 256, 2048)), packet_size=pick((2048, 512)),
        max_connections=16, tx_queue=pick((16, 1024)), burst=pick((1, 16, 64)), time_wait=240.0, rto_max=4.0, retries=64,
        syn_retries=64, synack_retries=64, address_check=False, reassembly_packets=8, mss=pick((0, 0, 536)),
        tso=pick((0, 5000, 65535, 65535)), gso=pick((True, False)), gro=pick((True, False)), max_pinned=pick((0, 10000, 1 << 28)))


def _engines(rng, seed, sides, version):
    configs = [_config(rng, n, 3 - n, version) for n in (1, 2)]
    mtu = min(c.mtu for c in configs)
    configs = [c.replace(mtu=mtu, medium=configs[0].medium, mss=min(c.mss, mtu - 40)) for c in configs]
    link = MemoryLink(configs[0].medium, mtu, tx_checksum=rng.random() < 0.6, rx_checksum=rng.random() < 0.5,
                      scatter_gather=rng.random() < 0.7, tso=rng.random() < 0.6, lro=rng.random() < 0.5)
    bad = Impairments(loss=rng.choice((0, 0.01, 0.05, 0.2)), duplicate=rng.choice((0, 0.05)), reorder=rng.choice((0, 0.1)),
                      corrupt=rng.choice((0, 0.03)), delay=rng.choice((0, 0.001, 0.05)), reorder_delay=0.003,
                      limit=min(c.pool_packets for c in configs) // 8)    # the wire holds packets of the pool
    pools = [PacketPool(c.pool_packets, c.packet_size, c.headroom) for c in configs]
    if rng.random() < 0.3:
        pools[1] = pools[0]
    drivers = [Impair(end, seed=seed + n, tx=bad) for n, end in enumerate((link.a, link.b))]
    return link, [iip.Engine(*each, seed=seed + n)
                  for n, each in enumerate(zip(configs, sides, drivers, pools, strict=True))]


def pair(rng, seed, limit=None):
    """One transfer of several connections, both ways at once; returns the packets that went over the wire."""
    version = rng.choice((4, 6))
    n = rng.choice((1, 2, 5))
    sides = [Side(rng, rng.choice((0, 1, 5000, 60000, 200000)) // n) for _ in range(2)]
    link, engines = _engines(rng, seed, sides, version)
    engines[1].tcp_listen(80)
    now = S
    for engine in engines:
        engine.run(now)
    for _ in range(n):
        engines[0].tcp_connect("10.0.0.2" if version == 4 else "fd00::2", 80)
    due = [now, now]
    while len(sides[0].finished) < n or len(sides[1].finished) < n:
        assert now < LIMIT, f"no progress: {[(s.finished, e.stats().nonzero()) for s, e in zip(sides, engines, strict=True)]}"
        for k in (0, 1):
            at = engines[k].run(now)
            due[k] = now + 60 * S if at is None else at
        waits = False
        for side in sides:
            for conn in [c for c, held in side.held.items() if held]:
                if rng.random() < 0.2:
                    side.consume(conn)
                    due[0] = due[1] = now     # a call wants a run
                else:
                    waits = True
        if link.a.pending or link.b.pending:
            continue
        now = max(now, min(*due, now + S // 100 if waits else NEVER))
    for side, other in ((sides[0], sides[1]), (sides[1], sides[0])):
        for digest, reason in side.finished:
            assert reason == iip.Reason.NORMAL, f"{reason!r}"
            assert digest == other.digest
    packets = sum(e.stats()["rx_packets"] for e in engines)
    for engine in engines:
        engine.close()
        engine.driver.close()
    for engine in engines:
        assert engine.pool.full
    return packets
