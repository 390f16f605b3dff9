"""The wire between two TAP devices, in real time: kernel to kernel, in namespaces of our own."""
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from iip.drivers import Impair, Impairments, MemoryLink, Tap, Tun, Tunnel
from iip.drivers.netns import namespace
from iip.drivers.wire import Wire
from iip.errors import ConfigError, DriverError
from tests.harness.netns import _why_not

pytestmark = pytest.mark.interop


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)


@pytest.fixture
def places():
    """Two named namespaces."""
    if reason := _why_not():
        pytest.skip(reason)
    names = [f"iipw{os.getpid()}{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        yield names
    finally:
        for name in names:
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


@contextlib.contextmanager
def running(places, **settings):
    """A wire between a TAP in each of the two, that runs in a thread."""
    devices = []
    for i, name in enumerate(places, 1):
        with namespace(name):
            devices.append(Tap("tap0", host_address=f"10.5.0.{i}/24"))
    wire = Wire(*devices, seed=1, **settings)
    stop = threading.Event()
    thread = threading.Thread(target=wire.run, args=(60, stop))
    thread.start()
    try:
        yield wire
    finally:
        stop.set()
        thread.join(10)
        wire.close()
        for device in devices:
            device.close()
    assert not thread.is_alive() and wire.pool.full


def ping(place, count=10, interval=0.02):
    """Replies and round-trip times in ms."""
    done = subprocess.run(["ip", "netns", "exec", place, "ping", "-c", str(count), "-i", str(interval), "-W", "1",
                           "10.5.0.2"], capture_output=True, text=True, timeout=30, check=False)
    return [float(t) for t in re.findall(r"time=([\d.]+)", done.stdout)]


def test_frames_pass_both_ways_at_once(places):
    with running(places) as wire:
        times = ping(places[0])
        assert len(times) == 10 and min(times) < 5
        assert wire.stats()["there"]["packets"] >= 10 <= wire.stats()["back"]["packets"]


def test_delay(places):
    slow = Impairments(delay=0.02)
    with running(places, there=slow, back=slow):
        times = sorted(ping(places[0]))
        assert len(times) == 10 and times[0] >= 40.0
        assert times[len(times) // 2] < 60               # on a machine with other things to do


def test_losses_in_one_direction(places):
    with running(places, there=Impairments(loss=0.3)) as wire:
        replies = len(ping(places[0], 100, 0.005))
        stats = wire.stats()
        assert 45 <= replies <= 88 and stats["there"]["lost"] >= 100 - replies and stats["back"]["lost"] == 0


def test_a_stream_arrives_unaltered_and_at_the_rate(places):
    slow = Impairments(rate=40e6, delay=0.002, loss=0.002, reorder=0.01, duplicate=0.01, corrupt=0.002)
    data = os.urandom(1 << 20) * 4
    with running(places, there=slow, back=Impairments(delay=0.002)):
        with namespace(places[1]):
            server = socket.create_server(("10.5.0.2", 5001))
        with namespace(places[0]):
            client = socket.socket()
        with server, client:
            server.settimeout(10)
            client.settimeout(20)
            client.connect(("10.5.0.2", 5001))
            peer, _ = server.accept()
            with peer:
                peer.settimeout(20)
                sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
                begin = time.monotonic()
                sender.start()
                got = hashlib.sha256()
                while part := peer.recv(1 << 16):
                    got.update(part)
                took = time.monotonic() - begin
                sender.join(10)
    assert got.digest() == hashlib.sha256(data).digest()
    assert len(data) * 8 / took < 40e6


def test_a_device_that_goes_away_ends_it(places):
    devices = []
    for name in places:
        with namespace(name):
            devices.append(Tap("tap0"))
    wire = Wire(*devices, seed=1)
    threading.Timer(0.2, lambda: ip("-n", places[0], "link", "del", "tap0")).start()
    with pytest.raises(DriverError, match="gone"):
        wire.run(10)
    for device in devices:
        device.close()


def test_what_cannot_be_joined(netns):
    link = MemoryLink()
    with pytest.raises(ConfigError, match="descriptor"):
        Wire(link.a, link.b, seed=1)
    with pytest.raises(ConfigError, match="Impairments"):
        Wire(link.a, link.b, seed=1, there=0.5)
    tap, tun = Tap("tap0"), Tun("tun0")
    with pytest.raises(ConfigError, match="kind"):
        Wire(tap, tun, seed=1)
    tap.close()
    tun.close()
    assert Impair(Tunnel(), seed=1).fileno() is None


def test_a_namespace_that_does_not_exist():
    with pytest.raises(DriverError, match="ip netns add nosuch"), namespace("nosuch"):
        pass


# -- the command -------------------------------------------------------------------------------------------------

def command(*arguments):
    return [sys.executable, "-m", "iip.cli.main", "wire", *map(str, arguments)]


def test_the_command(places):
    process = subprocess.Popen(command(f"{places[0]}:tap0", f"{places[1]}:tap0", "--delay", "5ms", "--json"), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert "joined" in process.stderr.readline()
        for i, name in enumerate(places, 1):
            ip("-n", name, "address", "add", f"10.5.0.{i}/24", "dev", "tap0")
        times = ping(places[0], 5)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and len(times) == 5 and min(times) >= 10
    result = json.loads(out)
    assert result["there"]["packets"] >= 5 and result["tap1"]["tx_errors"] == 0 and result["seconds"] < 30


def test_the_command_ends_by_itself_with_a_table(places):
    done = subprocess.run(command(f"{places[0]}:tap0", f"{places[1]}:tap0", "--seconds", 0.3), text=True,
                          capture_output=True, timeout=20, check=False)
    assert done.returncode == 0 and "seconds" in done.stdout


@pytest.mark.parametrize("arguments, code, words", [
    (("tap0", "tap0"), 2, "two ends"), (("tap0", "nosuch:tap1"), 1, "ip netns add nosuch"),
    (("tap0", "x:"), 2, "NETNS"),
    (("tap0", "t/p"), 1, "slashes"), (("tap0", "tap1", "--codel"), 2, "--rate"),
])
def test_mistakes_are_explained(netns, arguments, code, words):
    done = netns.run(*command(*arguments), check=False)
    assert done.returncode == code and words in done.stderr
