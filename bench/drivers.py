"""Packets per second of each driver, against a plain C program that uses the same interface of the kernel.

    unshare -n python -m bench.drivers                                     # into bench/results/drivers.json
    unshare -n python -m bench.drivers --only af_xdp --size 60 --seconds 1 --repeat 3

Frames are sent into the device (bench/peers/flood.c) and come back, either by iip's driver (`DriverProbe.reflect`) or by C
(bench/peers/reflect.c, reflect_dpdk.c), in turn; some are on their way all the time. Printed are frames per second and the
reflector's CPU time per frame, medians with the extremes. DPDK never sleeps, so that its CPU time says nothing. Needs root and
two processors; measure on a machine that does nothing else.
"""
import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.peers.build import HERE, Absent, compiled, need

ROOT = Path(__file__).parents[1]
KINDS = ("tap", "af_packet", "af_xdp", "dpdk")
OURS, THEIRS = "iipbench0", "iipbench1"


def device(kind):
    """Make it; the name of the end that frames are sent into."""
    def ip(*words):
        subprocess.run(["ip", *words], check=True, timeout=10)
    if kind == "tap":
        ip("tuntap", "add", "dev", OURS, "mode", "tap")
    else:
        ip("link", "add", OURS, "type", "veth", "peer", "name", THEIRS)
        ip("link", "set", THEIRS, "addrgenmode", "none", "up")
    ip("link", "set", OURS, "addrgenmode", "none", "up")
    return OURS if kind == "tap" else THEIRS


def reflect(kind, seconds):
    """What reflect.c does, by iip."""
    from iip.drivers import AfPacket, AfXdp, DriverProbe, Tap
    from iip.memory.pool import PacketPool

    def dpdk():
        from iip.drivers.dpdk import Dpdk
        return Dpdk(f"net_af_packet0,iface={OURS}")

    driver = {"tap": lambda: Tap(OURS, offload=False), "af_packet": lambda: AfPacket(OURS, offload=False),
              "af_xdp": lambda: AfXdp(OURS), "dpdk": dpdk}[kind]()
    probe = DriverProbe(driver, PacketPool(packets=8192))
    before = resource.getrusage(resource.RUSAGE_SELF)
    frames = probe.reflect(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    driver.close()
    print(frames, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def on(cpu, command, *arguments):
    return ["taskset", "-c", str(cpu), *command, *map(str, arguments)]


def once(kind, reflector, flood, size, options):
    """Frames per second, and ns of CPU per frame."""
    end, settle = device(kind), 2 if kind == "dpdk" else 1
    try:
        arguments = [kind, *([OURS] if len(reflector) == 1 else []), options.seconds + 1 + settle]
        first = subprocess.Popen(on(options.cpu[0], reflector, *arguments), text=True, stdout=subprocess.PIPE, cwd=ROOT)
        time.sleep(settle)
        second = subprocess.run(on(options.cpu[1], flood, end, size, options.seconds, options.window), text=True, check=True,
                                capture_output=True, timeout=60 + options.seconds)
        out, _ = first.communicate(timeout=60)
        if first.returncode:
            raise SystemExit(f"{kind}: {' '.join(reflector)} failed")
    finally:
        subprocess.run(["ip", "link", "delete", OURS], check=False, timeout=10)
    back, seconds = second.stdout.split()
    frames, cpu = out.split()
    return int(back) / float(seconds), float(cpu) * 1e9 / max(1, int(frames))


def built(place, kinds):
    """The C programs, by name; without DPDK's where it is not asked for and cannot be built."""
    programs = {}
    for name in ("flood", "reflect", "reflect_dpdk"):
        try:
            more = dpdk_flags() if name == "reflect_dpdk" else []
            programs[name] = compiled(["cc", "-O2", "-o", Path(place) / name, HERE / f"{name}.c", *more], Path(place) / name)
        except (Absent, FileNotFoundError) as reason:
            if name != "reflect_dpdk" or kinds == ["dpdk"]:
                raise SystemExit(f"{name}.c: {reason}") from None
            print(f"dpdk: left out, {reason}", file=sys.stderr)
    return programs


def dpdk_flags():
    need(importlib.util.find_spec("iip.drivers.dpdk.driver"), "iip is built without it (IIP_DPDK=1)")
    return subprocess.run(["pkg-config", "--cflags", "--libs", "libdpdk"], check=True, capture_output=True,
                          text=True).stdout.split()


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=KINDS)
    parser.add_argument("--size", type=int, action="append", help="bytes of a frame; default 60 and 1514")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--window", type=int, default=256, help="frames on their way")
    parser.add_argument("--cpu", type=int, nargs=2, default=(0, os.cpu_count() - 1), help="of the reflector and of the sender")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "drivers.json")
    parser.add_argument("--reflect", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reflect:
        reflect(options.reflect[0], float(options.reflect[1]))
        return
    rows = []
    with tempfile.TemporaryDirectory() as place:
        kinds = options.only or list(KINDS)
        programs = built(place, kinds)
        for kind in kinds:
            if kind == "dpdk" and "reflect_dpdk" not in programs:
                continue
            sides = {"C": programs["reflect_dpdk" if kind == "dpdk" else "reflect"],
                     "iip": [sys.executable, "-m", "bench.drivers", "--reflect"]}
            for size in options.size or (60, 1514):
                rows.append(row(kind, size, sides, programs["flood"], options))
                print("{driver:10} {size:5} B   iip {iip[rate][median]:10,.0f}/s {iip[cpu][median]:6.0f} ns   "
                      "C {C[rate][median]:10,.0f}/s {C[cpu][median]:6.0f} ns   "
                      "ratio {ratio:.2f}, CPU {cpu_ratio:.2f}".format(**rows[-1]))
    result = {"seconds": options.seconds, "repeat": options.repeat, "window": options.window, "rows": rows}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def row(kind, size, sides, flood, options):
    rates, cpus = {name: [] for name in sides}, {name: [] for name in sides}
    for _ in range(options.repeat):
        for name, reflector in sides.items():
            rate, cpu = once(kind, reflector, flood, size, options)
            rates[name].append(rate)
            cpus[name].append(cpu)
    found = {"driver": kind, "size": size}
    for name in sides:
        found[name] = {"rate": spread(rates[name]), "cpu": spread(cpus[name])}
    found["ratio"] = found["iip"]["rate"]["median"] / found["C"]["rate"]["median"]
    found["cpu_ratio"] = found["iip"]["cpu"]["median"] / found["C"]["cpu"]["median"]
    return found


if __name__ == "__main__":
    main()
