"""Goodput of iip and of the Linux kernel over the same bad paths, side by side.

    sudo python bench/goodput.py                        # CUBIC and BBR, 18 minutes; results into bench/results
    sudo python bench/goodput.py --full --pairs linux-linux,iip-linux,linux-iip    # every cell, 45 minutes
    python bench/goodput.py --quick --pairs sim         # some cells, seconds
    python bench/goodput.py --pairs sim --rtt 0.01,0.2  # only the simulator

Pairs, sender first: `sim` (iip to iip in the simulator), and over `iip wire` between two network namespaces
`linux-linux`, `iip-linux`, `linux-iip`, `iip-iip` (root). Losses and reordering meet the data, not the ACKs. What
counts is what the receiving application got between --warm-up and --seconds after the connection was established:
80 round trips and at least 8 s, of which the first quarter only warms up. At 50 ms and below that is some hundred
packets lost in a cell with 1 % loss and repeats within some per cent; with 0.1 % loss or 200 ms it is a handful
for CUBIC, and --seconds 60 or --repeat 5 is what it takes.

With --flows, that many flows of which half are the kernel's and half iip's share a bottleneck (the default: 2 and 10).
Every cell is kept in goodput.jsonl as soon as it is measured, and a run that broke off goes on behind it.
"""
from __future__ import annotations

import argparse
import contextlib
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
import goodput_report  # noqa: E402

PAIRS = ("sim", "linux-linux", "iip-linux", "linux-iip", "iip-iip")
ALGORITHMS = ("reno", "cubic", "bbr", "dctcp")
USUAL_PAIRS = ("linux-linux", "iip-linux")
USUAL = ("cubic", "bbr")
MIXED = "linux+iip"               # flows of both over one bottleneck
RATE = 100e6
SENDER, RECEIVER, SECOND = "10.66.0.1", "10.66.0.2", "10.66.0.3"
SHARED_RTT, SHARED_SECONDS = 0.05, 25.0
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


class Cell(NamedTuple):
    """One measurement."""

    pair: str
    algorithm: str
    path: Between
    flows: int = 1

    def seconds(self, options) -> float:
        return options.seconds or (SHARED_SECONDS if self.flows > 1 else max(8.0, 80 * self.path.rtt))

    def warm_up(self, options) -> float:
        return self.seconds(options) / 4 if options.warm_up is None else options.warm_up

    def key(self, options) -> dict[str, object]:
        """What it is, in the results."""
        return {"pair": self.pair, "algorithm": self.algorithm, "rtt_ms": self.path.rtt * 1e3, "loss": self.path.loss,
                "reorder": self.path.reorder, "queue_bdp": self.path.queue, "flows": self.flows,
                "seconds": self.seconds(options), "warm_up": self.warm_up(options), "seed": options.seed,
                "runs": options.repeat}

    def __str__(self) -> str:
        return (f"{self.pair} {self.algorithm} rtt {self.path.rtt * 1e3:g} ms, loss {self.path.loss:.1%}, reorder "
                f"{self.path.reorder:.0%}, queue {self.path.queue:g} BDP" + (f", {self.flows} flows" if self.flows > 1 else ""))


# -- the simulator ---------------------------------------------------------------------------------------------

def run_sim(cell: Cell, seed: int, options) -> dict[str, object]:
    """Goodput in Mbit/s and retransmitted segments."""
    from iip.sim import BulkFlow, Simulation

    path, seconds = cell.path, cell.seconds(options)
    with Simulation(seed, packets=1 << 15) as sim:
        a, b = (sim.host(name, medium="ethernet", **goodput_peer.engine_settings(path.buffer, cell.algorithm))
                for name in ("a", "b"))
        bad = {"loss": path.loss, "reorder": path.reorder, "reorder_delay": path.reorder_delay}
        sim.link(a, b, rate=RATE, delay=path.rtt / 2, queue=path.queue_bytes, limit=1 << 16, **bad,
                 back={"loss": 0.0, "reorder": 0.0})
        flow = BulkFlow(sim, a, b)
        sim.run(seconds + 2 * path.rtt)
        begin = flow.connected or 0.0
        return {"mbit_per_s": flow.goodput(begin + cell.warm_up(options), begin + seconds) / 1e6,
                "retransmits": flow.retransmits}


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


def prepare(name: str, stacks: tuple[str, ...], address: str) -> None:
    """Make the wire's end ready: the kernel's address on it, or a bridge to iip's device, or both."""
    device = "wire"
    ip("-n", name, "link", "set", "wire", "txqueuelen", "10000", "up")
    if "iip" in stacks:
        device = "bridge"
        ip("-n", name, "link", "add", "bridge", "type", "bridge")
        for port in ("wire", goodput_peer.DEVICE):
            ip("-n", name, "link", "set", port, "master", "bridge")
        ip("-n", name, "link", "set", goodput_peer.DEVICE, "txqueuelen", "10000", "up")
        ip("-n", name, "link", "set", "bridge", "up")
    if "linux" in stacks:
        ip("-n", name, "address", "add", f"{address}/24", "dev", device)


def wire_command(names, path: Between, seed: int, limit: float):
    return [sys.executable, "-m", "iip.cli.main", "wire", *(f"{name}:wire" for name in names), "--on", "there",
            "--rate", int(RATE), "--delay", path.rtt / 2, "--queue", path.queue_bytes, "--loss", path.loss, "--reorder",
            path.reorder, "--reorder-delay", path.reorder_delay, "--seed", seed, "--seconds", limit]


def peer_command(name, stack, role, cell: Cell, local, flows, options):
    return ["ip", "netns", "exec", name, sys.executable, ROOT / "bench" / "goodput_peer.py", stack, role,
            "--algorithm", cell.algorithm, "--buffer", cell.path.buffer, "--seconds", cell.seconds(options), "--warm-up",
            cell.warm_up(options), "--local", local, "--remote", RECEIVER, "--flows", flows]


@contextlib.contextmanager
def joined(senders: tuple[str, ...], receiver: str, path: Between, seed: int, limit: float):
    """Two namespaces and the wire between them; their names."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with namespaces() as names:
        ends = list(zip(names, (senders, (receiver,)), (SENDER, RECEIVER), strict=True))
        for name, stacks, _ in ends:
            ip("-n", name, "tuntap", "add", "wire", "mode", "tap")
            if "iip" in stacks:
                ip("-n", name, "tuntap", "add", goodput_peer.DEVICE, "mode", "tap")
        with started(["nice", "-n", "-10", *wire_command(names, path, seed, limit)], **quiet) as wire:
            line = wire.stderr.readline()
            if "joined" not in line:
                raise RuntimeError(f"the wire did not start: {(line + wire.stderr.read()).strip().splitlines()[-1:]}")
            for end in ends:
                prepare(*end)
            yield names


def run_netns(cell: Cell, seed: int, options) -> dict[str, object]:
    """Goodput in Mbit/s and retransmitted segments; of several flows also the goodput of each, and who sent it."""
    *senders, target = ("linux", "iip", "linux") if cell.pair == MIXED else cell.pair.split("-")
    limit, pipe = cell.seconds(options) + 60, {"stdout": subprocess.PIPE}
    with joined(tuple(senders), target, cell.path, seed, limit) as names, contextlib.ExitStack() as ends:
        receiver = ends.enter_context(
            started(peer_command(names[1], target, "receive", cell, RECEIVER, cell.flows, options), **pipe))
        if receiver.stdout.readline().strip() != "ready":
            raise RuntimeError("the receiver did not start")
        running = [ends.enter_context(started(
            peer_command(names[0], stack, "send", cell, address, cell.flows // len(senders), options), **pipe))
            for stack, address in zip(senders, (SENDER, SECOND), strict=False)]
        got, _ = receiver.communicate(timeout=limit)
        retransmits = 0
        for sender in running:
            sender.send_signal(signal.SIGINT)
            sent, _ = sender.communicate(timeout=20)
            retransmits += json.loads(sent)["retransmits"]
    return {**json.loads(got), "retransmits": retransmits}


# -- the table -------------------------------------------------------------------------------------------------

def paths(options) -> list[Between]:
    """Every loss with the largest queue, the smaller ones without loss, the worst reordering by itself; with --full every
    loss with every queue, and every reordering."""
    largest = max(options.queue)
    found = [Between(rtt, loss, 0.0, queue)
             for rtt, loss, queue in itertools.product(options.rtt, options.loss, options.queue)
             if options.full or queue == largest or loss == min(options.loss)]
    reorder = [r for r in options.reorder if r and (options.full or r == max(options.reorder))]
    return found + [Between(rtt, 0.0, share, largest) for rtt, share in itertools.product(options.rtt, reorder)]


def cells(options) -> list[Cell]:
    """Pairs alternate, so that a ratio is of runs that are close in time."""
    found = [Cell(pair, algorithm, path) for algorithm, path, pair in
             itertools.product(options.algorithms, paths(options), options.pairs)]
    if set(options.pairs) - {"sim"}:
        shared = Between(SHARED_RTT, 0.0, 0.0, 1.0)
        found += [Cell(MIXED, algorithm, shared, n) for algorithm, n in itertools.product(options.algorithms, options.flows)]
    return found


def usable(pair: str, algorithm: str) -> str | None:
    """Why this cannot be measured here, or None."""
    if pair != "sim" and os.geteuid() != 0:
        return "needs root"
    stacks = {"sim": ("iip",), MIXED: ("iip", "linux")}.get(pair) or (pair.split("-")[0],)
    if "iip" in stacks and goodput_peer.iip_name(algorithm) is None:
        return f"iip has no {algorithm}"
    if "linux" in stacks and algorithm not in goodput_peer.kernel_algorithms():
        return f"this kernel has no {algorithm}"
    return None


def shares(run: dict) -> dict[str, float]:
    """Jain's index of several flows, and what a flow of iip's has in parts of a fair share."""
    each = run["each"]
    ours = [rate for rate, sender in zip(each, run["senders"], strict=True) if sender == SECOND]
    mean = sum(each) / len(each)
    return {"jain": round(sum(each) ** 2 / (len(each) * sum(rate * rate for rate in each)), 3),
            "share": round(sum(ours) / len(ours) / mean, 3), "each": [round(rate, 3) for rate in each]}


def measure(cell: Cell, options) -> dict[str, object]:
    """One row of the results: the median of the repetitions."""
    once = run_sim if cell.pair == "sim" else run_netns
    runs = [once(cell, options.seed + i, options) for i in range(options.repeat)]
    rates = [run["mbit_per_s"] for run in runs]
    row = {**cell.key(options), "mbit_per_s": round(statistics.median(rates), 3), "low": round(min(rates), 3),
           "high": round(max(rates), 3), "retransmits": int(statistics.median(run["retransmits"] for run in runs))}
    return row if cell.flows == 1 else {**row, **shares(runs[0])}


def known(rows, cell: Cell, options) -> bool:
    wanted = cell.key(options)
    return any(all(row.get(k) == value for k, value in wanted.items()) for row in rows)


def keep(row, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "goodput.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")


def parse(arguments=None):
    def numbers(text):
        return [float(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default=",".join(USUAL_PAIRS))
    parser.add_argument("--algorithms", default=",".join(USUAL))
    parser.add_argument("--rtt", type=numbers, default=[0.01, 0.05, 0.2], help="seconds")
    parser.add_argument("--loss", type=numbers, default=[0, 0.001, 0.01, 0.03])
    parser.add_argument("--reorder", type=numbers, default=[0.05, 0.2])
    parser.add_argument("--queue", type=numbers, default=[0.1, 1], help="bandwidth-delay products")
    parser.add_argument("--flows", type=numbers, default=[2, 10], help="even numbers of flows that share a bottleneck; 0: none")
    parser.add_argument("--full", action="store_true", help="every loss with every queue, and every reordering")
    parser.add_argument("--seconds", type=float, help="of every cell")
    parser.add_argument("--warm-up", type=float, help="of these, before counting begins (default: a quarter)")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each cell, with seeds that follow --seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--plots", type=Path, help="where pictures go, PNG and SVG (needs matplotlib)")
    parser.add_argument("--quick", action="store_true", help="a few cells of three seconds")
    options = parser.parse_args(arguments)
    options.pairs, options.algorithms = options.pairs.split(","), options.algorithms.split(",")
    for name, right in (("pairs", PAIRS), ("algorithms", ALGORITHMS)):
        if wrong := [value for value in getattr(options, name) if value not in right]:
            parser.error(f"--{name}: {', '.join(wrong)} is unknown; choose from {', '.join(right)}")
    if options.quick:
        options.rtt, options.loss, options.reorder, options.queue, options.flows = [0.01], [0, 0.01], [0.05], [1], []
        options.seconds, options.warm_up = 3.0, 0.5
    options.flows = [int(n) for n in options.flows if n]
    if any(n % 2 for n in options.flows):
        parser.error("--flows must be even: half of them are iip's")
    if options.warm_up is not None and not 0 <= options.warm_up < (options.seconds or 8.0):
        parser.error("--warm-up must be shorter than --seconds")
    return options


def run(chosen: list[Cell], rows: list[dict], options) -> int:
    """Measure what is not known yet; how many failed."""
    failed = 0
    for cell in chosen:
        if known(rows, cell, options):
            print(f"{cell}: measured before", file=sys.stderr)
            continue
        begin = time.monotonic()
        try:
            row = measure(cell, options)
        except (RuntimeError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            print(f"{cell}: failed: {error}", file=sys.stderr)
            failed += 1
            continue
        rows.append(row)
        keep(row, options.output)
        print(f"{cell}: {row['mbit_per_s']} Mbit/s, {row['retransmits']} retransmissions "
              f"({time.monotonic() - begin:.1f} s)", file=sys.stderr)
    return failed


def main() -> int:
    options = parse()
    if options.fresh:
        (options.output / "goodput.jsonl").unlink(missing_ok=True)
    rows, chosen = goodput_report.read(options.output), []
    reasons = {}
    for cell in cells(options):
        which = (cell.pair, cell.algorithm)
        if which not in reasons:
            reasons[which] = usable(*which)
            if reasons[which]:
                print(f"{cell.pair} with {cell.algorithm}: left out, {reasons[which]}", file=sys.stderr)
        if not reasons[which]:
            chosen.append(cell)
    failed = run(chosen, rows, options)
    rows = [row for row in rows if any(known([row], cell, options) for cell in chosen)]
    if not rows:
        print("nothing could be measured", file=sys.stderr)
        return 1
    print(goodput_report.markdown(rows))
    goodput_report.write(rows, options.output)
    if options.plots:
        goodput_report.plot(rows, options.plots)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
