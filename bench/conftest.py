"""Options and fixtures of the measurements: `python -m bench` runs them, `--quick` only shows that they run."""
import pytest


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="tiny counts: to see that everything runs")


@pytest.fixture
def scale(request):
    """Makes a count smaller when nobody wants the numbers."""
    quick = request.config.getoption("--quick")
    return lambda n, least=1: max(least, n // 100) if quick else n


@pytest.fixture
def measure(benchmark):
    """`measure(group, operations, function)`: time `function`, which does about `operations` of something and returns
    how many it did. What one costs is in `extra_info`."""
    def measure(group, unit, function, **info):
        benchmark.group = group
        benchmark.extra_info.update(info)
        counts = []
        benchmark(lambda: counts.append(function()))
        mean = sum(counts) / len(counts)
        assert mean > 0, "nothing was done"
        benchmark.extra_info[unit] = mean
        if benchmark.stats is not None:
            benchmark.extra_info[f"ns per {unit}"] = benchmark.stats.stats.median * 1e9 / mean

    return measure
