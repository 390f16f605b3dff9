"""iperf3 from the kernel: to iip over a TAP device, and to the kernel over a veth pair, in turn.

    unshare -n python -m bench.iperf3 [--seconds 3] [--repeat 3] [--model split]     # into bench/results/iperf3.json

Both servers on one processor and iperf3's client on the other, both directions; medians of Gbit/s with the extremes, and how much
of its processor the client used. Needs root, iperf3 and two processors; measure on a machine that does nothing else.
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLIENT, SERVER = "0", "1"         # processors


def run(*words):
    subprocess.run(words, check=True, timeout=10)


@contextlib.contextmanager
def ended(process):
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def kernel():
    """The address of iperf3's server in another namespace, at the other end of a veth pair."""
    name = f"iipbench{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", name)
        run("ip", "address", "add", "10.8.0.1/24", "dev", "veth0")
        run("ip", "link", "set", "veth0", "up")
        inside = ["ip", "netns", "exec", name]
        run(*inside, "ip", "address", "add", "10.8.0.2/24", "dev", "veth1")
        run(*inside, "ip", "link", "set", "veth1", "up")
        with ended(subprocess.Popen([*inside, "taskset", "-c", SERVER, "iperf3", "-s"], stdout=subprocess.DEVNULL)):
            yield "10.8.0.2"
    finally:
        run("ip", "netns", "delete", name)


@contextlib.contextmanager
def stack(model, offload):
    """The address of `iip serve --iperf3` on a TAP device."""
    command = [sys.executable, "-m", "iip.cli.main", "serve", "--tap", "iipbench0", "--address", "10.9.0.2/24",
               "--host-address", "10.9.0.1/24", "--iperf3", "5201", "--model", model, "--json",
               *([] if offload else ["--no-offload"])]
    if model == "unified":
        command = ["taskset", "-c", SERVER, *command]
    with ended(subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)):
        yield "10.9.0.2"


def reachable(address):
    end = time.monotonic() + 20
    while subprocess.run(["ping", "-c1", "-W1", address], capture_output=True, timeout=10, check=False).returncode:
        if time.monotonic() > end:
            raise SystemExit(f"{address} does not answer")
        time.sleep(0.1)


def measure(address, seconds, direction):
    """Gbit/s that arrived, and the client's CPU in percent."""
    done = subprocess.run(["taskset", "-c", CLIENT, "iperf3", "-c", address, "-t", str(seconds), "-J", *direction],
                          capture_output=True, text=True, timeout=seconds + 30, check=False)
    report = json.loads(done.stdout)
    if "error" in report:
        raise SystemExit(f"iperf3 -c {address}: {report['error']}")
    return report["end"]["sum_received"]["bits_per_second"] / 1e9, report["end"]["cpu_utilization_percent"]["host_total"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model", default="unified", choices=["unified", "merge", "split"])
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "iperf3.json")
    options = parser.parse_args()
    rows = []
    with kernel() as there:
        for name, direction in {"from the client": (), "to the client": ("-R",)}.items():
            found = {"Linux over veth": [], "iip over TAP": [], "iip over TAP, no offload": []}
            for _ in range(options.repeat):
                reachable(there)
                found["Linux over veth"].append(measure(there, options.seconds, direction))
                for server, offload in (("iip over TAP", True), ("iip over TAP, no offload", False)):
                    with stack(options.model, offload) as here:
                        reachable(here)
                        found[server].append(measure(here, options.seconds, direction))
            for server, results in found.items():
                rates = sorted(rate for rate, _ in results)
                rows.append({"server": server, "direction": name, "gbit_per_s": rates,
                             "client_cpu_percent": statistics.median(cpu for _, cpu in results)})
                print(f"{name:16} {server:26} {statistics.median(rates):6.2f} Gbit/s ({rates[0]:.2f} ... {rates[-1]:.2f}), client "
                      f"{rows[-1]['client_cpu_percent']:.0f} %", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"model": options.model, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
