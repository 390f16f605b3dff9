"""XDP sockets on a veth pair: whose packets they get, whose memory they use, and what goes wrong when they are set up."""
import ipaddress
import subprocess
import sys
import time

import numpy as np
import pytest

from iip.drivers import AfXdp, DriverProbe
from iip.errors import ConfigError, DriverError
from iip.memory.pool import PacketPool
from tests.drivers.veth import KERNEL, OURS, Raw, plug, receive

pytestmark = pytest.mark.interop

EXPERIMENT = b"\x88\xb5"           # EtherType (IEEE 802, local experiments)
STATION = b"\x02\0\0\0\0\x09"
RX_L4_CSUM_OK = 0x20


def frame(body, to=b"\xff" * 6):
    return to + STATION + EXPERIMENT + body


def ours(f):
    return f[12:14] == EXPERIMENT


def program_of(netns, name=OURS):
    return "xdp" in netns.run("ip", "link", "show", name).stdout


@pytest.fixture
def wire(netns):
    plug(netns)
    with Raw() as raw:
        yield raw


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_both_ways(wire, netns, mode):
    """More frames than the rings have room for, some of which wait."""
    driver = AfXdp(OURS, mode=mode, ring=64)
    probe = DriverProbe(driver, PacketPool(packets=256))
    assert driver.native == (mode == "native") and not driver.zero_copy and program_of(netns)
    for start in range(0, 200, 10):
        bodies = [bytes([start + i]) * (1000 + i) for i in range(10)]
        wire.send(*map(frame, bodies))
        assert [f[14:] for f in receive(probe, ours, 10)] == bodies
        assert probe.tx(*map(frame, bodies)) == 10
        assert [wire.receive(ours)[14:] for _ in bodies] == bodies
    stats = driver.stats()
    assert stats["rx_packets"] == stats["tx_packets"] == 200 and stats["tx_errors"] == 0
    assert stats["rx_dropped"] == stats["rx_ring_full"] == stats["rx_no_buffer"] == 0
    driver.close()
    driver.close()
    assert probe.pool.full and driver.fileno() is None and not program_of(netns)
    assert driver.stats() == stats


def test_received_frames_lie_in_the_pool(wire):
    memory = np.zeros(64 * 2048 + 4096, dtype=np.uint8)
    start = -memory.ctypes.data % 4096
    driver = AfXdp(OURS)
    probe = DriverProbe(driver, PacketPool(packets=64, memory=memory[start:]))
    wire.send(frame(b"find me in there" * 4))
    assert receive(probe, ours)
    assert b"find me in there" in memory.tobytes()
    driver.close()
    assert probe.pool.full


def test_views_chains_and_lent_memory_are_sent(wire):
    driver = AfXdp(OURS)
    pool = PacketPool(packets=64)
    probe = DriverProbe(driver, pool)
    packet = pool.alloc(frame(b"view" * 20))
    view = pool.slice(packet, 0, 60)
    lent = pool.lend(frame(b"lent" * 20))
    chain = pool.alloc(frame(b"head"))
    pool.chain(chain, pool.alloc(b"tail" * 20))
    assert probe.tx_packets([packet, view, lent, chain]) == 4
    bodies = [wire.receive(ours)[14:] for _ in range(4)]
    assert bodies == [b"view" * 20, (b"view" * 20)[:46], b"lent" * 20, b"head" + b"tail" * 20]
    driver.close()
    assert pool.full


def test_only_packets_for_our_addresses_are_ours(wire):
    ip6 = ipaddress.ip_address("fd07::12:3456")
    driver = AfXdp(OURS, addresses=["10.7.0.2/24", "10.7.0.3", "fd07::1", f"{ip6}/64"])
    probe = DriverProbe(driver, PacketPool(packets=64))

    def ip4(last):
        return b"\xff" * 6 + STATION + b"\x08\x00" + bytes(16) + bytes([10, 7, 0, last]) + bytes(30)

    def to6(address, n=40):
        return (b"\xff" * 6 + STATION + b"\x86\xdd" + bytes(24) + ipaddress.ip_address(address).packed)[:14 + n] + bytes(20)

    def arp(last):
        return b"\xff" * 6 + STATION + b"\x08\x06" + bytes(24) + bytes([10, 7, 0, last]) + bytes(22)

    mine = [ip4(2), ip4(3), arp(2), arp(3), to6("fd07::1"), to6(ip6), to6("ff02::1:ff12:3456"), to6("ff02::1:ff00:1")]
    others = [ip4(4), arp(1), to6("fd07::2"), to6("fd07::1:0:1"), to6("ff02::1"), frame(bytes(50)),
              b"\xff" * 6 + STATION + b"\x81\x00\0\x05\x08\x00" + bytes(60)]
    with Raw(OURS) as kernel:
        wire.send(*mine, *others)
        assert receive(probe, lambda f: f[6:12] == STATION, len(mine)) == mine
        passed = [kernel.receive(lambda f: f[6:12] == STATION) for _ in others]
    assert passed[:-1] == others[:-1]              # the kernel takes the tag off the last
    assert probe.rx() == []
    driver.close()


def test_an_empty_pool_loses_frames_and_recovers(wire):
    driver = AfXdp(OURS)
    probe = DriverProbe(driver, PacketPool(packets=16))
    taken = list(iter(probe.pool.alloc, None))
    wire.send(*(frame(b"x" * 50) for _ in range(20)))
    held = probe.rx_packets()
    assert 1 <= len(held) <= 16 and probe.rx() == []
    wire.send(frame(b"lost" * 12))
    for i in taken + held:
        probe.pool.free(i)
    assert driver.stats()["rx_no_buffer"] >= 5
    assert probe.poll_at(5) < 10**9                # somebody has to give the kernel cells
    probe.rx()
    wire.send(frame(b"back" * 12))
    assert receive(probe, lambda f: f.endswith(b"back"))
    driver.close()
    assert probe.pool.full


def _is(pool, packet, expected):
    """What else is under way, as the kernel's router solicitations, goes back to the pool."""
    if pool.bytes(packet) == expected:
        return True
    pool.free(packet)
    return False


def test_frames_in_several_pieces(netns):
    plug(netns, mtu=3400)
    body = bytes(range(250)) * 13
    driver = AfXdp(OURS, mode="native")
    pool = PacketPool(packets=64)
    probe = DriverProbe(driver, pool)
    with Raw() as wire:
        wire.send(frame(body))
        poll = time.monotonic() + 2
        got = []
        while not got and time.monotonic() < poll:
            got = [p for p in probe.rx_packets() if _is(pool, p, frame(body))]
            time.sleep(0.001)
        assert pool.pieces(got[0]) > 1
        assert probe.tx_packets(got) == 1
        assert wire.receive(ours) == frame(body)
        assert probe.tx_packets([pool.lend(frame(body))]) == 1
        assert wire.receive(ours) == frame(body)
    driver.close()
    assert pool.full


def test_what_is_with_the_kernel_comes_back(wire, netns):
    """Frames that were not read, and frames that could not be sent."""
    driver = AfXdp(OURS)
    probe = DriverProbe(driver, PacketPool(packets=64))
    wire.send(*(frame(b"unread" * 10) for _ in range(5)))
    netns.run("ip", "link", "set", OURS, "down")
    assert probe.tx(frame(b"x" * 50), frame(b"y" * 50)) == 2
    assert not probe.pool.full
    driver.close()
    assert probe.pool.full


def test_a_link_that_is_down_comes_back(wire, netns):
    driver = AfXdp(OURS)
    probe = DriverProbe(driver, PacketPool(packets=64))
    netns.run("ip", "link", "set", OURS, "down")
    assert probe.tx(frame(b"wait" * 12)) == 1 and probe.poll_at(0) < 10**9
    netns.run("ip", "link", "set", OURS, "up")
    deadline = time.monotonic() + 2
    while probe.poll_at(0) < 10**9 and time.monotonic() < deadline:
        probe.tx(frame(b"more" * 12))
        time.sleep(0.01)
    assert wire.receive(ours)
    driver.close()
    assert probe.pool.full


def test_a_removed_device_ends_the_driver(wire, netns):
    driver = AfXdp(OURS)
    probe = DriverProbe(driver, PacketPool(packets=64))
    netns.run("ip", "link", "delete", OURS)
    with pytest.raises(DriverError, match="iipv0 is gone"):
        probe.rx(now=1_000_000_000)
    driver.error = None
    assert probe.tx(b"x" * 60) == 1 and driver.stats()["tx_errors"] == 1
    driver.close()
    assert probe.pool.full


def test_checksums_can_be_believed(wire):
    driver = AfXdp(OURS, trust_checksums=True)
    probe = DriverProbe(driver, PacketPool(packets=64))
    wire.send(frame(b"x" * 50))
    time.sleep(0.05)
    assert [flags & RX_L4_CSUM_OK for f, flags in probe.rx_flags() if ours(f)] == [RX_L4_CSUM_OK]
    driver.close()


def test_one_driver_for_each_queue(netns):
    plug(netns, queues=2)
    first = AfXdp(OURS, mode="generic")
    second = AfXdp(OURS, queue=1, beside=first)
    probes = [DriverProbe(d, PacketPool(packets=64)) for d in (first, second)]
    with Raw() as wire:
        assert [p.tx(frame(bytes([i]) * 50)) for i, p in enumerate(probes)] == [1, 1]
        assert {wire.receive(ours)[14] for _ in probes} == {0, 1}
        third = AfXdp(OURS, queue=1, beside=first)
        with pytest.raises(DriverError, match="queue=1 has a socket already"):
            DriverProbe(third, PacketPool(packets=64))
        fourth = AfXdp(OURS, queue=7, beside=first)
        with pytest.raises(DriverError, match="no queue=7"):
            DriverProbe(fourth, PacketPool(packets=64))
        first.close()
        assert program_of(netns)                   # the other still needs it
        second.close()
    assert not program_of(netns) and all(p.pool.full for p in probes)
    with pytest.raises(ConfigError, match="beside"):
        AfXdp(OURS, queue=1, beside=first)


def test_a_device_is_free_again_after_a_crash(wire, netns):
    program = ("import os, signal\n"
               "from iip.drivers import AfXdp, DriverProbe\n"
               "from iip.memory.pool import PacketPool\n"
               f"DriverProbe(AfXdp('{OURS}'), PacketPool(packets=64))\n"
               "os.kill(os.getpid(), signal.SIGKILL)\n")
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=20).returncode == -9
    deadline = time.monotonic() + 2
    while program_of(netns) and time.monotonic() < deadline:
        time.sleep(0.01)
    driver = AfXdp(OURS)
    DriverProbe(driver, PacketPool(packets=64))
    with pytest.raises(DriverError, match="has an XDP program already"):
        AfXdp(OURS)
    driver.close()


@pytest.mark.parametrize("settings, words", [
    ({"name": "nosuch0"}, "no device 'nosuch0'"),
    ({"name": "lo"}, "not an Ethernet device"),
    ({"mode": "fast"}, "mode='fast'"),
    ({"ring": 1000}, "ring=1000"),
    ({"queue": -1}, "queue=-1"),
    ({"busy_poll": 1 << 20}, "busy_poll"),
    ({"addresses": ["10.0.0.300"]}, "addresses"),
])
def test_wrong_settings_name_the_setting(wire, settings, words):
    with pytest.raises((DriverError, ConfigError), match=words):
        AfXdp(**{"name": OURS, **settings})


def test_zero_copy_that_the_device_has_not(wire):
    driver = AfXdp(OURS, zero_copy=True)
    with pytest.raises(DriverError, match="zero_copy=None"):
        DriverProbe(driver, PacketPool(packets=64))
    assert driver.fileno() is None


def test_pools_that_cannot_be_shared(wire):
    driver = AfXdp(OURS)
    with pytest.raises(ConfigError, match="2048 or 4096"):
        DriverProbe(driver, PacketPool(packets=64, packet_size=1536))
    memory = np.zeros(64 * 2048 + 8192, dtype=np.uint8)
    with pytest.raises(ConfigError, match="begins at a page"):
        DriverProbe(driver, PacketPool(packets=64, memory=memory[-memory.ctypes.data % 4096 + 64:]))
    driver.close()


def test_without_permission(wire):
    program = ("import os; os.setgid(65534); os.setuid(65534)\n"
               "from iip.drivers import AfXdp\n"
               "from iip.errors import DriverError\n"
               f"try:\n    AfXdp('{KERNEL}')\nexcept DriverError as error:\n    print(error)\n")
    done = subprocess.run([sys.executable, "-c", "import fcntl, iip.drivers\n" + program], check=False, capture_output=True,
                          text=True, timeout=20)
    assert "CAP_NET_RAW" in done.stdout and "root" in done.stdout, done.stderr
