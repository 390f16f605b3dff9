"""An engine under fire: settings from a seed, a handler that does anything, and a look at its invariants."""

import numpy as np

import iip
from iip.drivers import Tunnel
from iip.errors import IipError
from tests.fuzz.packets import advertise, arp, packed

MS = 1_000_000
OUR4, OUR6 = "10.0.0.2", "fd00::2"
PEERS4 = [packed(f"10.0.0.{i}") for i in (1, 3, 4)]
PEERS6 = [packed(f"fd00::{i}") for i in (1, 3, 4)]
US = {4: packed(OUR4), 6: packed(OUR6)}
STATION = bytes.fromhex("020000000001")
OUR_STATION = bytes.fromhex("020000000002")
LISTENING = (7, 9, 80)
EXPECTED = (iip.ConnectionGone, BrokenPipeError, IipError)


class Boom(Exception):
    """What our callbacks raise; it must come out of `run`, and do no harm."""


class Chaos(iip.Handler):
    """Does anything from within callbacks. `wild` is the share of calls that do something unusual."""

    def __init__(self, rng, wild=0.15):
        self.rng = rng
        self.wild = wild
        self.engine = None
        self.live = []
        self.kept = []
        self.raised = 0

    def maybe(self, conn):
        r = self.rng.random()
        if r >= self.wild:
            return
        if r < self.wild / 20:
            self.raised += 1
            raise Boom
        self.act(conn)

    def act(self, conn):
        """Any call of the application."""
        rng = self.rng
        choice = rng.randrange(18)
        try:
            if choice < 5:
                self.send(conn)
            elif choice < 7:
                conn.consume(rng.choice((0, 1, 100, 5000, 1 << 30)))
            elif choice == 7:
                conn.shutdown()
            elif choice == 8:
                conn.close()
            elif choice == 9:
                conn.abort()
            elif choice == 10:
                conn.nodelay = not conn.nodelay
            elif choice == 11:
                conn.cork = not conn.cork
            elif choice == 16:
                self.option(conn)
            elif choice == 17:
                (conn.pause if rng.random() < 0.3 else conn.resume)()
            elif choice == 12:
                repr(conn), conn.unacknowledged, conn.mss, conn.send_room, conn.state, conn.closed
            elif choice == 13:
                self.kept[rng.randrange(len(self.kept) + 1):] = []
            else:
                self.anything()
        except EXPECTED:
            pass

    def option(self, conn):
        rng = self.rng
        name, values = rng.choice((
            ("quickack", (True, False)), ("keepalive", (True, False)), ("keepalive_idle", (0.5, 10.0)),
            ("user_timeout", (0.0, 1.0)), ("linger", (None, 0.0, 1.0)), ("unsent_low", (0, 1, 5000)),
            ("max_seg", (0, 1, 300, 65000)), ("traffic_class", (0, 255)), ("ttl", (1, 255))))
        setattr(conn, name, rng.choice(values))
        conn.unsent, conn.info(), getattr(conn, name)

    def send(self, conn):
        rng = self.rng
        n = rng.choice((0, 1, 10, 300, 1400, 5000, 40000))
        data = rng.choice((bytes, bytearray))(n)
        conn.send(data, reference=rng.choice((None, None, True, False)))

    def anything(self):
        """A call that is about no connection in particular."""
        rng, engine = self.rng, self.engine
        peer = rng.choice(("10.0.0.1", "10.0.0.3", "fd00::1", "fd00::4", "10.0.0.77", OUR4, OUR6, "203.0.113.9", "ff02::1"))
        choice = rng.randrange(9)
        if choice < 3:
            self.live.append(engine.tcp_connect(peer, rng.choice((7, 9, 80, 5000)), source_port=rng.choice((0, 0, 4000))))
        elif choice == 3:
            engine.tcp_listen(rng.choice((*LISTENING, 0)), on=rng.random() < 0.8)
        elif choice == 4:
            engine.udp_send(bytes(rng.choice((0, 1, 100, 1472, 1473, 4000, 65507))), peer, 7, 7,
                            dont_fragment=rng.random() < 0.2)
        elif choice == 5:
            engine.ping(peer, 1, 2, bytes(rng.choice((0, 56, 3000, 65507))))
        elif choice == 6:
            engine.udp_unbind(rng.choice((0, 7))) if rng.random() < 0.3 else engine.udp_bind(rng.choice((0, 7)))
        elif choice == 7:
            group = rng.choice(("224.0.0.251", "ff02::fb", "ff05::1234"))
            engine.leave(group) if rng.random() < 0.5 else engine.join(group)
        elif engine.config.medium == "ethernet":
            engine.arp_request(rng.choice(("10.0.0.1", "10.0.0.99")))

    # -- callbacks ------------------------------------------------------------------------------------------
    def tcp_accept(self, syn):
        r = self.rng.random()
        if r < self.wild / 20:
            self.raised += 1
            raise Boom
        return r > self.wild / 3

    def tcp_accepted(self, conn):
        self.live.append(conn)
        self.maybe(conn)

    tcp_connected = tcp_accepted

    def tcp_payload(self, conn, data):
        if self.rng.random() < self.wild:
            self.kept.append(self.rng.choice((data, memoryview(data))))
            if len(self.kept) > 20:
                del self.kept[:10]
        if self.rng.random() >= self.wild:
            conn.consume(len(data))
        self.maybe(conn)

    def tcp_acked(self, conn, n):
        self.maybe(conn)

    def tcp_shutdown(self, conn):
        if self.rng.random() >= self.wild:
            conn.close()
        else:
            self.maybe(conn)

    def tcp_closed(self, conn, reason):
        if conn in self.live:
            self.live.remove(conn)
        self.maybe(conn)

    def udp_payload(self, datagram):
        if self.rng.random() < self.wild:
            self.kept.append(datagram)
        elif self.rng.random() < 0.05:
            self.raised += 1
            raise Boom

    def icmp_reply(self, reply):
        assert isinstance(reply.data, bytes)

    def icmp_error(self, error):
        assert error.code >= 0

    def arp_reply(self, reply):
        assert len(reply.mac) == 6

    def address_conflict(self, conflict):
        assert len(conflict.mac) == 6


def settings(rng, **fixed):
    """A configuration: usual or tight, with and without each option."""
    pick = rng.choice
    values = {
        "addresses": (OUR4 + "/24", OUR6 + "/64"), "medium": "ip", "mac": OUR_STATION.hex(":"),
        "gateway": pick((None, "10.0.0.1")), "gateway6": pick((None, "fd00::1")),
        "mtu": pick((1280, 1500, 1500, 9000)), "pool_packets": pick((16, 64, 256, 1024, 1024)),
        "packet_size": pick((2048, 2048, 512)), "max_connections": pick((1, 4, 16, 64, 256)), "max_half_open": pick((2, 64)),
        "tx_queue": pick((16, 256)), "burst": pick((1, 16, 64)), "send_buffer": pick((2048, 65536, 1 << 20)),
        "receive_buffer": pick((2048, 10000, 65536, 1 << 20)), "out_of_order": pick((0, 2, 64)),
        "sack": pick((True, True, False)), "timestamps": pick((True, True, False)),
        "window_scale": pick((True, True, False)), "nagle": pick((True, False)),
        "delayed_ack": pick((0.0, 0.04)), "quick_acks": pick((0, 16)), "autotune": pick((True, False)),
        "unsent_low": pick((0, 0, 3000)), "mtu_probing": pick(("off", "blackhole", "always")),
        "strict_timestamps": pick((False, False, True)), "time_wait": pick((0.0, 0.5, 60.0)), "fin_wait2": pick((0.0, 1.0, 60.0)),
        "keepalive": pick((0.0, 0.0, 2.0)), "keepalive_interval": 0.5, "keepalive_probes": 3,
        "user_timeout": pick((0.0, 0.0, 3.0)), "retries": pick((0, 3, 15)), "syn_retries": pick((0, 2)),
        "synack_retries": pick((0, 2)), "neighbours": pick((4, 64)), "neighbour_queue": pick((1, 16)),
        "reassembly_packets": pick((0, 2, 64)), "reassembly_bytes": pick((0, 8192, 1 << 20)),
        "icmp_rate": pick((0, 10, 100000)), "udp_queue": pick((1, 16, 256)), "accept_any": pick((False, False, True)),
        "mss": pick((0, 0, 536)), "copy_threshold": pick((0, 1000, 4096)), "address_check": pick((True, False)),
    }
    values.update(fixed)
    return iip.Config(**values)


def limit(config, name):
    """How large a buffer may become. The send buffer follows the receive buffer."""
    if not config.autotune:
        return getattr(config, name)
    names = [name] if name == "receive_buffer" else ["send_buffer", "receive_buffer"]
    return max(getattr(config, n + end) for n in names for end in ("", "_max"))


class World:
    """An engine behind a tunnel: packets in, time, calls; what comes out is answered where ARP and neighbour
    discovery need it, and the last packets are kept in `sent` to be quoted."""

    def __init__(self, rng, config, *, seed=1, now=10**9, handler=None, wild=0.15, calls=0.1):
        self.rng = rng
        self.config = config
        self.now = now
        self.calls = calls
        self.handler = handler or Chaos(rng, wild)
        self.tunnel = Tunnel(config.mtu, medium=config.medium, capacity=256)
        self.engine = iip.Engine(config, self.handler, self.tunnel, seed=seed)
        self.handler.engine = self.engine
        self.offset = 14 if config.medium == "ethernet" else 0
        for port in LISTENING:
            self.engine.tcp_listen(port)
        self.engine.udp_bind(7)
        self.sent = []
        self.packets = 0
        self.stats = self.engine.stats()

    def frame(self, packet):
        return ethernet_to_us(packet) if self.offset else packet

    def step(self, packets, advance):
        """Feed packets, run at a later time until the engine has nothing to do at once, do calls."""
        self.packets += len(packets)
        self.tunnel.feed_many(packets)
        self.now += advance
        if self.rng.random() < self.calls:
            live = self.handler.live
            try:
                if live:
                    self.handler.act(self.rng.choice(live))
                else:
                    self.handler.anything()
            except EXPECTED:
                pass
        self.run()
        out = self.tunnel.drain()
        if out:
            self.sent = (self.sent + out)[-32:]
            if self.offset:
                self.resolve(out)

    def run(self):
        for _ in range(300):
            try:
                at = self.engine.run(self.now)
            except Boom:
                self.handler.raised -= 1
                at = self.now
            assert at is None or at >= 0
            if at is None or at > self.now:
                return
            if self.tunnel.pending >= 200:
                self.tunnel.drain()
        raise AssertionError("the engine never comes to rest at one moment")

    def resolve(self, frames):
        """Answer ARP requests and neighbour solicitations for the peers."""
        for frame in frames:
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] in PEERS4:
                self.tunnel.feed(arp(2, STATION, frame[38:42], frame[22:28], frame[28:32], frame[6:12]))
            elif frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 135 and frame[62:78] in PEERS6:
                self.tunnel.feed(advertise(STATION, frame[62:78], frame[22:38], frame[6:12]))

    def check(self):
        """What must hold at any time, seen from outside."""
        rows = self.engine.connections()
        config = self.config
        assert len(rows) == self.engine.n_connections <= config.max_connections
        assert np.all(rows["state"] <= 10)
        rows = rows[rows["state"] != 0]
        if len(rows):
            flight = rows["snd_nxt"] - rows["snd_una"]
            _all(rows, flight <= limit(config, "send_buffer") + 2, "snd_una <= snd_nxt, within the send buffer")
            _all(rows, rows["in_flight"] <= flight, "in_flight <= snd_nxt - snd_una")
            _all(rows, rows["unsent"] <= limit(config, "send_buffer"), "unsent within the send buffer")
            _all(rows, rows["rcv_buffered"] <= limit(config, "receive_buffer"), "rcv_buffered within the receive buffer")
            _all(rows, rows["rcv_wnd"].astype("i4") >= -1, "rcv_nxt not beyond the window")
            _all(rows, rows["out_of_order"] <= config.out_of_order, "out_of_order within its limit")
            _all(rows, rows["mss"] >= 64, "mss")
            _all(rows, rows["rto"] > 0, "rto")
        stats = self.engine.stats()
        for name, value in stats.items():
            assert value >= self.stats[name], f"counter {name} went back"
        self.stats = stats
        assert stats["rx_packets"] + self.tunnel.waiting >= self.tunnel.fed
        assert self.engine.pool.free_packets <= self.engine.pool.packets
        assert self.engine.pool.free_views <= self.engine.pool.views

    def end(self):
        """Close everything: every packet must be back."""
        self.check()
        pool = self.engine.pool
        self.engine.close()
        self.tunnel.close()
        for conn in self.handler.live:
            assert conn.closed
            conn.close()
        self.handler.kept.clear()
        self.handler.engine = None
        assert pool.full, f"{pool.packets - pool.free_packets} packets, {pool.views - pool.free_views} views missing"


def ethernet_to_us(packet):
    return OUR_STATION + STATION + (b"\x08\0" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def _all(rows, good, what):
    if not np.all(good):
        bad = rows[~good][0]
        values = {name: bad[name] for name in rows.dtype.names if name not in ("local", "remote")}
        raise AssertionError(f"{what}: {values}")
