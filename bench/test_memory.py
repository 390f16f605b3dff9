"""Memory: what a connection takes, in both engines together and by kind of handler."""
import gc
import os

import pytest

from bench import worlds


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("handler", list(worlds.HANDLERS))
@pytest.mark.parametrize("n", [100_000])
def test_idle_connections(benchmark, scale, handler, n):
    """Established and quiet. The time is that of opening them."""
    n = scale(n)
    benchmark.group = "memory of idle connections"
    module = worlds.HANDLERS[handler]
    pair = worlds.Pair(module.PingPongClient(1, 1), module.PingPongServer(), connections=n, packets=16384)
    pair.open(16)
    gc.collect()
    before = resident()
    benchmark.pedantic(lambda: pair.open(n - 16), rounds=1)
    gc.collect()
    benchmark.extra_info.update(connections=n, **{"bytes per connection and engine": (resident() - before) / (n - 16) / 2})
    assert pair.a.n_connections == pair.b.n_connections == n
    pair.close()
