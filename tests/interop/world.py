"""The kernel on one side of a device, iip on the other; all of it in network namespaces of our own.

The device is TAP or TUN, whose other end is the kernel, or one end of a veth pair, whose other end the kernel uses.

`server` is `iip serve` in a process, as a user runs it, dual stack, one for the tests of a module per medium. `Local`
is an engine in the test's own thread, for what needs a look inside; the kernel's side then acts in threads.
"""
import contextlib
import hashlib
import ipaddress
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import NamedTuple

import pytest

import iip
from iip import drivers
from iip.drivers import AfPacket, AfXdp, Tap, Tun, device, ethtool
from iip.runtime.loop import run

ECHO, HTTP, DISCARD, CHARGEN, CLOSED = 7, 80, 9, 19, 81
BIG = 100_000_000


TUNTAP, VETH = ("tap", "tun"), ("af_packet", "af_xdp", "dpdk")
KINDS = TUNTAP + VETH


class Way(NamedTuple):
    """How the two talk."""

    kind: str         # of driver: one of KINDS
    version: int      # of IP

    @property
    def net(self):
        number = 8 + KINDS.index(self.kind)
        return f"10.{number}.0." if self.version == 4 else f"fd{number:02}::"

    @property
    def bits(self):
        return 24 if self.version == 4 else 64

    @property
    def family(self):
        return socket.AF_INET if self.version == 4 else socket.AF_INET6

    @property
    def iip(self):
        return f"{self.net}2"

    @property
    def kernel(self):
        return f"{self.net}1"

    @property
    def nobody(self):
        return f"{self.net}99"

    def url(self, path, host=None, port=HTTP):
        host = host or self.iip
        return f"http://{f'[{host}]' if self.version == 6 else host}:{port}/{path}"

    def addresses(self, side):
        """Both versions' addresses on this kind of device, with prefix lengths."""
        both = [Way(self.kind, 4), Way(self.kind, 6)]
        return tuple(f"{getattr(w, side)}/{w.bits}" for w in both)


WAYS = [Way(kind, version) for kind in TUNTAP for version in (4, 6)]
VETH_WAYS = [Way(kind, version) for kind in VETH for version in (4, 6)]


def plug(kind, number):
    """Make a veth pair if this kind of driver needs one, the kernel's end with its addresses; the name of our device."""
    name, host, way = f"iip{kind}{number}", f"host{kind}{number}", Way(kind, 4)
    if kind in VETH and name not in [n for _, n in socket.if_nameindex()]:
        commands = [f"link add {host} type veth peer name {name}", f"link set {name} addrgenmode none"]
        commands += [f"address add {a} dev {host} nodad" for a in way.addresses("kernel")]
        for command in [*commands, f"link set {host} up", f"link set {name} up"]:
            subprocess.run(["ip", *command.split()], check=True, timeout=10)
        if kind != "af_packet":   # nobody would finish them, or cut large frames
            ethtool.set_tx_checksum(host, False)
        device.wait_until_usable([ipaddress.ip_interface(a) for a in way.addresses("kernel")])
    return name


def dpdk_device(name):
    """DPDK's name for a device of the kernel; skip the test if this iip has no driver for DPDK."""
    need_dpdk()
    return f"net_af_packet{name[-1]},iface={name}"


def need_dpdk():
    pytest.importorskip("iip.drivers.dpdk", reason="built without DPDK (IIP_DPDK=1)", exc_type=ImportError)


def device_options(kind, number, ways):
    """Options of the commands: the device, and addresses for these ways."""
    name = plug(kind, number)
    if kind == "dpdk":
        name = dpdk_device(name)
    options = [f"--{kind}", name] if kind in TUNTAP else ["--driver", kind, "--device", name]
    for way in ways:
        options += ["--address", f"{way.iip}/{way.bits}"]
        if kind in TUNTAP:
            options += ["--host-address", f"{way.kernel}/{way.bits}"]
    return options


def need(*tools):
    """Skip unless these programs are there."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"needs the program {tool}")


def iip_command(*arguments):
    return [sys.executable, "-m", "iip.cli.main", *map(str, arguments)]


class Server:
    """`iip serve` in a process of its own."""

    def __init__(self, kind, root, *options):
        self.way = Way(kind, 4)
        arguments = ["serve", *device_options(kind, 0, [Way(kind, 4), Way(kind, 6)]), "--json", "--echo", ECHO, "--http", HTTP,
                     "--root", root, "--discard", DISCARD, "--chargen", CHARGEN, *options]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(iip_command(*arguments), stdout=subprocess.PIPE, stderr=self.errors, text=True)
        try:
            for version in (4, 6):
                self._wait(Way(kind, version).iip)
        except BaseException:
            self.kill()
            raise

    def _wait(self, address):
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection((address, DISCARD), timeout=2):
                return
            assert self.process.poll() is None, f"the server ended: {self.complaints()}"
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.05)

    def complaints(self):
        self.errors.seek(0)
        return self.errors.read()

    def statistics(self):
        """What SIGUSR1 makes it print: connections_open and counters."""
        before = len(self.complaints().splitlines())
        self.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            text = self.complaints()
            lines = text.splitlines()
            if len(lines) > before and text.endswith("\n"):
                return json.loads(lines[-1])
            time.sleep(0.01)
        raise AssertionError("SIGUSR1 printed no statistics")

    def stop(self):
        """End it as a user would; the result that it printed. Nothing may be left in its memory."""
        try:
            self.process.terminate()
            out, _ = self.process.communicate(timeout=10)
            assert self.process.returncode == 0, self.complaints()
        finally:
            self.kill()
        result = json.loads(out)
        assert result["packets_in_use"] == 0
        return result

    def kill(self):
        """Without a chance to tidy up."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def open_device(kind, name, mtu=None, offload=True):
    way = Way(kind, 4)
    if kind == "af_packet":
        return AfPacket(name, mtu=mtu, offload=offload)
    if kind == "af_xdp":
        return AfXdp(name, mtu=mtu, addresses=way.addresses("iip"))
    if kind == "dpdk":
        device = dpdk_device(name)
        return drivers.Dpdk(device, mtu=mtu, offload=offload)
    return (Tap if kind == "tap" else Tun)(name, host_address=way.addresses("kernel"), mtu=mtu, offload=offload)


class Local:
    """An engine in this thread. `until` runs it."""

    def __init__(self, kind, handler=None, wrap=None, packet_size=2048, device_mtu=None, offload=True, **settings):
        way = Way(kind, 4)
        self.device = open_device(kind, plug(kind, 1), device_mtu, offload)
        if kind in VETH:
            settings.setdefault("link_local", False)
        config = iip.Config(addresses=way.addresses("iip"), medium=self.device.medium, packet_size=packet_size,
                            **{"mtu": self.device.mtu, **settings})
        self.driver = self.device if wrap is None else wrap(self.device)
        self.engine = iip.Engine(config, handler or iip.Handler(), self.driver, seed=1)

    def until(self, condition, timeout=10):
        assert run(self.engine, duration=timeout, stop=condition) == "stop", "it did not happen in time"

    def run(self, seconds):
        run(self.engine, duration=seconds)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pool = self.engine.pool
        self.engine.close()
        self.driver.close()
        if exc[0] is None:
            assert pool.full


class Kernel(threading.Thread):
    """The kernel's side of a test, a function in a thread; `result()` waits for what it returns or raises."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self.function, self.arguments = function, arguments
        self.error = self.value = None
        self.start()

    def run(self):
        try:
            self.value = self.function(*self.arguments)
        except BaseException as error:
            self.error = error

    def done(self):
        return not self.is_alive()

    def result(self, timeout=10):
        self.join(timeout)
        assert not self.is_alive(), "the kernel's side does not end"
        if self.error is not None:
            raise self.error
        return self.value


def listen(way, port, backlog=256):
    sock = socket.socket(way.family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((way.kernel, port))
    sock.listen(backlog)
    sock.settimeout(10)
    return sock


def connect(way, port, timeout=10):
    return socket.create_connection((way.iip, port), timeout=timeout)


def sha256(path):
    with open(path, "rb") as f:
        digest = hashlib.sha256()
        while block := f.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def iperf3(netns, local, *arguments):
    """What iperf3's client reports at the end, while `local` runs."""
    client = netns.start("iperf3", *arguments, "--json", stdout=-1, stderr=-2, text=True)
    try:
        local.until(lambda: client.poll() is not None, 30)
        out = client.stdout.read()
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
    assert client.returncode == 0, out
    return json.loads(out)["end"]
