"""One-way data with both engines on one core: by segment size, handler, and without one offload after the other."""
import pytest

from bench import worlds

ROUNDS = 2000
ALL = {"checksum_offload": True, "scatter_gather": True, "tso": True}
OFFLOADS = {"all": ALL, "no tso": {**ALL, "tso": False}, "no checksum": {**ALL, "checksum_offload": False},
            "no scatter-gather": {**ALL, "scatter_gather": False, "tso": False}, "none": dict.fromkeys(ALL, False)}


def run(measure, scale, group, benchmark, **options):
    pair, sink = worlds.bulk(**options)
    rounds = scale(ROUNDS)

    def received():
        done = sink.received
        pair.run(rounds)
        return sink.received - done

    measure(f"bulk, {group}", "bytes", received, **options)
    if benchmark.stats is not None:
        benchmark.extra_info["Gbit/s"] = 8 / benchmark.extra_info["ns per bytes"]
    pair.a.handler.release(pair.a)
    pair.close()


@pytest.mark.parametrize("mtu", [576, 1500, 4096, 9000])
def test_size(measure, scale, benchmark, mtu):
    run(measure, scale, "by MTU", benchmark, mtu=mtu)


@pytest.mark.parametrize("offloads", list(OFFLOADS))
def test_offload(measure, scale, benchmark, offloads):
    run(measure, scale, "offloads taken away", benchmark, **OFFLOADS[offloads])


@pytest.mark.parametrize("handler", ["cython", "python"])
def test_handler(measure, scale, benchmark, handler):
    run(measure, scale, "by handler", benchmark, handler=handler)


@pytest.mark.parametrize("connections", [1, 8, 64])
def test_connections(measure, scale, benchmark, connections):
    run(measure, scale, "by connections", benchmark, connections=connections, packets=32768)
