"""The same work in iip and in other stacks: requests and answers of SIZE bytes over some connections, client and server
in one process on one processor. Medians of alternating runs, with their spread.

    python -m bench.peers                                   # everything, into bench/results/peers.{json,csv,md,png}
    python -m bench.peers --only lwIP --only 'iip, Cython' --seconds 1 --repeat 3

What is not installed is left out, with the reason. Measure on a machine that does nothing else.
"""
from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from bench.peers.build import PEERS, Absent

ROOT = Path(__file__).parents[2]


def prepare(names, directory):
    """{name: command} of those that are here; {name: reason} of those that are not."""
    commands, absent = {}, {}
    for name in names:
        try:
            commands[name] = PEERS[name][0](directory)
        except (Absent, subprocess.TimeoutExpired) as reason:
            absent[name] = str(reason)
            print(f"{name}: left out, {reason}", file=sys.stderr)
    return commands, absent


def once(command, size, connections, options):
    """Transactions per second."""
    done = subprocess.run([*command, str(size), str(connections), str(options.seconds), str(options.warm_up)],
                          capture_output=True, text=True, check=False, timeout=120 + 3 * options.seconds, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)},
                          preexec_fn=lambda: os.sched_setaffinity(0, {options.cpu}))
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    transactions, seconds = done.stdout.split()
    return int(transactions) / float(seconds)


def measure(commands, options):
    """One row for each peer, size and number of connections. All peers take turns, so that noise hits them alike."""
    rates, failed = {}, {}
    work = [(size, n) for size in options.size for n in options.connections]
    for turn in range(options.repeat):
        for size, n in work:
            for name, command in commands.items():
                most = PEERS[name][2]
                if (most and n > most) or (name, size, n) in failed:
                    continue
                try:
                    rate = once(command, size, n, options)
                except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
                    failed[name, size, n] = str(error)
                    print(f"{name}, {size} B, {n} connections: {error}", file=sys.stderr)
                    continue
                rates.setdefault((name, size, n), []).append(rate)
                print(f"{turn + 1}/{options.repeat} {name}, {size} B, {n} connections: {rate:,.0f}/s", file=sys.stderr)
    rows = [{"peer": name, "checksums": PEERS[name][1], "size": size, "connections": n,
             "transactions_per_s": round(statistics.median(found)), "low": round(min(found)), "high": round(max(found)),
             "runs": len(found)} for (name, size, n), found in rates.items()]
    return sorted(rows, key=lambda row: (row["size"], row["connections"], list(PEERS).index(row["peer"])))


def machine():
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        lines = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return {"processor": model, "processors": os.cpu_count(), "system": platform.platform(),
            "python": platform.python_version(), "load": os.getloadavg()[0],
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds")}


def markdown(rows, absent):
    """One line a peer, one column each size and number of connections; transactions/s with their spread."""
    columns = sorted({(row["size"], row["connections"]) for row in rows})
    cells = {(row["peer"], row["size"], row["connections"]): row for row in rows}
    head = ["stack", "checksums", *(f"{size} B, {n} conn." for size, n in columns)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in PEERS:
        found = [cells.get((name, *column)) for column in columns]
        if any(found):
            values = [f"{row['transactions_per_s']:,} ({row['low']:,} … {row['high']:,})" if row else "" for row in found]
            lines.append("| " + " | ".join([name, PEERS[name][1], *values]) + " |")
    lines += ["", *(f"Left out: {name}, {reason}." for name, reason in absent.items())]
    return "\n".join(lines).rstrip() + "\n"


def write(rows, absent, options):
    options.output.mkdir(parents=True, exist_ok=True)
    base = options.output / "peers"
    conditions = {"seconds": options.seconds, "warm_up": options.warm_up, "processors_used": 1}
    base.with_suffix(".json").write_text(json.dumps(
        {"machine": machine(), "conditions": conditions, "absent": absent, "rows": rows}, indent=1) + "\n")
    with open(base.with_suffix(".csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    base.with_suffix(".md").write_text(markdown(rows, absent))
    plot(rows, base.with_suffix(".png"))


def pyplot():
    """matplotlib's, without a screen; None, said to the user, when it is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install 'iip[plot]'", file=sys.stderr)
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot
    return matplotlib.pyplot


def plot(rows, path):
    plt = pyplot()
    if plt is None:
        return
    columns = sorted({(row["size"], row["connections"]) for row in rows})
    names = [name for name in PEERS if any(row["peer"] == name for row in rows)]
    figure, axes = plt.subplots(1, len(columns), figsize=(2 + 3.5 * len(columns), 1 + 0.4 * len(names)), squeeze=False, sharey=True)
    for axis, (size, n) in zip(axes[0], columns, strict=True):
        found = {row["peer"]: row for row in rows if (row["size"], row["connections"]) == (size, n)}
        for y, name in enumerate(names):
            if row := found.get(name):
                middle = row["transactions_per_s"]
                axis.barh(y, middle, xerr=[[middle - row["low"]], [row["high"] - middle]], color="#4878a8", capsize=2)
        axis.set_xscale("log")
        axis.set_title(f"{size} B, {n} connection{'s' * (n > 1)}")
        axis.set_xlabel("transactions/s")
    axes[0][0].set_yticks(range(len(names)), names)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def parse():
    def numbers(text):
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(PEERS), help="repeat for several; by default all")
    parser.add_argument("--size", type=numbers, default=[1])
    parser.add_argument("--connections", type=numbers, default=[1, 32, 1000])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="the processor that all run on")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    return parser.parse_args()


def main():
    options = parse()
    with tempfile.TemporaryDirectory() as directory:
        commands, absent = prepare(options.only or list(PEERS), Path(directory))
        rows = measure(commands, options)
    if not rows:
        print("nothing could be measured", file=sys.stderr)
        return 1
    write(rows, absent, options)
    print(markdown(rows, absent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
