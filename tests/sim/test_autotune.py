"""Buffers that follow the path: long fat paths are filled from the defaults, and nobody gets more than is of use."""
import pytest

import iip
from iip.sim import BulkFlow, Simulation
from tests.sim.worlds import Recorder, address

LONG = {"rate": 100e6, "delay": 0.1, "queue": 4 << 20}
POOL = {"pool_packets": 16384}


@pytest.fixture
def sim():
    with Simulation(seed=5) as made:
        yield made
    assert made.packets_in_use == 0


def pair(sim, a=None, b=None, host=None, **link):
    a, b = sim.host("a", handler=a, **(host or {})), sim.host("b", handler=b, **(host or {}))
    sim.link(a, b, **link)
    return a, b



@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_a_long_fat_path_is_filled(sim, version, timestamps):
    """100 Mbit/s and 200 ms: 2.5 MB in flight, from buffers of 128 KiB."""
    a, b = pair(sim, host={**POOL, "timestamps": timestamps}, **LONG)
    flow = BulkFlow(sim, a, b, version=version)
    sim.run(10)
    assert flow.goodput(4, 10) >= 0.93 * LONG["rate"]
    assert flow.retransmits == 0


def test_without_tuning_it_is_not(sim):
    a, b = pair(sim, host={**POOL, "autotune": False}, **LONG)
    flow = BulkFlow(sim, a, b)
    sim.run(10)
    assert flow.goodput(4, 10) < 0.1 * LONG["rate"]


def test_the_cap_holds(sim):
    a, b = pair(sim, host={**POOL, "receive_buffer_max": 500_000}, **LONG)
    flow = BulkFlow(sim, a, b)
    sim.run(10)
    assert flow.trace["in_flight"].max() <= 500_000
    assert flow.goodput(4, 10) == pytest.approx(500_000 * 8 / 0.2, rel=0.1)


def test_a_short_path_needs_little(sim):
    """10 Mbit/s and 10 ms: 12.5 kB a round trip, and a queue that fills what is offered. The window stays small."""
    a, b = pair(sim, host=POOL, rate=10e6, delay=0.005, queue=30_000)
    flow = BulkFlow(sim, a, b)
    sim.run(20)
    assert flow.goodput(5, 20) >= 0.9 * 10e6
    assert int(b.engine.connections()[0]["rcv_wnd"]) <= 200_000


class Slow(Recorder):
    """Takes what comes, but is never done with it."""

    def __init__(self):
        super().__init__()
        self.conn = None

    def tcp_payload(self, conn, data):
        self.conn = conn
        self.data += bytes(data)


class Source(iip.Handler):
    """Sends without end."""

    def tcp_connected(self, conn):
        self.tcp_acked(conn, 0)

    def tcp_acked(self, conn, n):
        while conn.send(bytes(100_000)):
            pass


def test_a_slow_reader_is_bounded(sim):
    """Who does not consume is offered no more than at first."""
    slow = Slow()
    a, b = pair(sim, Source(), slow, host=POOL, **LONG)
    b.engine.tcp_listen(80)
    a.engine.tcp_connect(address(b), 80)
    sim.run(20)
    assert len(slow.data) <= 1 << 17
    for host in (a, b):
        host.engine.abort_all()
    sim.run(1)


def test_a_reader_at_a_low_rate_is_bounded(sim):
    """One that takes 100 kB each second: the window follows what it takes, not what the path could carry."""
    slow = Slow()
    a, b = pair(sim, Source(), slow, host=POOL, **LONG)
    b.engine.tcp_listen(80)
    a.engine.tcp_connect(address(b), 80)

    def take():
        if slow.conn is not None:
            slow.conn.consume(100_000)
        return True

    sim.observe(1.0, take)
    sim.run(30)
    assert slow.conn.receive_buffer <= 400_000
    for host in (a, b):
        host.engine.abort_all()
    sim.run(1)


def test_what_the_application_chose_stays(sim):
    a, b = pair(sim, host=POOL, **LONG)
    flow = BulkFlow(sim, a, b)
    sim.run(0.5)
    flow.connection.send_buffer = 50_000
    sim.run(6)
    assert flow.connection.send_buffer == 50_000
    assert flow.trace["in_flight"][-1] <= 50_000


def test_the_send_buffer_follows_the_window(sim):
    a, b = pair(sim, host=POOL, **LONG)
    flow = BulkFlow(sim, a, b)
    sim.run(8)
    assert 1 << 22 >= flow.connection.send_buffer >= 2_500_000
