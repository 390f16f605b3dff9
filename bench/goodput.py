"""Goodput of iip and of the Linux kernel over the same bad paths, side by side.

    python bench/goodput.py --quick                     # some cells, a minute
    sudo python bench/goodput.py                        # the whole table, hours; results into bench/results
    python bench/goodput.py --pairs sim --rtt 0.01,0.2  # only the simulator

Pairs, sender first: `sim` (iip to iip in the simulator), and over `iip wire` between two network namespaces
`linux-linux`, `iip-linux`, `linux-iip`, `iip-iip` (root). Losses and reordering meet the data, not the ACKs. What
counts is what the receiving application got between --warm-up and --seconds after the connection was established.
"""
from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import goodput_peer  # noqa: E402

PAIRS = ("sim", "linux-linux", "iip-linux", "linux-iip", "iip-iip")
ALGORITHMS = ("reno", "cubic", "bbr", "dctcp")
USUAL = ALGORITHMS[:3]            # DCTCP needs queues that mark
RATE = 100e6
SENDER, RECEIVER = "10.66.0.1", "10.66.0.2"
MTU = 1500
QUEUE_MIN = 2 * 1514              # bytes: less holds nothing


class Between(NamedTuple):
    """What is between the two."""

    rtt: float                    # s
    loss: float
    reorder: float
    queue: float                  # bandwidth-delay products

    @property
    def queue_bytes(self) -> int:
        return max(QUEUE_MIN, int(self.queue * RATE * self.rtt / 8))

    @property
    def reorder_delay(self) -> float:
        return max(0.0005, self.rtt / 20)

    @property
    def buffer(self) -> int:
        """Bytes of a socket buffer that is not what limits."""
        return max(4 << 20, 4 * int(RATE * self.rtt / 8) + 4 * self.queue_bytes)


# -- the simulator ---------------------------------------------------------------------------------------------

def run_sim(path: Between, algorithm: str, options) -> tuple[float, int]:
    """Goodput in Mbit/s and retransmitted segments."""
    from iip.sim import BulkFlow, Simulation

    with Simulation(options.seed, packets=1 << 15) as sim:
        a, b = (sim.host(name, medium="ethernet", **goodput_peer.engine_settings(path.buffer, algorithm))
                for name in ("a", "b"))
        bad = {"loss": path.loss, "reorder": path.reorder, "reorder_delay": path.reorder_delay}
        sim.link(a, b, rate=RATE, delay=path.rtt / 2, queue=path.queue_bytes, limit=1 << 16, **bad,
                 back={"loss": 0.0, "reorder": 0.0})
        flow = BulkFlow(sim, a, b)
        sim.run(options.seconds + 2 * path.rtt)
        begin = flow.connected or 0.0
        return (flow.goodput(begin + options.warm_up, begin + options.seconds) / 1e6, flow.retransmits)


# -- network namespaces ----------------------------------------------------------------------------------------

def ip(*arguments: object) -> None:
    done = subprocess.run(["ip", *map(str, arguments)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(map(str, arguments))}: {done.stderr.strip()}")


@contextlib.contextmanager
def started(command, **settings):
    """A process that ends with the block, whatever happens."""
    process = subprocess.Popen([str(c) for c in command], text=True, cwd=ROOT,
                               env={**os.environ, "PYTHONPATH": str(ROOT)}, **settings)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


@contextlib.contextmanager
def namespaces():
    """Two of our own, by name; gone afterwards."""
    names = [f"iipgood{os.getpid()}{side}" for side in "lr"]
    made = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
            settings = {"net/ipv6/conf/default/disable_ipv6": "1", "net/ipv6/conf/all/disable_ipv6": "1",
                        "net/ipv4/tcp_rmem": "4096 131072 67108864", "net/ipv4/tcp_wmem": "4096 131072 67108864",
                        "net/ipv4/tcp_no_metrics_save": "1"}
            for key, value in settings.items():
                subprocess.run(["ip", "netns", "exec", name, "sh", "-c", f"echo '{value}' > /proc/sys/{key}"],
                               check=True, stderr=subprocess.DEVNULL)
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in made:
            ip("netns", "del", name)


def prepare(name: str, stack: str, address: str) -> None:
    """Make the wire's end ready: the kernel's address on it, or a bridge to iip's device."""
    ip("-n", name, "link", "set", "wire", "txqueuelen", "10000", "up")
    if stack == "linux":
        ip("-n", name, "address", "add", f"{address}/24", "dev", "wire")
        return
    ip("-n", name, "link", "add", "bridge", "type", "bridge")
    for device in ("wire", goodput_peer.DEVICE):
        ip("-n", name, "link", "set", device, "master", "bridge")
    ip("-n", name, "link", "set", goodput_peer.DEVICE, "txqueuelen", "10000", "up")
    ip("-n", name, "link", "set", "bridge", "up")


def wire_command(names, path: Between, seed: int, limit: float):
    return [sys.executable, "-m", "iip.cli.main", "wire", *(f"{name}:wire" for name in names), "--on", "there",
            "--rate", int(RATE), "--delay", path.rtt / 2, "--queue", path.queue_bytes, "--loss", path.loss, "--reorder",
            path.reorder, "--reorder-delay", path.reorder_delay, "--seed", seed, "--seconds", limit]


def peer_command(name, stack, role, algorithm, path: Between, options):
    return ["ip", "netns", "exec", name, sys.executable, ROOT / "bench" / "goodput_peer.py", stack, role,
            "--algorithm", algorithm, "--buffer", path.buffer, "--seconds", options.seconds, "--warm-up",
            options.warm_up, "--local", SENDER if role == "send" else RECEIVER, "--remote", RECEIVER]


def run_netns(stacks: tuple[str, str], path: Between, algorithm: str, options) -> tuple[float, int]:
    """Goodput in Mbit/s and retransmitted segments."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    limit = options.seconds + 60
    with namespaces() as names:
        for name, stack in zip(names, stacks, strict=True):
            ip("-n", name, "tuntap", "add", "wire", "mode", "tap")
            if stack == "iip":
                ip("-n", name, "tuntap", "add", goodput_peer.DEVICE, "mode", "tap")
        with started(["nice", "-n", "-10", *wire_command(names, path, options.seed, limit)], **quiet) as wire:
            line = wire.stderr.readline()
            if "joined" not in line:
                raise RuntimeError(f"the wire did not start: {line}{wire.stderr.read()}")
            for name, stack, address in zip(names, stacks, (SENDER, RECEIVER), strict=True):
                prepare(name, stack, address)
            pipe = {"stdout": subprocess.PIPE}
            with started(peer_command(names[1], stacks[1], "receive", algorithm, path, options), **pipe) as receiver:
                if receiver.stdout.readline().strip() != "ready":
                    raise RuntimeError("the receiver did not start")
                with started(peer_command(names[0], stacks[0], "send", algorithm, path, options), **pipe) as sender:
                    got, _ = receiver.communicate(timeout=limit)
                    sender.send_signal(signal.SIGINT)
                    sent, _ = sender.communicate(timeout=20)
    return json.loads(got)["mbit_per_s"], json.loads(sent)["retransmits"]


# -- the table -------------------------------------------------------------------------------------------------

def paths(options) -> list[Between]:
    """Every loss and queue for every round-trip time; reordering by itself, with the largest queue."""
    found = [Between(rtt, loss, 0.0, queue)
             for rtt, loss, queue in itertools.product(options.rtt, options.loss, options.queue)]
    found += [Between(rtt, 0.0, reorder, max(options.queue))
              for rtt, reorder in itertools.product(options.rtt, options.reorder) if reorder]
    return found


def usable(pair: str, algorithm: str) -> str | None:
    """Why this cannot be measured here, or None."""
    if pair != "sim" and os.geteuid() != 0:
        return "needs root"
    stacks = ("iip", "iip") if pair == "sim" else pair.split("-")
    if stacks[0] == "iip" and goodput_peer.iip_name(algorithm) is None:
        return f"iip has no {algorithm}"
    if stacks[0] == "linux" and algorithm not in goodput_peer.kernel_algorithms():
        return f"this kernel has no {algorithm}"
    return None


def measure(pair: str, path: Between, algorithm: str, options) -> dict[str, object]:
    """One row of the results: the median of the repetitions."""
    def once(seed):
        chosen = argparse.Namespace(**{**vars(options), "seed": seed})
        if pair == "sim":
            return run_sim(path, algorithm, chosen)
        return run_netns(tuple(pair.split("-")), path, algorithm, chosen)

    runs = [once(options.seed + i) for i in range(options.repeat)]
    rates = [rate for rate, _ in runs]
    return {"pair": pair, "algorithm": algorithm, "rtt_ms": path.rtt * 1e3, "loss": path.loss, "reorder": path.reorder,
            "queue_bdp": path.queue, "mbit_per_s": round(statistics.median(rates), 3), "low": round(min(rates), 3),
            "high": round(max(rates), 3), "retransmits": int(statistics.median(n for _, n in runs)),
            "runs": len(runs), "seconds": options.seconds}


def write(rows, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "goodput.json").write_text(json.dumps(rows, indent=1) + "\n")
    with open(directory / "goodput.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def markdown(rows) -> str:
    """One line a path and algorithm, one column a pair; Mbit/s, retransmissions in brackets."""
    pairs = [pair for pair in PAIRS if any(row["pair"] == pair for row in rows)]
    keys = ("algorithm", "rtt_ms", "queue_bdp", "loss", "reorder")
    cells = {}
    for row in rows:
        cells.setdefault(tuple(row[k] for k in keys), {})[row["pair"]] = row
    head = ["algorithm", "RTT, ms", "queue, BDP", "loss", "reordered", *pairs]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for (algorithm, rtt, queue, loss, reorder), found in cells.items():
        values = [f"{found[p]['mbit_per_s']:.1f} ({found[p]['retransmits']})" if p in found else "" for p in pairs]
        lines.append("| " + " | ".join([algorithm, f"{rtt:g}", f"{queue:g}", f"{loss:.1%}", f"{reorder:.0%}", *values])
                     + " |")
    return "\n".join(lines)


def parse(arguments=None):
    def numbers(text):
        return [float(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--algorithms", default=",".join(USUAL))
    parser.add_argument("--rtt", type=numbers, default=[0.01, 0.05, 0.2], help="seconds")
    parser.add_argument("--loss", type=numbers, default=[0, 0.001, 0.01, 0.03])
    parser.add_argument("--reorder", type=numbers, default=[0.05, 0.2])
    parser.add_argument("--queue", type=numbers, default=[0.1, 1], help="bandwidth-delay products")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--warm-up", type=float, default=2.0)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each cell, with seeds that follow --seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--quick", action="store_true", help="a few cells of three seconds")
    options = parser.parse_args(arguments)
    options.pairs, options.algorithms = options.pairs.split(","), options.algorithms.split(",")
    for name, known in (("pairs", PAIRS), ("algorithms", ALGORITHMS)):
        if wrong := [value for value in getattr(options, name) if value not in known]:
            parser.error(f"--{name}: {', '.join(wrong)} is unknown; choose from {', '.join(known)}")
    if options.quick:
        options.rtt, options.loss, options.reorder, options.queue = [0.01], [0, 0.01], [0.05], [1]
        options.seconds, options.warm_up = 3.0, 0.5
    if not 0 <= options.warm_up < options.seconds:
        parser.error("--warm-up must be shorter than --seconds")
    return options


def main() -> int:
    options = parse()
    rows, failed = [], 0
    for algorithm, pair in itertools.product(options.algorithms, options.pairs):
        if reason := usable(pair, algorithm):
            print(f"{pair} with {algorithm}: left out, {reason}", file=sys.stderr)
            continue
        for path in paths(options):
            begin = time.monotonic()
            try:
                row = measure(pair, path, algorithm, options)
            except (RuntimeError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
                print(f"{pair} {algorithm} {path}: failed: {error}", file=sys.stderr)
                failed += 1
                continue
            rows.append(row)
            print(f"{pair} {algorithm} rtt {row['rtt_ms']:g} ms, loss {path.loss:.1%}, reorder {path.reorder:.0%}, "
                  f"queue {path.queue:g} BDP: {row['mbit_per_s']} Mbit/s, {row['retransmits']} retransmissions "
                  f"({time.monotonic() - begin:.1f} s)", file=sys.stderr)
            write(rows, options.output)
    if not rows:
        print("nothing could be measured", file=sys.stderr)
        return 1
    print(markdown(rows))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
