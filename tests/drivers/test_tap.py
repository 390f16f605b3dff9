"""TAP and TUN against the real kernel, in a network namespace; and what goes wrong when they are set up."""
import builtins
import select
import socket
import struct
import subprocess
import sys

import pytest

from iip.drivers import DriverProbe, Tap, Tun, device
from iip.errors import ConfigError, DriverError
from iip.memory.pool import PacketPool

pytestmark = pytest.mark.interop


def ipv4_udp(src, dst, sport, dport, payload):
    udp = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(src),
                         socket.inet_aton(dst))
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", 0xFFFF - total) + header[12:] + udp


def receive(probe, wanted, timeout=2.0):
    """The first received frame for which `wanted(frame)`; the kernel also sends discovery of its own."""
    poller = select.poll()
    poller.register(probe.driver.fileno(), select.POLLIN)
    while poller.poll(timeout * 1000):
        for frame in probe.rx():
            if wanted(frame):
                return frame
    raise AssertionError("the kernel did not send it")


@pytest.fixture
def tun(netns):
    driver = Tun("iiptun0", mtu=1400, host_address=("10.7.0.1/24", "fd07::1/64"))
    yield driver
    driver.close()


def test_tun_both_ways(tun):
    pool = PacketPool(packets=32)
    probe = DriverProbe(tun, pool)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        kernel.bind(("10.7.0.1", 5000))
        kernel.settimeout(2)
        kernel.sendto(b"to the engine", ("10.7.0.2", 6000))
        frame = receive(probe, lambda f: f[0] >> 4 == 4 and f[9] == 17)
        assert frame[28:] == b"to the engine"
        assert probe.tx(ipv4_udp("10.7.0.2", "10.7.0.1", 6000, 5000, b"to the kernel")) == 1
        assert kernel.recvfrom(100) == (b"to the kernel", ("10.7.0.2", 6000))
    assert tun.stats()["tx_packets"] == 1 and tun.stats()["rx_packets"] >= 1
    assert pool.full


def test_chains_are_gathered(tun):
    pool = PacketPool(packets=32)
    probe = DriverProbe(tun, pool)
    packet = ipv4_udp("10.7.0.2", "10.7.0.1", 6000, 5000, b"x" * 500 + b"y" * 500)
    head = pool.alloc(packet[:28])
    pool.chain(head, pool.alloc(packet[28:528]))
    pool.chain(head, pool.alloc(packet[528:]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        kernel.bind(("10.7.0.1", 5000))
        kernel.settimeout(2)
        assert probe.tx_packets([head]) == 1
        assert kernel.recv(2000) == b"x" * 500 + b"y" * 500
    assert pool.full


def test_a_chain_of_too_many_pieces_is_counted(tun):
    pool = PacketPool(packets=128)
    probe = DriverProbe(tun, pool)
    head = pool.alloc(b"E")
    for _ in range(70):
        pool.chain(head, pool.alloc(b"x"))
    assert probe.tx_packets([head]) == 1
    assert tun.stats()["tx_errors"] == 1 and pool.full


def test_malformed_packets_are_counted_not_raised(tun):
    probe = DriverProbe(tun, PacketPool(packets=8))
    assert probe.tx(b"\x00garbage") == 1
    assert tun.stats()["tx_errors"] == 1 and probe.pool.full


def test_a_burst_is_limited_and_the_rest_waits(tun):
    probe = DriverProbe(tun, PacketPool(packets=32))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        for i in range(5):
            kernel.sendto(bytes([i]), ("10.7.0.2", 6000))
    got = []
    while frames := probe.rx(limit=2):
        assert len(frames) <= 2
        got += [f[28] for f in frames if f[0] >> 4 == 4]
    assert got == [0, 1, 2, 3, 4]


def test_an_empty_pool_leaves_frames_with_the_kernel(tun):
    probe = DriverProbe(tun, PacketPool(packets=1))
    taken = probe.pool.alloc(b"x")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        kernel.sendto(b"later", ("10.7.0.2", 6000))
    assert probe.rx() == []
    probe.pool.free(taken)
    assert receive(probe, lambda f: f.endswith(b"later"))


def test_a_frame_longer_than_a_packet_is_dropped(tun, netns):
    probe = DriverProbe(tun, PacketPool(packets=8, packet_size=1600, headroom=128))
    netns.run("ip", "link", "set", "iiptun0", "mtu", "9000")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        kernel.sendto(bytes(3000), ("10.7.0.2", 6000))
        kernel.sendto(b"short", ("10.7.0.2", 6000))
    assert receive(probe, lambda f: f[0] >> 4 == 4).endswith(b"short")
    assert tun.stats()["rx_too_long"] == 1 and probe.pool.full


def test_a_link_that_is_down_loses_packets_and_comes_back(tun, netns):
    probe = DriverProbe(tun, PacketPool(packets=8))
    packet = ipv4_udp("10.7.0.2", "10.7.0.1", 6000, 5000, b"x")
    netns.run("ip", "link", "set", "iiptun0", "down")
    assert probe.tx(packet) == 1
    assert tun.stats()["tx_errors"] == 1 and probe.pool.full
    netns.run("ip", "link", "set", "iiptun0", "up")
    assert probe.tx(packet) == 1
    assert tun.stats()["tx_packets"] == 1


def test_a_removed_device_ends_the_driver(tun, netns):
    probe = DriverProbe(tun, PacketPool(packets=8))
    netns.run("ip", "link", "del", "iiptun0")
    with pytest.raises(DriverError, match="iiptun0 is gone"):
        probe.rx()
    assert probe.pool.full


def test_tap_gives_ethernet_frames(netns):
    tap = Tap(host_address="10.8.0.1/24")
    probe = DriverProbe(tap, PacketPool(packets=32))
    assert (tap.name, tap.medium, tap.mtu) == ("tap0", "ethernet", 1500)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        kernel.sendto(b"who?", ("10.8.0.2", 1))
        arp = receive(probe, lambda f: f[12:14] == b"\x08\x06")
    assert arp[38:42] == socket.inet_aton("10.8.0.2")
    tap.close()
    tap.close()
    assert tap.fileno() is None
    assert probe.rx() == [] and probe.tx(arp) == 1 and probe.pool.full


def test_host_addresses_and_mtu(tun, netns):
    shown = netns.run("ip", "address", "show", "dev", "iiptun0").stdout
    assert "10.7.0.1/24" in shown and "fd07::1/64" in shown and "mtu 1400" in shown
    assert "tentative" not in next(line for line in shown.splitlines() if "fd07::1" in line) and tun.mtu == 1400


def test_device_vanishes_unless_persistent(netns):
    Tun("iipp0", persist=True).close()
    again = Tun("iipp0", create=False, persist=False)
    with pytest.raises(DriverError, match="busy"):
        Tun("iipp0")
    again.close()
    with pytest.raises(OSError):
        socket.if_nametoindex("iipp0")


def test_multi_queue(netns):
    first, second = Tap("iipq0", queues=2), Tap("iipq0", queues=2)
    assert first.name == second.name and first.fileno() != second.fileno()
    with pytest.raises(DriverError, match="multi_queue"):
        Tap("iipq0")
    first.close()
    second.close()


def test_mtu_of_an_existing_device_is_taken_over(netns):
    netns.run("ip", "tuntap", "add", "dev", "iipm0", "mode", "tap")
    netns.run("ip", "link", "set", "iipm0", "mtu", "1234")
    assert Tap("iipm0").mtu == 1234


@pytest.mark.parametrize("settings, words", [
    ({"name": "sixteen-letters-"}, "1 to 15"),
    ({"name": ""}, "1 to 15"),
    ({"name": "a/b"}, "slashes"),
    ({"name": "iipnone0", "create": False}, "ip tuntap add dev iipnone0 mode tap"),
    ({"name": "lo"}, "'lo' exists and is not of mode tap"),
    ({"mtu": 100}, "mtu=100"),
    ({"queues": 0}, "queues=0"),
    ({"host_address": "10.0.0.300/24"}, "host_address"),
])
def test_wrong_settings_name_the_setting(netns, settings, words):
    with pytest.raises((DriverError, ConfigError), match=words):
        Tap(**settings)


def test_wrong_mode(netns):
    netns.run("ip", "tuntap", "add", "dev", "iipw0", "mode", "tap")
    with pytest.raises(DriverError, match="not of mode tun"):
        Tun("iipw0")


def test_a_pool_whose_packets_are_too_small(netns):
    tap = Tap(mtu=9000)
    with pytest.raises(ConfigError, match=r"packet_size=2048: too small .* use packet_size=9152"):
        DriverProbe(tap, PacketPool(packets=4))
    DriverProbe(tap, PacketPool(packets=4, packet_size=9152))
    tap.close()


def test_without_the_netlink_library(netns, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyroute2"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DriverError, match=r"pip install 'iip\[netlink\]'"):
        Tun(host_address="10.0.0.1/24")


def test_without_the_device_node(netns, monkeypatch):
    monkeypatch.setattr(device, "NODE", "/dev/net/no-such-node")
    with pytest.raises(DriverError, match="modprobe tun"):
        Tap()


def test_without_permission(netns):
    program = ("import os; os.setgid(65534); os.setuid(65534)\n"
               "from iip.drivers import Tap\n"
               "from iip.errors import DriverError\n"
               "try:\n    Tap('iipx0')\nexcept DriverError as error:\n    print(error)\n")
    done = subprocess.run([sys.executable, "-c", "import fcntl, iip.drivers.tap\n" + program], check=False,
                          capture_output=True, text=True, timeout=20)
    assert "permission" in done.stdout and "root" in done.stdout, done.stderr
