"""Instructions per operation, counted by callgrind: repeatable where times are not.

    python -m bench.instructions              # every case
    python -m bench.instructions pingpong-32  # some
    python -m bench.instructions --functions 30 cycle-32    # and in which functions they are

Each case runs twice under valgrind, with a different number of operations; the difference divided by the
difference is the cost of one, start-up excluded. Both engines together, memory link, one pool.
"""
from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench import aio_worlds, worlds


def pingpong(rounds, **options):
    """Transactions: a request and its answer on every connection in every round."""
    pair, client = worlds.pingpong(**options)
    done = client.transactions
    pair.run(rounds)
    return client.transactions - done


def cycle(rounds, **options):
    """Connections from SYN to the last ACK, with one exchange of a byte."""
    pair, client = worlds.cycle(**options)
    done = client.cycles
    pair.run(rounds)
    return client.cycles - done


def bulk(rounds, **options):
    """Segments: one connection, as fast as the windows allow."""
    pair, _sink = worlds.bulk(**options)
    done = pair.a.stats()["tcp_out_data"]
    pair.run(rounds)
    return pair.a.stats()["tcp_out_data"] - done


def aio(times, way, work, mtu=1500, loop="asyncio"):
    """Transactions of a byte, or MB, between asyncio applications: over two stacks of `iip.aio`, or way "kernel"."""
    make = asyncio.new_event_loop if loop == "asyncio" else importlib.import_module(loop).new_event_loop

    async def run():
        async with aio_worlds.joined(way, mtu) as ends:
            if work == "bulk":
                await aio_worlds.bulk(ends, times << 20)
            elif work == "latency":
                await aio_worlds.exchange(await aio_worlds.askers(ends, 1), times)
            else:
                await aio_worlds.connections(ends, times)
        return times

    event_loop = make()
    try:
        return event_loop.run_until_complete(run())
    finally:
        event_loop.run_until_complete(event_loop.shutdown_asyncgens())
        event_loop.close()


CASES = {
    "pingpong-1": (pingpong, {"connections": 1}, 4000),
    "pingpong-32": (pingpong, {}, 1000),
    "pingpong-32-ipv6": (pingpong, {"version": 6}, 1000),
    "pingpong-32-software-checksum": (pingpong, {"checksum_offload": False}, 1000),
    "pingpong-32-ethernet": (pingpong, {"medium": "ethernet"}, 1000),
    "pingpong-32-python": (pingpong, {"handler": "python"}, 500),
    "pingpong-32-batch": (pingpong, {"handler": "batch"}, 500),
    "pingpong-1000": (pingpong, {"connections": 1000}, 40),
    "pingpong-1000-batch": (pingpong, {"handler": "batch", "connections": 1000}, 40),
    "cycle-32": (cycle, {}, 1000),
    "cycle-32-ethernet": (cycle, {"medium": "ethernet"}, 1000),
    "bulk": (bulk, {}, 1000),
    "bulk-software-checksum": (bulk, {"checksum_offload": False}, 1000),
    "bulk-tso": (bulk, {"tso": True}, 1000),
    "bulk-gso": (bulk, {"settings": {"gso": True}}, 1000),
    "bulk-gso-link": (bulk, {"tso": True, "lro": False}, 1000),
    "bulk-gro": (bulk, {"settings": {"gro": True}}, 1000),
    "bulk-gso-gro": (bulk, {"settings": {"gso": True, "gro": True}}, 1000),
    "pingpong-32-gro": (pingpong, {"settings": {"gro": True}}, 1000),
    "aio-memory": (aio, {"way": "memory", "work": "latency"}, 1000),
    "aio-memory-uvloop": (aio, {"way": "memory", "work": "latency", "loop": "uvloop"}, 1000),
    "aio-tunnel": (aio, {"way": "tunnel", "work": "latency"}, 1000),
    "aio-tunnel-uvloop": (aio, {"way": "tunnel", "work": "latency", "loop": "uvloop"}, 1000),
    "aio-tunnel-bulk-1500": (aio, {"way": "tunnel", "work": "bulk"}, 100),
    "aio-tunnel-bulk-16000": (aio, {"way": "tunnel", "work": "bulk", "mtu": 16000}, 100),
    "aio-tunnel-connections": (aio, {"way": "tunnel", "work": "connections"}, 200),
    "aio-kernel": (aio, {"way": "kernel", "work": "latency"}, 1000),
    "aio-kernel-uvloop": (aio, {"way": "kernel", "work": "latency", "loop": "uvloop"}, 1000),
}


def child(name, times):
    function, options, rounds = CASES[name]
    print(function(rounds * times, **options))


def count(name, times, module="bench.instructions"):
    """(operations, instructions, the same by function) of a case of a module, run `times` as long."""
    # start-up, too, is then the same every time: idle threads of numpy's BLAS would spin for as long as they like
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.NamedTemporaryFile(suffix=".callgrind") as out:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", sys.executable, "-m", module,
             "--child", name, str(times)], capture_output=True, text=True, check=True,
            cwd=Path(__file__).parent.parent, env=environment)
        listing = subprocess.run(["callgrind_annotate", "--threshold=100", out.name], capture_output=True, text=True,
                                 check=True).stdout
    functions = Counter()
    for number, name_ in re.findall(r"^\s*([\d,]+) \([^)]*\)\s+\S*?:(\S+)", listing, re.MULTILINE):
        functions[name_] += int(number.replace(",", ""))
    return int(done.stdout), int(re.search(r"Collected : (\d+)", done.stderr).group(1)), functions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(CASES))
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="show the N costliest functions")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], int(options.child[1]))
        return
    if wrong := [name for name in options.cases if name not in CASES]:
        parser.error(f"no such case: {', '.join(wrong)}; there are {', '.join(CASES)}")
    count("pingpong-1", 0)        # so that all modules are compiled to bytecode before anything counts
    for name in options.cases or CASES:
        (n1, i1, f1), (n2, i2, f2) = count(name, 1), count(name, 2)
        print(f"{name:32} {(i2 - i1) / (n2 - n1):9.1f} instructions per operation ({n2 - n1} operations)", flush=True)
        for function, n in (f2 - f1).most_common(options.functions):
            print(f"    {n / (n2 - n1):9.1f} {function}", flush=True)


if __name__ == "__main__":
    main()
