"""`iip serve`: real servers on a network device."""
from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from iip import Engine, Handler
from iip.apps.chargen import Chargen
from iip.apps.discard import Discard
from iip.apps.dispatch import Dispatch
from iip.apps.echo import Echo
from iip.apps.iperf3 import Iperf3
from iip.apps.memcached import Memcached
from iip.cli.common import (
    Command,
    Signals,
    device_options,
    emit,
    errors,
    json_option,
    nonzero,
    open_engine,
    open_members,
    statistics_table,
)
from iip.drivers import Driver
from iip.runtime.loop import run
from iip.runtime.threads import MODELS, Threads

PORT = click.IntRange(1, 65535)
NOTICE = 0.1                      # seconds within which signals are noticed


def _apps(echo: int | None, http: int | None, root: str, discard: int | None, chargen: int | None,
          iperf3: int | None) -> Dispatch:
    tcp: dict[int, Handler] = {}
    udp: dict[int, Handler] = {}

    def add(port: int, app: Handler, also_udp: bool = False) -> None:
        if port in tcp:
            raise click.UsageError(f"port {port} is given to two services; choose another for one of them")
        tcp[port] = app
        if also_udp:
            udp[port] = app

    if echo:
        add(echo, Echo(), also_udp=True)
    if discard:
        add(discard, Discard(), also_udp=True)
    if chargen:
        add(chargen, Chargen())
    if iperf3:
        add(iperf3, Iperf3())
    if http:
        try:
            from iip.apps.http import HttpServer
        except ImportError:
            raise click.ClickException("--http needs the library httptools: pip install 'iip[cli]'") from None
        try:
            add(http, HttpServer(root))
        except NotADirectoryError:
            raise click.UsageError(f"--root {root} is not a directory") from None
    return Dispatch(tcp, udp)


def _impairment(loss: float, delay: float, duplicate: float, reorder: float, corrupt: float,
                seed: int) -> Callable[[Driver], Driver] | None:
    """A middleware for the driver, or None."""
    if not any((loss, delay, duplicate, reorder, corrupt)):
        return None
    from iip.drivers import Impair, Impairments

    bad = Impairments(loss=loss, delay=delay / 1e3, duplicate=duplicate, reorder=reorder, corrupt=corrupt)
    return lambda driver: Impair(driver, seed=seed, rx=bad, tx=bad)


def impair_options(command: Command) -> Command:
    chance = click.FloatRange(0, 1)
    for option in reversed([
        click.option("--loss", type=chance, default=0.0, help="Impair both directions: probability of loss."),
        click.option("--delay", type=click.FloatRange(0, 10_000), default=0.0, help="... delay, milliseconds."),
        click.option("--duplicate", type=chance, default=0.0, help="... probability of duplication."),
        click.option("--reorder", type=chance, default=0.0, help="... probability of being overtaken."),
        click.option("--corrupt", type=chance, default=0.0, help="... probability of a flipped bit."),
        click.option("--seed", type=int, default=1, show_default=True, help="... of these decisions."),
    ]):
        command = option(command)
    return command


@click.command()
@device_options
@click.option("--echo", type=PORT, metavar="PORT", help="Echo (RFC 862), TCP and UDP.")
@click.option("--http", type=PORT, metavar="PORT", help="HTTP/1.1 server of the files below --root.")
@click.option("--root", type=click.Path(), default=".", show_default=True, help="Directory of the HTTP server.")
@click.option("--discard", type=PORT, metavar="PORT", help="Discard (RFC 863), TCP and UDP.")
@click.option("--chargen", type=PORT, metavar="PORT", help="Character generator (RFC 864), TCP.")
@click.option("--iperf3", type=PORT, metavar="PORT", help="Server for iperf3's clients (TCP; theirs is 5201).")
@click.option("--memcached", type=PORT, metavar="PORT", help="Cache server with memcached's protocols, TCP; alone.")
@click.option("--memory", type=click.IntRange(4, 1 << 24), default=64, show_default=True, metavar="MB", help="Of the cache.")
@click.option("--model", type=click.Choice(MODELS), default="unified", show_default=True,
              help="Network and application in one thread, in two on one core, or in two on two cores.")
@click.option("--queues", type=click.IntRange(1, 64), default=1, show_default=True,
              help="Queues of the device, each with an engine and threads of its own.")
@click.option("--idle", type=click.Choice(["spin", "spin-then-sleep", "sleep"]), default="spin-then-sleep", show_default=True,
              help="What the threads of merge and split do that have nothing to do.")
@click.option("--duration", type=click.FloatRange(0), help="Seconds; without it until SIGINT or SIGTERM.")
@impair_options
@json_option
@errors
def serve(echo: int | None, http: int | None, root: str, discard: int | None, chargen: int | None,
          iperf3: int | None, memcached: int | None, memory: int, model: str, queues: int, idle: str, duration: float | None,
          loss: float, delay: float, duplicate: float, reorder: float, corrupt: float, seed: int, as_json: bool,
          **device: Any) -> None:
    """Serve on a network device. SIGUSR1 prints statistics, which also come at the end.

    Example: iip serve --tun tun0 --address 10.0.0.2/24 --host-address 10.0.0.1/24 --http 80 --root . --echo 7
    """
    others = any((echo, http, discard, chargen, iperf3))
    if not others and not memcached:
        raise click.UsageError("nothing to serve; add --echo PORT, --http PORT, --discard PORT, --chargen PORT, "
                               "--iperf3 PORT or --memcached PORT")
    if others and memcached:
        raise click.UsageError("--memcached is served alone: its handler is C, the others are Python")
    if iperf3 and queues > 1:
        raise click.UsageError("--iperf3 needs --queues 1: all connections of a test have to reach one engine")
    handlers: list[Any] = [Memcached(memory << 20) if memcached else _apps(echo, http, root, discard, chargen, iperf3)
                           for _ in range(queues)]
    threads = Threads(model, idle=idle) if model != "unified" or queues > 1 else None
    wrap = _impairment(loss, delay, duplicate, reorder, corrupt, seed)
    engines: list[Any]
    if threads is None:
        engines = applications = [open_engine(handlers[0], wrap=wrap, **device)]
    else:
        members = open_members(threads, handlers, wrap=wrap, **device)
        engines, applications = [m.engine for m in members], [m.application for m in members]
    requests = Signals()
    start = time.monotonic()
    try:
        for handler, application in zip(handlers, applications, strict=True):
            if memcached:
                application.tcp_listen(memcached)
            else:
                handler.open(application)
        if not as_json:
            click.echo(f"serving on {', '.join(device['addresses'])}; stop with Ctrl-C, statistics with "
                       f"kill -USR1 {os.getpid()}", err=True)

        def stop() -> bool:
            if requests.statistics:
                requests.statistics = False
                _print_statistics(engines, as_json)
            return requests.stop
        with requests:
            if threads is None:
                run(engines[0], duration=duration, stop=stop)
            else:
                _run_threads(threads, duration, stop)
        connections = sum(engine.n_connections for engine in engines)
        if threads is None:
            engines[0].abort_all()    # so that the peers need not wait for us
            engines[0].run(time.monotonic_ns())
        else:
            threads.stop()
        result: dict[str, Any] = {"seconds": time.monotonic() - start, "connections_open": connections}
        result["counters"] = _counters(engines)
        if memcached:
            result["cache"] = [handler.stats() for handler in handlers]
    finally:
        for engine in engines:
            engine.close()
            engine.driver.close()
    pools = [engine.pool for engine in engines]
    result["packets_in_use"] = sum(p.packets - p.free_packets + p.views - p.free_views for p in pools)
    if as_json:
        emit(result, True, "")
    else:
        statistics_table(result["counters"], "counters")
        click.echo(f"{connections} connections aborted, {result['packets_in_use']} packets left in use", err=True)
    if result["packets_in_use"]:
        raise SystemExit(1)


def _run_threads(threads: Threads, duration: float | None, stop: Callable[[], bool]) -> None:
    """Until a signal, the end of the time, or of a thread."""
    end = None if duration is None else time.monotonic() + duration
    threads.start()
    while not stop() and not threads.wait(NOTICE) and (end is None or time.monotonic() < end):
        pass


def _counters(engines: list[Engine]) -> dict[str, int]:
    """Those that are not zero, of all engines together."""
    total: dict[str, int] = {}
    for engine in engines:
        for name, value in nonzero(engine.stats()).items():
            total[name] = total.get(name, 0) + value
    return total


def _print_statistics(engines: list[Engine], as_json: bool) -> None:
    connections = sum(engine.n_connections for engine in engines)
    if as_json:
        print(json.dumps({"connections_open": connections, "counters": _counters(engines)}), file=sys.stderr, flush=True)
    else:
        statistics_table({"connections_open": connections, **_counters(engines)}, "statistics")
