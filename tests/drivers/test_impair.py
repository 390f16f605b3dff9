"""The bad wire: what it does, how often, when; and that a seed repeats it."""
import pytest

from iip.drivers import Capability, DriverProbe, Impair, Impairments, MemoryLink, PythonDriver, Tunnel
from iip.errors import ConfigError
from iip.memory.pool import PacketPool

MS = 1_000_000
TX_L4, RX_OK = 0x0200, 0x0030


def wire(*, seed=1, packets=4096, link=None, **directions):
    """The probe of an impaired end, and of the clean end across a memory link in the same pool."""
    link = link or MemoryLink()
    pool = PacketPool(packets=packets)
    return DriverProbe(Impair(link.a, seed=seed, **directions), pool), DriverProbe(link.b, pool)


def number(i):
    return i.to_bytes(4, "big") + bytes(60)


def send(probe, count, now=0):
    for start in range(0, count, 32):
        assert probe.tx(*map(number, range(start, min(start + 32, count))), now=now) == min(32, count - start)


def numbers(frames):
    return [int.from_bytes(f[:4], "big") for f in frames]


def test_a_good_wire_changes_nothing():
    a, b = wire()
    send(a, 100)
    assert numbers(b.rx(limit=200)) == list(range(100))
    b.tx(number(7))
    assert numbers(a.rx()) == [7]
    assert a.pool.full


def test_delay_is_exact_and_announced():
    a, b = wire(tx=Impairments(delay=0.02), rx=Impairments(delay=0.005))
    a.tx(number(1), now=0)
    assert b.rx() == [] and a.poll_at(0) == 20 * MS
    assert a.rx(now=20 * MS - 1) == [] and b.rx() == []
    a.rx(now=20 * MS)
    assert numbers(b.rx()) == [1]
    b.tx(number(2))
    assert a.rx(now=30 * MS) == [] and a.poll_at(30 * MS) == 35 * MS
    assert numbers(a.rx(now=35 * MS)) == [2]
    assert a.poll_at(36 * MS) is None and a.pool.full


def test_jitter_keeps_the_order():
    a, b = wire(tx=Impairments(delay=0.01, jitter=0.01))
    send(a, 200)
    times = []
    now, got = 0, []
    while (at := a.poll_at(now)) is not None:
        now = at
        a.rx(now=now)
        frames = numbers(b.rx(limit=500))
        got += frames
        times += [now] * len(frames)
    assert got == list(range(200))
    assert times[0] >= 10 * MS and times[-1] < 20 * MS and len(set(times)) > 3


def test_reorder_lets_others_overtake():
    a, b = wire(tx=Impairments(reorder=0.1, reorder_delay=0.003))
    send(a, 200)
    at_once = numbers(b.rx(limit=500))
    assert at_once == sorted(at_once)
    held = a.driver.stats()["tx_reordered"]
    assert len(at_once) == 200 - held and 5 <= held <= 45
    a.rx(now=3 * MS)
    late = numbers(b.rx(limit=500))
    assert sorted(at_once + late) == list(range(200))


@pytest.mark.parametrize("direction", ["tx", "rx"])
def test_loss(direction):
    a, b = wire(**{direction: Impairments(loss=0.02)})
    source, sink = (a, b) if direction == "tx" else (b, a)
    got = 0
    for _ in range(100):
        send(source, 100)
        while frames := sink.rx(limit=64):
            got += len(frames)
    lost = a.driver.stats()[f"{direction}_lost"]
    assert got == 10_000 - lost
    assert 130 <= lost <= 280
    assert a.pool.full


def test_duplicates_are_packets_of_their_own():
    a, b = wire(tx=Impairments(duplicate=1.0))
    a.tx(number(3))
    first, second = b.rx_packets()
    assert first != second
    b.pool.view(first)[:] = 0
    assert numbers([b.pool.bytes(second)]) == [3]
    b.pool.free(first)
    b.pool.free(second)
    assert a.pool.full


def test_corruption_flips_one_bit_of_a_copy():
    a, b = wire(tx=Impairments(corrupt=1.0))
    original = a.pool.alloc(number(5))
    shared = a.pool.clone(original)
    a.tx_packets([shared])
    [frame] = b.rx()
    flipped = int.from_bytes(frame, "big") ^ int.from_bytes(number(5), "big")
    assert flipped.bit_count() == 1
    assert a.pool.bytes(original) == number(5)
    a.pool.free(original)
    assert a.pool.full


def test_corruption_reaches_every_piece_of_a_chain():
    a, b = wire(tx=Impairments(corrupt=1.0), packets=64)
    hit = set()
    for _ in range(300):
        head = a.pool.alloc(bytes(10))
        a.pool.chain(head, a.pool.alloc(bytes(10)))
        a.tx_packets([head])
        [frame] = b.rx()
        hit.add(next(i for i, byte in enumerate(frame) if byte))
    assert hit == set(range(20))


def test_corrupted_packets_are_not_vouched_for():
    a, b = wire(rx=Impairments(corrupt=1.0))
    b.tx(number(1), flags=TX_L4)
    [(_, flags)] = a.rx_flags()
    assert flags & RX_OK == 0
    a, b = wire()
    b.tx(number(1), flags=TX_L4)
    [(_, flags)] = a.rx_flags()
    assert flags & RX_OK == RX_OK


def test_a_corrupting_wire_takes_no_checksum_work():
    link = MemoryLink(tso=True)
    spoiled = Capability(Impair(link.a, seed=1, tx=Impairments(corrupt=0.01)).caps)
    assert not spoiled & (Capability.TX_IP_CSUM | Capability.TX_L4_CSUM | Capability.TSO4 | Capability.TSO6)
    assert Impair(link.b, seed=1, rx=Impairments(corrupt=0.01)).caps == link.b.caps


def test_rate():
    # 1 Mbit/s, 64 bytes each: 512 us per packet
    a, b = wire(tx=Impairments(rate=1e6))
    send(a, 10)
    arrivals, now = [], 0
    while (at := a.poll_at(now)) is not None:
        now = at
        a.rx(now=now)
        arrivals += [now] * len(b.rx())
    assert arrivals == [512_000 * (i + 1) for i in range(10)]


def test_the_queue_of_the_rate_is_bounded():
    a, b = wire(tx=Impairments(rate=1e6, queue=640))
    send(a, 30)
    # one in transmission, ten waiting
    assert a.driver.stats()["tx_queue_full"] == 30 - 11
    assert a.driver.stats()["tx_held"] == 11
    a.rx(now=1000 * MS)
    assert numbers(b.rx()) == list(range(11))
    assert a.pool.full


def test_the_wire_holds_a_limited_number():
    a, _ = wire(tx=Impairments(delay=1.0, limit=5))
    send(a, 8)
    stats = a.driver.stats()
    assert (stats["tx_held"], stats["tx_queue_full"]) == (5, 3)


def test_back_pressure_of_the_driver_behind_loses_nothing():
    a, b = wire(link=MemoryLink(capacity=4))
    send(a, 10)
    got = []
    while frames := b.rx():
        got += numbers(frames)
        a.rx()
    assert got == list(range(10))


def test_no_packet_for_a_copy():
    a, b = wire(tx=Impairments(duplicate=1.0), packets=1)
    a.tx(number(1))
    assert numbers(b.rx()) == [1]
    assert a.driver.stats()["tx_no_buffer"] == 1


def trace(seed):
    a, b = wire(seed=seed, tx=Impairments(loss=0.1, duplicate=0.1, reorder=0.1, corrupt=0.1, delay=0.01, jitter=0.005))
    send(a, 300)
    out, now = [], 0
    while (at := a.poll_at(now)) is not None:
        now = at
        a.rx(now=now)
        out += [(now, frame) for frame in b.rx(limit=1000)]
    assert a.pool.full
    return out


def test_a_seed_repeats_everything():
    assert trace(5) == trace(5)
    assert trace(5) != trace(6)


def test_close_frees_the_wire():
    link = MemoryLink()
    a, b = wire(link=link, tx=Impairments(delay=1.0), rx=Impairments(delay=1.0))
    send(a, 50)
    b.tx(number(1))
    a.rx()
    assert not a.pool.full
    a.driver.close()
    a.driver.close()
    assert a.pool.full


def test_impaired_twice_and_around_a_tunnel():
    tunnel = Tunnel()
    inner = Impair(tunnel, seed=1, tx=Impairments(delay=0.001))
    probe = DriverProbe(Impair(inner, seed=2, tx=Impairments(delay=0.002)), PacketPool(packets=8))
    probe.tx(number(1), now=0)
    assert probe.poll_at(0) == 2 * MS
    probe.rx(now=2 * MS)
    assert tunnel.drain() == [] and probe.poll_at(2 * MS) == 3 * MS
    probe.rx(now=3 * MS)
    assert numbers(tunnel.drain()) == [1]


def test_an_error_of_the_driver_behind_comes_through():
    class Broken(PythonDriver):
        def receive(self, now, limit):
            raise RuntimeError("cable")

    probe = DriverProbe(Impair(Broken(), seed=1), PacketPool(packets=4))
    with pytest.raises(RuntimeError, match="cable"):
        probe.rx()


@pytest.mark.parametrize("wrong", [{"loss": 2}, {"corrupt": -0.1}, {"delay": -1}, {"rate": 0.5}, {"queue": 0},
                                   {"limit": 0}, {"duplicate": "x"}, {"jitter": 1e9}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Impairments(**wrong)


def test_settings_of_another_type():
    with pytest.raises(ConfigError, match="Impairments"):
        Impair(Tunnel(), seed=1, tx=0.5)
