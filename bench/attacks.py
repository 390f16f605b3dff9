"""What a hostile segment costs, in instructions counted by callgrind, beside an honest one.

    python -m bench.attacks              # every case
    python -m bench.attacks sack-random  # some

A case prepares an engine and feeds it packets made beforehand; its cost is the difference between two runs of different
length, feeding from Python included, which `ack` alone shows.
"""
from __future__ import annotations

import sys

import numpy as np

import iip
from bench.instructions import count
from iip.drivers import Tunnel
from tests.attack.forge import forge, strangers, template
from tests.harness.packets import ACK, SYN, opt_mss, opt_sack, opt_sack_permitted, opt_timestamps, opt_wscale, parse_tcp

HERE, THERE = "10.0.0.1", "10.0.0.2"
MSS = 64
RECORDS = 4000


class Server(iip.Handler):
    conn = None

    def tcp_accepted(self, conn):
        self.conn = conn


class Victim:
    """An engine with one connection whose window is 4 MiB."""

    def __init__(self, **settings):
        self.wire = Tunnel(capacity=8192)
        self.now = 10**9
        self.engine = iip.Engine(iip.Config(addresses=(f"{HERE}/24",), gateway="10.0.0.254", medium="ip", pool_packets=16384,
                                            tx_queue=8192, initial_window=64, send_buffer=1 << 20, nagle=False,
                                            delayed_ack=0.5, **settings),
                                 Server(), self.wire, seed=3)
        self.engine.tcp_listen(80)

    def connect(self):
        self.wire.feed(template(THERE, HERE, 9, 80, SYN, seq=99, options=opt_mss(MSS) + opt_sack_permitted() + opt_wscale(6)))
        self.una = parse_tcp(self.run()[0]).seq + 1
        self.wire.feed(self.ack())
        self.run()

    def ack(self, *blocks, ack=None, options=b""):
        if blocks:
            options = opt_sack(*blocks)
        return template(THERE, HERE, 9, 80, ACK, seq=100, ack=self.una if ack is None else ack, options=options)

    def run(self):
        self.now += 1_000_000
        self.engine.run(self.now)
        self.engine.run(self.now)
        return self.wire.drain()

    def fill(self):
        """Bring `RECORDS` tiny segments, or a few more, into flight: slow start, and then nobody acknowledges."""
        self.engine.handler.conn.send(bytes(1 << 20))
        for _ in range(6):
            s = parse_tcp(self.run()[-1])
            self.una = (s.seq + len(s.data)) & 0xFFFFFFFF
            self.wire.feed(self.ack())
        self.run()
        assert int(self.engine.connections()["in_flight"][0]) >= RECORDS * MSS

    def pelt(self, packets):
        for raw in packets:
            self.wire.feed(raw)
            self.engine.run(self.now)
            self.wire.drain()
        self.engine.close()
        assert self.engine.pool.full
        return len(packets)


def filled():
    victim = Victim()
    victim.connect()
    victim.fill()
    return victim


def repeat(packets, n):
    return (packets * (n // len(packets) + 1))[:n]


def ack(n):
    """Bare duplicate ACKs: the cost of feeding, and of the usual steps."""
    victim = Victim()
    victim.connect()
    return victim.pelt([victim.ack()] * n)


def sack(n, edges):
    victim = filled()
    packets = [victim.ack(*[(victim.una + a * MSS, victim.una + b * MSS) for a, b in blocks]) for blocks in edges]
    return victim.pelt(repeat(packets, n))


def sack_honest(n):
    """One hole at the front, and each ACK reports one more record behind it."""
    return sack(n, [[(1, 2 + i)] for i in range(RECORDS - 2)])


def sack_random(n):
    """Four blocks of one record each, anywhere."""
    rng = np.random.default_rng(1)
    return sack(n, [[(int(a), int(a) + 1) for a in rng.integers(1, RECORDS, 4)] for _ in range(500)])


def sack_flip(n):
    """The last record, then the second, then the last: every search as long as it can be."""
    last = RECORDS - 1
    return sack(n, [[(last, last + 1)], [(1, 2)], [(last - 1, last), (2, 3), (last, last + 1), (1, 2)]])


def sack_dsack(n):
    """Blocks below the acknowledgement: every one says that something was sent for nothing."""
    victim = filled()
    packets = [victim.ack((victim.una - MSS, victim.una), (victim.una + a * MSS, victim.una + (a + 1) * MSS))
               for a in range(1, 1000)]
    return victim.pelt(repeat(packets, n))


def gaps(n, order):
    victim = Victim()
    victim.connect()
    packets = [template(THERE, HERE, 9, 80, ACK, seq=100 + 2 * i, ack=victim.una, data=b"xy") for i in order]
    return victim.pelt(repeat(packets, n))


def gaps_up(n):
    """Crumbs behind a gap, in order: they share cells."""
    return gaps(n, range(1, 4000))


def gaps_scattered(n):
    """Every other crumb, in random order: as many pieces as `out_of_order` allows."""
    return gaps(n, (2 * np.random.default_rng(2).permutation(3000) + 1).tolist())


def syns(n, **settings):
    rng = np.random.default_rng(3)
    victim = Victim(**settings)
    base = template(THERE, HERE, 1, 80, SYN, options=opt_mss(1460) + opt_sack_permitted() + opt_timestamps(7, 0) + opt_wscale(7))
    return victim.pelt(forge(base, n, sources=strangers(rng, n, 4), sport=rng.integers(1, 65536, n),
                             seq=rng.integers(0, 1 << 32, n)))


def syn_cookie(n):
    """A SYN answered with a cookie."""
    return syns(n, syn_cookies="always")


def syn_half_open(n):
    """A SYN that makes a half-open connection, `tcp_accept` not overridden."""
    return syns(n, max_half_open=1 << 20, max_connections=1 << 14)


CASES = {"ack": ack, "sack-honest": sack_honest, "sack-random": sack_random, "sack-flip": sack_flip, "sack-dsack": sack_dsack,
         "gaps-up": gaps_up, "gaps-scattered": gaps_scattered, "syn-cookie": syn_cookie, "syn-half-open": syn_half_open}
LENGTH = 2000


def main(arguments):
    if arguments[:1] == ["--child"]:
        print(CASES[arguments[1]](LENGTH * int(arguments[2])))
        return
    for name in arguments or CASES:
        (n1, i1, _), (n2, i2, _) = count(name, 1, "bench.attacks"), count(name, 2, "bench.attacks")
        print(f"{name:16} {(i2 - i1) / (n2 - n1):9.0f} instructions per segment", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
