"""`iip pingpong`: how long a transaction takes."""
from __future__ import annotations

import time
from typing import Any

import click

from iip.cli.common import emit, errors, json_option, statistics_table
from iip.cli.pair import Pair, link_options, timed, wait_for

WARM_UP = 0.05                    # seconds


@click.command()
@click.option("--size", type=click.IntRange(1, 1 << 20), default=1, show_default=True, help="Bytes of a request.")
@click.option("--connections", type=click.IntRange(1, 1 << 20), default=32, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.01, 86400), default=3.0, show_default=True)
@link_options
@json_option
@errors
def pingpong(size: int, connections: int, seconds: float, handler: str, as_json: bool, **link: Any) -> None:
    """Two engines in one process exchange requests and answers of the same size.

    A transaction is a request, its answer, and what TCP sends for both. Needs no root and no device.
    """
    from iip.apps import bench, bench_python
    from iip.runtime.pair import run_pair

    module: Any = bench_python if handler == "python" else bench
    client = module.PingPongClient(size, connections)
    pair = Pair(client, module.PingPongServer(), connections=connections, send_buffer=max(1 << 20, 2 * size),
                packets=4096 + 4 * connections * (size // 1400 + 1), **link)
    pair.connect(connections)
    wait_for(lambda s: client.run(pair.client, pair.server, s), lambda: client.connected == connections,
             "the connections were not established within 5 s")
    client.run(pair.client, pair.server, min(WARM_UP, seconds))
    client.forget()
    cpu = time.process_time()
    took = timed("pingpong", seconds, lambda s: client.run(pair.client, pair.server, s),
                 lambda t: f"{client.transactions / t:,.0f} transactions/s" if t else "")
    cpu = time.process_time() - cpu
    transactions, latency = client.transactions, client.latency
    client.finish()
    wait_for(lambda s: run_pair(pair.client, pair.server, duration=s), lambda: client.closed == connections,
             "the connections did not close within 5 s")
    result = {
        "transactions": transactions, "seconds": took, "transactions_per_s": transactions / took,
        "ns_per_transaction": took * 1e9 / transactions if transactions else None,
        "cpu_ns_per_transaction": cpu * 1e9 / transactions if transactions else None,
        "latency_us": {f"p{p:g}": latency.percentile(p) / 1e3 if transactions else None for p in (50, 90, 99, 99.9)},
        "size": size, "connections": connections, "handler": handler, "ip_version": 6 if link["ipv6"] else 4,
        "offloads": pair.offloads, "counters": pair.counters(),
    }
    pair.close()
    result["packets_in_use"] = pair.packets_in_use()
    emit(result, as_json, "pingpong", skip=("counters",))
    if not as_json:
        for name, counters in result["counters"].items():
            statistics_table(counters, f"counters of the {name}")
