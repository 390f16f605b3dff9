"""The memory link: by reference in one pool, by copy between two, bounded, nothing lost or leaked."""
import pytest

from iip import Config, Engine, Handler
from iip.drivers import Capability, DriverProbe, MemoryLink
from iip.errors import ConfigError
from iip.memory.pool import PacketPool

TX_IP, TX_L4 = 0x0100, 0x0200
RX_OK = 0x0030


def ends(link, pool=None):
    pool_a = pool or PacketPool(packets=64)
    return DriverProbe(link.a, pool_a), DriverProbe(link.b, pool or PacketPool(packets=64))


def test_one_pool_passes_the_packet_itself():
    pool = PacketPool(packets=16)
    a, b = ends(MemoryLink(), pool)
    packet = pool.alloc(b"hello")
    assert a.tx_packets([packet]) == 1
    assert b.rx_packets() == [packet]
    pool.free(packet)
    assert pool.full


def test_two_pools_copy_and_each_gets_its_own_back():
    a, b = ends(MemoryLink())
    assert a.tx(b"one", b"two", b"three") == 3
    assert a.pool.full
    assert b.rx() == [b"one", b"two", b"three"]
    assert b.pool.full


def test_both_directions():
    a, b = ends(MemoryLink())
    a.tx(b"ping")
    b.tx(b"pong")
    assert (b.rx(), a.rx()) == ([b"ping"], [b"pong"])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("flags, expected", [(0, 0), (TX_L4, RX_OK), (TX_IP, RX_OK), (TX_IP | TX_L4, RX_OK)])
def test_a_checksum_left_to_the_link_counts_as_verified(shared, flags, expected):
    a, b = ends(MemoryLink(), PacketPool(packets=8) if shared else None)
    a.tx(b"data", flags=flags)
    assert b.rx_flags() == [(b"data", expected)]


def test_marks_that_describe_the_memory_survive():
    pool = PacketPool(packets=4)
    a, b = ends(MemoryLink(), pool)
    packet = pool.alloc(b"abcdef")
    view = pool.slice(packet, 2, 3)
    a.tx_packets([view])
    pool.free(packet)
    assert not pool.full
    assert b.rx() == [b"cde"]
    assert pool.full


@pytest.mark.parametrize("shared", [True, False])
def test_chains_arrive_whole(shared):
    a, b = ends(MemoryLink(tso=True), PacketPool(packets=128) if shared else None)
    frame = bytes(range(256)) * 250
    assert a.tx(frame) == 1
    assert b.rx() == [frame]
    assert a.pool.full and b.pool.full


def test_chain_is_packed_when_copied():
    a, b = ends(MemoryLink())
    head = a.pool.alloc(b"head ")
    a.pool.chain(head, a.pool.alloc(b"and "))
    a.pool.chain(head, a.pool.alloc(b"tail"))
    a.tx_packets([head])
    [packet] = b.rx_packets()
    assert b.pool.bytes(packet) == b"head and tail" and b.pool.pieces(packet) == 1
    b.pool.free(packet)
    assert a.pool.full and b.pool.full


@pytest.mark.parametrize("shared", [True, False])
def test_a_full_link_takes_fewer(shared):
    a, b = ends(MemoryLink(capacity=3), PacketPool(packets=16) if shared else None)
    assert a.tx(*[bytes([i]) for i in range(5)]) == 3
    assert a.tx(b"x") == 0
    assert b.rx(limit=2) == [b"\0", b"\1"]
    assert a.tx(b"x", b"y", b"z") == 2
    assert b.rx() == [b"\2", b"x", b"y"]
    assert a.pool.full and b.pool.full


def test_an_empty_pool_at_the_other_end_is_back_pressure():
    link = MemoryLink()
    a, b = DriverProbe(link.a, PacketPool(packets=8)), DriverProbe(link.b, PacketPool(packets=2))
    assert a.tx(b"1", b"2", b"3") == 2
    assert b.rx() == [b"1", b"2"]
    assert a.tx(b"3") == 1
    assert b.rx() == [b"3"]
    assert b.pool.exhausted == 1


@pytest.mark.parametrize("shared", [True, False])
def test_close_frees_what_waits_and_drops_what_comes(shared):
    link = MemoryLink()
    a, b = ends(link, PacketPool(packets=16) if shared else None)
    a.tx(b"1", b"2")
    b.tx(b"3")
    link.b.close()
    link.b.close()
    assert a.tx(b"4") == 1
    assert link.a.stats()["tx_dropped"] == 1
    assert b.rx() == []
    assert a.rx() == [b"3"]
    assert a.pool.full and b.pool.full


def test_nobody_at_the_other_end_drops():
    link = MemoryLink()
    a = DriverProbe(link.a, PacketPool(packets=4))
    assert a.tx(b"1", b"2") == 2
    assert a.pool.full and link.a.stats()["tx_dropped"] == 2


def test_waiting_packets_are_a_deadline():
    a, b = ends(MemoryLink())
    assert b.poll_at(5) is None
    a.tx(b"x")
    assert b.poll_at(5) == 5 and a.poll_at(5) is None
    assert b.driver.pending == 1


def test_counters():
    link = MemoryLink()
    a, b = ends(link)
    a.tx(b"12345", b"678")
    b.rx(limit=1)
    assert link.a.stats() == {"tx_packets": 2, "tx_bytes": 8, "tx_dropped": 0, "rx_packets": 0}
    assert link.b.stats()["rx_packets"] == 1


def test_capabilities():
    C = Capability
    csum = C.RX_IP_CSUM | C.RX_L4_CSUM | C.TX_IP_CSUM | C.TX_L4_CSUM
    assert MemoryLink().a.caps == csum | C.SG
    assert MemoryLink(checksum_offload=False, scatter_gather=False).b.caps == 0
    assert MemoryLink(tso=True).a.caps == csum | C.SG | C.TSO4 | C.TSO6 | C.LRO
    assert MemoryLink(medium="ethernet", macs=(b"\2\0\0\0\0\1", b"\2\0\0\0\0\2")).b.mac == b"\2\0\0\0\0\2"


@pytest.mark.parametrize("capacity", [0, -1, 1 << 25, 1.5])
def test_wrong_capacity(capacity):
    with pytest.raises(ConfigError, match="capacity"):
        MemoryLink(capacity=capacity)


def test_one_driver_one_engine():
    link = MemoryLink()
    DriverProbe(link.a, PacketPool(packets=4))
    with pytest.raises(ConfigError, match="already attached"):
        DriverProbe(link.a, PacketPool(packets=4))


def test_engines_take_the_station_address_of_the_driver():
    link = MemoryLink(medium="ethernet", macs=(b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"))
    asked = Config(addresses=["10.0.0.2/24"], mac="02:00:00:00:00:99", address_check=False)
    with_default = Engine(Config(addresses=["10.0.0.1/24"], address_check=False), Handler(), link.a)
    with_setting = Engine(asked, Handler(), link.b)
    assert with_default.mac == b"\2\0\0\0\0\1"
    assert with_setting.mac == b"\2\0\0\0\0\x99"
