"""DPDK's virtual devices: frames in the packet pool both ways, several queues, offloads, and what goes wrong."""
import hashlib
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

import iip
from iip.drivers import Capability, DriverProbe, open_queues
from iip.errors import ConfigError, DriverError
from iip.memory.pool import PacketPool
from iip.runtime.loop import run
from tests.drivers.test_queues import FLOWS, check, ports, send_flows
from tests.drivers.veth import KERNEL, OURS, Raw, plug, send_until_received

dpdk = pytest.importorskip("iip.drivers.dpdk", reason="built without DPDK (IIP_DPDK=1)", exc_type=ImportError)
pytestmark = pytest.mark.interop

DEVICE = f"net_af_packet0,iface={OURS}"
EXPERIMENT = b"\x88\xb5"           # EtherType (IEEE 802, local experiments)
STATION = b"\x02\0\0\0\0\x09"
L4_CSUM, TSO4, TSO6 = 0x0200, 0x0400, 0x0800     # PKT_TX_*


@pytest.fixture(scope="module", autouse=True)
def started():
    """Before a test's namespace, which DPDK's threads would keep."""
    dpdk.initialize()


@pytest.fixture(autouse=True)
def opened():
    """Probes whose devices are free for the next test, even if this one fails."""
    probes = []
    yield probes
    for probe in probes:
        probe.driver.close()


@pytest.fixture
def open_probe(opened):
    def make(packets=256, device=DEVICE, **settings):
        opened.append(DriverProbe(dpdk.Dpdk(device, **settings), PacketPool(packets=packets)))
        return opened[-1]
    return make


@pytest.fixture
def wire(netns):
    plug(netns)
    with Raw() as raw:
        yield raw


def frame(body, to=b"\xff" * 6):
    return to + STATION + EXPERIMENT + body


def ours(f):
    return f[12:14] == EXPERIMENT


def receive(probe, n=1, wanted=ours):
    found, deadline = [], time.monotonic() + 3
    while len(found) < n:
        assert time.monotonic() < deadline, f"only {len(found)} of {n} came"
        found += filter(wanted, probe.rx())
    return found


def test_both_ways(open_probe, wire):
    """More frames than one burst takes."""
    probe = open_probe()
    driver = probe.driver
    assert driver.name == "net_af_packet0" and driver.driver == "net_af_packet" and driver.fileno() is None
    for start in range(0, 200, 100):
        bodies = [bytes([start + i]) * (1000 + i) for i in range(100)]
        wire.send(*map(frame, bodies))
        assert [f[14:] for f in receive(probe, 100)] == bodies
        assert probe.tx(*map(frame, bodies)) == 100
        assert [wire.receive(ours)[14:] for _ in bodies] == bodies
    assert probe.pool.full
    driver.close()
    driver.close()
    stats = driver.stats()
    assert stats["rx_packets"] >= 200 and stats["tx_packets"] == 200 and stats["tx_errors"] == stats["rx_no_buffer"] == 0
    assert probe.pool.full and probe.tx(frame(bytes(50))) == 1 and driver.stats()["tx_errors"] == 0 and driver.tx_errors == 1


def test_received_frames_lie_in_the_pool(wire):
    memory = np.zeros(64 * 2048 + 4096, dtype=np.uint8)
    driver = dpdk.Dpdk(DEVICE)
    probe = DriverProbe(driver, PacketPool(packets=64, memory=memory[-memory.ctypes.data % 4096:]))
    wire.send(frame(b"find me in there" * 4))
    assert receive(probe)
    assert b"find me in there" in memory.tobytes()
    driver.close()
    assert probe.pool.full


def test_views_chains_and_lent_memory_are_sent(open_probe, wire):
    probe = open_probe(64)
    pool = probe.pool
    packet = pool.alloc(frame(b"view" * 20))
    view = pool.slice(packet, 0, 60)
    lent = pool.lend(frame(b"lent" * 20))
    chain = pool.alloc(frame(b"head"))
    pool.chain(chain, pool.alloc(b"tail" * 20))
    assert probe.tx_packets([packet, view, lent, chain]) == 4
    bodies = [wire.receive(ours)[14:] for _ in range(4)]
    assert bodies == [b"view" * 20, (b"view" * 20)[:46], b"lent" * 20, b"head" + b"tail" * 20]
    assert probe.tx(frame(bytes(1600))) == 1 and probe.driver.tx_errors == 1
    probe.driver.close()
    assert pool.full


def test_an_empty_pool_recovers(open_probe, wire):
    probe = open_probe(16)
    taken = list(iter(probe.pool.alloc, None))
    wire.send(*(frame(bytes([i]) * 50) for i in range(20)))
    time.sleep(0.05)
    assert probe.rx() == []
    for i in taken:
        probe.pool.free(i)
    assert sorted(f[14] for f in receive(probe, 20)) == list(range(20))
    probe.driver.close()
    assert probe.pool.full


def test_a_removed_device_ends_the_driver(open_probe, wire, netns):
    probe = open_probe(64)
    netns.run("ip", "link", "delete", OURS)
    with pytest.raises(DriverError, match="is gone"):
        probe.rx(now=1_000_000_000)
    probe.driver.error = None
    assert probe.tx(b"x" * 60) == 1 and probe.driver.stats()["tx_errors"] == 1 and probe.poll_at() is None
    probe.driver.close()
    assert probe.pool.full


def test_a_link_that_is_down_holds_nobody_up(open_probe, wire, netns):
    """The kernel takes nothing until it is up again."""
    probe = open_probe(1024)
    netns.run("ip", "link", "set", OURS, "down")
    for i in range(20):
        probe.tx(*(frame(bytes(50)) for _ in range(40)), now=i * 50_000_000)
    assert probe.driver.stats()["tx_errors"] > 0
    netns.run("ip", "link", "set", OURS, "up")
    send_until_received(wire, probe, frame(b"back" * 12))
    probe.driver.close()
    assert probe.pool.full


def test_the_look_at_the_device_becomes_rarer(open_probe, wire):
    probe = open_probe(64, pause=300)
    wire.send(frame(bytes(50)))
    time.sleep(0.02)
    assert probe.rx(now=10**9)
    assert probe.poll_at(10**9 + 1000) == 10**9 + 1000
    later = 10**9 + 100_000
    assert later < probe.poll_at(later) < later + 300_000
    assert probe.poll_at(2 * 10**9) == 2 * 10**9 + 300_000
    probe.driver.close()


def test_two_queues(netns):
    """Each flow comes to one of them, and what a neighbour says to both. The device goes with the last driver."""
    plug(netns, "10.7.0.1/24")
    drivers = open_queues(dpdk.Dpdk, f"{DEVICE},qpairs=2", 2)
    probes = [DriverProbe(driver, PacketPool(packets=256)) for driver in drivers]
    assert [d.queue for d in drivers] == [0, 1] and not drivers[0].steered
    netns.run("ip", "neighbour", "add", "10.7.0.2", "lladdr", drivers[0].mac.hex(":"), "dev", KERNEL)
    send_flows()
    deadline, got = time.monotonic() + 3, [[], []]
    while sum(map(len, got)) < 3 * FLOWS:
        assert time.monotonic() < deadline
        for found, probe in zip(got, probes, strict=True):
            found.extend(ports(probe, 14))
    check(got)
    question = STATION + bytes.fromhex("08060001080006040001") + STATION + bytes([10, 7, 0, 9]) + bytes(6) + bytes([10, 7, 0, 2])
    with Raw() as raw:
        raw.send(b"\xff" * 6 + question)
    heard = [[], []]
    while not all(heard):
        assert time.monotonic() < deadline
        for found, probe in zip(heard, probes, strict=True):
            found.extend(f for f in probe.rx() if f[6:12] == STATION)
    assert [len(f) for f in heard] == [1, 1] and heard[0][0][6:42] == question
    with pytest.raises(ConfigError, match="queue=1: has a driver already"):
        DriverProbe(dpdk.Dpdk(DEVICE, queue=1, beside=drivers[0]), PacketPool(packets=64))
    with pytest.raises(ConfigError, match="queue=2: device net_af_packet0 was opened with queues=2"):
        dpdk.Dpdk(DEVICE, queue=2, beside=drivers[0])
    drivers[0].close()
    assert probes[1].tx(frame(bytes(50))) == 1
    drivers[1].close()
    assert all(probe.pool.full for probe in probes)
    dpdk.Dpdk(DEVICE).close()


# -- in memory -------------------------------------------------------------------------------------------------

def test_frames_in_foreign_memory_are_copied(open_probe):
    """A ring hands over the sender's mbufs; what is in it at the end comes back, too."""
    probe = open_probe(64, "net_ring0", mtu=1500)
    pool = probe.pool
    packet = pool.lend(frame(bytes(range(200)) * 7))
    assert probe.tx_packets([packet]) == 1
    assert receive(probe) == [frame(bytes(range(200)) * 7)]
    assert probe.rx() == [] and pool.full
    taken = list(iter(pool.alloc, None))
    pool.free(taken.pop())
    assert probe.tx(frame(bytes(50))) == 1
    assert probe.rx() == [] and probe.driver.stats()["rx_no_buffer"] == 1
    for i in taken:
        pool.free(i)
    assert probe.tx(frame(bytes(50)), frame(bytes(60))) == 2 and not pool.full
    probe.driver.close()
    assert pool.full


def sum16(data):
    total = sum(int.from_bytes(data[i:i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_what_is_left_to_the_device_is_told_as_it_wants_it(open_probe):
    """For segmentation: no length in the pseudo-header's sum, no checksum of IPv4."""
    probe = open_probe(64, "net_ring0")
    payload = bytes(3000)
    tcp = bytes(12) + b"\x50\x10" + bytes(2)
    addresses = bytes([10, 7, 0, 1, 10, 7, 0, 2])
    length = len(tcp) + 4 + len(payload)
    before = sum16(addresses + b"\0\x06" + length.to_bytes(2, "big"))
    head = b"\xff" * 6 + STATION + b"\x08\0\x45\0" + (20 + length).to_bytes(2, "big") + bytes(4) + b"\x40\x06\x12\x34" + addresses
    sent = head + tcp + before.to_bytes(2, "big") + bytes(2) + payload
    assert probe.tx(sent, flags=L4_CSUM | TSO4, l3=14, l4=34, gso_size=1000) == 1
    got, = receive(probe, wanted=lambda f: True)
    assert got[24:26] == b"\0\0" and int.from_bytes(got[50:52], "big") == sum16(addresses + b"\0\x06")
    assert got[:24] == sent[:24] and got[26:50] == sent[26:50] and got[52:] == sent[52:]
    probe.driver.close()
    assert probe.pool.full


def test_ports_joined_by_memif(open_probe, tmp_path):
    ends = [open_probe(256, f"net_memif{i},role={role},socket={tmp_path}/memif.sock,socket-abstract=no,bsize=2048")
            for i, role in enumerate(["server", "client"])]
    deadline = time.monotonic() + 5
    body = bytes(range(256)) * 4
    while not any(map(ours, ends[1].rx())):        # they find each other in a thread of DPDK
        assert time.monotonic() < deadline
        ends[0].tx(frame(b"hello" * 10))
        time.sleep(0.01)
    for a, b in (ends, ends[::-1]):
        a.rx()
        b.rx()
        assert a.tx(*(frame(body + bytes([i])) for i in range(30))) == 30
        assert [f for f in receive(b, 30) if f[14:] != b"hello" * 10] == [frame(body + bytes([i])) for i in range(30)]
    for end in ends:
        end.driver.close()
        assert end.pool.full


# -- offloads, over a TAP device ---------------------------------------------------------------------------------

class Echo(iip.Handler):
    """Sends `data` and hashes the answer."""

    def __init__(self, data):
        self.data, self.digest, self.done = data, hashlib.sha256(), False

    def tcp_connected(self, conn):
        conn.send(self.data)
        conn.shutdown()

    def tcp_payload(self, conn, data):
        self.digest.update(bytes(data))
        conn.consume(len(data))

    def tcp_shutdown(self, conn):
        self.done = True


@pytest.mark.parametrize("offload, packet_size", [(True, 2048), (False, 2048), (Capability.RX_L4_CSUM, 1024)])
def test_checksums_of_the_device(netns, offload, packet_size):
    """With packets that are smaller than frames these come in several pieces."""
    from tests.interop.world import Kernel

    driver = dpdk.Dpdk("net_tap0,iface=iipt0", mac="02:00:00:00:00:07", offload=offload)
    handler = Echo(bytes(range(256)) * 400)
    config = iip.Config(addresses=["10.7.0.2/24", "fd07::2/64"], link_local=False, address_check=False,
                        packet_size=packet_size)
    engine = iip.Engine(config, handler, driver)
    assert bool(driver.caps & Capability.TX_L4_CSUM) == (offload is True)
    assert bool(driver.caps & Capability.RX_L4_CSUM) == (offload is not False)
    for address in ("10.7.0.1/24", "fd07::1/64"):
        netns.run("ip", "address", "add", address, "dev", "iipt0", *["nodad"] * (":" in address))

    def kernel(listener):
        with listener, listener.accept()[0] as sock:
            got = b""
            while part := sock.recv(1 << 16):
                got += part
            sock.sendall(got * 5)
            return got

    for host in ("10.7.0.1", "fd07::1"):
        handler.__init__(handler.data)
        listener = socket.create_server((host, 7), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.settimeout(5)
        side = Kernel(kernel, listener)
        engine.tcp_connect(host, 7)
        assert run(engine, duration=10, stop=lambda: handler.done) == "stop"
        assert side.result() == handler.data and handler.digest.digest() == hashlib.sha256(handler.data * 5).digest()
    pool = engine.pool
    engine.close()
    driver.close()
    assert pool.full


# -- mistakes ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("settings, words", [
    ({"device": "net_af_packet0,iface=nosuch0"}, "no device 'net_af_packet0,iface=nosuch0"),
    ({"device": "00:1f.9"}, "write a PCI address"),
    ({"device": "99:00.0"}, "no device '0000:99:00.0'.*vfio-pci"),
    ({"queues": 2}, "has 1 queues and not 2.*qpairs=2"),
    ({"queues": 0}, "queues=0"),
    ({"ring": 1}, "ring=1"),
    ({"pause": -1}, "pause=-1"),
    ({"mac": "02:00"}, "mac='02:00'"),
    ({"mtu": 10}, "mtu=10"),
    ({"offload": 3}, "offload=3"),
])
def test_wrong_settings_name_the_setting(wire, settings, words):
    with pytest.raises((DriverError, ConfigError), match=words):
        dpdk.Dpdk(**{"device": DEVICE, **settings})
    dpdk.Dpdk(DEVICE).close()                      # the device is free


def test_pools_that_do_not_fit(wire):
    driver = dpdk.Dpdk(DEVICE)
    with pytest.raises(ConfigError, match=r"packet_size=1024: too small.*use packet_size=1664"):
        DriverProbe(driver, PacketPool(packets=64, packet_size=1024))
    driver = dpdk.Dpdk(DEVICE + ",framesz=2048")
    with pytest.raises(DriverError, match=r"for packets with room for 1920 bytes.*2016 bytes will not fit"):
        DriverProbe(driver, PacketPool(packets=64))
    driver = dpdk.Dpdk(DEVICE)
    with pytest.raises(DriverError, match="net_af_packet0 is open already"):
        dpdk.Dpdk(DEVICE)
    with pytest.raises(ConfigError, match="takes arguments only once"):
        dpdk.initialize("-m", "64")
    driver.close()
    with pytest.raises(DriverError, match="closed"):
        DriverProbe(driver, PacketPool(packets=64))


def test_arguments_that_dpdk_refuses():
    program = ("from iip.drivers import dpdk\nfrom iip.errors import DriverError\n"
               "try:\n    dpdk.initialize('--no-such-option')\nexcept DriverError as error:\n    print('said:', error)\n")
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=30)
    assert "said: dpdk: cannot start with" in done.stdout and "--no-such-option" in done.stdout, done.stderr


def test_threads_stay_where_they_may_run():
    assert len(os.sched_getaffinity(0)) == len(os.sched_getaffinity(os.getppid()))
