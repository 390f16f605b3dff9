"""Conversations of two engines, recorded frame by frame, to be replayed to one of them with damage.

An engine is a function of its seed, its input and the time: the recorded frames, fed to a new engine with the same
settings at the same times, lead it through the same states, until a mutation makes a difference.
"""
import functools
import hashlib
import random

import iip
from iip.drivers import Tunnel
from tests.fuzz.world import MS, OUR4, OUR6, OUR_STATION, STATION

SEED = 77
OUT = random.Random(SEED).randbytes(50000)
START = 10**9


class Peer(iip.Handler):
    """The honest side: sends what it has, says what it received."""

    def __init__(self, out=b""):
        self.out = out
        self.queue = {}
        self.received = {}

    def begin(self, conn):
        self.queue[conn] = memoryview(self.out)
        self.received[conn] = hashlib.sha256()
        self.push(conn)

    tcp_accepted = tcp_connected = begin

    def push(self, conn, n=0):
        left = self.queue.get(conn)
        while left is not None and len(left):
            taken = conn.send(left[:50000])
            left = self.queue[conn] = left[taken:]
            if taken == 0:
                return
        if left is not None:
            del self.queue[conn]
            conn.shutdown()

    tcp_acked = push

    def tcp_payload(self, conn, data):
        self.received[conn].update(data)
        conn.consume(len(data))

    def tcp_shutdown(self, conn):
        pass

    def tcp_closed(self, conn, reason):
        self.queue.pop(conn, None)


def config_of(kind, us):
    """Settings of a recorded engine. kind: medium, and options to switch off."""
    off = dict.fromkeys(kind[1:], False)
    host4, host6, mac = (OUR4, OUR6, OUR_STATION) if us else ("10.0.0.1", "fd00::1", STATION)
    return iip.Config(addresses=(host4 + "/24", host6 + "/64"), medium=kind[0], mac=mac.hex(":"), pool_packets=512,
                      max_connections=64, time_wait=1.0, send_buffer=65536, receive_buffer=30000, address_check=False,
                      keepalive=5.0, multicast=("224.0.0.251",), **off)


def calls_of(engine, step):
    """What the application of the target does at a step of the script, in the recording and in every replay."""
    try:
        if step == 3:
            engine.tcp_connect("10.0.0.1", 9)
        elif step == 6:
            engine.tcp_connect("fd00::1", 9)
        elif step == 9:
            engine.udp_send(bytes(3000), "10.0.0.1", 7, 7)
            engine.ping("fd00::1", 1, 1, bytes(3000))
            engine.ping("10.0.0.1", 1, 1, bytes(56))
    except iip.IipError:
        pass


def _script(peer, step):
    if step in (1, 4, 12):
        address = (OUR4, OUR6)[step % 2]
        peer.tcp_connect(address, 80)
    elif step == 2:
        peer.ping(OUR4, 1, 1, bytes(56))
        peer.ping(OUR6, 1, 2, bytes(4000))
        peer.udp_send(bytes(4000), OUR6, 7, 7)
        peer.udp_send(bytes(100), OUR4, 99, 7)
    elif step == 5:
        peer.tcp_connect(OUR4, 81)
    elif step == 8:
        peer.tcp_connect(OUR6, 7).abort()
    elif step == 14:
        peer.udp_send(bytes(9000), OUR4, 7, 7)


@functools.cache
def conversation(kind):
    """[(step or None, time, [frames for the target])]: a conversation with loss, in which most of a stack has a part."""
    rng = random.Random(str(kind))
    links = [Tunnel(1500, medium=kind[0], capacity=4096) for _ in range(2)]
    peer = iip.Engine(config_of(kind, False), Peer(rng.randbytes(60000)), links[0], seed=SEED + 1)
    target = iip.Engine(config_of(kind, True), Peer(OUT), links[1], seed=SEED)
    peer.tcp_listen(9)
    peer.udp_bind(7)
    target.tcp_listen(80)
    target.udp_bind(7)
    now, record = START, []
    for step in range(160):
        _script(peer, step)
        calls_of(target, step)
        for turn in range(4):
            peer.run(now)
            frames = [f for f in links[0].drain() if rng.random() > 0.03]
            links[1].feed_many(frames)
            target.run(now)
            links[0].feed_many(f for f in links[1].drain() if rng.random() > 0.03)
            if frames or turn == 0:
                record.append((None if turn else step, now, frames))
        now += 5 * MS if step < 100 else 100 * MS
    for engine in (peer, target):
        engine.close()
    for link in links:
        link.close()
    assert peer.pool.full and target.pool.full
    return record


KINDS = (("ip",), ("ethernet",), ("ip", "sack"), ("ethernet", "timestamps"), ("ip", "window_scale", "nagle"),
         ("ethernet", "sack", "timestamps", "window_scale"))
