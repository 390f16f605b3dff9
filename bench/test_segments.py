"""One engine alone: data segments that go out, and that come in."""
import pytest

import iip
from bench.worlds import Pair

MSS = 1448
SEGMENTS = 64


class Sink(iip.Handler):
    """The default: consumes, in C."""


@pytest.fixture(params=[1, MSS], ids=["1 B", "1448 B"])
def size(request):
    return request.param


@pytest.fixture(params=[{}, {"checksum_offload": False}, {"medium": "ethernet"}, {"version": 6}],
                ids=["offload", "software checksum", "ethernet", "ipv6"])
def pair(request):
    """Connections with wide congestion windows, one for each segment."""
    pair = Pair(Sink(), Sink(), connections=SEGMENTS, settings={"nagle": False}, **request.param)
    pair.conns = pair.open(SEGMENTS)
    yield pair
    pair.close()


def settle(pair):
    pair.run(8)
    pair.run(4, 100_000_000)


def test_output(benchmark, scale, pair, size):
    data = bytes(size)
    benchmark.group = f"segment output, {size} B"

    def setup():
        settle(pair)
        pair.a.send_many(pair.conns, data)

    before = pair.a.stats()["tcp_out_data"]
    rounds = scale(1000, 3)
    benchmark.pedantic(lambda: pair.a.run(pair.now), setup=setup, rounds=rounds)
    assert pair.a.stats()["tcp_out_data"] - before >= SEGMENTS
    report(benchmark)


def test_input(benchmark, scale, pair, size):
    data = bytes(size)
    benchmark.group = f"segment input, {size} B"

    def setup():
        settle(pair)
        pair.a.send_many(pair.conns, data)
        pair.a.run(pair.now)

    before = pair.b.stats()["tcp_in_order"]
    rounds = scale(1000, 3)
    benchmark.pedantic(lambda: pair.b.run(pair.now), setup=setup, rounds=rounds)
    assert pair.b.stats()["tcp_in_order"] - before >= SEGMENTS
    report(benchmark)


def report(benchmark):
    benchmark.extra_info["segments"] = SEGMENTS
    if benchmark.stats is not None:
        benchmark.extra_info["ns per segment"] = benchmark.stats.stats.median * 1e9 / SEGMENTS
