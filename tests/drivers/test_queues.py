"""Several drivers of one device: every flow comes to one of them, and each can send."""
import select
import socket
import time

import pytest

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


def test_mistakes_are_explained(netns):
    with pytest.raises(ConfigError, match="MemoryDriver has no queues"):
        open_queues(MemoryDriver, "x", 2)
    with pytest.raises(ConfigError, match="n=0"):
        open_queues(Tap, "iipq0", 0)
    netns.run("ip", "tuntap", "add", "dev", "iipq1", "mode", "tap")
    with pytest.raises(DriverError, match="multi_queue"):
        open_queues(Tap, "iipq1", 2)
