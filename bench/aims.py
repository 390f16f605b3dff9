"""What the project wants to reach, and what it does: one table, in about six minutes.

    python -m bench.aims                  # everything, into bench/results/aims.md
    python -m bench.aims --only bulk      # rows whose name contains this
    python -m bench.aims --repeat 1 --quick     # to see that everything runs

Both engines on one processor, memory link. Every run stands beside one of lwIP's ping-pong (one byte, 32 connections, checksums in
software), so that a machine whose speed changes changes both: "of lwIP's" is the median of these ratios, and "reference" that
times 510 ns, which is what lwIP takes on the machine of the aims. A row whose aim is so many times another takes its samples in
turn with that one's, and the median of their ratios counts. Measure on a machine that does nothing else.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from bench import worlds
from bench.peers.build import PEERS, Absent

ROOT = Path(__file__).parents[1]
LWIP = 510                        # ns, on the machine of the aims
SEGMENT = 1448
SAMPLES = 15                      # of a run: their median counts


def counting(rounds, pair, of, name, unit=1):
    """A function that runs so many rounds and returns by how many units the count grew."""
    def some():
        done = getattr(of, name)
        pair.run(rounds)
        return (getattr(of, name) - done) / unit
    return some


def transactions(rounds, **options):
    return counting(rounds, *worlds.pingpong(**options), "transactions")


def cycles(rounds, **options):
    return counting(rounds, *worlds.cycle(**options), "cycles")


def bulk(rounds, **options):
    return counting(rounds, *worlds.bulk(**options), "received", SEGMENT)


def in_flight(rounds, n, **options):
    return counting(rounds, *worlds.in_flight(n, **options), "received", SEGMENT)


def frames(rounds, **options):
    """Super-segments of 43 segments."""
    return counting(rounds, *worlds.bulk(tso=True, **options), "received", 43 * SEGMENT)


def many(n):
    """Of `n` active connections: the samples take each of them in turn, several times."""
    return {"rounds": max(400, n // 400), "connections": n, "packets": 8192 + 2 * n}


SOFTWARE = {"checksum_offload": False}
ALL = {"rounds": 300, "tso": True}
# name: (what is counted, with which options, C original's ns, aim: ns of the reference machine, or (times, of which row))
ROWS = {
    "ping-pong, 1 connection": (transactions, {"rounds": 8000, "connections": 1}, 390, None),
    "ping-pong, 32": (transactions, {"rounds": 500}, 330, 165),
    "ping-pong, 32, checksums in software": (transactions, {"rounds": 500, **SOFTWARE}, 560, None),
    "ping-pong, 256": (transactions, {"rounds": 60, "connections": 256}, 490, None),
    "ping-pong, 10,000": (transactions, many(10_000), None, (1.5, "ping-pong, 32")),
    "ping-pong, 100,000": (transactions, many(100_000), None, None),
    "ping-pong, 1,000,000": (transactions, many(1_000_000), None, (2.5, "ping-pong, 32")),
    "ping-pong, 32 beside 100,000 idle": (transactions, {"rounds": 500, "idle": 100_000}, 290_000, (1.0, "ping-pong, 32")),
    "bulk, a segment": (bulk, {"rounds": 300}, 190, 95),
    "bulk, checksums in software": (bulk, {"rounds": 300, **SOFTWARE}, 2100, 220),
    "bulk, a super-segment of 62 KB": (frames, {"rounds": 300}, 181, 120),
    "bulk, a super-segment, copied once": (frames, {"rounds": 100, "copy": True}, 2000, 2000),
    # with 10,000 two dozen round trips a sample: what the other row left of the cache must not count, and with so many losses
    # in each round trip the window opens and shuts
    "in flight, 32 segments": (in_flight, {"rounds": 4000, "n": 32}, 190, None),
    "in flight, 704": (in_flight, {"rounds": 500, "n": 704}, 2950, (1.2, "in flight, 32 segments")),
    "in flight, 10,000": (in_flight, {"rounds": 1000, "n": 10_000}, None, (1.2, "in flight, 32 segments")),
    "in flight, 32 segments, 0.1 % lost": (in_flight, {"rounds": 8000, "n": 32, "loss": 0.001}, None, None),
    "in flight, 704, 0.1 % lost": (in_flight, {"rounds": 2000, "n": 704, "loss": 0.001}, None,
                                   (1.2, "in flight, 32 segments, 0.1 % lost")),
    "in flight, 10,000, 0.1 % lost": (in_flight, {"rounds": 4000, "n": 10_000, "loss": 0.001}, None,
                                      (1.2, "in flight, 32 segments, 0.1 % lost")),
    "connection, from SYN to the last ACK": (cycles, {"rounds": 500}, 84_000, 1000),
    "Python, events in batches, 1000": (transactions, {"rounds": 20, "connections": 1000, "handler": "batch"}, None, 1000),
    "Python, a callback per event, 32": (transactions, {"rounds": 100, "handler": "python"}, None, 2500),
    # what each is worth: ns for 1448 bytes
    "offloads: all": (bulk, ALL, None, None),
    "offloads: no scatter-gather": (bulk, {"rounds": 300, "scatter_gather": False}, None, None),
    "offloads: no TSO": (bulk, {**ALL, "tso": False}, None, None),
    "offloads: no TSO, no transmit checksum": (bulk, {**ALL, "tso": False, "tx_checksum": False}, None, None),
    "offloads: no receive checksum": (bulk, {**ALL, "rx_checksum": False}, None, None),
    "offloads: no LRO": (bulk, {**ALL, "lro": False}, None, None),
    "offloads: no zero-copy": (bulk, {**ALL, "copy": True}, None, None),
    "offloads: none": (bulk, {"rounds": 300, "scatter_gather": False, **SOFTWARE}, None, None),
    "offloads: segmentation in software": (bulk, {**ALL, "tso": False, "settings": {"gso": True}}, None, None),
    "offloads: and joining": (bulk, {**ALL, "tso": False, "settings": {"gso": True, "gro": True}}, None, None),
}


def child(name, quick):
    """For each line that comes in, the ns of one operation in one more sample."""
    function, options, *_ = ROWS[name]
    if quick:
        options = {**options, "rounds": 20, **{key: min(options[key], 64) for key in ("connections", "idle") if key in options}}
    some = function(**options)
    some()
    for _ in sys.stdin:
        begin = time.perf_counter_ns()
        done = some()
        print((time.perf_counter_ns() - begin) / max(done, 1), flush=True)
    os._exit(0)                   # giving millions of packets back takes its time


def pinned(cpu):
    return {"text": True, "cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "stderr": subprocess.PIPE,
            "preexec_fn": lambda: os.sched_setaffinity(0, {cpu})}


class Row:
    """A row's process, which takes a sample when it is asked to."""

    def __init__(self, name, options):
        quick = ["--quick"] if options.quick else []
        self._process = subprocess.Popen([sys.executable, "-m", "bench.aims", "--child", name, *quick],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, **pinned(options.cpu))

    def sample(self):
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise RuntimeError((self._process.stderr.read().strip().splitlines() or ["no message"])[-1]) from None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._process.communicate()


def samples(name, base, options):
    """The ns of one operation, median of the samples; how many times those of the row `base`, which are taken in turn."""
    turns = 1 if options.quick else SAMPLES
    with Row(name, options) as ours, Row(base, options) if base else nullcontext() as theirs:
        if not base:
            return statistics.median(ours.sample() for _ in range(turns)), None
        theirs.sample()
        ours.sample()             # both are there: from here on they are alike
        pairs = [(theirs.sample(), ours.sample()) for _ in range(turns)]
    return statistics.median(mine for _, mine in pairs), statistics.median(mine / other for other, mine in pairs)


def beside(lwip, options):
    """The ns of lwIP's ping-pong, now."""
    done = subprocess.run([*lwip, "1", "32", "0.3", "0.1"], stdout=subprocess.PIPE, check=True, timeout=600, **pinned(options.cpu))
    n, seconds = done.stdout.split()
    return float(seconds) / int(n) * 1e9


def measure(names, lwip, options):
    """{name: [(ns, lwIP's ns right before, or None, times the row of its aim, or None)]}"""
    found = {name: [] for name in names}
    for turn in range(options.repeat):
        for name in names:
            if turn and name == "ping-pong, 1,000,000":
                continue          # once: it takes a minute to open them
            theirs = beside(lwip, options) if lwip else None
            aim = ROWS[name][3]
            ours, times = samples(name, aim[1] if isinstance(aim, tuple) else None, options)
            found[name].append((ours, theirs, times))
            notes = f", lwIP {theirs:,.0f}" if theirs else ""
            notes += f", {times:.2f} times {aim[1]}" if times else ""
            print(f"{turn + 1}/{options.repeat} {name}: {ours:,.0f} ns{notes}", file=sys.stderr)
    return found


def summary(found):
    """{name: its figures}"""
    rows = {}
    for name, runs in found.items():
        times = [ours for ours, *_ in runs]
        of_lwip = [ours / theirs for ours, theirs, _ in runs if theirs]
        of_base = [ratio for *_, ratio in runs if ratio]
        rows[name] = {"ns": statistics.median(times), "low": min(times), "high": max(times),
                      "of_lwip": statistics.median(of_lwip) if of_lwip else None,
                      "times": [min(of_base), statistics.median(of_base), max(of_base)] if of_base else None}
    return rows


def compared(name, row):
    """(aim, what was reached, as text) of a row."""
    aim = ROWS[name][3]
    if isinstance(aim, tuple):
        low, middle, high = row["times"]
        return f"{aim[0]} × {aim[1]}", f"{middle:.2f} × ({low:.2f} … {high:.2f})"
    reached = f"{row['of_lwip'] * LWIP:,.0f}" if row["of_lwip"] else ""
    return f"{aim:,}" if aim else "", reached


def markdown(rows):
    lines = ["| | ns, here | of lwIP's ping-pong | aim | reached: reference ns, or times | C original |",
             "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        aim, reached = compared(name, row)
        original = ROWS[name][2]
        ratio = f"{row['of_lwip']:.2f}" if row["of_lwip"] else ""
        lines.append(f"| {name} | {row['ns']:,.0f} ({row['low']:,.0f} … {row['high']:,.0f}) | {ratio} | {aim} | {reached} | "
                     f"{f'{original:,}' if original else ''} |")
    return "\n".join(lines) + "\n"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny counts: to see that everything runs")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="the processor that all run on")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = parse()
    if options.child:
        child(options.child, options.quick)
    names = [name for name in ROWS if options.only in name]
    if not names:
        print(f"--only {options.only}: there are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory:
        try:
            lwip = PEERS["lwIP"][0](Path(directory))
        except Absent as reason:
            lwip = None
            print(f"no lwIP to compare with: {reason}", file=sys.stderr)
        rows = summary(measure(names, lwip, options))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "aims.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.output / "aims.md").write_text(markdown(rows))
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
