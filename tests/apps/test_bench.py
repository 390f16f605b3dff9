"""The histogram of latencies: exact below 64, within 3 % above."""
import random

import pytest

from iip.apps.bench import Histogram


def test_small_values_are_exact():
    h = Histogram()
    for value in range(64):
        h.record(value)
    assert h.total == 64
    assert [h.percentile(p) for p in (1, 50, 100)] == [0, 31, 63]


@pytest.mark.parametrize("value", [64, 65, 1000, 123_456, 10**9, 10**12, 2**40 - 1])
def test_large_values_are_within_three_percent(value):
    h = Histogram()
    h.record(value)
    assert h.percentile(50) == pytest.approx(value, rel=0.032)


def test_percentiles_of_many():
    rng = random.Random(1)
    values = sorted(int(rng.expovariate(1 / 5000)) for _ in range(20_000))
    h = Histogram()
    for value in values:
        h.record(value)
    for p in (50, 90, 99, 99.9):
        assert h.percentile(p) == pytest.approx(values[int(len(values) * p / 100) - 1], rel=0.04)


def test_values_beyond_the_scale_count_in_the_last_bucket():
    h = Histogram()
    h.record(2**64 - 1)
    assert h.percentile(100) > 2**60


def test_nothing_recorded():
    assert Histogram().percentile(50) is None
