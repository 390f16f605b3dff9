"""`iip figures`: what connections, load, data size and offloads make of the speed, measured and drawn."""
from __future__ import annotations

import csv
import importlib.util
import json
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import click

from iip.cli.common import errors, progress

CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LOADS = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)     # of what a closed loop reaches
LOADED = 32                       # connections under offered load
WRITES = (64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
MODELS: dict[str, tuple[str, ...]] = {        # two cores each
    "unified: two threads, engine and application": ("--threads", "2", "--model", "unified"),
    "merge: two threads on each core": ("--threads", "2", "--model", "merge"),
    "split: a core for the network, one for the application": ("--threads", "1", "--model", "split"),
}
SOFTWARE = ("--no-tx-checksum", "--no-rx-checksum")

# name in the legend: options of `iip pingpong`
PINGPONG = {
    "zero-copy, checksum offload": (),
    "zero-copy, software checksums": SOFTWARE,
    "copy, checksum offload": ("--copy",),
    "copy, software checksums": ("--copy", *SOFTWARE),
}
PINGPONG_TAP = {"checksum offload": (), "software checksums": SOFTWARE}     # the kernel copies in any case
# and of `iip bulk`: one thing after the other is taken away
BULK = {
    "all offloads": (),
    "no scatter-gather": ("--no-sg",),
    "no TSO": ("--no-tso",),
    "no TSO, no transmit checksum": ("--no-tso", "--no-tx-checksum"),
    "no receive checksum": ("--no-rx-checksum",),
    "no LRO": ("--no-lro",),
}


Series = dict[str, tuple[str, ...]]
Link = tuple[str, ...]


class Point(NamedTuple):
    figure: str
    series: str
    x: float
    y: float


def _measure(*arguments: object) -> dict[str, Any]:
    """One measurement in a process of its own, so that none inherits caches and memory of the one before."""
    done = subprocess.run([sys.executable, "-m", "iip.cli.main", *map(str, arguments), "--json"], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        raise click.ClickException(f"iip {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _by_connections(seconds: float, size: int, kinds: Series, link: Link) -> Iterable[Point]:
    for series, options in kinds.items():
        for n in CONNECTIONS:
            found = _measure("pingpong", "--size", size, "--connections", n, "--seconds", seconds, *options, *link)
            yield Point("1a", series, n, found["transactions_per_s"] / 1e6)


def _by_load(figure: str, seconds: float, size: int, kinds: Series, link: Link) -> Iterable[Point]:
    for series, options in kinds.items():
        common = ("pingpong", "--size", size, "--connections", LOADED, "--seconds", seconds, *options, *link)
        most = _measure(*common)["transactions_per_s"]
        for load in LOADS:
            found = _measure(*common, "--rate", load * most)
            yield Point(figure, series, found["transactions_per_s"] / 1e6, found["latency_us"]["p99"])


def _by_write(seconds: float, link: Link) -> Iterable[Point]:
    for series, options in BULK.items():
        for n in WRITES:
            yield Point("2", series, n, _measure("bulk", "--write", n, "--seconds", seconds, *options, *link)["gbit_per_s"])


@click.command()
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("figures"), show_default=True,
              help="Directory for figures.csv, figure1.png, figure2.png and the same as .svg.")
@click.option("--seconds", type=click.FloatRange(0.01, 600), default=0.5, show_default=True, help="For each of the points.")
@click.option("--size", type=click.IntRange(1, 1 << 16), default=1, show_default=True, help="Bytes of a request and its answer.")
@click.option("--tap", is_flag=True, help="Over two TAP devices and a bridge of the kernel instead of memory; root.")
@errors
def figures(output: Path, seconds: float, size: int, tap: bool) -> None:
    """Measure on this machine and draw Figures 1 and 2 of the paper on iip.

    Figure 1: transactions per second by number of connections; 99th percentile of the latency by throughput under offered
    load, both with and without zero-copy and checksum offload, and with two cores for a client and a server under each model of
    assigning threads to cores. Figure 2: bulk throughput by size of the writes, all offloads and
    without one after the other. Both engines share a link and, but for the models, a core; the models
    are measured on the memory link. Needs iip[plot].
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("iip figures needs matplotlib: pip install 'iip[cli,plot]'")
    points: list[Point] = []
    link: Link = ("--tap",) if tap else ()
    kinds: Series = PINGPONG_TAP if tap else PINGPONG
    models: Series = {} if tap else MODELS
    expected = len(kinds) * (len(CONNECTIONS) + len(LOADS)) + len(models) * len(LOADS) + len(BULK) * len(WRITES)
    with progress("figures", expected) as update:
        for part in (_by_connections(seconds, size, kinds, link), _by_load("1b", seconds, size, kinds, link),
                     _by_load("1c", seconds, size, models, link), _by_write(seconds, link)):
            for point in part:
                points.append(point)
                update(len(points), f"figure {point.figure}: {point.series}")
    output.mkdir(parents=True, exist_ok=True)
    with (output / "figures.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(Point._fields)
        rows.writerows(points)
    _draw(points, output, size, "TAP devices" if tap else "memory link")
    for path in sorted(output.glob("figure*.*")):
        click.echo(path)


def machine() -> str:
    """The processor and the system."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass                      # no Linux, or no name
    return f"{model}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _lines(axis: Any, points: list[Point], figure: str) -> None:
    names = dict.fromkeys(p.series for p in points if p.figure == figure)
    for name, marker in zip(names, "osD^vX", strict=False):
        mine = [p for p in points if p.figure == figure and p.series == name]
        axis.plot([p.x for p in mine], [p.y for p in mine], marker=marker, markersize=4, label=name)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def _draw(points: list[Point], output: Path, size: int, link: str) -> None:
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    models = any(p.figure == "1c" for p in points)
    figure, axes = pyplot.subplots(1, 2 + models, figsize=(11 + 5 * models, 4.5), layout="constrained")
    _lines(axes[0], points, "1a")
    axes[0].set(xscale="log", xlabel="connections", ylabel="million transactions per second", ylim=(0, None))
    axes[0].set_xticks(CONNECTIONS, map(str, CONNECTIONS))
    axes[0].minorticks_off()
    _lines(axes[1], points, "1b")
    axes[1].set(yscale="log", xlabel=f"million transactions per second ({LOADED} connections, offered load)",
                ylabel="latency, 99th percentile, µs", xlim=(0, None))
    if models:
        _lines(axes[2], points, "1c")
        axes[2].set(yscale="log", xlabel="million transactions per second, two cores", ylabel="latency, 99th percentile, µs",
                    xlim=(0, None))
    figure.suptitle(f"Figure 1: {size}-byte request and answer, {link}\n{machine()}", fontsize="medium")
    _save(figure, output / "figure1")

    figure, axis = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    _lines(axis, points, "2")
    axis.set(xscale="log", yscale="log", xlabel="bytes of one write", ylabel="Gbit/s")
    axis.set_xticks(WRITES, [str(n) if n < 1024 else f"{n >> 10}K" for n in WRITES])
    axis.minorticks_off()
    figure.suptitle(f"Figure 2: bulk data, one connection, {link}, one core\n{machine()}", fontsize="medium")
    _save(figure, output / "figure2")


def _save(figure: Any, path: Path) -> None:
    for kind in ("png", "svg"):
        figure.savefig(path.with_suffix(f".{kind}"), dpi=120)
