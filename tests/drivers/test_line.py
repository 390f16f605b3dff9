"""One direction of a bad wire: queues, CoDel, ECN marks and burst losses."""
import itertools

import pytest

from iip.drivers import CoDel, DriverProbe, DropTail, GilbertElliott, Impair, Impairments, MemoryLink
from iip.errors import ConfigError
from iip.memory.pool import PacketPool
from iip.wire.checksum import checksum

MS = 1_000_000
RATE = 12e6                       # a packet of 1500 bytes takes a millisecond


def wire(seed=1, **settings):
    link = MemoryLink()
    pool = PacketPool(packets=8192)
    return (DriverProbe(Impair(link.a, seed=seed, tx=Impairments(**settings)), pool), DriverProbe(link.b, pool))


def packet(number, *, ecn=0, version=4, size=1500):
    """An IP packet with its number at the end; the IPv4 header's checksum is right."""
    if version == 4:
        head = bytearray(20)
        head[0], head[1], head[8], head[9] = 0x45, 0xB8 | ecn, 64, 17
        head[2:4] = size.to_bytes(2, "big")
        head[10:12] = checksum(bytes(head)).to_bytes(2, "big")
    else:
        head = bytearray(40)
        head[0], head[1], head[6], head[7] = 0x6B, 0x80 | ecn << 4, 17, 64
        head[4:6] = (size - 40).to_bytes(2, "big")
    return bytes(head) + bytes(size - len(head) - 4) + number.to_bytes(4, "big")


def drain(a, b, now=0, end=None):
    """(time, number, frame) of all that arrives until `end`."""
    got = []
    while (at := a.poll_at(now)) is not None and (end is None or at <= end):
        now = max(at, now)
        a.rx(now=now)
        got += [(now, int.from_bytes(frame[-4:], "big"), frame) for frame in b.rx(limit=4096, now=now)]
    return got


def overload(a, b, packets, *, per_ms=2, **settings):
    """Offer `per_ms` packets a millisecond, twice what the line takes."""
    got = []
    for i in range(packets):
        now = i * MS // per_ms
        got += drain(a, b, end=now)
        a.tx(packet(i, **settings), now=now)
    return got + drain(a, b)


# -- losses in bursts ------------------------------------------------------------------------------------------

def test_gilbert_elliott_share_and_length_of_bursts():
    a, b = wire(loss=GilbertElliott(p=0.01, r=0.25))
    got = set()
    for start in range(0, 40_000, 1000):
        for i in range(start, start + 1000):
            a.tx(packet(i, size=64))
        got |= {int.from_bytes(frame[-4:], "big") for frame in b.rx(limit=4096)}
    lost = [i not in got for i in range(40_000)]
    bursts = [len(list(run)) for is_lost, run in itertools.groupby(lost) if is_lost]
    # lost: p / (p + r) = 3.85 %; mean burst 1 / r = 4
    assert 0.030 < sum(lost) / len(lost) < 0.047
    assert 3.4 < sum(bursts) / len(bursts) < 4.6
    assert a.driver.stats()["tx_lost"] == sum(lost) and a.pool.full


def test_gilbert_elliott_losses_of_each_state():
    always_good, b = wire(loss=GilbertElliott(p=0.0, r=1.0, good=0.5))
    for i in range(1000):
        always_good.tx(packet(i, size=64))
    assert 420 < len(b.rx(limit=4096)) < 580
    always_bad, b = wire(loss=GilbertElliott(p=1.0, r=0.0, bad=0.25))
    for i in range(1000):
        always_bad.tx(packet(i, size=64))
    assert 690 < len(b.rx(limit=4096)) < 810


# -- drop tail -------------------------------------------------------------------------------------------------

def test_drop_tail_by_packets():
    a, b = wire(rate=RATE, queue=DropTail(packets=5))
    for i in range(20):
        a.tx(packet(i))
    assert [number for _, number, _ in drain(a, b)] == [0, 1, 2, 3, 4, 5]     # one in transmission, five waiting
    assert a.driver.stats()["tx_queue_full"] == 14 and a.pool.full


def test_drop_tail_by_bytes_makes_room_again():
    a, b = wire(rate=RATE, queue=DropTail(bytes=3000))
    for i in range(5):
        a.tx(packet(i), now=0)
    assert a.driver.stats()["tx_waiting"] == 3000
    a.tx(packet(5), now=MS)        # the second packet is in transmission now
    a.tx(packet(6), now=MS)
    assert [number for _, number, _ in drain(a, b)] == [0, 1, 2, 5]


def test_a_packet_need_not_wait_at_an_idle_line_however_small_the_queue():
    a, b = wire(rate=RATE, queue=DropTail(bytes=1))
    a.tx(packet(0), now=0)
    a.tx(packet(1), now=MS // 2)
    got = drain(a, b, end=MS)
    a.tx(packet(2), now=MS)
    assert [(at, number) for at, number, _ in got + drain(a, b)] == [(MS, 0), (2 * MS, 2)]


@pytest.mark.parametrize("version", [4, 6])
def test_marks_above_a_threshold(version):
    a, b = wire(rate=RATE, queue=DropTail(bytes=15_000, mark=6000))
    for i in range(11):
        a.tx(packet(i, ecn=2, version=version))
    got = drain(a, b)
    tos = [frame[1] & 3 if version == 4 else frame[1] >> 4 & 3 for _, _, frame in got]
    assert tos == [2] * 5 + [3] * 6
    assert a.driver.stats()["tx_marked"] == 6
    if version == 4:
        assert all(checksum(frame[:20]) == 0 and frame[1] & 0xFC == 0xB8 for _, _, frame in got)
    else:
        assert all(frame[0] == 0x6B and frame[1] & 0xCF == 0x80 for _, _, frame in got)


def test_marking_leaves_other_transports_and_other_holders_of_the_bytes_alone():
    a, b = wire(rate=RATE, queue=DropTail(bytes=15_000, mark=1))
    a.tx(packet(0))
    a.tx(packet(1))
    original = a.pool.alloc(packet(2, ecn=1))
    a.tx_packets([a.pool.clone(original)])
    assert [frame[1] & 3 for _, _, frame in drain(a, b)] == [0, 0, 3]
    assert a.pool.bytes(original) == packet(2, ecn=1)
    a.pool.free(original)
    assert a.driver.stats()["tx_marked"] == 1 and a.pool.full


# -- CoDel -----------------------------------------------------------------------------------------------------

def test_codel_leaves_a_short_queue_alone():
    a, b = wire(rate=RATE, queue=CoDel())
    got = overload(a, b, 2000, per_ms=1)
    assert len(got) == 2000 and a.driver.stats()["tx_codel_dropped"] == 0


def test_codel_drops_by_its_control_law():
    # RFC 8289 §3: the first drop when the delay was above 5 ms for 100 ms, then after 100 / sqrt(n) ms
    a, b = wire(rate=RATE, queue=CoDel())
    got = overload(a, b, 1200)
    gaps = [at / MS for (_, before, _), (at, after, _) in itertools.pairwise(got) if after != before + 1]
    assert 105 <= gaps[0] <= 115
    steps = [later - earlier for earlier, later in itertools.pairwise(gaps)]
    for n, step in enumerate(steps[:8], 1):
        assert step == pytest.approx(100 / n ** 0.5, abs=2.5)


def test_codel_keeps_the_delay_of_a_source_that_gives_way():
    a, b = wire(rate=RATE, queue=CoDel())
    got, sent, window, now = [], 0, 40, 0
    while len(got) < 4000:
        while sent - len(got) - a.driver.stats()["tx_codel_dropped"] < window:
            a.tx(packet(sent), now=now)
            sent += 1
        now = a.poll_at(now)
        before = a.driver.stats()["tx_codel_dropped"]
        got += drain(a, b, now, end=now)
        if a.driver.stats()["tx_codel_dropped"] > before:
            window = max(2, window - 4)
    assert window < 12 and a.driver.stats()["tx_codel_dropped"] >= 7


def test_codel_marks_instead_where_it_may():
    a, b = wire(rate=RATE, queue=CoDel(ecn=True))
    got = overload(a, b, 600, ecn=2)
    marked = [number for _, number, frame in got if frame[1] & 3 == 3]
    stats = a.driver.stats()
    assert len(got) == 600 and stats["tx_codel_dropped"] == 0
    assert stats["tx_marked"] == len(marked) > 3
    assert all(checksum(frame[:20]) == 0 for _, _, frame in got)
    a, b = wire(rate=RATE, queue=CoDel(ecn=True))
    got = overload(a, b, 600)
    assert a.driver.stats()["tx_codel_dropped"] == 600 - len(got) > 3


def test_codel_queue_is_bounded_as_well():
    a, b = wire(rate=RATE, queue=CoDel(packets=10))
    for i in range(30):
        a.tx(packet(i))
    assert len(drain(a, b)) == 11 and a.driver.stats()["tx_queue_full"] == 19


# -- when anybody looks ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("queue", [DropTail(bytes=20_000), CoDel(target=0.002, interval=0.02)])
def test_how_often_anybody_looks_makes_no_difference(queue):
    def run(step):
        a, b = wire(seed=3, rate=RATE, queue=queue, jitter=0.001, delay=0.004, loss=0.02, duplicate=0.02)
        got = []
        for i in range(1000):
            now = i * MS * 3 // 5
            if step:
                for look in range(max(0, now - MS * 3 // 5), now, step):
                    a.rx(now=look)
                    got += b.rx(limit=4096)
            a.tx(packet(i), now=now)
        a.rx(now=10_000 * MS)
        got += b.rx(limit=4096)
        assert a.pool.full
        return got, a.driver.stats()

    assert run(0) == run(MS // 7)


@pytest.mark.parametrize("make, words", [
    (lambda: DropTail(bytes=0), "bytes=0"), (lambda: DropTail(packets=-1), "packets=-1"),
    (lambda: DropTail(mark=-1), "mark"), (lambda: CoDel(target=0), "target"), (lambda: CoDel(interval=100), "interval"),
    (lambda: GilbertElliott(p=2, r=0), "p=2"), (lambda: Impairments(loss=DropTail()), "loss"),
    (lambda: Impairments(queue=GilbertElliott(0.1, 0.1)), "queue"), (lambda: Impairments(delay=CoDel()), "delay"),
])
def test_wrong_settings_are_named(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
