"""A thread that stands still: no timer of one engine takes for lost what the other has not had its turn for."""
import time

from iip.apps import bench
from iip.cli.bulk import pattern
from iip.cli.pair import Pair
from iip.runtime.pair import run_pair


def test_nothing_is_lost_when_the_thread_stands_still():
    data = pattern()
    source, sink = bench.BulkSource(data), bench.BulkSink(data, True)
    pair = Pair(source, sink, ipv6=False, ethernet=False, mtu=1500, copy=False, connections=5, packets=8192 + 2048 * 5)
    source.lend(pair.client)
    pair.connect(5, lambda: run_pair(pair.client, pair.server, duration=0.0005))
    for _ in range(40):
        run_pair(pair.client, pair.server, duration=0.002)
        time.sleep(0.008)
    stats = pair.client.stats()
    assert sink.received > 1_000_000 and stats["tcp_loss_probes"] == stats["tcp_retransmits"] == 0
    source.finish()
    run_pair(pair.client, pair.server, duration=1, stop=lambda: source.closed == 5)
    source.release(pair.client)
    pair.close()
    assert pair.packets_in_use() == 0
