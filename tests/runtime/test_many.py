"""More connections than caches hold, all of them active: what is asked for ahead of a packet is a guess, and nobody sees it."""
import numpy as np
import pytest

import iip
from iip.apps import bench
from iip.drivers import MemoryLink
from iip.runtime.pair import run_rounds

MANY = 2600
ADDRESSES = {4: ("10.0.0.1", "10.0.0.2", 24), 6: ("fd00::1", "fd00::2", 64)}


@pytest.mark.parametrize("version, medium", [(4, "ip"), (6, "ethernet")])
def test_thousands_of_active_connections(version, medium):
    client, server = bench.PingPongClient(100, MANY), bench.PingPongServer()
    pool = iip.PacketPool(packets=8192 + 2 * MANY)
    link = MemoryLink(medium, capacity=2 * MANY)
    a, b, bits = ADDRESSES[version]
    engines = [iip.Engine(iip.Config(addresses=[f"{address}/{bits}"], max_connections=2 * MANY, max_half_open=2 * MANY, burst=64),
                          handler, end, pool, seed=i)
               for i, (address, handler, end) in enumerate([(a, client, link.a), (b, server, link.b)])]
    engines[1].tcp_listen(7)
    now, handles = 0, []
    for n in [1, *[250] * (MANY // 250), MANY % 250 - 1]:         # the first one finds the neighbour
        handles.append(engines[0].connect_many(b, 7, n))
        now = run_rounds(*engines, 60, now)
    client.launch(engines[0], np.concatenate(handles))
    for seq in range(40):
        engines[0].ping(b, 1, seq, b"between them")
        now = run_rounds(*engines, 20, now)
    now = run_rounds(*engines, 100, now)
    rows = engines[0].connections()
    assert len(rows) == MANY and rows["bytes_received"].min() > 5 * 100 and rows["retransmits"].max() == 0
    assert engines[1].stats()["icmp_in_echo"] == 40
    for engine in engines:
        engine.close()
    link.close()
    assert pool.free_packets == pool.packets
