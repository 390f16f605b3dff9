"""Bandwidth of the checksum next to merely reading the same bytes, in and out of the cache."""
import random

import pytest

from iip.wire import checksum

SIZES = {"20 B": 20, "64 B": 64, "1460 B": 1460, "64 KiB": 1 << 16, "64 MiB": 1 << 26}
BYTES_PER_ROUND = 1 << 22


@pytest.fixture(params=list(SIZES))
def work(request, benchmark):
    n = SIZES[request.param]
    benchmark.group = f"checksum, {request.param}"
    times = max(1, BYTES_PER_ROUND // max(n, 64))
    benchmark.extra_info.update(bytes_per_round=n * times, calls_per_round=times)
    yield random.Random(n).randbytes(n), times
    checksum._choose(False)


@pytest.mark.parametrize("code", ["generic", "best"])
@pytest.mark.parametrize("what", ["read", "checksum"])
def test_bandwidth(benchmark, work, what, code):
    """`read` adds up the words with the same vector instructions, unrolled alike."""
    benchmark.extra_info["code"] = checksum._choose(code == "generic")
    benchmark(checksum._repeat, *work, what == "read")


@pytest.mark.parametrize("n", [20, 1460])
def test_called_from_python(benchmark, n):
    benchmark.group = "checksum, called from Python"
    benchmark(checksum.checksum, bytes(n))
