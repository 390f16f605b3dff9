"""The handlers of `iip.apps.bench` once more, in Python: what a crossing into Python costs."""
from __future__ import annotations

import time

from iip import Handler
from iip.apps.bench import Histogram
from iip.runtime.pair import run_pair


class PingPongServer(Handler):
    def tcp_payload(self, conn, data):
        conn.send(data)
        conn.consume(len(data))

    def tcp_shutdown(self, conn):
        conn.close()


class _Exchange:
    __slots__ = ("received", "started")

    received: int
    started: int


class PingPongClient(Handler):
    def __init__(self, size, connections):
        self.request = bytes(i & 0xFF for i in range(size))
        self.size = size
        self.connected = self.closed = self.transactions = 0
        self.latency = Histogram()
        self.running = False

    def start(self, conn, exchange):
        exchange.started = time.monotonic_ns()
        exchange.received = 0
        conn.send(self.request)

    def tcp_connected(self, conn):
        self.connected += 1
        conn.context = _Exchange()
        self.start(conn, conn.context)

    def tcp_payload(self, conn, data):
        n = len(data)
        conn.consume(n)
        exchange = conn.context
        exchange.received += n
        if exchange.received == self.size:
            self.transactions += 1
            self.latency.record(time.monotonic_ns() - exchange.started)
            if self.running:
                self.start(conn, exchange)
            else:
                conn.close()

    def tcp_closed(self, conn, reason):
        self.closed += 1

    def run(self, client, server, seconds):
        self.running = True
        begin = time.monotonic_ns()
        run_pair(client, server, duration=seconds)
        return (time.monotonic_ns() - begin) / 1e9

    def forget(self):
        self.transactions = 0
        self.latency = Histogram()

    def finish(self):
        self.running = False


class BulkSource(Handler):
    def __init__(self, pattern):
        self.pattern = memoryview(pattern)
        self.connected = self.closed = self.sent = 0
        self.running = True

    def lend(self, engine):
        """The native source needs this; here `send` refers to the pattern."""

    def release(self, engine):
        """See `lend`."""

    def finish(self):
        self.running = False

    def tcp_connected(self, conn):
        self.connected += 1
        conn.context = 0
        self.fill(conn)

    def tcp_acked(self, conn, n):
        self.fill(conn)

    def tcp_closed(self, conn, reason):
        self.closed += 1

    def fill(self, conn):
        if conn.context is None:
            return
        while self.running:
            n = conn.send(self.pattern[conn.context:], reference=True)
            if n == 0:
                return
            self.sent += n
            conn.context = (conn.context + n) % len(self.pattern)
        conn.context = None
        conn.close()


class BulkSink(Handler):
    def __init__(self, pattern, verify):
        self.pattern = memoryview(pattern)
        self.verify = verify
        self.received = self.wrong = self.finished = 0

    def tcp_accepted(self, conn):
        conn.context = 0

    def tcp_payload(self, conn, data):
        n = len(data)
        self.received += n
        if self.verify:
            self.check(conn, memoryview(data))
        conn.consume(n)

    def check(self, conn, data):
        while len(data):
            expected = self.pattern[conn.context:conn.context + len(data)]
            if data[:len(expected)] != expected:
                self.wrong += len(expected)
            data = data[len(expected):]
            conn.context = (conn.context + len(expected)) % len(self.pattern)

    def tcp_shutdown(self, conn):
        self.finished += 1
        conn.close()
