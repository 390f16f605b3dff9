"""`iip pingpong --threads N --model M`: pairs of engines in threads."""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from iip.cli.common import emit, progress
from iip.cli.pair import PORT, WAITING, Pair
from iip.runtime.threads import Threads

WARM_UP = 0.05
LOOK = 0.02                       # seconds between two looks at what the threads have done


def threaded(module: Any, size: int, connections: int, rate: float | None, seconds: float, n: int, model: str, idle: str,
             as_json: bool, settings: dict[str, Any], link: dict[str, Any]) -> None:
    """Measure, and print."""
    from iip.apps.bench import Histogram

    if connections < n:
        raise click.UsageError(f"--connections {connections}: must be {n} or more, one for each of --threads")
    threads = Threads(model, idle=idle)
    shares = [connections // n + (i < connections % n) for i in range(n)]
    clients, pairs = [], []
    for share in shares:
        clients.append(module.PingPongClient(size, share, **({"rate": rate * share / connections} if rate else {})))
        pairs.append(Pair(clients[-1], module.PingPongServer(), connections=share, send_buffer=max(1 << 20, 2 * size),
                          threads=threads, **settings, **link))
        pairs[-1].member.application.tcp_listen(PORT)
        pairs[-1].conns = pairs[-1].client.connect_many(pairs[-1].target, PORT, share)
    threads.start()
    try:
        _wait(threads, lambda: all(c.connected == s for c, s in zip(clients, shares, strict=True)),
              "the connections were not established")
        for client, pair in zip(clients, pairs, strict=True):
            pair.member.network_loop.call(client.launch, pair.client, pair.conns)
        took, cpu, parts = _measure(threads, clients, pairs, seconds)
        for client, pair in zip(clients, pairs, strict=True):
            pair.member.network_loop.call(client.finish, *([pair.client] if rate else []))
        _wait(threads, lambda: all(c.closed == s for c, s in zip(clients, shares, strict=True)),
              "the connections did not close")
    finally:
        threads.stop()
    latency = Histogram()
    for _n, part in parts:
        latency.merge(part)
    transactions = sum(n for n, _part in parts)
    counters = [pair.counters() for pair in pairs]
    result: dict[str, Any] = {
        "transactions": transactions, "seconds": took, "transactions_per_s": transactions / took,
        "cpu_ns_per_transaction": cpu * 1e9 / transactions if transactions else None,
        "latency_us": {f"p{p:g}": (latency.percentile(p) or 0) / 1e3 if transactions else None for p in (50, 90, 99, 99.9)},
        "size": size, "connections": connections, "rate": rate, "threads": n, "model": model,
        "per_thread": [n for n, _part in parts], "offloads": pairs[0].offloads,
        "loops": [pair.member.stats() for pair in pairs], "counters": counters}
    for pair in pairs:
        pair.close()
    result["packets_in_use"] = sum(pair.packets_in_use() for pair in pairs)
    emit(result, as_json, "pingpong", skip=("counters", "loops"))


def _measure(threads: Threads, clients: list[Any], pairs: list[Pair],
             seconds: float) -> tuple[float, float, list[tuple[int, Any]]]:
    """Let them run for a while. Real and processor time, s; transactions and latencies of each, which its own thread reads."""
    taken: list[tuple[int, Any]] = []

    def take(client: Any) -> None:
        taken.append((client.transactions, client.latency))
        client.forget()

    def take_all() -> None:
        taken.clear()
        for client, pair in zip(clients, pairs, strict=True):
            pair.member.network_loop.call(take, client)
        _wait(threads, lambda: len(taken) == len(clients), "the threads do not answer")

    with progress("pingpong", seconds) as update:     # imports first, which disturbs the threads
        time.sleep(WARM_UP)
        take_all()
        start, cpu = time.monotonic(), time.process_time()
        while (done := time.monotonic() - start) < seconds:
            time.sleep(min(LOOK, seconds - done))
            update(done, f"{sum(c.transactions for c in clients) / max(done, LOOK):,.0f} transactions/s")
    took, cpu = time.monotonic() - start, time.process_time() - cpu
    take_all()
    return took, cpu, taken


def _wait(threads: Threads, condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAITING
    while not condition():
        if threads.error is not None or time.monotonic() > until:
            raise click.ClickException(f"{what} within {WAITING:.0f} s; {threads.members[0].stats()}"
                                       if threads.error is None else str(threads.error))
        time.sleep(0.001)
