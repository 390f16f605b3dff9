"""Packet sockets on a veth pair, and what goes wrong when they are set up."""
import socket
import struct
import subprocess
import sys

import pytest

from iip.drivers import AfPacket, DriverProbe, device
from iip.errors import ConfigError, DriverError
from iip.memory.pool import PacketPool
from tests.drivers.veth import KERNEL, OURS, Raw, plug, receive, send_until_received

pytestmark = pytest.mark.interop

EXPERIMENT = b"\x88\xb5"           # EtherType (IEEE 802, local experiments)


def frame(mac, body):
    return mac + b"\x02\0\0\0\0\x09" + EXPERIMENT + body


def ours(f):
    return f[12:14] == EXPERIMENT


@pytest.fixture
def wire(netns):
    plug(netns, "10.7.0.1/24")
    with Raw() as raw:
        yield raw


@pytest.mark.parametrize("block_timeout", [0, 1])
def test_both_ways(wire, block_timeout):
    driver = AfPacket(OURS, block_timeout=block_timeout)
    probe = DriverProbe(driver, PacketPool(packets=64))
    bodies = [bytes([i]) * (i + 46) for i in range(60)]
    wire.send(*(frame(driver.mac, b) for b in bodies[:10]))
    got = receive(probe, ours, 10)
    assert got == [frame(driver.mac, b) for b in bodies[:10]]
    assert probe.tx(*(frame(b"\xff" * 6, b) for b in bodies)) == 60
    assert [wire.receive(ours)[14:] for _ in bodies] == bodies
    assert probe.rx() == []                        # what we sent does not come back
    stats = driver.stats()
    assert stats["tx_packets"] == 60 and stats["tx_bytes"] == sum(len(b) + 14 for b in bodies) and stats["tx_errors"] == 0
    driver.close()
    driver.close()
    assert probe.pool.full and driver.fileno() is None


@pytest.mark.parametrize("block_timeout", [0, 1])
def test_rings_are_gone_round(wire, block_timeout):
    """More frames than they have room for."""
    driver = AfPacket(OURS, frames=16, block_timeout=block_timeout)
    probe = DriverProbe(driver, PacketPool(packets=64))
    for start in range(0, 200, 10):
        bodies = [bytes([start + i]) * 1000 for i in range(10)]
        wire.send(*(frame(driver.mac, b) for b in bodies))
        assert [f[14:] for f in receive(probe, ours, 10)] == bodies
        assert probe.tx(*(frame(b"\xff" * 6, b) for b in bodies)) == 10
        assert [wire.receive(ours)[14:] for _ in bodies] == bodies
    assert driver.stats()["rx_dropped"] == 0
    driver.close()
    assert probe.pool.full


def test_what_the_ring_has_no_room_for_is_counted(wire):
    driver = AfPacket(OURS, frames=16)
    probe = DriverProbe(driver, PacketPool(packets=64))
    wire.send(*(frame(driver.mac, b"x" * 50) for _ in range(50)))
    assert len([f for f in probe.rx() if ours(f)]) <= 16
    assert driver.stats()["rx_dropped"] >= 34
    driver.close()


def test_an_empty_pool_leaves_frames_in_the_ring(wire):
    driver = AfPacket(OURS)
    probe = DriverProbe(driver, PacketPool(packets=4))
    taken = [probe.pool.alloc(b"x") for _ in range(4)]
    wire.send(frame(driver.mac, b"later" * 10))
    assert probe.rx() == []
    for i in taken:
        probe.pool.free(i)
    assert receive(probe, ours)[0].endswith(b"later")
    driver.close()
    assert probe.pool.full


def test_other_stations_and_tagged_frames_are_not_for_us(wire, netns):
    driver = AfPacket(OURS)
    probe = DriverProbe(driver, PacketPool(packets=16))
    wire.send(driver.mac + b"\x02\0\0\0\0\x09\x81\x00\x00\x05" + EXPERIMENT + bytes(46), frame(driver.mac, b"last" * 12))
    assert len(receive(probe, ours)) == 1
    assert driver.stats()["rx_ignored"] >= 1
    driver.close()


def test_a_station_address_of_our_own(wire, netns):
    mac = b"\x02\0\0\0\0\x42"
    driver = AfPacket(OURS, mac="02:00:00:00:00:42")
    assert driver.mac == mac
    assert "promiscuity 1" in netns.run("ip", "-details", "link", "show", OURS).stdout
    driver.close()
    assert "promiscuity 0" in netns.run("ip", "-details", "link", "show", OURS).stdout


def test_large_frames_are_complete_without_offload(wire):
    """The kernel sends 20 kB of TCP in one frame; here they come as segments whose checksums are right."""
    driver = AfPacket(OURS, offload=False)
    assert not driver.offload
    probe = DriverProbe(driver, PacketPool(packets=64))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        kernel.sendto(b"x" * 999, ("10.7.0.2", 9))           # an unfinished checksum, once the kernel knows the station
        answer_arp(probe, driver.mac)
        udp = receive(probe, lambda f: f[12:14] == b"\x08\x00" and f[23] == 17)[0]
    assert ones_sum(udp[26:34] + b"\0\x11" + udp[38:40] + udp[34:]) == 0xFFFF
    driver.close()
    assert probe.pool.full


def answer_arp(probe, mac):
    asked = receive(probe, lambda f: f[12:14] == b"\x08\x06")[0]
    probe.tx(asked[6:12] + mac + b"\x08\x06" + asked[14:20] + b"\0\x02" + mac + asked[38:42] + asked[22:32])


def ones_sum(data):
    data += bytes(len(data) & 1)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_a_link_that_is_down_loses_packets_and_comes_back(wire, netns):
    driver = AfPacket(OURS)
    probe = DriverProbe(driver, PacketPool(packets=8))
    netns.run("ip", "link", "set", OURS, "down")
    assert probe.tx(frame(b"\xff" * 6, b"lost" * 12), frame(b"\xff" * 6, b"too!" * 12)) == 2
    assert driver.stats()["tx_errors"] == 2 and driver.stats()["tx_packets"] == 0 and probe.pool.full
    netns.run("ip", "link", "set", OURS, "up")
    bodies = [bytes([i]) * 50 for i in range(5)]
    assert probe.tx(*(frame(b"\xff" * 6, b) for b in bodies)) == 5
    assert [wire.receive(ours)[14:] for _ in bodies] == bodies
    send_until_received(wire, probe, frame(driver.mac, b"back" * 12))
    driver.close()


def test_a_removed_device_ends_the_driver(wire, netns):
    driver = AfPacket(OURS)
    probe = DriverProbe(driver, PacketPool(packets=8))
    netns.run("ip", "link", "delete", OURS)
    with pytest.raises(DriverError, match="iipv0 is gone"):
        while probe.rx(now=1_000_000_000):
            pass                  # what the kernel had sent before
    driver.error = None
    assert probe.tx(b"x" * 60) == 1 and probe.pool.full
    driver.close()


def test_a_group_shares_the_frames(wire):
    first = AfPacket(OURS, group=0)
    second = AfPacket(OURS, group=first.group)
    probes = [DriverProbe(d, PacketPool(packets=256)) for d in (first, second)]
    header = bytes.fromhex("4500003c00004000401100000a0700010a070002")
    for port in range(64):
        wire.send(first.mac + b"\x02\0\0\0\0\x09\x08\0" + header + struct.pack("!HHHH", 1000 + port, 9, 40, 0) + bytes(32))
    got = [[f for p in iter(probe.rx, []) for f in p if f[23:24] == b"\x11" and f[12:14] == b"\x08\0"] for probe in probes]
    assert sum(map(len, got)) == 64 and all(got)
    with pytest.raises(DriverError, match="group"):
        AfPacket(KERNEL, group=first.group)
    first.close()
    second.close()


@pytest.mark.parametrize("settings, words", [
    ({"name": "nosuch0"}, "no device 'nosuch0'"),
    ({"name": "lo"}, "not an Ethernet device"),
    ({"frames": 3}, "frames=3"),
    ({"block_timeout": -1}, "block_timeout=-1"),
    ({"group": 70000}, "group=70000"),
    ({"mac": "02:00"}, "mac='02:00'"),
    ({"mtu": 70000}, "mtu=70000"),
])
def test_wrong_settings_name_the_setting(wire, settings, words):
    with pytest.raises((DriverError, ConfigError), match=words):
        AfPacket(**{"name": OURS, **settings})


def test_a_pool_that_is_too_small(wire):
    driver = AfPacket(OURS)
    with pytest.raises(ConfigError, match="pool_packets=2"):
        DriverProbe(driver, PacketPool(packets=2))
    driver.close()


def test_the_mtu_is_set(wire):
    driver = AfPacket(OURS, mtu=1400)
    assert driver.mtu == device.get_mtu(OURS) == 1400
    driver.close()


def test_without_permission(wire):
    program = ("import os; os.setgid(65534); os.setuid(65534)\n"
               "from iip.drivers import AfPacket\n"
               "from iip.errors import DriverError\n"
               f"try:\n    AfPacket('{OURS}')\nexcept DriverError as error:\n    print(error)\n")
    done = subprocess.run([sys.executable, "-c", "import fcntl, iip.drivers\n" + program], check=False, capture_output=True,
                          text=True, timeout=20)
    assert "CAP_NET_RAW" in done.stdout and "root" in done.stdout, done.stderr
