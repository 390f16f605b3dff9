"""The loop: when it sleeps, what wakes it, what ends it."""
import os
import resource
import threading
import time

import pytest

import iip
from iip.drivers import MemoryLink, PythonDriver, Tunnel
from iip.runtime.loop import run
from iip.runtime.pair import run_pair


def engine(driver, address="10.0.0.1/24", handler=None):
    return iip.Engine(iip.Config(addresses=[address], medium="ip"), handler or iip.Handler(), driver, seed=1)


class Pipe(PythonDriver):
    """Readable when the test has written a byte."""

    def __init__(self):
        super().__init__(medium="ip")
        self.end, self.start = os.pipe()
        os.set_blocking(self.end, False)
        self.calls = 0
        self.got = threading.Event()

    def fileno(self):
        return self.end

    def receive(self, now, limit):
        self.calls += 1
        try:
            if os.read(self.end, 1):
                self.got.set()
        except BlockingIOError:
            pass
        return ()

    def close(self):
        os.close(self.start)
        os.close(self.end)


@pytest.fixture
def pipe():
    driver = Pipe()
    yield driver
    driver.close()


def test_duration_and_sleep(pipe):
    before = time.monotonic()
    assert run(engine(pipe), duration=0.2) == "until"
    assert 0.2 <= time.monotonic() - before < 5
    assert pipe.calls < 10


def test_until_is_a_time_of_the_clock(pipe):
    ticks = iter(range(0, 10**12, 10**6))
    assert run(engine(pipe), until=5 * 10**6, clock=lambda: next(ticks)) == "until"


@pytest.mark.parametrize("make", [lambda event: event, lambda event: event.is_set])
def test_stop_is_noticed(pipe, make):
    event = threading.Event()
    timer = threading.Timer(0.05, event.set)
    timer.start()
    assert run(engine(pipe), stop=make(event)) == "stop"
    timer.join()


def test_a_readable_descriptor_wakes_it(pipe):
    timer = threading.Timer(0.05, lambda: os.write(pipe.start, b"x"))
    timer.start()
    assert run(engine(pipe), duration=20, stop=pipe.got) == "stop"
    timer.join()
    assert pipe.calls < 20


def test_deadlines_are_kept():
    """A connection attempt without an answer retransmits after one second."""
    tunnel = Tunnel()
    e = engine(tunnel)
    e.tcp_connect("10.0.0.2", 80)
    seen = []

    def stop():
        seen.extend((time.monotonic(), packet) for packet in tunnel.drain())
        return len(seen) == 2

    assert run(e, stop=stop, duration=20) == "stop"
    assert 0.9 < seen[1][0] - seen[0][0] < 3
    e.close()


def test_nothing_can_happen_any_more():
    with pytest.raises(RuntimeError, match="give a duration or stop"):
        run(engine(Tunnel()))


def test_a_descriptor_beyond_what_select_takes(pipe):
    if _limit() <= 1500:
        pytest.skip("descriptors above 1500 are not allowed")
    low = pipe.end
    pipe.end = os.dup2(low, 1500)
    os.close(low)
    timer = threading.Timer(0.05, lambda: os.write(pipe.start, b"x"))
    timer.start()
    assert run(engine(pipe), duration=20, stop=pipe.got) == "stop"
    timer.join()


def _limit():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_exceptions_of_handlers_come_out_and_the_engine_goes_on():
    class Failing(iip.Handler):
        def tcp_accepted(self, conn):
            raise ZeroDivisionError

    link = MemoryLink()
    server, client = engine(link.b, "10.0.0.2/24", Failing()), engine(link.a)
    server.tcp_listen(7)
    conn = client.tcp_connect("10.0.0.2", 7)
    with pytest.raises(ZeroDivisionError):
        run_pair(client, server, duration=5)
    assert run_pair(client, server, duration=0.01) == "until"
    assert conn.state == iip.State.ESTABLISHED
    client.close()
    server.close()


def test_a_pair_needs_an_end():
    link = MemoryLink()
    a, b = engine(link.a), engine(link.b, "10.0.0.2/24")
    with pytest.raises(ValueError, match="would never end"):
        run_pair(a, b)
    event = threading.Event()
    event.set()
    assert run_pair(a, b, stop=event) == "stop"
    assert run_pair(a, b, until=time.monotonic_ns()) == "until"
