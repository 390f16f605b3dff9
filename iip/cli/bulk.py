"""`iip bulk`: how fast one-way data flows."""
from __future__ import annotations

import random
import time
from typing import Any

import click

from iip.cli.common import emit, errors, json_option, size_text, statistics_table
from iip.cli.pair import MOMENT, Pair, handler_option, link_options, timed, wait_for

PATTERN = (1 << 20) + 7           # bytes; no multiple of any segment size


def pattern(seed: int = 1) -> bytes:
    """Bytes without a short period."""
    return random.Random(seed).randbytes(PATTERN)


@click.command()
@click.option("--connections", type=click.IntRange(1, 1 << 16), default=1, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.01, 86400), default=3.0, show_default=True)
@click.option("--verify", is_flag=True, help="Compare every byte with what was sent.")
@click.option("--write", type=click.IntRange(1, 1 << 20), default=1 << 18, show_default=True, help="Bytes of one send.")
@click.option("--no-zero-copy", is_flag=True, help="Data is copied into packets instead of referenced.")
@link_options
@handler_option("cython", "python")
@json_option
@errors
def bulk(connections: int, seconds: float, verify: bool, write: int, no_zero_copy: bool, handler: str, as_json: bool,
         **link: Any) -> None:
    """One engine sends data to another in the same process. Needs no root and no device.

    Exit code 1 if --verify found a difference.
    """
    from iip.apps import bench, bench_python
    from iip.runtime.pair import run_pair

    module: Any = bench_python if handler == "python" else bench
    data = pattern()
    source, sink = module.BulkSource(data, no_zero_copy, write), module.BulkSink(data, verify)
    pair = Pair(source, sink, connections=connections, packets=8192 + 2048 * min(connections, 16) + 8 * connections, **link)
    source.lend(pair.client)

    def step(part: float) -> float:
        begin = time.monotonic()
        run_pair(pair.client, pair.server, duration=part)
        return time.monotonic() - begin

    pair.connect(connections, lambda: step(MOMENT))
    wait_for(step, lambda: source.connected == connections, "the connections were not established", connections)
    start = sink.received
    took = timed("bulk", seconds, step, lambda t: f"{(sink.received - start) * 8 / t / 1e9:.2f} Gbit/s" if t else "")
    received = sink.received - start
    source.finish()
    wait_for(step, lambda: source.closed == connections, "the connections did not close", connections)
    counters = pair.counters()
    result = {
        "bytes": received, "seconds": took, "gbit_per_s": received * 8 / took / 1e9,
        "retransmissions": counters["client"].get("tcp_retransmits", 0),
        "sent_in_all": source.sent, "received_in_all": sink.received,
        "connections": connections, "write": write, "handler": handler, "ip_version": 6 if link["ipv6"] else 4,
        "offloads": pair.offloads, "zero_copy": not no_zero_copy, "counters": counters,
    }
    if verify:
        result["wrong_bytes"] = sink.wrong
    source.release(pair.client)
    pair.close()
    result["packets_in_use"] = pair.packets_in_use()
    emit(result, as_json, f"bulk: {size_text(received)}", skip=("counters",))
    if not as_json:
        for name, values in counters.items():
            statistics_table(values, f"counters of the {name}")
    if sink.wrong or source.sent != sink.received:
        raise click.ClickException(f"{sink.wrong} bytes arrived altered, {source.sent - sink.received} did not arrive")
