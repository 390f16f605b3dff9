"""Virtual time, links and captures; that a seed repeats every byte and that nothing is lost but what was asked for."""
import hashlib
import io
import itertools

import pytest

import iip
from iip.sim import BulkFlow, CoDel, DropTail, GilbertElliott, Simulation
from tests.sim.worlds import Echo, Recorder, address, frames

BAD = {"rate": 20e6, "delay": 0.01, "jitter": 0.002, "loss": 0.01, "reorder": 0.02, "duplicate": 0.01, "corrupt": 0.01,
       "queue": 40_000}


@pytest.fixture
def sim():
    """Nothing may be left in any pool when a test has ended."""
    with Simulation(seed=1) as made:
        yield made
    assert made.packets_in_use == 0


def pair(sim, a=None, b=None, host=None, **link):
    host = host or {}
    a, b = sim.host("a", handler=a, **host), sim.host("b", handler=b, **host)
    return a, b, sim.link(a, b, **link)


def test_a_host_that_stalls(sim):
    """Packets wait until its engine runs again."""
    seen = Recorder()
    a, b, _ = pair(sim, a=seen, delay=0.001)
    b.stall(0.05)
    a.engine.ping(address(b), 1, 1)
    sim.run(0.04)
    assert not seen.pings
    sim.run(0.0515)
    assert len(seen.pings) == 1


# -- same seed, same bytes ---------------------------------------------------------------------------------------

def fingerprint(seed, *, observe=False, parts=1, extra=False):
    file = io.BytesIO()
    with Simulation(seed=seed) as sim:
        a, b, link = pair(sim, **BAD)
        if extra:
            sim.host("bystander")
        flow = BulkFlow(sim, a, b, bytes=2_000_000, sample=0.001 if observe else 0)
        sim.capture(file, link)
        for i in range(parts):
            sim.run(3.0 * (i + 1) / parts)
        stats = (link.stats(), a.stats(), b.stats(), flow.received)
    assert sim.packets_in_use == 0
    return hashlib.sha256(file.getvalue()).hexdigest(), stats


def test_the_same_seed_gives_the_same_bytes():
    first = fingerprint(7)
    assert first == fingerprint(7)
    there = first[1][0]["there"]
    assert all(there[what] > 3 for what in ("lost", "reordered", "duplicated", "corrupted"))
    assert first[1][3] > 100_000


def test_another_seed_gives_others():
    assert fingerprint(7)[0] != fingerprint(8)[0]


@pytest.mark.parametrize("how", [{"observe": True}, {"parts": 30}, {"extra": True}])
def test_looking_pausing_and_bystanders_change_nothing(how):
    changed = fingerprint(7, **how)
    assert changed[0] == fingerprint(7)[0]


# -- time --------------------------------------------------------------------------------------------------------

def test_the_clock_goes_where_it_is_told(sim):
    assert sim.now == 0.0
    assert sim.run(1.5) == sim.now == 1.5
    sim.run(duration=0.25)
    assert sim.now_ns == 1_750_000_000


def test_calls_come_in_order_and_may_make_more(sim):
    seen = []
    sim.at(2.0, lambda: seen.append(("two", sim.now)))
    sim.at(1.0, lambda: (seen.append(("one", sim.now)), sim.after(0.5, lambda: seen.append(("half", sim.now)))))
    sim.at(1.0, lambda: seen.append(("also one", sim.now)))
    sim.run(1.9)
    assert seen == [("one", 1.0), ("also one", 1.0), ("half", 1.5)]
    sim.run()
    assert seen[-1] == ("two", 2.0) and sim.now == 2.0


def test_a_call_from_a_handler_happens_when_it_should(sim):
    class Late(Recorder):
        def icmp_reply(self, reply):
            self.pings.append(sim.now)
            sim.after(0.001, lambda: self.pings.append(sim.now))

    late = Late()
    a, b, _ = pair(sim, late, Recorder(), delay=0.01)
    a.engine.ping(address(b), 1, 1)
    sim.run(5)
    assert late.pings == [pytest.approx(0.02), pytest.approx(0.021)]


def test_run_without_an_end_ends_when_nothing_can_happen(sim):
    recorder = Recorder()
    a, b, _ = pair(sim, recorder, Echo(), delay=0.1, host={"time_wait": 2.0})
    b.engine.tcp_listen(7)
    recorder.on_connected = lambda conn: conn.close()
    a.engine.tcp_connect(address(b), 7)
    sim.run()
    assert recorder.closed == [iip.Reason.NORMAL] and a.engine.n_connections == b.engine.n_connections == 0
    assert 2.4 <= sim.now < 3          # three ways of 0.1 s and TIME-WAIT


def test_stop(sim):
    sim.at(1.0, sim.stop)
    sim.at(2.0, lambda: None)
    assert sim.run(10) == 1.0
    assert sim.run(10) == 10.0


def test_what_callbacks_raise_comes_out_and_the_simulation_goes_on(sim):
    class Broken(Recorder):
        def icmp_reply(self, reply):
            raise RuntimeError("no")

    a, b, _ = pair(sim, Broken(), Recorder(), delay=0.01)
    a.engine.ping(address(b), 1, 1)
    with pytest.raises(RuntimeError, match="no"):
        sim.run(1)
    assert sim.now == pytest.approx(0.02, abs=1e-6)
    sim.at(0.5, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sim.run(1)
    assert sim.now == 0.5 and sim.run(1) == 1


def test_run_inside_a_callback_is_refused(sim):
    sim.at(0.1, lambda: sim.run(1))
    with pytest.raises(iip.IipError, match="callback"):
        sim.run(1)


# -- links -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", [4, 6])
def test_the_round_trip_takes_what_rate_and_delay_say(sim, version):
    times = []

    class Timer(Recorder):
        def icmp_reply(self, reply):
            times.append(sim.now_ns)

    a, b, _ = pair(sim, Timer(), Recorder(), delay=0.01, rate=1e6, back={"delay": 0.002})
    a.engine.ping(address(b, version), 1, 1, bytes(972 if version == 4 else 952))     # 1000 bytes: 8 ms each way
    sim.run(1)
    assert times == [10_000_000 + 2_000_000 + 2 * 8_000_000]


def test_applications_talk(sim):
    recorder = Recorder()
    a, b, _ = pair(sim, recorder, Echo(), delay=0.01, loss=0.1)
    b.engine.tcp_listen(7)
    conn = a.engine.tcp_connect(address(b, 6), 7)
    conn.send(b"hello" * 1000)
    sim.at(20, conn.close)
    sim.run(60)
    assert recorder.data == b"hello" * 1000 and recorder.closed == [iip.Reason.NORMAL]


@pytest.mark.parametrize("loss, low, high", [(0.05, 420, 580), (GilbertElliott(p=0.02, r=0.38), 380, 620)])
def test_losses_in_one_direction(sim, loss, low, high):
    receiver = Recorder()
    a, b, link = pair(sim, Recorder(), receiver, loss=loss, back={"loss": 0.0})
    b.engine.udp_bind(9)
    for i in range(10_000):
        sim.at(i * 1e-4, lambda i=i: a.engine.udp_send(i.to_bytes(4, "big"), address(b), 9, 1))
    sim.run()
    lost = link.stats()["there"]["lost"]
    assert len(receiver.datagrams) == 10_000 - lost and low < lost < high
    assert link.stats()["back"]["lost"] == 0


def test_reordered_duplicated_and_corrupted(sim):
    receiver = Recorder()
    a, b, link = pair(sim, Recorder(), receiver, reorder=0.1, reorder_delay=0.01, duplicate=0.05, corrupt=0.05)
    b.engine.udp_bind(9)
    for i in range(2000):
        sim.at(i * 1e-3, lambda i=i: a.engine.udp_send(i.to_bytes(4, "big") * 50, address(b), 9, 1))
    sim.run()
    there = link.stats()["there"]
    numbers = [int.from_bytes(d.data[:4], "big") for d in receiver.datagrams]
    assert 150 < there["reordered"] < 270 and 60 < there["duplicated"] < 140 and 60 < there["corrupted"] < 140
    # checksums catch every flipped bit but those of fields that they do not cover
    assert 2000 + there["duplicated"] - there["corrupted"] <= len(numbers) <= 2000 + there["duplicated"]
    assert all(d.data == d.data[:4] * 50 for d in receiver.datagrams)
    assert sum(later < earlier for earlier, later in itertools.pairwise(numbers)) > 100


def test_queue_and_marks(sim):
    seen = []

    class Sink(Recorder):
        def udp_payload(self, datagram):
            seen.append(sim.now)

    a, b, link = pair(sim, Recorder(), Sink(), rate=8e6, queue=DropTail(bytes=10_000, mark=5000))
    b.engine.udp_bind(9)
    for _ in range(20):
        a.engine.udp_send(bytes(972), address(b), 9, 1, tos=2)      # 1000 bytes: a millisecond
    sim.run()
    stats = link.stats()["there"]
    assert seen == [pytest.approx(0.001 * (i + 1)) for i in range(11)]
    assert (stats["queue_full"], stats["marked"]) == (9, 5)


def test_codel_in_a_link(sim):
    settings = {"send_buffer": 1 << 22, "receive_buffer": 1 << 22, "pool_packets": 16384}
    a, b, link = pair(sim, rate=10e6, delay=0.01, queue=CoDel(), host=settings)
    flow = BulkFlow(sim, a, b)
    sim.run(20)
    late = flow.trace[flow.trace["time"] > 5]
    assert link.stats()["there"]["codel_dropped"] > 5 and link.stats()["there"]["queue_full"] == 0
    assert late["srtt"].mean() < 0.045               # without CoDel the queue would add 13 s to 20 ms
    assert flow.goodput(5, 20) > 0.85 * 10e6


@pytest.mark.parametrize("rate, delay", [(10e6, 0.005), (100e6, 0.01), (1e9, 0.005)])
@pytest.mark.parametrize("version", [4, 6])
def test_goodput_of_a_clean_link(sim, rate, delay, version):
    bdp = int(rate * 2 * delay / 8)
    settings = {"send_buffer": 8 << 20, "receive_buffer": 8 << 20, "pool_packets": 32768, "out_of_order": 8192}
    a, b, _ = pair(sim, rate=rate, delay=delay, queue=max(4 * bdp, 1 << 17), host=settings)
    flow = BulkFlow(sim, a, b, version=version)
    sim.run(3)
    assert flow.goodput(1, 3) >= 0.95 * rate * (1 if version == 4 else 0.99)


def test_a_host_without_a_link_hears_nobody(sim):
    host = sim.host("alone", handler=Recorder())
    host.engine.ping("10.0.0.9", 1, 1)
    sim.run(1)
    assert host.stats()["unplugged"] == 1


def test_packets_longer_than_the_link_takes(sim):
    a, b, link = pair(sim, Recorder(), Recorder(), mtu=1000)
    a.engine.ping(address(b), 1, 1, bytes(973))
    a.engine.ping(address(b), 1, 2, bytes(972))
    sim.run(1)
    assert [r.seq for r in a.engine.handler.pings] == [2]
    assert link.stats()["there"]["too_long"] == 1


def test_jumbo_packets_cross_in_pieces_of_the_pool(sim):
    recorder = Recorder()
    a, b, _ = pair(sim, recorder, Recorder(), host={"mtu": 9000})
    a.engine.ping(address(b), 1, 1, bytes(8000))
    sim.run(1)
    assert [len(r.data) for r in recorder.pings] == [8000]


def test_too_small_a_pool_is_said_and_not_hidden():
    with Simulation(packets=16) as sim:
        a, b, _ = pair(sim, delay=0.2)
        BulkFlow(sim, a, b)
        with pytest.raises(iip.Exhausted, match="packets="):
            sim.run(10)
    assert sim.packets_in_use == 0


# -- captures ----------------------------------------------------------------------------------------------------

def test_captures_show_both_ends(sim, tmp_path):
    a, b, link = pair(sim, Recorder(), Recorder(), delay=0.01)
    path = tmp_path / "link.pcapng"
    at_a = io.BytesIO()
    sim.capture(path, link)
    sim.capture(at_a, (link, a), snaplen=30)
    a.engine.ping(address(b), 1, 1)
    sim.run(1)
    sim.close()
    seen = [(interface, at, direction) for interface, at, direction, _ in frames(path.read_bytes())]
    assert seen == [(0, 0, 2), (1, 10_000_000, 1), (1, 10_000_000, 2), (0, 20_000_000, 1)]
    assert [(at, direction, len(frame)) for _, at, direction, frame in frames(at_a.getvalue())] == [
        (0, 2, 28), (20_000_000, 1, 28)]
    assert b"a:b" in path.read_bytes() and b"b:a" in path.read_bytes()


def test_capture_at_hosts_is_the_default_and_can_end(sim):
    a, b, _ = pair(sim, Recorder(), Recorder())
    file = io.BytesIO()
    writer = sim.capture(file)
    a.engine.ping(address(b), 1, 1)
    sim.run(1)
    assert len(frames(file.getvalue())) == writer.packets == 4
    writer.close()
    a.engine.ping(address(b), 1, 2)
    sim.run(2)
    assert len(frames(file.getvalue())) == 4 and len(a.engine.handler.pings) == 2


# -- what a user may get wrong -------------------------------------------------------------------------------------

@pytest.mark.parametrize("wrong, words", [
    (lambda s, a, b: s.host("a"), "name"),
    (lambda s, a, b: s.host(""), "name"),
    (lambda s, a, b: s.host("x", config=iip.Config(addresses=["10.0.0.1/8"]), mtu=1400), "config"),
    (lambda s, a, b: s.link(a, s.host("x")), "one interface"),
    (lambda s, a, b: s.link(s.host("x"), s.switch("y")), "medium='ethernet'"),
    (lambda s, a, b: s.link(s.router("x"), s.host("y", medium="ethernet")), "medium='ip'"),
    (lambda s, a, b: s.link(s.host("x"), s.host("y"), loss=3), "loss"),
    (lambda s, a, b: s.link(s.host("x"), s.host("y"), mtu=10), "mtu"),
    (lambda s, a, b: s.link(s.host("x"), s.host("y"), back={"lost": 1}), "lost"),
    (lambda s, a, b: s.at(-1, print), "time"),
    (lambda s, a, b: s.observe(0, print), "every"),
    (lambda s, a, b: s.route(s.router("x"), "10.0.0.0/8", a), "not linked"),
    (lambda s, a, b: s.capture(io.BytesIO(), s.host("x")), "not linked"),
    (lambda s, a, b: BulkFlow(s, a, s.host("x", handler=Recorder())), "handler"),
])
def test_wrong_uses_are_explained(sim, wrong, words):
    a, b, _ = pair(sim)
    with pytest.raises(iip.ConfigError, match=words):
        wrong(sim, a, b)


def test_a_closed_simulation(sim):
    sim.close()
    sim.close()
    with pytest.raises(iip.IipError, match="closed"):
        sim.run(1)
    with pytest.raises(iip.IipError, match="closed"):
        sim.host("a")
