"""What one element costs: in one thread, between two, and through the Python class."""
from concurrent.futures import ThreadPoolExecutor

import pytest

from iip.memory.ring import BufferRing, _cycle_u32, _stress_consumer, _stress_producer

VALUES = 1 << 20


@pytest.mark.parametrize("burst", [1, 32, 256])
def test_one_thread(benchmark, burst):
    """Push and pop in bursts, everything in the cache: the cost of the instructions."""
    benchmark.group = "ring, push and pop of 4-byte elements in one thread"
    benchmark.extra_info["elements"] = VALUES
    assert benchmark(_cycle_u32, BufferRing(1024, 4), VALUES // burst, burst) == VALUES


@pytest.mark.parametrize("copy", [True, False], ids=["push and pop", "in place"])
@pytest.mark.parametrize("burst", [1, 32, 256])
def test_two_threads(benchmark, burst, copy):
    """Each value is computed by both sides and compared; cache lines travel between two processors."""
    benchmark.group = "ring, 4-byte elements between two threads"
    benchmark.extra_info["elements"] = VALUES
    ring = BufferRing(1024, 4)
    with ThreadPoolExecutor(2) as pool:
        def transfer():
            pool.submit(_stress_producer, ring, VALUES, burst, copy)
            return pool.submit(_stress_consumer, ring, VALUES, burst, copy).result()
        assert benchmark(transfer) == VALUES


@pytest.mark.parametrize("n", [64, 1460, 65536])
def test_byte_stream_from_python(benchmark, n):
    benchmark.group = "ring, byte stream through the Python class"
    ring = BufferRing(65536)
    data = bytes(n)

    def transfer():
        sent = 0
        while sent < n:
            view = ring.reserve(n - sent)
            view[:] = data[sent:sent + len(view)]
            ring.commit()
            ring.peek()
            ring.release()
            sent += len(view)
        return sent
    assert benchmark(transfer) == n
