"""Congestion control over simulated paths: what the RFCs promise, measured."""
import io
import random
from functools import partial

import numpy as np
import pytest

import iip
from iip.apps.bench import register_unyielding
from iip.sim import BulkFlow, DropTail, Simulation, jain
from tests.sim.worlds import frames

MSS = 1448                        # payload of a segment with timestamps
RATE = 100e6
RTT = 0.05
BDP = int(RATE * RTT / 8)
SETTINGS = {"send_buffer": 8 << 20, "receive_buffer": 8 << 20, "pool_packets": 32768, "out_of_order": 8192,
            "autotune": False}


@pytest.fixture
def sim():
    with Simulation(3) as sim:
        yield sim
    assert sim.packets_in_use == 0


def path(sim, algorithm, *, rate=RATE, rtt=RTT, queue=BDP, loss=0.0, reorder=0.0, reorder_delay=0.0, **settings):
    """Two hosts and the bottleneck between them; losses, reordering and the queue meet the data."""
    a, b = (sim.host(name, **{**SETTINGS, "congestion": algorithm, **settings}) for name in ("a", "b"))
    return a, b, sim.link(a, b, rate=rate, delay=rtt / 2, queue=queue, loss=loss, reorder=reorder,
                          reorder_delay=reorder_delay, back={"loss": 0.0, "reorder": 0.0, "queue": 1 << 20})


def dropped(link):
    return link.stats()["there"]["queue_full"]


def later(flow, begin):
    return flow.trace[flow.trace["time"] > begin]


# -- CUBIC (RFC 9438) ------------------------------------------------------------------------------------------

def test_cubic_follows_its_curve(sim):
    """§4.2: W(t) = 0.4 (t - K)^3 + W_max from the end of a recovery to the next loss, K from equation (2)."""
    a, b, _ = path(sim, "cubic", rtt=0.1, queue=2 * BDP)
    flow = BulkFlow(sim, a, b)
    sim.run(40)
    rows = flow.trace
    cuts = np.flatnonzero(np.diff(rows["ssthresh"])) + 1
    checked, before = 0, 0.0
    for begin, end in zip(cuts, [*cuts[1:], len(rows)], strict=True):
        epoch = rows[begin:end]
        recovered = np.flatnonzero(np.abs(epoch["cwnd"].astype(int) - epoch["ssthresh"]) < 2 * MSS)
        plateau = epoch["ssthresh"][0] / 0.7 / MSS
        if plateau < before:
            plateau *= 0.85                           # §4.7, fast convergence
        before = plateau
        if len(epoch) < 400 or not len(recovered) or begin == cuts[0]:
            continue
        epoch = epoch[recovered[0]:]
        k = np.cbrt((plateau - epoch["cwnd"][0] / MSS) / 0.4)
        t = epoch["time"] - epoch["time"][0]
        expected = 0.4 * (t - k) ** 3 + plateau
        ratio = (epoch["cwnd"] / MSS / expected)[20:]
        assert np.all(np.abs(ratio - 1) < 0.04), (ratio.min(), ratio.max())
        checked += 1
    assert checked


def test_cubic_is_not_slower_than_reno(sim):
    """§4.3: on a short path growth is that of Reno with the same average, 0.53 segments a round trip, and the window loses
    three tenths only."""
    a, b, link = path(sim, "cubic", rate=10e6, rtt=0.02, queue=25000)
    flow = BulkFlow(sim, a, b)
    sim.run(20)
    rows = later(flow, 5)
    steps = np.diff(rows["cwnd"].astype(int))
    growth = steps[(steps > 0) & (steps < MSS)].sum() / MSS
    rounds = (np.diff(rows["time"]) / rows["srtt"][1:])[(steps >= 0) & (steps < MSS)].sum()
    assert 0.4 < growth / rounds < 1.1
    assert flow.goodput(5, 20) > 0.93 * 10e6
    assert dropped(link)


def test_hystart_leaves_before_the_queue_overflows(sim):
    """RFC 9406: round trips that grow end slow start. NewReno, which waits for a loss, overflows the same queue."""
    losses = {}
    for algorithm in ("cubic", "newreno"):
        with Simulation(3) as world:
            a, b, link = path(world, algorithm, queue=8 * BDP)
            flow = BulkFlow(world, a, b)
            world.run(4)
            losses[algorithm] = dropped(link)
            if algorithm == "cubic":
                assert flow.trace["ssthresh"][-1] < 1 << 30
            assert flow.goodput(1, 4) > 0.8 * RATE
    assert losses["cubic"] == 0
    assert losses["newreno"] > 100


@pytest.mark.parametrize("reorder", [0.0, 0.2])
def test_slow_start_ends_when_the_path_is_full(sim, reorder):
    """A train of ACKs half a round trip long ends it about where the pipe is full: a queue of one BDP never overflows, and the
    link is busy from then on. With a fifth of the packets 2.5 ms late nothing is sent again, but for what seems lost before
    reordering is known (RFC 8985 §6.2)."""
    a, b, link = path(sim, "cubic", reorder=reorder, reorder_delay=0.0025)
    flow = BulkFlow(sim, a, b)
    sim.run(8)
    assert dropped(link) == 0
    assert 0.8 * BDP < flow.trace["ssthresh"][-1] < 1.5 * BDP
    assert flow.goodput(1, 8) > 0.98 * RATE * MSS / 1500
    assert flow.retransmits < 8


def test_a_window_that_the_application_does_not_fill_does_not_grow(sim):
    """RFC 7661: 10 segments a round trip, for ever."""
    a, b, _ = path(sim, "cubic", send_buffer=5 * MSS)
    flow = BulkFlow(sim, a, b)
    sim.run(5)
    assert later(flow, 1)["cwnd"].max() == 10 * MSS


# -- delivery rates ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("algorithm", ["cubic", "bbr"])
def test_delivery_rate(sim, algorithm):
    a, b, _ = path(sim, algorithm, rate=20e6)
    flow = BulkFlow(sim, a, b)
    sim.run(1)
    flow.connection.info()                            # measured from now on
    sim.run(3)
    info = flow.connection.info()
    assert info.delivery_rate * 8 == pytest.approx(20e6 * MSS / 1500, rel=0.03)
    assert not info.delivery_rate_app_limited
    assert abs(info.min_rtt / 1e6 - RTT) < 0.002


def test_delivery_rate_of_an_application_that_limits(sim):
    a, b, _ = path(sim, "bbr", send_buffer=20 * MSS)
    flow = BulkFlow(sim, a, b)
    sim.run(3)
    assert flow.connection.info().delivery_rate_app_limited
    assert flow.goodput(1, 3) == pytest.approx(20 * MSS / RTT * 8, rel=0.05)


# -- pacing ------------------------------------------------------------------------------------------------------

def departures(sim, a, b, link, begin, end, **flow):
    """Times (s) and bytes of what leaves the sender between two times."""
    file = io.BytesIO()
    writer = sim.capture(file, (link, a))
    BulkFlow(sim, a, b, **flow)
    sim.run(end)
    writer.close()
    found = [(at / 1e9, len(frame)) for _, at, direction, frame in frames(memoryview(file.getvalue()))
             if direction == 2]
    return [(at, size) for at, size in found if begin <= at < end]


def most_within(found, window):
    """The most bytes that left in any interval of that length."""
    most = total = first = 0
    for at, size in found:
        total += size
        while found[first][0] < at - window:
            total -= found[first][1]
            first += 1
        most = max(most, total)
    return most


def test_pacing_spreads_a_window(sim):
    """A window of which the application fills a half leaves at twice its rate, twice for slow start: a tenth of a round trip
    never sees all of it, as it does without pacing."""
    for pacing, smooth in ((True, True), (False, False)):
        with Simulation(3) as world:
            a, b, link = path(world, "cubic", rate=1e9, pacing=pacing, send_buffer=200 * MSS)
            found = departures(world, a, b, link, 2.0, 4.0)
            per_second = sum(size for _, size in found) / 2.0
            most = most_within(found, RTT / 10)
            assert (most < 4.2 * per_second * RTT / 10 + 3 * 1500) is smooth


def test_max_pacing_rate(sim):
    """Never faster than this, seen over any time, but for a quantum of two segments; and no slower."""
    limit = 1_250_000                                 # bytes per second of payload
    a, b, link = path(sim, "cubic", max_pacing_rate=limit)
    found = departures(sim, a, b, link, 1.0, 4.0)
    wire = limit * 1500 / MSS
    for window in (0.005, 0.02, 0.1):
        assert most_within(found, window) <= wire * window + 3 * 1500
    assert sum(size for _, size in found) / 3.0 == pytest.approx(wire, rel=0.02)
    gaps = np.diff([at for at, _ in found])
    assert gaps.max() < 4 * MSS / limit


@pytest.mark.parametrize("rtt, least, most", [(0.002, 2, 4), (0.01, 2, 4), (0.05, 7, 10)])
def test_what_leaves_at_once(sim, rtt, least, most):
    """A millisecond's worth, here 8.6 segments, or a 34th of a short round trip, at least a quarter of that."""
    a, b, link = path(sim, "cubic", rate=1e9, rtt=rtt, max_pacing_rate=12_500_000)
    found = departures(sim, a, b, link, 1.0, 2.0)
    assert least * 1500 <= most_within(found, 1e-5) <= most * 1500


def test_max_pacing_rate_of_a_connection(sim):
    a, b, _ = path(sim, "cubic")
    flow = BulkFlow(sim, a, b)
    sim.run(1)
    flow.connection.max_pacing_rate = 500_000
    sim.run(3)
    assert flow.connection.pacing_rate == flow.connection.info().pacing_rate == 500_000
    assert flow.goodput(2, 3) == pytest.approx(4e6, rel=0.03)
    with pytest.raises(ValueError, match="max_pacing_rate=-1"):
        flow.connection.max_pacing_rate = -1


def test_many_paced_connections(sim):
    """More than the timer wheel looks at one by one: all go on."""
    a, b, _ = path(sim, "cubic", rate=1e9, max_pacing_rate=50_000, send_buffer=65536, receive_buffer=65536)
    flows = [BulkFlow(sim, a, b, sample=0) for _ in range(150)]
    sim.run(2)
    before = [flow.received for flow in flows]
    sim.run(4)
    for flow, was in zip(flows, before, strict=True):
        assert (flow.received - was) / 2 == pytest.approx(50_000, rel=0.1)


# -- BBR (draft-ietf-ccwg-bbr) ------------------------------------------------------------------------------------

def test_bbr_fills_the_pipe_and_not_the_queue(sim):
    """100 Mbit/s, 50 ms, a queue of one and a half BDP: nearly all of it, nothing lost, and the round trip hardly grows."""
    a, b, link = path(sim, "bbr", queue=BDP * 3 // 2)
    flow = BulkFlow(sim, a, b)
    sim.run(12)
    assert flow.goodput(2, 12) > 0.93 * RATE * MSS / 1500
    assert dropped(link) == 0
    assert np.median(later(flow, 2)["srtt"]) < 1.02 * RTT
    assert later(flow, 2)["srtt"].mean() < 1.25 * RTT


@pytest.mark.parametrize("rtt, loss, queue, share", [
    (0.01, 0.01, 1, 0.93), (0.01, 0.03, 1, 0.91), (0.05, 0.001, 1, 0.94), (0.05, 0.01, 1, 0.93), (0.05, 0.03, 1, 0.91),
    (0.05, 0.01, 0.1, 0.91), (0.05, 0.03, 0.1, 0.90), (0.2, 0.01, 1, 0.88), (0.2, 0.03, 1, 0.7),
])
def test_bbr_does_not_mind_random_loss(sim, rtt, loss, queue, share):
    """What is lost without a queue is not lost for congestion: nearly all of the rate, at any round trip and with a short
    queue too, where CUBIC has a thirtieth."""
    buffers = {"send_buffer": 16 << 20, "receive_buffer": 16 << 20}
    a, b, _ = path(sim, "bbr", rtt=rtt, queue=int(queue * RATE * rtt / 8), loss=loss, **buffers)
    flow = BulkFlow(sim, a, b)
    sim.run(14)
    assert flow.goodput(3, 14) > share * RATE * MSS / 1500


def test_bbr_fills_a_path_with_a_short_queue(sim):
    """Eight packets: headroom of a seventh would leave less than a BDP in flight."""
    a, b, link = path(sim, "bbr", rtt=0.01, queue=BDP // 50)
    flow = BulkFlow(sim, a, b)
    sim.run(8)
    assert flow.goodput(2, 8) > 0.96 * RATE * MSS / 1500
    assert dropped(link) < 0.01 * link.stats()["there"]["packets"]


def busy(sim, *hosts, seconds, every, longest):
    """Others have their processors now and then."""
    dice = random.Random(1)
    for host in hosts:
        at = 0.3
        while at < seconds:
            at += dice.expovariate(1 / every)
            length = dice.uniform(0, longest)
            sim.at(at, partial(host.stall, length))
            at += length


@pytest.mark.parametrize("rtt, share", [(0.01, 0.84), (0.05, 0.88)])
def test_bbr_does_not_mind_random_loss_on_busy_machines(sim, rtt, share):
    """Both ends run up to 6 ms late a quarter of the time: what a run tells of is complete, so that nothing is lost but what the
    path loses, and a late run is no queue."""
    a, b, link = path(sim, "bbr", rtt=rtt, queue=int(RATE * rtt / 8), loss=0.03)
    busy(sim, a, b, seconds=8, every=0.01, longest=0.006)
    flow = BulkFlow(sim, a, b)
    sim.run(8)
    assert flow.goodput(2, 8) > share * RATE * MSS / 1500
    there = link.stats()["there"]
    assert flow.retransmits < 1.1 * (there["lost"] + there["queue_full"])


def test_a_late_run_does_not_overflow_a_short_queue(sim):
    """What was not sent in time is not made up for when the queue would not take it."""
    a, b, link = path(sim, "bbr", rtt=0.01, queue=BDP // 50)
    busy(sim, a, b, seconds=8, every=0.02, longest=0.004)
    flow = BulkFlow(sim, a, b)
    sim.run(8)
    assert flow.goodput(2, 8) > 0.66 * RATE * MSS / 1500
    assert dropped(link) < 0.03 * link.stats()["there"]["packets"]


def test_bbr_gives_way_to_loss_by_congestion(sim):
    """A rate that halves behind its back: bounds follow the loss at once, not with the next probe."""
    a, b, link = path(sim, "bbr", queue=BDP // 10)
    flow = BulkFlow(sim, a, b)
    rival = BulkFlow(sim, a, b, start=6.0)
    sim.run(5.9)
    before = dropped(link)
    sim.run(14)
    assert flow.goodput(12, 14) < 0.8 * RATE * MSS / 1500 and rival.goodput(12, 14) > 0.1 * RATE * MSS / 1500
    assert dropped(link) - before < 0.05 * 8 * RATE / 8 / 1500


def test_bbr_starts_up_through_random_loss(sim):
    """Losses while bandwidth still grows by a quarter in a round do not end Startup."""
    a, b, _ = path(sim, "bbr", rtt=0.2, queue=4 * BDP, loss=0.03)
    flow = BulkFlow(sim, a, b)
    sim.run(6)
    assert later(flow, 2)["cwnd"].max() > 0.8 * 4 * BDP


def test_bbr_answers_marks_while_it_cruises(sim):
    """A mark outside of a probe lowers the short-term bounds as loss does: the standing queue of a marking bottleneck goes."""
    a, b, _ = path(sim, "bbr", ecn="on", rate=RATE, queue=DropTail(bytes=20 * BDP, mark=BDP // 20))
    flows = [BulkFlow(sim, a, b, start=0.5 * i) for i in range(2)]
    sim.run(12)
    rows = np.concatenate([later(flow, 6)["srtt"] for flow in flows])
    assert np.median(rows) < 1.25 * RTT and flows[0].retransmits == 0


def test_a_large_window_loses_no_sack_news(sim):
    """Three thousand records in flight and holes at both ends of them: nothing that arrived is sent again."""
    a, b, link = path(sim, "bbr", rtt=0.2, queue=4 * BDP, receive_buffer=16 << 20, send_buffer=16 << 20)
    flow = BulkFlow(sim, a, b)
    sim.run(6)
    assert dropped(link) > 50
    assert flow.retransmits <= dropped(link) + 2


def test_a_hole_that_lasts_hides_nothing():
    """A retransmission is lost, too: blocks of thousands of segments come back longer with each hole that is filled above it, and
    the newest news comes with them. Nothing that arrived is sent again."""
    segments = 8000
    room = segments * MSS
    register_unyielding(room)
    with Simulation(3, packets=6 * segments + 8192) as sim:
        a, b = (sim.host(name, congestion="unyielding", send_buffer=2 * room, receive_buffer=4 * room, autotune=False,
                         pool_packets=6 * segments + 8192, out_of_order=60_000) for name in "ab")
        link = sim.link(a, b, delay=0.1, loss=0.001, limit=1 << 17, back={"loss": 0.0})
        flow = BulkFlow(sim, a, b, sample=0)
        sim.run(6)
        assert b.engine.stats()["tcp_ooo_full"] == b.engine.stats()["tcp_out_of_window"] == 0
        assert link.stats()["there"]["lost"] > 100
        assert flow.retransmits <= link.stats()["there"]["lost"] + 2


@pytest.mark.parametrize("begin", [0.05, 0.45])
@pytest.mark.parametrize("settings, queue", [
    ({"sack": False}, {"bytes": 950_000}),
    ({}, {"bytes": 950_000}),
    ({"ecn": "on"}, {"bytes": 4 << 20, "mark": 950_000}),
])
def test_after_gigabytes_without_loss(settings, queue, begin):
    """What a sender remembers as a sequence number, of a loss or a mark, may be more than 2 GiB ago: what follows is answered
    as in the first second."""
    with Simulation(3, packets=8192, packet_size=9472) as sim:
        a, b = (sim.host(name, **{**SETTINGS, "send_buffer": 1 << 20, "pool_packets": 4096, "mtu": 9000,
                                  "congestion": "newreno", **settings}) for name in "ab")
        link = sim.link(a, b, rate=50e9, delay=0.00001, queue=DropTail(**queue))
        flow = BulkFlow(sim, a, b, sample=0)
        sim.run(begin)
        before = flow.info()
        assert dropped(link) == link.stats()["there"]["marked"] == 0 and (before["bytes_acked"] > 2 << 30) == (begin > 0.1)
        flow.connection.send_buffer = 2 << 20     # more than the queue takes
        sim.run(begin + 0.01)
        assert dropped(link) or link.stats()["there"]["marked"]
        assert flow.info()["ssthresh"] < before["cwnd"]
        assert a.engine.stats()["tcp_rto_expired"] == 0


@pytest.mark.parametrize("rival, begin", [(True, 6), (False, 10)])
def test_bbr_probes_the_round_trip(sim, rival, begin):
    """§5.3.4: with a queue that somebody else fills from the first second on it finds out every five seconds what the path is
    like without; by itself it sees that now and then anyway, and waits for ten."""
    a, b, _ = path(sim, "bbr", queue=4 * BDP)
    flow = BulkFlow(sim, a, b)
    if rival:
        other = BulkFlow(sim, a, b, start=1)
        sim.run(1.001)
        other.connection.congestion = "newreno"
    sim.run(11)
    low = later(flow, 2)
    low = low[low["cwnd"] < 0.6 * BDP]["time"]
    assert begin < low[0] < begin + 0.5
    assert 0.15 < low[low < low[0] + 2].max() - low[0] < 0.6


def test_bbr_after_an_idle_time(sim):
    a, b, link = path(sim, "bbr")
    first = BulkFlow(sim, a, b, bytes=20_000_000)
    sim.run(4)
    assert first.done
    lost = dropped(link)
    second = BulkFlow(sim, a, b, start=6.0)
    sim.run(10)
    assert second.goodput(8, 10) > 0.9 * RATE * MSS / 1500
    assert dropped(link) - lost < 300


# -- several flows ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("algorithm, n, fair", [("cubic", 2, 0.8), ("cubic", 10, 0.9), ("bbr", 2, 0.75), ("bbr", 10, 0.75)])
def test_fairness(sim, algorithm, n, fair):
    """Jain's index over half a minute, and the link is full."""
    a, b, _ = path(sim, algorithm, pool_packets=65536, send_buffer=4 << 20)
    flows = [BulkFlow(sim, a, b, start=0.2 * i, sample=0.1) for i in range(n)]
    sim.run(40)
    rates = [flow.goodput(10, 40) for flow in flows]
    assert jain(rates) > fair, rates
    assert sum(rates) > 0.9 * RATE * MSS / 1500


# -- ECN and DCTCP ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("algorithm", ["newreno", "cubic", "bbr"])
def test_marks_instead_of_losses(sim, algorithm, version):
    """A queue that marks: no packet is lost or sent twice."""
    a, b, link = path(sim, algorithm, ecn="on", queue=DropTail(bytes=20 * BDP, mark=BDP // 2))
    flow = BulkFlow(sim, a, b, version=version, stop=7)
    sim.run(8)
    stats = link.stats()["there"]
    assert stats["marked"] > 0 and stats["queue_full"] == 0
    assert flow.retransmits == 0
    assert a.engine.stats()["tcp_ecn_reductions"] > 0
    assert b.engine.stats()["tcp_ecn_ce"] == stats["marked"]
    assert flow.goodput(2, 7) > 0.6 * RATE * MSS / 1500


@pytest.mark.parametrize("option", ["always", "needed", "off"])
@pytest.mark.parametrize("algorithm", ["cubic", "dctcp"])
def test_accurate_ecn_counts_every_mark(sim, algorithm, option):
    """RFC 9768: what the sender knows is what the receiver has seen, packet by packet, and byte by byte with the option."""
    a, b, link = path(sim, algorithm, ecn="accurate", ecn_option=option, queue=DropTail(bytes=20 * BDP, mark=BDP // 2))
    flow = BulkFlow(sim, a, b, stop=6)
    sim.run(5.9)
    early = flow.connection.info()
    assert early.ecn_mode == 2
    assert early.delivered_ce > 0
    assert flow.retransmits == 0
    stats = link.stats()["there"]
    assert b.engine.stats()["tcp_ecn_ce"] == stats["marked"]
    assert 0 <= stats["marked"] - early.delivered_ce < 0.2 * stats["marked"] + 100
    if option == "always":
        segment = flow.connection.mss
        assert early.delivered_ce_bytes == pytest.approx(early.delivered_ce * segment, rel=0.02)
    for side in (a, b):
        assert side.engine.stats()["tcp_ecn_mangled"] == side.engine.stats()["tcp_ecn_bad_option"] == 0
    assert flow.goodput(2, 5.9) > 0.6 * RATE * MSS / 1500


def test_without_ecn_nothing_is_marked(sim):
    a, b, link = path(sim, "cubic", queue=DropTail(bytes=BDP, mark=BDP // 2))
    BulkFlow(sim, a, b)
    sim.run(4)
    assert link.stats()["there"]["marked"] == 0


@pytest.mark.parametrize("ecn", ["passive", "accurate"])
def test_dctcp_keeps_the_queue_short(sim, ecn):
    """RFC 8257: the queue stays about the threshold, and the link full."""
    rtt, mark = 0.001, 30_000
    a, b, link = path(sim, "dctcp", rtt=rtt, ecn=ecn, queue=DropTail(bytes=1 << 20, mark=mark), rto_min=0.01)
    flows = [BulkFlow(sim, a, b, sample=0.001) for _ in range(2)]
    sim.run(3)
    assert sum(flow.goodput(1, 3) for flow in flows) > 0.95 * RATE * MSS / 1500
    assert jain([flow.goodput(1, 3) for flow in flows]) > 0.95
    waiting = (np.concatenate([later(flow, 1)["srtt"] for flow in flows]) - rtt) * RATE / 8
    assert waiting.max() < 2.5 * mark
    assert dropped(link) == 0


# -- choosing --------------------------------------------------------------------------------------------------------

def test_switching_on_the_way(sim):
    a, b, _ = path(sim, "cubic", queue=2 * BDP)
    flow = BulkFlow(sim, a, b)
    assert flow.connection is None
    for i, algorithm in enumerate(("bbr", "newreno", "dctcp", "cubic", "bbr", "cubic")):
        sim.run(2 * i + 2)
        flow.connection.congestion = algorithm
        assert flow.connection.congestion == algorithm
    sim.run(16)
    assert flow.goodput(2, 16) > 0.8 * RATE * MSS / 1500
    with pytest.raises(iip.ConfigError, match="congestion='vegas': unknown algorithm; choose from 'bbr', 'cubic'"):
        flow.connection.congestion = "vegas"


# -- written in Python -----------------------------------------------------------------------------------------------

class Constant(iip.CongestionControl):
    """Forty segments, whatever happens."""

    def init(self):
        self.cwnd = 40 * self.mss

    def on_ack(self, ack):
        pass

    def on_loss(self, in_flight):
        return 40 * self.mss


class ByRate(iip.CongestionControl):
    """The highest delivery rate that was seen, and a window of two round trips of it."""

    measures = paces = models = True
    best = 0.0

    def init(self):
        self.samples = []

    def on_ack(self, ack):
        self.samples.append(ack)
        if ack.delivery_rate and not ack.app_limited:
            self.best = max(self.best, ack.delivery_rate)
        if self.best and self.min_rtt:
            self.pacing_rate = 1.2 * self.best
            self.cwnd = 2 * self.best * self.min_rtt


class Wrong(iip.CongestionControl):
    def on_ack(self, ack):
        raise ZeroDivisionError("on purpose")


def test_a_class_for_all_connections(sim):
    a, b, _ = path(sim, Constant)
    flow = BulkFlow(sim, a, b)
    sim.run(5)
    assert isinstance(flow.connection.congestion, Constant)
    assert flow.goodput(1, 5) == pytest.approx(40 * MSS * 8 / RTT, rel=0.1)


def test_an_object_for_one_connection(sim):
    a, b, _ = path(sim, "cubic")
    flow = BulkFlow(sim, a, b)
    sim.run(1)
    control = ByRate()
    flow.connection.congestion = control
    assert flow.connection.congestion is control
    sim.run(6)
    assert flow.goodput(3, 6) > 0.9 * RATE * MSS / 1500
    sample = control.samples[-1]
    assert sample.delivered > 0 and not sample.recovery and sample.rtt >= RTT
    assert control.best * 8 == pytest.approx(RATE * MSS / 1500, rel=0.05)
    with pytest.raises(iip.ConfigError, match="make one for each"):
        flow.connection.congestion = control
    flow.connection.congestion = "cubic"
    with pytest.raises(iip.ConnectionGone):
        control.cwnd  # noqa: B018
    sim.run(7)


def test_the_base_class_is_newreno(sim):
    a, b, _ = path(sim, iip.CongestionControl)
    flow = BulkFlow(sim, a, b)
    sim.run(10)
    assert flow.goodput(3, 10) > 0.9 * RATE * MSS / 1500


def test_exceptions_come_out_of_run(sim):
    a, b, _ = path(sim, Wrong)
    BulkFlow(sim, a, b)
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        sim.run(1)
