"""`iip pingpong`: how long a transaction takes."""
from __future__ import annotations

import time
from typing import Any

import click

from iip.cli.common import emit, errors, json_option, statistics_table
from iip.cli.pair import MOMENT, Pair, handler_option, link_options, timed, wait_for
from iip.runtime.threads import MODELS

WARM_UP = 0.05                    # seconds
MANY = 1 << 14                    # connections for which packets get no more memory than the messages need
LIMIT = 1 << 21


@click.command()
@click.option("--size", type=click.IntRange(1, 1 << 20), default=1, show_default=True, help="Bytes of a request.")
@click.option("--connections", type=click.IntRange(1, LIMIT), default=32, show_default=True)
@click.option("--idle", "silent", type=click.IntRange(0, LIMIT), default=0, show_default=True,
              help="More connections, which stay open and say nothing.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="PER_S",
              help="Offered load: requests at regular times, whatever became of those before, instead of one after the other.")
@click.option("--seconds", type=click.FloatRange(0.01, 86400), default=3.0, show_default=True)
@click.option("--threads", type=click.IntRange(1, 256), metavar="N",
              help="N such pairs of engines, each in threads of its own, which share nothing; --connections and --rate are of all.")
@click.option("--model", type=click.Choice(MODELS), default="unified", show_default=True,
              help="Where the server's handler runs: with the engines, in another thread on their core, or on another core.")
@click.option("--spin", "idle", flag_value="spin", default="spin-then-sleep", help="Threads never sleep.")
@link_options
@handler_option("cython", "python", "batch")
@json_option
@errors
def pingpong(size: int, connections: int, silent: int, rate: float | None, seconds: float, threads: int | None, model: str,
             idle: str, handler: str, as_json: bool, **link: Any) -> None:
    """Two engines in one process exchange requests and answers of the same size.

    A transaction is a request, its answer, and what TCP sends for both. Needs no root and no device.
    """
    from iip.apps import bench, bench_batch, bench_python
    from iip.runtime.pair import run_pair

    module: Any = {"cython": bench, "python": bench_python, "batch": bench_batch}[handler]
    if rate and handler != "cython":
        raise click.UsageError("--rate needs the handler cython")
    if threads is not None or model != "unified":
        if handler == "batch" or silent:
            raise click.UsageError("--threads and --model need the handler cython or python, and no --idle")
        from iip.cli.threaded import threaded

        threaded(module, size, connections, rate, seconds, threads or 1, model, idle, as_json,
                 _settings(size, connections, link["mtu"]), link)
        return
    client = module.PingPongClient(size, connections, **({"rate": rate} if rate else {}))
    every = connections + silent
    pair = Pair(client, module.PingPongServer(), connections=every, send_buffer=max(1 << 20, 2 * size),
                **_settings(size, connections, link["mtu"]), **link)

    def run(part: float = MOMENT) -> object:
        return run_pair(pair.client, pair.server, duration=part)

    pair.connect(every, run)
    wait_for(run, lambda: client.connected == every, "the connections were not established", every)
    client.launch(pair.client, pair.conns[:connections])
    client.run(pair.client, pair.server, min(WARM_UP, seconds))
    client.forget()
    cpu = time.process_time()
    took = timed("pingpong", seconds, lambda s: client.run(pair.client, pair.server, s),
                 lambda t: f"{client.transactions / t:,.0f} transactions/s" if t else "")
    cpu = time.process_time() - cpu
    transactions, latency = client.transactions, client.latency
    client.finish(*([pair.client] if rate else []))
    wait_for(run, lambda: client.closed == connections, "the connections did not close", every)
    pair.hang_up(run)
    wait_for(run, lambda: client.closed == every and pair.server.n_connections == 0, "the idle connections did not close", every)
    result = {
        "transactions": transactions, "seconds": took, "transactions_per_s": transactions / took,
        "ns_per_transaction": took * 1e9 / transactions if transactions else None,
        "cpu_ns_per_transaction": cpu * 1e9 / transactions if transactions else None,
        "latency_us": {f"p{p:g}": latency.percentile(p) / 1e3 if transactions else None for p in (50, 90, 99, 99.9)},
        "size": size, "connections": connections, "idle": silent, "rate": rate, "handler": handler,
        "ip_version": 6 if link["ipv6"] else 4,
        "offloads": pair.offloads, "counters": pair.counters(),
    }
    pair.close()
    result["packets_in_use"] = pair.packets_in_use()
    emit(result, as_json, "pingpong", skip=("counters",))
    if not as_json:
        for name, counters in result["counters"].items():
            statistics_table(counters, f"counters of the {name}")


def _settings(size: int, connections: int, mtu: int) -> dict[str, Any]:
    """Packets that the messages need, with room to spare. For many connections, cells no larger than a message asks
    for, and more patience than the round through all of them takes: it is no loss that they wait for each other."""
    pieces = size // 1400 + 1
    if connections < MANY:
        return {"packets": 8192 + 12 * connections * pieces}
    cell = (128 + 128 + min(size, mtu) + 63) // 64 * 64
    patience = 1 + connections / 50_000
    return {"packets": (1 << 16) + 5 * connections * pieces // 2, "cell": cell, "rto_min": patience, "rto_initial": patience}
