"""Flows and what they note."""
import numpy as np
import pytest

import iip
from iip.sim import BulkFlow, Simulation, jain


@pytest.fixture
def world():
    with Simulation(seed=3) as sim:
        a, b = sim.host("a"), sim.host("b")
        sim.link(a, b, rate=10e6, delay=0.01, queue=50_000)
        yield sim, a, b
    assert sim.packets_in_use == 0


def test_a_flow_of_some_bytes_ends(world):
    sim, a, b = world
    flow = BulkFlow(sim, a, b, bytes=1_000_000, start=1.0)
    assert flow.connected is None and flow.done is None and flow.received == 0 and flow.info() is None
    sim.run(10)
    assert flow.connected == pytest.approx(1.02, abs=0.001)
    assert flow.received == 1_000_000
    # 1448 of 1500 bytes are payload: 0.83 s, and slow start
    assert 1.83 < flow.done < 2.3
    assert a.engine.stats()["tcp_closed"] == 1


def test_stop_ends_a_flow(world):
    sim, a, b = world
    flow = BulkFlow(sim, a, b, stop=1.0)
    sim.run(20)
    assert flow.done is not None and 1.0 < flow.done < 3 and flow.received == sim.traffic.state(flow.number)[0]


def test_the_trace(world):
    sim, a, b = world
    flow = BulkFlow(sim, a, b, sample=0.05)
    sim.run(5)
    rows = flow.trace
    assert rows.dtype.names == ("time", "sent", "acked", "received", "cwnd", "ssthresh", "in_flight", "srtt",
                                "retransmits")
    assert np.allclose(np.diff(rows["time"]), 0.05) and len(rows) in (100, 101)
    for name in ("sent", "acked", "received", "retransmits"):
        assert (np.diff(rows[name].astype(np.int64)) >= 0).all()
    assert (rows["acked"] <= rows["received"]).all() and (rows["received"] <= rows["sent"]).all()
    settled = rows[rows["time"] > 1]
    assert ((settled["srtt"] > 0.019) & (settled["srtt"] < 0.065)).all()      # the queue adds up to 40 ms
    assert flow.retransmits == rows["retransmits"][-1] > 0


def test_goodput_of_parts_adds_up(world):
    sim, a, b = world
    flow = BulkFlow(sim, a, b)
    sim.run(4)
    whole = flow.goodput()
    assert whole == pytest.approx(flow.received * 8 / 4)
    assert (flow.goodput(0, 1) + flow.goodput(1, 2) + 2 * flow.goodput(2, 4)) / 4 == pytest.approx(whole, rel=1e-3)
    with pytest.raises(iip.ConfigError, match="later"):
        flow.goodput(3, 3)
    silent = BulkFlow(sim, b, a, sample=0)
    with pytest.raises(iip.ConfigError, match="sample"):
        silent.goodput(0, 1)


def test_both_ways_at_once_over_both_versions(world):
    sim, a, b = world
    flows = [BulkFlow(sim, a, b, version=4), BulkFlow(sim, b, a, version=6)]
    sim.run(10)
    assert all(flow.goodput(2, 10) > 5e6 for flow in flows)


def test_jain():
    assert jain([5, 5, 5]) == pytest.approx(1)
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert jain([0, 0]) == 0
