"""Two engines on a memory link, as all measurements use them."""
from __future__ import annotations

import numpy as np

import iip
from iip.apps import bench as native
from iip.apps import bench_batch, bench_python
from iip.drivers import Impair, Impairments, MemoryLink
from iip.runtime.pair import run_rounds

HANDLERS = {"cython": native, "python": bench_python, "batch": bench_batch}
ADDRESSES = {4: ("10.0.0.1", "10.0.0.2", 24), 6: ("fd00::1", "fd00::2", 64)}
PORT = 7
STEP = 10_000                     # ns between two rounds
PER_PORT = 20_000                 # connections to each port of the server


class Pair:
    """`a` is the client; `now` is virtual. `settings` of both engines are for many connections; `wire`: what happens
    to the client's packets (`Impairments`); `link` says what the memory link offers."""

    def __init__(self, client, server, *, connections=32, version=4, packets=None, settings=None, wire=None, **link):
        a, self.server, bits = ADDRESSES[version]
        self.pool = iip.PacketPool(packets or max(8192, 4 * connections), packet_size=max(2048, link.get("mtu", 1500) + 256 & ~63))
        self.link = MemoryLink(capacity=max(1 << 16, connections), **link)     # room for one of each
        chosen = {"max_connections": 2 * connections + 16, "max_half_open": 1 << 20, "tx_queue": 1 << 14, "burst": 256,
                  "mtu": link.get("mtu", 1500), **(settings or {})}
        ends = [self.link.a if wire is None else Impair(self.link.a, seed=3, tx=wire), self.link.b]
        self.a, self.b = (
            iip.Engine(iip.Config(addresses=[f"{address}/{bits}"], **chosen), handler, end, self.pool, seed=seed)
            for seed, address, handler, end in ((1, a, client, ends[0]), (2, self.server, server, ends[1])))
        self.now = 0
        self.listen(1)

    def listen(self, ports):
        for port in range(PORT, PORT + ports):
            self.b.tcp_listen(port)

    def run(self, rounds=20, step=STEP):
        self.now = run_rounds(self.a, self.b, rounds, self.now, step)

    def open(self, n):
        """`n` connections, established; their handles."""
        self.listen(1 + n // PER_PORT)
        handles = [self.a.connect_many(self.server, PORT, 1)]
        self.run(4)               # the first one finds the neighbour
        for i in range(1, n, 256):
            handles.append(self.a.connect_many(self.server, PORT + i // PER_PORT, min(256, n - i)))
            self.run(4)
        self.run()
        return np.concatenate(handles)

    def close(self):
        self.a.close()
        self.b.close()
        self.link.close()


def pingpong(*, connections=32, size=1, idle=0, handler="cython", **options):
    """A pair with ping-pong under way, and its client, which counts `transactions`."""
    module = HANDLERS[handler]
    client = module.PingPongClient(size, connections)
    pair = Pair(client, module.PingPongServer(), connections=connections + idle, **options)
    handles = pair.open(connections + idle)
    client.launch(pair.a, handles[:connections])
    pair.run()
    return pair, client


def bulk(*, handler="cython", connections=1, copy=False, **options):
    """A pair with data under way, and its sink, which counts bytes `received`."""
    module = HANDLERS[handler]
    pattern = bytes(range(256)) * 4096
    source, sink = module.BulkSource(pattern, **({"copy": True} if copy else {})), module.BulkSink(pattern, False)
    pair = Pair(source, sink, connections=connections, **options)
    source.lend(pair.a)
    pair.open(connections)
    pair.run(2000)
    return pair, sink


def in_flight(segments, *, loss=0.0):
    """As `bulk`, with always so many segments of 1448 bytes in flight: in the link's queue, or with `loss` on a wire of
    that length, of which each round brings 64. There the receiver has room for what waits behind gaps, too."""
    room = 1448 * segments
    native.register_unyielding(room)
    wire = Impairments(loss=loss, delay=segments / 64 * STEP * 1e-9) if loss else None
    receive, send, packets = (4, 4, 12) if loss else (1, 2, 6)
    return bulk(packets=8192 + packets * segments, wire=wire, settings={
        "congestion": "unyielding", "autotune": False, "receive_buffer": receive * room, "send_buffer": send * room,
        "out_of_order": 1 << 16})


def cycle(*, width=32, size=1, slots=512, **options):
    """A pair with connections that are opened, say `size` bytes each way and are closed; its client, which counts
    `cycles`. The client's table is full of connections in TIME-WAIT, of which the oldest gives way."""
    client = native.CycleClient(ADDRESSES[options.get("version", 4)][1], PORT, size=size)
    pair = Pair(client, native.PingPongServer(), connections=slots, **options)
    pair.listen(64)
    client.launch(pair.a, 1)      # which finds the neighbour
    pair.run(100)
    if width > 1:
        client.launch(pair.a, width - 1)
    pair.run(12 * (2 * slots // width) + 100)
    if client.failures or not pair.a.stats()["tcp_time_wait_recycled"]:
        raise RuntimeError("connections failed, or none waits in TIME-WAIT")
    return pair, client
