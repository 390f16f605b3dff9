"""Instructions per operation, counted by callgrind: repeatable where times are not.

    python -m bench.instructions              # every case
    python -m bench.instructions pingpong-32  # some

Each case runs twice under valgrind, with a different number of operations; the difference divided by the
difference is the cost of one, start-up excluded. Both engines together, memory link, one pool.
"""
from __future__ import annotations

import re
import subprocess
import sys

import iip
from iip.apps.bench import BulkSink, BulkSource, PingPongClient, PingPongServer
from iip.drivers import MemoryLink
from iip.runtime.pair import run_rounds

A, B = "10.0.0.1", "10.0.0.2"


def pair(client, server, *, connections, version=4, settings=None, **link):
    """Two engines on a memory link, their link, and the address of the second."""
    a, b = (A, B) if version == 4 else ("fd00::1", "fd00::2")
    bits = 24 if version == 4 else 64
    pool = iip.PacketPool(max(8192, 4 * connections))
    wire = MemoryLink(capacity=1 << 16, **link)
    settings = {"max_connections": 2 * connections + 16, "max_half_open": 1 << 20, "tx_queue": 1 << 14, "burst": 256,
                **(settings or {})}
    left = iip.Engine(iip.Config(addresses=[f"{a}/{bits}"], **settings), client, wire.a, pool, seed=1)
    right = iip.Engine(iip.Config(addresses=[f"{b}/{bits}"], **settings), server, wire.b, pool, seed=2)
    right.tcp_listen(7)
    return left, right, wire, b


def pingpong(rounds, *, connections=32, size=1, idle=0, **options):
    """Transactions: a request and its answer on every connection in every round."""
    client, server = PingPongClient(size, connections), PingPongServer()
    a, b, _wire, peer = pair(client, server, connections=connections + idle, **options)
    client.running = True
    now = 0
    for i in range(connections):
        a.tcp_connect(peer, 7)
        if i % 256 == 255:
            now = run_rounds(a, b, 4, now)
    now = run_rounds(a, b, 20, now)
    done = client.transactions
    run_rounds(a, b, rounds, now)
    return client.transactions - done


def bulk(rounds, *, copy=False, **options):
    """Segments: one connection, as fast as the windows allow."""
    pattern = bytes(range(256)) * 4096
    source, sink = BulkSource(pattern), BulkSink(pattern, False)
    a, b, _wire, peer = pair(source, sink, connections=1, **options)
    source.lend(a)
    a.tcp_connect(peer, 7)
    now = run_rounds(a, b, 2000)
    before = a.stats()["tcp_out_data"]
    run_rounds(a, b, rounds, now)
    return a.stats()["tcp_out_data"] - before


CASES = {
    "pingpong-1": (pingpong, {"connections": 1}, 4000),
    "pingpong-32": (pingpong, {}, 1000),
    "pingpong-32-ipv6": (pingpong, {"version": 6}, 1000),
    "pingpong-32-software-checksum": (pingpong, {"checksum_offload": False}, 1000),
    "pingpong-32-ethernet": (pingpong, {"medium": "ethernet"}, 1000),
    "pingpong-1000": (pingpong, {"connections": 1000}, 40),
    "bulk": (bulk, {}, 1000),
    "bulk-software-checksum": (bulk, {"checksum_offload": False}, 1000),
    "bulk-tso": (bulk, {"tso": True}, 1000),
    "bulk-gso": (bulk, {"settings": {"gso": True}}, 1000),
    "bulk-gso-link": (bulk, {"tso": True, "lro": False}, 1000),
    "bulk-gro": (bulk, {"settings": {"gro": True}}, 1000),
    "bulk-gso-gro": (bulk, {"settings": {"gso": True, "gro": True}}, 1000),
    "pingpong-32-gro": (pingpong, {"settings": {"gro": True}}, 1000),
}


def child(name, times):
    function, options, rounds = CASES[name]
    print(function(rounds * times, **options))


def count(name, times):
    """(operations, instructions) of a case run `times` as long."""
    out = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-m", "bench.instructions",
         "--child", name, str(times)], capture_output=True, text=True, check=True)
    return int(out.stdout), int(re.search(r"Collected : (\d+)", out.stderr).group(1))


def main(arguments):
    if arguments[:1] == ["--child"]:
        child(arguments[1], int(arguments[2]))
        return
    for name in arguments or CASES:
        (n1, i1), (n2, i2) = count(name, 1), count(name, 2)
        print(f"{name:32} {(i2 - i1) / (n2 - n1):9.1f} instructions per operation ({n2 - n1} operations)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
