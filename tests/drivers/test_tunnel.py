"""The tunnel: packets fed in and drained out, bounded both ways."""
import sys

import pytest

from iip.drivers import DriverProbe, Tunnel
from iip.errors import DriverError
from iip.memory.pool import PacketPool


def attached(packets=64, **settings):
    tunnel = Tunnel(**settings)
    return tunnel, DriverProbe(tunnel, PacketPool(packets=packets))


def test_in_and_out():
    tunnel, engine = attached()
    assert tunnel.feed(b"first") and tunnel.feed(memoryview(b"second"))
    assert tunnel.waiting == 2
    assert engine.rx() == [b"first", b"second"]
    engine.tx(b"a", b"bb", b"ccc")
    assert tunnel.pending == 3
    assert tunnel.drain(2) == [b"a", b"bb"]
    assert tunnel.drain() == [b"ccc"]
    assert tunnel.drain() == []
    assert engine.pool.full
    assert (tunnel.fed, tunnel.refused, tunnel.drained) == (2, 0, 3)


def test_jumbo_packets_are_chained():
    tunnel, engine = attached(mtu=65535)
    packet = bytes(range(250)) * 262
    assert tunnel.feed(packet)
    assert engine.rx() == [packet]
    engine.tx(packet)
    assert tunnel.drain() == [packet]
    assert engine.pool.full


@pytest.mark.parametrize("arrived", [True, False])
def test_a_large_packet_stays_in_its_bytes_object_until_it_is_freed(arrived):
    tunnel, engine = attached(mtu=65535, packets=1)           # one cell: the rest cannot have been copied
    packet = bytes(range(250)) * 200
    before = sys.getrefcount(packet)
    assert tunnel.feed(packet) and sys.getrefcount(packet) == before + 1
    if arrived:
        assert engine.rx() == [packet]
    else:
        tunnel.close()
    assert engine.pool.full and sys.getrefcount(packet) == before


def test_feed_many_counts_what_was_taken():
    tunnel, engine = attached(capacity=3)
    assert tunnel.feed_many(bytes([i]) for i in range(5)) == 3
    assert tunnel.refused == 2
    assert len(engine.rx()) == 3


def test_an_empty_pool_refuses():
    tunnel, engine = attached(packets=1)
    assert tunnel.feed(b"x")
    assert not tunnel.feed(b"y")
    assert engine.rx() == [b"x"]
    assert tunnel.feed(b"y")
    assert tunnel.refused == 1


@pytest.mark.parametrize("packet", [b"", bytes(65550)])
def test_impossible_lengths_are_refused(packet):
    tunnel, engine = attached()
    assert not tunnel.feed(packet)
    assert tunnel.refused == 1 and engine.pool.full


def test_a_full_outgoing_queue_is_back_pressure():
    tunnel, engine = attached(capacity=2)
    assert engine.tx(b"1", b"2", b"3") == 2
    assert tunnel.drain(1) == [b"1"]
    assert engine.tx(b"3") == 1
    assert tunnel.drain() == [b"2", b"3"]


@pytest.mark.parametrize("limit", [0, -3])
def test_drain_of_nothing(limit):
    tunnel, engine = attached()
    engine.tx(b"1")
    assert tunnel.drain(limit) == []
    assert tunnel.pending == 1


def test_drain_into():
    tunnel, engine = attached()
    engine.tx(b"1", b"2")
    out = []
    assert tunnel.drain_into(out.append) == 2
    assert out == [b"1", b"2"]


def test_drain_into_survives_an_exception():
    tunnel, engine = attached()
    engine.tx(b"1", b"2")
    with pytest.raises(ZeroDivisionError):
        tunnel.drain_into(lambda packet: 1 // 0)
    assert tunnel.drain() == [b"2"]
    assert engine.pool.full


def test_wake_once_per_empty_to_full():
    calls = []
    tunnel, engine = attached(wake=lambda: calls.append(1))
    engine.tx(b"1", b"2")
    engine.tx(b"3")
    assert len(calls) == 1
    tunnel.drain()
    engine.tx(b"4")
    assert len(calls) == 2


def test_a_failing_wake_ends_the_driver():
    def wake():
        raise RuntimeError("no")
    _, engine = attached(wake=wake)
    with pytest.raises(RuntimeError, match="no"):
        engine.tx(b"1")


def test_close_frees_both_queues():
    tunnel, engine = attached()
    tunnel.feed(b"in")
    engine.tx(b"out")
    tunnel.close()
    assert engine.pool.full
    assert not tunnel.feed(b"late")
    engine.tx(b"late")
    assert tunnel.drain() == [] and engine.pool.full


def test_deadline():
    tunnel, engine = attached()
    assert engine.poll_at(7) is None
    tunnel.feed(b"x")
    assert engine.poll_at(7) == 7


def test_feed_needs_an_engine():
    with pytest.raises(DriverError, match="make the Engine first"):
        Tunnel().feed(b"x")
