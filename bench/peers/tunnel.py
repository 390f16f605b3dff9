"""The tunnel case: two stacks joined by packets in memory, an asyncio application at both ends, in a process each run: iip
(`iip.aio.Tunnel`, `iip.aio.Stack` on a memory link), PyTCP from PyPI, whose state belongs to the process and which therefore
gets two processes and a socket pair, and as a yardstick asyncio over the kernel's loopback device.

    python -m bench.peers.tunnel                                  # everything, into bench/results/tunnel.{json,md,png}
    python -m bench.peers.tunnel --only PyTCP --repeat 1 --bytes 4e6

Bulk: MB/s, and CPU time of all processes in ns per byte; request and response of one byte: us; new connections with one
request each: per second. Medians of alternating runs with their spread. Measure on a machine that does nothing else.
"""
from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.peers.__main__ import ROOT, machine, pyplot

WORK = ("bulk", "latency", "connections")
STACKS = {
    # name: (module function below, MTUs, share of the work that it gets done in the time)
    "iip, tunnel": ("tunnel", (1500, 16000), (1, 1, 1)),
    "iip, memory link": ("memory", (1500, 16000), (1, 1, 1)),
    "iip, tunnel, uvloop": ("tunnel uvloop", (1500, 16000), (1, 1, 1)),
    "asyncio, kernel loopback": ("kernel", (0,), (1, 1, 1)),
    "PyTCP": ("pytcp", (1500, 16000), (0.001, 0.05, 0.02)),
}


def cpu():
    """Seconds of CPU of this process and of the children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


async def ours(way, mtu, work, n):
    from bench import aio_worlds as worlds

    async with worlds.joined(way, mtu) as ends:
        await worlds.bulk(ends, 1 << 20)                   # warm
        return await exercise(ends, work, n)


async def kernel(_way, _mtu, work, n):
    from bench import aio_worlds as worlds

    worlds.SERVER = "::1"
    worlds.PORT = 4712
    loop = asyncio.get_running_loop()
    return await exercise((loop, loop), work, n)


async def exercise(ends, work, n):
    """(how much was done, seconds, seconds of CPU)"""
    from bench import aio_worlds as worlds

    begin, busy = time.perf_counter(), cpu()
    if work == "bulk":
        await worlds.bulk(ends, n)
    elif work == "connections":
        await worlds.connections(ends, n)
    else:
        await ends[1].create_server(worlds.Echo, worlds.SERVER, worlds.PORT)
        transport, asker = await ends[0].create_connection(lambda: worlds.Asker(1), worlds.SERVER, worlds.PORT)
        begin, busy = time.perf_counter(), cpu()
        await asker.ask(n)
        transport.abort()
    return n, time.perf_counter() - begin, cpu() - busy


def child(name, mtu, work, n):
    """One run in this process; prints what `exercise` returns."""
    kind, *loop_name = name.split()
    if kind == "pytcp":
        from bench.peers.pytcp_tunnel import run
        print(json.dumps(run(mtu, work, n)))
        return
    if loop_name:
        import uvloop
        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    print(json.dumps(loop.run_until_complete((kernel if kind == "kernel" else ours)(kind, mtu, work, n))))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def once(name, mtu, work, n):
    done = subprocess.run([sys.executable, "-m", "bench.peers.tunnel", "--child", name, str(mtu), work, str(n)], cwd=ROOT,
                          capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def measure(options):
    """One row a stack, MTU and kind of work; the stacks take turns."""
    amounts = {"bulk": options.bytes, "latency": options.exchanges, "connections": options.connections}
    found, absent = {}, {}
    for turn in range(options.repeat):
        for stack in options.only or STACKS:
            name, mtus, shares = STACKS[stack]
            for mtu in mtus:
                for work, share in zip(WORK, shares, strict=True):
                    if stack in absent:
                        continue
                    n = max(1, int(amounts[work] * share))
                    try:
                        done, seconds, busy = once(name, mtu, work, n)
                    except (RuntimeError, subprocess.TimeoutExpired, ValueError) as error:
                        absent[stack] = f"{work}, MTU {mtu}: {error}"
                        print(f"{stack}: left out, {absent[stack]}", file=sys.stderr)
                        continue
                    found.setdefault((stack, mtu, work), []).append((done / seconds, busy / done))
                    print(f"{turn + 1}/{options.repeat} {stack}, MTU {mtu}, {work}: {done / seconds:,.0f}/s", file=sys.stderr)
    rows = []
    for (stack, mtu, work), runs in found.items():
        rates = [rate for rate, _busy in runs]
        rows.append({"stack": stack, "mtu": mtu, "work": work, "rate": statistics.median(rates), "low": min(rates),
                     "high": max(rates), "cpu_ns": statistics.median(busy for _rate, busy in runs) * 1e9, "runs": len(runs)})
    return rows, absent


def shown(row):
    """A cell of the table."""
    if row is None:
        return ""
    if row["work"] == "bulk":
        return f"{row['rate'] / 1e6:,.1f} ({row['low'] / 1e6:,.1f} … {row['high'] / 1e6:,.1f}); {row['cpu_ns']:.2f} ns"
    if row["work"] == "latency":
        return f"{1e6 / row['rate']:,.1f} ({1e6 / row['high']:,.1f} … {1e6 / row['low']:,.1f})"
    return f"{row['rate']:,.0f} ({row['low']:,.0f} … {row['high']:,.0f})"


def markdown(rows, absent):
    cells = {(row["stack"], row["mtu"], row["work"]): row for row in rows}
    lines = ["| stack | MTU | bulk, MB/s; CPU per byte | request and response, us | connections/s |", "|---|---|---|---|---|"]
    for stack, mtu in dict.fromkeys((row["stack"], row["mtu"]) for row in rows):
        values = " | ".join(shown(cells.get((stack, mtu, work))) for work in WORK)
        lines.append(f"| {stack} | {mtu or ''} | {values} |")
    lines += ["", *(f"Left out: {stack}, {reason}." for stack, reason in absent.items())]
    return "\n".join(lines).rstrip() + "\n"


def plot(rows, path):
    plt = pyplot()
    if plt is None:
        return
    bars = [row for row in rows if row["work"] == "bulk"]
    figure, axis = plt.subplots(figsize=(7, 1 + 0.4 * len(bars)))
    axis.barh([f"{row['stack']}, MTU {row['mtu']}" if row["mtu"] else row["stack"] for row in bars],
              [row["rate"] / 1e6 for row in bars], color="#4878a8")
    axis.set_xscale("log")
    axis.set_xlabel("bulk, MB/s")
    axis.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    if sys.argv[1:2] == ["--child"]:
        name, mtu, work, n = sys.argv[2:]
        child(name, int(mtu), work, int(n))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(STACKS), help="repeat for several; by default all")
    parser.add_argument("--bytes", type=float, default=2e9)
    parser.add_argument("--exchanges", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    options = parser.parse_args()
    rows, absent = measure(options)
    if not rows:
        print("nothing could be measured", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    base = options.output / "tunnel"
    conditions = {"bytes": options.bytes, "exchanges": options.exchanges, "connections": options.connections}
    base.with_suffix(".json").write_text(json.dumps(
        {"machine": machine(), "conditions": conditions, "absent": absent, "rows": rows}, indent=1) + "\n")
    base.with_suffix(".md").write_text(markdown(rows, absent))
    plot(rows, base.with_suffix(".png"))
    print(markdown(rows, absent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
