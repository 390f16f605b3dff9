"""What Python's calls and callbacks cost."""
import numpy as np
import pytest

import iip
from bench.worlds import Pair


@pytest.fixture
def pair():
    pair = Pair(iip.Handler(), iip.Handler(), connections=64, settings={"send_buffer": 1 << 30}, packets=1 << 15)
    pair.handles = pair.open(32)
    yield pair
    pair.close()


def repeated(function, times=64):
    def run():
        for _ in range(times):
            function()
        return times
    return run


def test_run_with_nothing_to_do(measure, pair):
    pair.run(50, 100_000_000)
    measure("facade, calls", "calls", repeated(lambda: pair.a.run(pair.now)))


@pytest.mark.parametrize("name", ["consume", "send", "closed", "send_room", "state", "info"])
def test_connection(measure, pair, name):
    conn = pair.a.connection(pair.handles[0])
    function = {"consume": lambda: conn.consume(0), "send": lambda: conn.send(b""), "closed": lambda: conn.closed,
                "send_room": lambda: conn.send_room, "state": lambda: conn.state, "info": conn.info}[name]
    measure("facade, calls", "calls", repeated(function))


@pytest.mark.parametrize("n", [1, 32, 1024])
@pytest.mark.parametrize("name", ["send_many", "consume_many", "set_users"])
def test_many(measure, pair, name, n):
    conns, data = np.resize(pair.handles, n), {"send_many": b"", "consume_many": 0, "set_users": np.zeros(n, np.int64)}[name]
    function = getattr(pair.a, name)

    def run():
        function(conns, data)
        return n
    measure("facade, calls for many connections", "connections", run, n=n)


@pytest.mark.parametrize("what", ["stats", "connections"])
def test_snapshots(measure, pair, what):
    measure("facade, snapshots", "calls", repeated(getattr(pair.a, what), 8), connections=32)


class Payloads(iip.Handler):
    def tcp_payload(self, conn, data):
        pass


class Batches(iip.Handler):
    def tcp_events(self, batch):
        pass


@pytest.mark.parametrize("handler", [iip.Handler, Payloads, Batches])
def test_callbacks(benchmark, scale, handler):
    """The receiving engine's run with 32 payloads: without a callback, with 32, with one for all."""
    pair = Pair(iip.Handler(), handler(), settings={"nagle": False, "receive_buffer": 1 << 28})
    conns = pair.open(32)

    def setup():
        pair.run(4, 100_000_000)
        pair.a.send_many(conns, b"x")
        pair.a.run(pair.now)

    benchmark.group = "facade, 32 payloads to an empty callback"
    benchmark.pedantic(lambda: pair.b.run(pair.now), setup=setup, rounds=scale(1000, 3))
    pair.close()
