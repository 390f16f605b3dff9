"""`iip load`: requests to a server, and how long the answers take."""
from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from iip.apps.load import LoadClient
from iip.cli.common import Command, device_options, emit, errors, json_option, nonzero, open_engine, progress
from iip.cli.pair import Pair
from iip.runtime.worker import NetworkLoop

HIGHEST = 3_600_000_000_000       # latency, ns
SLICE = 0.1                       # seconds between two looks
PATIENCE = 5.0                    # seconds that connecting may take
PERCENTILES = (50, 75, 90, 99, 99.9, 99.99, 100)


def optional_device_options(command: Command) -> Command:
    """The device may be left out: then the server is ours, on a memory link."""
    command = device_options(command)
    for option in command.__click_params__:  # type: ignore[attr-defined]
        if option.name == "addresses":
            option.required = False
    return command


@click.command()
@click.option("--target", metavar="HOST:PORT", help="Server, by its address. Without it and a device: our own, on a memory link.")
@click.option("--kind", "what", type=click.Choice(["echo", "http"]), default="echo", show_default=True,
              help="Raw bytes that are answered by as many, or HTTP GET.")
@click.option("--path", default="/", show_default=True, help="Of the HTTP request.")
@click.option("--size", type=click.IntRange(1, 1 << 20), default=64, show_default=True, help="Bytes of a raw request.")
@click.option("--response", type=click.IntRange(1, 1 << 30), help="Bytes of a raw answer, if not as many as of the request.")
@click.option("--connections", type=click.IntRange(1, 1 << 20), default=32, show_default=True)
@click.option("--depth", type=click.IntRange(1, 1 << 10), default=1, show_default=True, help="Requests under way on each of them.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="PER_S",
              help="Open loop: requests are due at regular times, from which their latency counts. Without it a closed loop.")
@click.option("--connect-per-request", "per_request", is_flag=True, help="A new connection for every request.")
@click.option("--clients", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Addresses that the load comes from, counted up from --address.")
@click.option("--seconds", type=click.FloatRange(0.01, 86400), default=5.0, show_default=True)
@click.option("--warm-up", type=click.FloatRange(0, 3600), default=0.2, show_default=True, help="Seconds that do not count.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="File for all percentiles, as JSON.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="File for a picture of them (needs iip[plot]).")
@optional_device_options
@json_option
@errors
def load(target: str | None, what: str, path: str, size: int, response: int | None, connections: int, depth: int,
         rate: float | None, per_request: bool, clients: int, seconds: float, warm_up: float, report: Path | None,
         plot: Path | None, as_json: bool, **device: Any) -> None:
    """Load a server with requests and measure the latency of the answers, without coordinated omission.

    Example: iip load --tap tap0 --address 10.0.0.2/24 --host-address 10.0.0.1/24 --target 10.0.0.1:80 --kind http
    --connections 100 --rate 20000
    """
    for module, extra in (("hdrh", "load"), *((("matplotlib", "plot"),) if plot else ())):
        if importlib.util.find_spec(module) is None:
            raise click.UsageError(f"iip load needs {module}: pip install 'iip[cli,{extra}]'")
    host, port = _target(target)
    http = what == "http"
    if http and (size != 64 or response):
        raise click.UsageError("--size and --response are of raw requests; with --kind http the server decides")
    client = LoadClient(_get(path, host or "iip", per_request) if http else bytes(i & 0xFF for i in range(size)),
                        connections=connections, depth=depth, response=0 if http else response or size,
                        rate=rate or 0.0, per_request=per_request)
    settings = {"max_connections": 2 * connections + 1024, "send_buffer": max(1 << 17, 2 * depth * size),
                "send_buffer_max": max(1 << 22, 2 * depth * size), "time_wait": 1.0}
    with _world(client, host, port, http, clients, settings, device) as (loop, engine, aim):
        client.aim(*aim)
        _run(loop, PATIENCE, "connecting", lambda: per_request or client.up == connections)
        if not per_request and client.up < connections:
            raise click.ClickException(f"{client.up} of {connections} connections were established within {PATIENCE:.0f} s"
                                       + _reasons(client.forget()[1]))
        client.load()
        _run(loop, warm_up, "warming up")
        client.forget()
        start, cpu = time.monotonic(), time.process_time()
        _run(loop, seconds, "load", lambda: False, lambda t: f"{client.responses / t:,.0f} responses/s")
        took, cpu = time.monotonic() - start, time.process_time() - cpu
        latency, found = client.forget()
        client.finish(engine)
        _run(loop, 0.05, "closing")
    result = _result(latency, found, took, cpu)
    result |= {"kind": what, "connections": connections, "depth": depth, "rate": rate, "connect_per_request": per_request,
               "counters": nonzero(engine.stats())}
    if report:
        report.write_text(json.dumps(result | {"distribution": _distribution(latency)}, indent=1))
    if plot:
        _draw(latency, result, plot)
    emit(result, as_json, "load", skip=("counters",))


def _target(text: str | None) -> tuple[str | None, int]:
    if text is None:
        return None, 7
    host, _colon, port = text.rpartition(":")
    try:
        return str(ipaddress.ip_address(host.strip("[]"))), int(port)
    except ValueError:
        raise click.UsageError(f"--target {text}: write an address and a port like 10.0.0.1:80 or [fd00::1]:80") from None


def _get(path: str, host: str, per_request: bool) -> bytes:
    name = f"[{host}]" if ":" in host else host
    return f"GET {path} HTTP/1.1\r\nHost: {name}\r\n{'Connection: close' + chr(13) + chr(10) if per_request else ''}\r\n".encode()


@contextlib.contextmanager
def _world(client: LoadClient, host: str | None, port: int, http: bool, clients: int, settings: dict[str, Any],
           device: dict[str, Any]) -> Iterator[tuple[NetworkLoop, Any, tuple[Any, ...]]]:
    """The loop to run, the client's engine, and where it aims."""
    if host is None:
        if device["addresses"] or clients > 1:
            raise click.UsageError("--address and --clients need --target and a device")
        from iip.apps.bench import PingPongServer

        server: Any = PingPongServer()
        if http:
            from iip.apps.http import HttpServer

            server = HttpServer(".")
        pair = Pair(client, server, ipv6=False, ethernet=False, mtu=1500, copy=False, connections=settings.pop("max_connections"),
                    packets=1 << 15, **settings)
        pair.server.tcp_listen(port)
        yield NetworkLoop(pair.client, pair.server), pair.client, (pair.target, port)
        pair.close()
        return
    if not device["addresses"]:
        raise click.UsageError("--target needs a device and --address")
    first = ipaddress.ip_interface(device["addresses"][0])
    more = [f"{first.ip + i}/{first.network.prefixlen}" for i in range(1, clients)]
    device["addresses"] = (*device["addresses"], *more)
    engine = open_engine(client, pool_packets=1 << 15, **settings, **device)
    sources = [a.split("/")[0] for a in device["addresses"] if (":" in a) == (":" in host)]
    try:
        yield NetworkLoop(engine), engine, (host, port, sources)
    finally:
        engine.close()
        engine.driver.close()


def _run(loop: NetworkLoop, seconds: float, what: str, stop: Any = lambda: False, text: Any = lambda t: "") -> None:
    start = time.monotonic()
    with progress(what, seconds) as update:
        while (done := time.monotonic() - start) < seconds and not stop():
            loop.run(time.monotonic_ns() + int(min(SLICE if text(1.0) else 0.005, seconds - done) * 1e9))
            update(done, text(max(done, SLICE)))


def _histogram(latency: Any) -> Any:
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram(1, HIGHEST, 3)
    for value, count in latency.items():
        histogram.record_value(min(max(value, 1), HIGHEST), count)
    return histogram


def _result(latency: Any, found: dict[str, int], took: float, cpu: float) -> dict[str, Any]:
    histogram = _histogram(latency)
    n = found["responses"]
    return {"responses": n, "seconds": took, "responses_per_s": n / took, "mbit_per_s": found["received"] * 8e-6 / took,
            "cpu_ns_per_response": cpu * 1e9 / n if n else None,
            "latency_us": {f"p{p:g}": histogram.get_value_at_percentile(p) / 1e3 if n else None for p in PERCENTILES},
            "latency_mean_us": histogram.get_mean_value() / 1e3 if n else None,
            "connections_opened": found["opened"],
            "errors": {name.removeprefix("errors_"): value for name, value in found.items() if name.startswith("errors_")},
            "bad_responses": found["bad_responses"]}


def _distribution(latency: Any) -> list[dict[str, float]]:
    """Latencies by percentile, finer towards the end."""
    return [{"percentile": float(at.percentile_level_iterated_to), "latency_us": float(at.value_iterated_to) / 1e3}
            for at in _histogram(latency).get_percentile_iterator(5)]


def _reasons(found: dict[str, int]) -> str:
    named = [f"{value} {name.removeprefix('errors_')}" for name, value in found.items() if name.startswith("errors_") and value]
    return f" ({', '.join(named)})" if named else ""


def _draw(latency: Any, result: dict[str, Any], path: Path) -> None:
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in _distribution(latency) if row["percentile"] < 100]
    figure, axis = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    axis.plot([1 / (1 - row["percentile"] / 100) for row in rows], [row["latency_us"] for row in rows])
    ticks = [1, 10, 100, 1000, 10_000, 100_000]
    axis.set(xscale="log", yscale="log", xlabel="percentile", ylabel="latency, µs",
             title=f"{result['responses_per_s']:,.0f} responses/s, {result['connections']} connections")
    axis.set_xticks(ticks, ["0", "90", "99", "99.9", "99.99", "99.999"])
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
