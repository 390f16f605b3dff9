"""Servers by iip beside the usual ones on the kernel, over the same veth pair: HTTP with nginx, a cache with memcached.

    unshare -n python -m bench.servers                                     # into bench/results/servers.{json,md}
    unshare -n python -m bench.servers --only "iip, af_packet" --kind http --seconds 1 --repeat 1

The server has one end of the pair in a network namespace of its own, the client (wrk; bench/peers/cacheload.c) is on the kernel at
the other end. Each server runs with one and with two queues, threads or processes, all in turn, medians with the extremes. XDP
has no offloads, so that they are off at the client for it; the usual servers run both ways. Needs root; what is not installed is
left out, with the reason. Measure on a machine that does nothing else: server and client share its processors.
"""
import argparse
import contextlib
import json
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.peers.build import HERE, Absent, compiled, need
from iip.drivers import ethtool
from iip.drivers.device import bring_up

ROOT = Path(__file__).parents[1]
CLIENT, SERVER = "iipbench0", "iipbench1"
ADDRESS, PORTS = "10.9.0.2", {"http": 80, "cache": 11211}
SERVERS = ("iip, af_packet", "iip, af_xdp", "usual", "usual, no offload")
USUAL = {"http": "nginx", "cache": "memcached"}
NGINX = """daemon off; worker_processes {n}; user root; pid {place}/pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
    client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c; uwsgi_temp_path {place}/d;
    scgi_temp_path {place}/e;
    server {{ listen {port}{reuse}; root {place}; }}
}}
"""


class Case(NamedTuple):
    kind: str                     # "http" or "cache"
    server: str                   # one of SERVERS
    n: int                        # queues, processes or threads

    @property
    def name(self):
        return self.server.replace("usual", USUAL[self.kind])


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True, timeout=10)


@contextlib.contextmanager
def ended(process):
    """A process that is over afterwards."""
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def pair(case):
    """The veth pair, one end in a namespace of its own: how a command is started in there."""
    with ended(subprocess.Popen(["unshare", "-n", "sleep", "infinity"])) as holder:
        inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        own, deadline = Path("/proc/self/ns/net").readlink(), time.monotonic() + 10
        while Path(f"/proc/{holder.pid}/ns/net").readlink() == own:
            if time.monotonic() > deadline:
                raise SystemExit("unshare makes no network namespace")
            time.sleep(0.01)
        queues = [word for side in ("numtxqueues", "numrxqueues") for word in (side, case.n)]
        ip("link", "add", CLIENT, *queues, "type", "veth", "peer", "name", SERVER, *queues)
        try:
            ip("address", "add", ADDRESS.replace(".2", ".1") + "/24", "dev", CLIENT)
            if case.server in ("iip, af_xdp", "usual, no offload"):
                for name in (CLIENT, SERVER):
                    ethtool.set_tx_checksum(name, False)
            ip("link", "set", SERVER, "netns", holder.pid)
            ip("link", "set", CLIENT, "up")
            for words in ([] if case.server.startswith("iip") else [f"address add {ADDRESS}/24 dev {SERVER}"]) + [
                    f"link set {SERVER} addrgenmode none up", "link set lo up"]:
                subprocess.run([*inside, "ip", *words.split()], check=True, timeout=10)
            yield inside
        finally:
            subprocess.run(["ip", "link", "delete", CLIENT], check=False, timeout=10)


def command(case, place):
    """How the server is started."""
    port = PORTS[case.kind]
    if case.server.startswith("iip"):
        job = ["--http", port, "--root", place] if case.kind == "http" else ["--memcached", port]
        return [sys.executable, "-m", "iip.cli.main", "serve", "--driver", case.server.split()[-1], "--device", SERVER,
                "--address", f"{ADDRESS}/24", "--queues", case.n, "--json", *job]
    if case.kind == "cache":
        return ["memcached", "-u", "root", "-t", case.n, "-p", port, "-U", 0]
    config = Path(place) / "nginx.conf"
    config.write_text(NGINX.format(n=case.n, place=place, port=port, reuse=" reuseport" if case.n > 1 else ""))
    return ["nginx", "-p", place, "-c", config]


def wait_for(process, port):
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), timeout=1):
            return
        if process.poll() is not None:
            raise SystemExit(f"the server ended: {process.communicate()[1][-500:]}")
        if time.monotonic() > deadline:
            raise SystemExit("the server does not answer")
        time.sleep(0.05)


def http_load(options, place):
    seconds = max(1, round(options.seconds))
    done = subprocess.run(["wrk", "-t", "1", "-c", str(options.connections), "-d", f"{seconds}s", "--latency",
                           f"http://{ADDRESS}/file"], check=True, capture_output=True, text=True, timeout=60 + seconds)
    failed = re.search(r"(Socket errors: .*|Non-2xx.*)", done.stdout)
    if failed and not re.search(r"connect 0, read 0, write 0, timeout 0", failed[1]):
        raise SystemExit(f"wrk: {failed[1]}")
    units = {"us": 1, "ms": 1e3, "s": 1e6}
    latency = {share: float(value) * units[unit] for share, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", done.stdout)}
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1]), latency["50"], latency["99"]


def cache_load(options, place):
    out = subprocess.run([Path(place) / "cacheload", ADDRESS, str(PORTS["cache"]), str(options.connections), str(options.size),
                          str(options.seconds)], check=True, capture_output=True, text=True, timeout=60 + options.seconds).stdout
    requests, seconds, median, most = map(float, out.split())
    return requests / seconds, median, most


def once(case, options, place):
    """Requests per second, and the median and 99th percentile of their latency, µs."""
    with pair(case) as inside:
        process = subprocess.Popen([str(word) for word in [*inside, *command(case, place)]], cwd=ROOT, text=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with ended(process):
            wait_for(process, PORTS[case.kind])
            return (http_load if case.kind == "http" else cache_load)(options, place)


def absent(case, place):
    """Why this case cannot be run; None if it can."""
    try:
        if case.kind == "http":
            need(shutil.which("wrk"), "no wrk: apt install wrk")
        else:
            need(shutil.which("cc"), "no C compiler")
            program = Path(place) / "cacheload"
            if not program.exists():
                compiled(["cc", "-O2", "-o", program, HERE / "cacheload.c"], program)
        if case.server.startswith("usual"):
            package = {"http": "nginx-light", "cache": "memcached"}[case.kind]
            need(shutil.which(USUAL[case.kind]), f"no {USUAL[case.kind]}: apt install {package}")
    except Absent as reason:
        return str(reason)
    return None


def measured(cases, options, place):
    """A row for each case; all of them once, then all again."""
    found = {case: [] for case in cases}
    for round_ in range(options.repeat):
        for case in cases:
            found[case].append(once(case, options, place))
            print(f"{round_ + 1}/{options.repeat} {case.kind:5} {case.name:22} {case.n}   {found[case][-1][0]:10,.0f}/s   "
                  f"median {found[case][-1][1]:6,.0f} µs   99 % {found[case][-1][2]:8,.0f} µs", file=sys.stderr)
    for case, runs in found.items():
        rates, medians, mosts = zip(*runs, strict=True)
        yield {"kind": case.kind, "server": case.name, "n": case.n, "runs": len(runs), "rate": statistics.median(rates),
               "low": min(rates), "high": max(rates), "median_us": statistics.median(medians), "p99_us": statistics.median(mosts)}


def markdown(rows, missing):
    lines = ["| | server | queues, threads, processes | requests/s | median, µs | 99 %, µs |", "|---" * 6 + "|"]
    row = "| {kind} | {server} | {n} | {rate:,.0f} ({low:,.0f} … {high:,.0f}) | {median_us:,.0f} | {p99_us:,.0f} |"
    lines += [row.format(**values) for values in rows]
    return "\n".join([*lines, "", *(f"{name}: left out, {reason}" for name, reason in missing.items()), ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=list(PORTS))
    parser.add_argument("--only", action="append", choices=SERVERS, help="usual: nginx, or memcached")
    parser.add_argument("--queues", type=int, action="append", help="default 1 and 2")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=1000, help="bytes of the file, or value")
    parser.add_argument("--seconds", type=float, default=5, help="for wrk whole ones")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results", help="directory")
    options = parser.parse_args()
    bring_up("lo")
    missing, cases = {}, []
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        (Path(place) / "file").write_bytes(b"x" * options.size)
        for kind in options.kind or PORTS:
            for server in options.only or SERVERS:
                for n in options.queues or (1, 2):
                    case = Case(kind, server, n)
                    reason = absent(case, place)
                    if reason is None:
                        cases.append(case)
                    else:
                        missing[f"{kind}, {case.name}"] = reason
        rows = list(measured(cases, options, place))
    for name, reason in missing.items():
        print(f"{name}: left out, {reason}", file=sys.stderr)
    conditions = {name: getattr(options, name) for name in ("connections", "size", "seconds", "repeat")}
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "servers.json").write_text(json.dumps({**conditions, "absent": missing, "rows": rows}, indent=1) + "\n")
    (options.output / "servers.md").write_text(markdown(rows, missing))
    print(markdown(rows, missing))
    if not rows:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
