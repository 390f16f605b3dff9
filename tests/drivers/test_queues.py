"""Several drivers of one device: every flow comes to one of them, and each can send."""
import random
import select
import socket
import threading
import time

import pytest

import iip
from iip.drivers import AfPacket, AfXdp, DriverProbe, MemoryDriver, Tap, Tun, open_queues
from iip.errors import ConfigError, DriverError
from iip.memory.pool import PacketPool
from tests.drivers.veth import OURS, Raw, plug

pytestmark = pytest.mark.interop

FLOWS = 64


def probes_of(drivers):
    return [DriverProbe(d, PacketPool(packets=256)) for d in drivers]


def ports(probe, header):
    """Source ports of the datagrams that wait there."""
    return [int.from_bytes(f[header + 20:header + 22], "big") for burst in iter(probe.rx, []) for f in burst
            if f[header] == 0x45 and f[header + 9] == 17]


def send_flows(rounds=3):
    for _ in range(rounds):
        for port in range(5000, 5000 + FLOWS):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("", port))
                sock.sendto(b"x", ("10.7.0.2", 9))


def check(got):
    """Each flow was whole in one place, and no place had none."""
    assert sum(map(len, got)) == 3 * FLOWS and all(got)
    assert not set(got[0]) & set(got[1])


def test_tun(netns):
    drivers = open_queues(Tun, "iipq0", 2, host_address="10.7.0.1/24", mtu=1400)
    probes = probes_of(drivers)
    assert {d.name for d in drivers} == {"iipq0"} and {d.mtu for d in drivers} == {1400}
    send_flows()
    check([ports(p, 0) for p in probes])
    drivers[0].close()                             # the kernel deals anew
    send_flows()
    assert len(ports(probes[1], 0)) == 3 * FLOWS
    drivers[1].close()
    with pytest.raises(OSError):
        socket.if_nametoindex("iipq0")


def test_packet_sockets(netns):
    plug(netns, "10.7.0.1/24")
    netns.run("ip", "neighbour", "add", "10.7.0.2", "lladdr", "02:00:00:00:00:02", "dev", "iipk0")
    drivers = open_queues(AfPacket, OURS, 2, mac="02:00:00:00:00:02")
    probes = probes_of(drivers)
    send_flows()
    check([ports(p, 14) for p in probes])
    for driver in drivers:
        driver.close()
    assert open_queues(AfPacket, OURS, 1)[0].group == -1


def toeplitz(data):
    """By the definition, with the symmetric key."""
    key, found = int.from_bytes(b"\x6d\x5a" * 30, "big"), 0
    for i, bit in enumerate(f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"):
        if bit == "1":
            found ^= key >> (480 - 32 - i) & 0xFFFFFFFF
    return found


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [6, 17])
def test_packet_sockets_share_by_the_symmetric_hash(netns, version, protocol):
    """As network devices do it, so that either end can say where an answer will come to."""
    plug(netns)
    drivers = open_queues(AfPacket, OURS, 3)
    probes = probes_of(drivers)
    dice = random.Random(version * protocol)
    want = [[], [], []]
    with Raw() as raw:
        for i in range(90):
            addresses, ports_ = dice.randbytes(8 if version == 4 else 32), dice.randbytes(4)
            options = bytes(4 * (i % 3)) if version == 4 else b""
            if version == 4:
                ip = b"\x08\0" + bytes([0x45 + i % 3]) + bytes(8) + bytes([protocol]) + bytes(2) + addresses + options
            else:
                ip = b"\x86\xdd\x60" + bytes(5) + bytes([protocol, 64]) + addresses
            raw.send(drivers[0].mac + b"\x02\0\0\0\0\x09" + ip + ports_ + bytes([i] * 40))
            want[(toeplitz(addresses + ports_) & 127) % 3].append(i)
    time.sleep(0.02)
    got = [[f[-1] for burst in iter(p.rx, []) for f in burst if f[6:12] == b"\x02\0\0\0\0\x09"] for p in probes]
    assert got == want and all(got)
    for driver in drivers:
        driver.close()


@pytest.mark.parametrize("addresses", [["10.7.0.2"], ["fd07::2"], ["10.7.0.2", "fd07::2"]])
def test_xdp_sockets_of_any_addresses(netns, addresses):
    plug(netns, queues=2)
    for driver in open_queues(AfXdp, OURS, 2, addresses=addresses):
        driver.close()


def test_xdp_sockets(netns):
    """A veth has the queue of the processor that sent: what matters is that none gets lost."""
    plug(netns, queues=2)
    drivers = open_queues(AfXdp, OURS, 2, mode="generic")
    probes = probes_of(drivers)
    assert [d.queue for d in drivers] == [0, 1] and drivers[0].program is drivers[1].program
    with Raw() as raw:
        raw.send(*(b"\xff" * 6 + bytes([i] * 6) + b"\x88\xb5" + bytes(50) for i in range(20)))
    time.sleep(0.05)
    got = [f for p in probes for burst in iter(p.rx, []) for f in burst if f[12:14] == b"\x88\xb5"]
    assert sorted(f[6] for f in got) == list(range(20))
    for driver in drivers:
        driver.close()
    assert all(p.pool.full for p in probes)


def open_two(netns, kind):
    if kind is Tap:
        return open_queues(Tap, "iipq0", 2, host_address=("10.7.0.1/24", "fd07::1/64"))
    plug(netns, "10.7.0.1/24", "fd07::1/64", queues=2)
    settings = {"addresses": ["10.7.0.2", "fd07::2"], "mode": "generic"} if kind is AfXdp else {}
    return open_queues(kind, OURS, 2, **settings)


def collect(probes, wanted, times=1):
    """What each probe gets, until each has so many that are wanted, and what comes right after."""
    got = [[] for _ in probes]
    deadline = time.monotonic() + 3
    while any(len(g) < times for g in got) and time.monotonic() < deadline:
        for g, probe in zip(got, probes, strict=True):
            g.extend(filter(wanted, probe.rx()))
        select.select([probe.driver.fileno() for probe in probes], [], [], 0.05)
    for g, probe in zip(got, probes, strict=True):
        g.extend(filter(wanted, probe.rx()))
    return got


@pytest.mark.parametrize("kind", [Tap, AfPacket, AfXdp])
def test_each_learns_its_neighbours(netns, kind):
    """Questions and answers of ARP and neighbour discovery come to every queue, once."""
    drivers = open_two(netns, kind)
    probes = probes_of(drivers)
    mac = drivers[0].mac or b"\x02\0\0\0\0\x02"
    question = b"\xff" * 6 + mac + bytes.fromhex("08060001080006040001") + mac + bytes([10, 7, 0, 2]) + bytes(6)
    question += bytes([10, 7, 0, 1])
    for probe in probes:
        assert probe.tx(question + bytes(18)) == 1
        got = collect(probes, lambda f: f[12:14] == b"\x08\x06" and f[20:22] == b"\0\x02")
        assert [len(g) for g in got] == [1, 1] and got[0] == got[1] and got[0][0][28:32] == bytes([10, 7, 0, 1])
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("fd07::2", 9))
    wanted = socket.inet_pton(socket.AF_INET6, "fd07::2")
    got = collect(probes, lambda f: f[12:14] == b"\x86\xdd" and f[20] == 58 and f[54] == 135 and f[62:78] == wanted)
    assert len(got[0]) == len(got[1]) >= 1
    for driver in drivers:
        driver.close()
    assert all(p.pool.full for p in probes)


def serve(listener, n):
    with listener:
        listener.settimeout(5)
        for _ in range(n):
            with listener.accept()[0] as sock:
                sock.settimeout(5)
                sock.sendall(sock.recv(100))
                sock.recv(100)


class Client(iip.Handler):
    def __init__(self):
        self.answers = 0

    def tcp_connected(self, conn):
        conn.send(b"hello")

    def tcp_payload(self, conn, data):
        self.answers += len(data) == 5
        conn.consume(len(data))
        conn.close()


@pytest.mark.parametrize("kind", [Tap, AfPacket])
@pytest.mark.parametrize("kernel", ["10.7.0.1", "fd07::1"])
def test_answers_come_to_the_engine_that_asked(netns, kind, kernel):
    """Two engines of one address open 20 connections each to the kernel."""
    drivers, engines = open_two(netns, kind), []
    for i, driver in enumerate(drivers):
        config = iip.Config(addresses=["10.7.0.2/24", "fd07::2/64"], link_local=False, address_check=False, time_wait=0,
                            mac="02:00:00:00:00:02" if kind is Tap else None, queue=i, queues=2)
        engines.append(iip.Engine(config, Client(), driver, seed=i))
    listener = socket.create_server((kernel, 7), family=socket.AF_INET6 if ":" in kernel else socket.AF_INET, backlog=64)
    kernel_side = threading.Thread(target=serve, args=(listener, 40))
    kernel_side.start()
    deadline = time.monotonic() + 5
    for engine in engines:
        for _ in range(20):
            engine.tcp_connect(kernel, 7)
    while any(e.handler.answers < 20 or e.n_connections for e in engines) and time.monotonic() < deadline:
        for engine in engines:
            engine.run(time.monotonic_ns())
        select.select([d.fileno() for d in drivers], [], [], 0.005)
    kernel_side.join(10)
    assert [e.handler.answers for e in engines] == [20, 20]
    for engine, driver in zip(engines, drivers, strict=True):
        pool = engine.pool
        engine.close()
        driver.close()
        assert pool.full


def test_mistakes_are_explained(netns):
    with pytest.raises(ConfigError, match="MemoryDriver has no queues"):
        open_queues(MemoryDriver, "x", 2)
    with pytest.raises(ConfigError, match="n=0"):
        open_queues(Tap, "iipq0", 0)
    netns.run("ip", "tuntap", "add", "dev", "iipq1", "mode", "tap")
    with pytest.raises(DriverError, match="multi_queue"):
        open_queues(Tap, "iipq1", 2)
