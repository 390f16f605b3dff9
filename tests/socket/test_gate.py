"""Waiting under a lock, while a signal's handler raises."""
import signal
import threading
import time

import pytest

from iip.socket.gate import Gate


class Tick(Exception):
    pass


def tick(*_signal):
    raise Tick


@pytest.fixture
def gate():
    lock = threading.RLock()
    with lock:
        yield Gate(lock)


def test_a_time(gate):
    begin = time.monotonic()
    gate.wait(0.05)
    assert time.monotonic() - begin >= 0.05 and not gate.waiting


def test_everybody_goes_on():
    lock = threading.RLock()
    gate, through = Gate(lock), []

    def wait():
        with lock, lock:          # the lock may be held several times
            gate.wait()
            through.append(1)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    while True:
        with lock:
            if len(gate.waiting) == 3:
                gate.open()
                break
        time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert len(through) == 3 and not gate.waiting


def test_a_signal_leaves_the_lock_where_it_was():
    """Two thousand signals that arrive anywhere in a wait, beside threads that want the lock. `threading.Condition` gives it up for
    one in sixty of them."""
    lock, over = threading.RLock(), threading.Event()
    gate, hits = Gate(lock), 0

    def other():
        while not over.is_set():
            with lock:
                gate.open()
                sum(range(50))

    threads = [threading.Thread(target=other) for _ in range(2)]
    for thread in threads:
        thread.start()
    before = signal.signal(signal.SIGALRM, tick)
    try:
        while hits < 2000:
            lock.acquire()
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                for _ in range(20):
                    gate.wait(0.01)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Tick:
                hits += 1
            lock.release()        # raises if it was lost
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        over.set()
        for thread in threads:
            thread.join(10)
    assert not gate.waiting
