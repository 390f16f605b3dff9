"""The handlers of `iip.apps.bench` once more, in Python: what a crossing into Python costs."""
from __future__ import annotations

import time

import numpy as np

from iip import Connection, Engine, Handler, Payload, Reason
from iip.apps.bench import Histogram
from iip.runtime.pair import run_pair


class PingPongServer(Handler):
    def tcp_payload(self, conn: Connection, data: Payload) -> None:
        conn.send(data)
        conn.consume(len(data))

    def tcp_shutdown(self, conn: Connection) -> None:
        conn.close()


class _Exchange:
    __slots__ = ("received", "started")

    received: int
    started: int


class PingPongClient(Handler):
    def __init__(self, size: int, connections: int) -> None:
        self.request = bytes(i & 0xFF for i in range(size))
        self.size = size
        self.connected = self.closed = self.transactions = 0
        self.latency = Histogram()
        self.running = False

    def start(self, conn: Connection, exchange: _Exchange) -> None:
        exchange.started = time.monotonic_ns()
        exchange.received = 0
        conn.send(self.request)

    def tcp_connected(self, conn: Connection) -> None:
        self.connected += 1

    def launch(self, engine: Engine, conns: np.ndarray) -> None:
        self.running = True
        for handle in conns:
            conn = engine.connection(handle)
            conn.context = _Exchange()
            self.start(conn, conn.context)

    def tcp_payload(self, conn: Connection, data: Payload) -> None:
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

    def tcp_closed(self, conn: Connection, reason: Reason) -> None:
        self.closed += 1

    def run(self, client: Engine, server: Engine, seconds: float) -> float:
        self.running = True
        begin = time.monotonic_ns()
        run_pair(client, server, duration=seconds)
        return (time.monotonic_ns() - begin) / 1e9

    def forget(self) -> None:
        self.transactions = 0
        self.latency = Histogram()

    def finish(self) -> None:
        self.running = False


class BulkSource(Handler):
    def __init__(self, pattern: bytes, copy: bool = False, write: int = 1 << 18) -> None:
        self.pattern = memoryview(pattern)
        self.write = write
        self.reference = not copy
        self.connected = self.closed = self.sent = 0
        self.running = True

    def lend(self, engine: Engine) -> None:
        """The native source needs this; here `send` refers to the pattern."""

    def release(self, engine: Engine) -> None:
        """See `lend`."""

    def finish(self) -> None:
        self.running = False

    def tcp_connected(self, conn: Connection) -> None:
        self.connected += 1
        conn.context = 0
        self.fill(conn)

    def tcp_acked(self, conn: Connection, n: int) -> None:
        self.fill(conn)

    def tcp_closed(self, conn: Connection, reason: Reason) -> None:
        self.closed += 1

    def fill(self, conn: Connection) -> None:
        if conn.context is None:
            return
        while self.running:
            n = conn.send(self.pattern[conn.context:conn.context + self.write], reference=self.reference)
            if n == 0:
                return
            self.sent += n
            conn.context = (conn.context + n) % len(self.pattern)
        conn.context = None
        conn.close()


class BulkSink(Handler):
    def __init__(self, pattern: bytes, verify: bool) -> None:
        self.pattern = memoryview(pattern)
        self.verify = verify
        self.received = self.wrong = self.finished = 0

    def tcp_accepted(self, conn: Connection) -> None:
        conn.context = 0

    def tcp_payload(self, conn: Connection, data: Payload) -> None:
        n = len(data)
        self.received += n
        if self.verify:
            self.check(conn, memoryview(data))
        conn.consume(n)

    def check(self, conn: Connection, data: memoryview) -> None:
        while len(data):
            expected = self.pattern[conn.context:conn.context + len(data)]
            if data[:len(expected)] != expected:
                self.wrong += len(expected)
            data = data[len(expected):]
            conn.context = (conn.context + len(expected)) % len(self.pattern)

    def tcp_shutdown(self, conn: Connection) -> None:
        self.finished += 1
        conn.close()
