"""The handlers of `iip pingpong` a third time: in Python, with all events of a run in one call."""
from __future__ import annotations

import time

import numpy as np

from iip import Batch, Engine, Event, Handler
from iip.apps.bench import Histogram
from iip.runtime.pair import run_pair


class PingPongServer(Handler):
    tcp_event_kinds = (Event.PAYLOAD,)

    def tcp_events(self, batch: Batch) -> None:
        batch.consume()
        batch.send()


class PingPongClient(Handler):
    """What belongs to a connection lies in arrays; the connection's word is the index into them."""

    tcp_event_kinds = (Event.CONNECTED, Event.PAYLOAD, Event.CLOSED)

    def __init__(self, size: int, connections: int) -> None:
        self.request = bytes(i & 0xFF for i in range(size))
        self.size = size
        self.started = np.zeros(connections, np.int64)
        self.received = np.zeros(connections, np.uint32)
        self.connected = self.closed = self.transactions = 0
        self.latency = Histogram()
        self.running = False

    def tcp_events(self, batch: Batch) -> None:
        now = time.monotonic_ns()
        payloads = batch.payloads
        if len(payloads):
            batch.consume()
            self.answered(batch.engine, payloads, now)
        if len(payloads) == len(batch):
            return
        self.connected += len(batch.rows(Event.CONNECTED))
        self.closed += len(batch.rows(Event.CLOSED))

    def launch(self, engine: Engine, conns: np.ndarray) -> None:
        self.running = True
        engine.set_users(conns, np.arange(len(conns)))
        self.started[:] = time.monotonic_ns()
        engine.send_many(conns, self.request)

    def answered(self, engine: Engine, rows: np.ndarray, now: int) -> None:
        conns, index = rows["conn"], rows["user"]
        if self.size > 1:         # an answer may come in pieces, and several of them in one run
            np.add.at(self.received, index, rows["n"])
            last = len(index) - 1 - np.unique(index[::-1], return_index=True)[1]
            conns, index = conns[last], index[last]
            done = self.received[index] == self.size
            conns, index = conns[done], index[done]
            self.received[index] = 0
        self.transactions += len(index)
        self.latency.record_many(now - self.started[index])
        if self.running:
            self.started[index] = now
            engine.send_many(conns, self.request)
        else:
            engine.close_many(conns)

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
