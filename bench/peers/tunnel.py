"""asyncio applications at both ends of two stacks that are joined by packets in memory, in a process each run: iip
(`iip.aio.Tunnel`, which carries packets as bytes with all their checksums; `iip.aio.Stack` on a memory link), PyTCP from
PyPI, whose state belongs to the process and which therefore gets two processes and a socket pair, and as yardsticks asyncio and
uvloop over the kernel's loopback device.

    python -m bench.peers.tunnel                                  # everything, into bench/results/tunnel.{json,md,png}
    python -m bench.peers.tunnel --only PyTCP --repeat 1 --bytes 4e6

IPv6. Bulk, in writes of 1 MiB: MB/s, and CPU time of all processes in ns per byte; request and response of one byte over one
connection: us; new connections with one request each: per second; an echo server with 32 connections and 1 KiB a request: requests
per second of CPU, client and server together. Medians of alternating runs with their spread. Measure on a machine that does
nothing else.
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

WORK = ("bulk", "latency", "connections", "echo")
CLIENTS, REQUEST = 32, 1024       # of the echo server
ALL = (1, 1, 1, 1)
STACKS = {
    # name: (way and loop, MTUs, share of each work that it gets done in the time; 0: left out)
    "iip, tunnel": ("tunnel asyncio", (1500, 16000), ALL),
    "iip, tunnel, uvloop": ("tunnel uvloop", (1500, 16000), ALL),
    "iip, memory link": ("memory asyncio", (1500, 16000), ALL),
    "iip, memory link, uvloop": ("memory uvloop", (1500, 16000), ALL),
    "Linux over loopback, asyncio": ("kernel asyncio", (0,), ALL),
    "Linux over loopback, uvloop": ("kernel uvloop", (0,), ALL),
    "PyTCP": ("pytcp", (1500, 16000), (0.002, 0.02, 0.02, 0)),
}


def cpu():
    """Seconds of CPU of this process and of the children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


async def exercise(way, mtu, work, n):
    """(how much was done, seconds, seconds of CPU)"""
    from bench import aio_worlds as worlds

    async with worlds.joined(way, mtu) as ends:
        await worlds.bulk(ends, 1 << 20)                   # warm
        if work == "bulk":
            doing = worlds.bulk(ends, n)
        elif work == "connections":
            doing = worlds.connections(ends, n)
        elif work == "latency":
            doing = worlds.exchange(await worlds.askers(ends, 1), n)
        else:
            doing = worlds.exchange(await worlds.askers(ends, CLIENTS, REQUEST), n // CLIENTS)
            n = n // CLIENTS * CLIENTS
        begin, busy = time.perf_counter(), cpu()
        await doing
        return n, time.perf_counter() - begin, cpu() - busy


def child(name, mtu, work, n):
    """One run in this process; prints what `exercise` returns."""
    way, *loop_name = name.split()
    if way == "pytcp":
        from bench.peers.pytcp_tunnel import run
        print(json.dumps(run(mtu, work, n)))
        return
    if loop_name == ["uvloop"]:
        import uvloop
        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    print(json.dumps(loop.run_until_complete(exercise(way, mtu, work, n))))
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
    amounts = {"bulk": options.bytes, "latency": options.exchanges, "connections": options.connections, "echo": options.requests}
    found, absent = {}, {}
    for turn in range(options.repeat):
        for stack in options.only or STACKS:
            name, mtus, shares = STACKS[stack]
            for mtu in mtus:
                for work, share in zip(WORK, shares, strict=True):
                    if stack in absent or not share:
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
    if row["work"] == "echo":
        return f"{1e9 / row['cpu_ns']:,.0f}"
    return f"{row['rate']:,.0f} ({row['low']:,.0f} … {row['high']:,.0f})"


def markdown(rows, absent):
    cells = {(row["stack"], row["mtu"], row["work"]): row for row in rows}
    lines = ["| stack | MTU | bulk, MB/s; CPU per byte | request and response, us | connections/s | echo, requests/s of CPU |",
             "|---|---|---|---|---|---|"]
    for stack, mtu in dict.fromkeys((row["stack"], row["mtu"]) for row in rows):
        values = " | ".join(shown(cells.get((stack, mtu, work))) for work in WORK)
        lines.append(f"| {stack} | {mtu or ''} | {values} |")
    lines += ["", *(f"Left out: {stack}, {reason}." for stack, reason in absent.items())]
    return "\n".join(lines).rstrip() + "\n"


def plot(rows, path):
    plt = pyplot()
    if plt is None:
        return
    charts = [("bulk", "bulk, MB per s of CPU", 1e3), ("latency", "request and response, us of CPU", None),
              ("echo", "echo, requests per s of CPU", 1e9)]
    figure, axes = plt.subplots(1, len(charts), figsize=(15, 4.5), sharey=True)
    names = list(dict.fromkeys(label(row) for row in rows))
    for axis, (work, title, scale) in zip(axes, charts, strict=True):
        for row in rows:
            if row["work"] == work:
                axis.barh(names.index(label(row)), scale / row["cpu_ns"] if scale else row["cpu_ns"] / 1e3, color="#4878a8")
        axis.set_xscale("log")
        axis.set_xlabel(title)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def label(row):
    return f"{row['stack']}, MTU {row['mtu']}" if row["mtu"] else row["stack"]


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
    parser.add_argument("--requests", type=int, default=50_000, help="of the echo server")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    options = parser.parse_args()
    rows, absent = measure(options)
    if not rows:
        print("nothing could be measured", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    base = options.output / "tunnel"
    conditions = {name: getattr(options, name) for name in ("bytes", "exchanges", "connections", "requests")}
    base.with_suffix(".json").write_text(json.dumps(
        {"machine": machine(), "conditions": conditions, "absent": absent, "rows": rows}, indent=1) + "\n")
    base.with_suffix(".md").write_text(markdown(rows, absent))
    plot(rows, base.with_suffix(".png"))
    print(markdown(rows, absent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
