"""A server for iperf3's clients: TCP both ways, any number of streams.

One connection, which begins with a cookie of 37 bytes, controls a test by bytes that name states, and by JSON with its length in
front; connections that begin with the same cookie while it lasts are its streams.
"""
from __future__ import annotations

import json
import struct
import time
from collections.abc import Generator
from typing import Any

from iip import Connection, Handler, Payload, Reason
from iip.apps.pending import Pending, send

COOKIE = 37                       # bytes
LARGEST = 1 << 16                 # bytes of JSON that are read
MOST = 128                        # streams
BLOCK = bytes(1 << 18)            # what a reverse test sends, again and again

TEST_START, TEST_RUNNING, TEST_END = 1, 2, 4
PARAM_EXCHANGE, CREATE_STREAMS, EXCHANGE_RESULTS, DISPLAY_RESULTS = 9, 10, 13, 14
ACCESS_DENIED, SERVER_ERROR = 0xFF, 0xFE
NOT_SUPPORTED = 13                # iperf3's number of that error


class _Wrong(Exception):
    """This is no client of iperf3."""


Steps = Generator[int, bytes, None]      # yields how many bytes it needs next


class _Opening:
    """A connection that is a test's control, or does not know yet what it is."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.bytes = bytearray()
        self.pending = Pending()
        self.closing = False

    def begin(self, steps: Steps) -> None:
        self.steps = steps
        self.needs = next(steps)

    def receive(self, data: Payload) -> None:
        self.bytes += data
        while self.needs and len(self.bytes) >= self.needs:
            taken = bytes(self.bytes[:self.needs])
            del self.bytes[:self.needs]
            self.needs = next_step(self.steps, taken)


    def say(self, data: bytes) -> None:
        self.pending.add(data)
        self.flush()

    def flush(self) -> None:
        self.pending.flush(self.conn)
        if self.closing and not self.pending:
            self.conn.close()

    def close(self) -> None:
        self.closing = True
        self.flush()


def next_step(steps: Steps, taken: bytes) -> int:
    """How many bytes it needs after these; 0: nothing more."""
    try:
        return steps.send(taken)
    except StopIteration:
        return 0


class _Stream:
    """A connection that carries data."""

    def __init__(self, test: _Test) -> None:
        self.test = test
        self.bytes = 0            # received, or sent in a reverse test
        self.retransmits = 0
        self.closed = False


class _Test:
    def __init__(self, cookie: bytes) -> None:
        self.cookie = cookie
        self.streams: list[Connection] = []
        self.expected = 0         # streams
        self.reverse = False
        self.running = False
        self.began = 0.0

    def configure(self, parameters: Any) -> bool:
        """False: it asks for what we do not have."""
        if not isinstance(parameters, dict):
            raise _Wrong
        self.expected = parameters.get("parallel", 1)
        self.reverse = bool(parameters.get("reverse"))
        if not isinstance(self.expected, int) or not 1 <= self.expected <= MOST:
            raise _Wrong
        return bool(parameters.get("tcp")) and not parameters.get("bidirectional")

    def start(self) -> None:
        self.running, self.began = True, time.monotonic()
        if self.reverse:
            for conn in self.streams:
                self.fill(conn)

    def fill(self, conn: Connection) -> None:
        while self.running:
            n = send(conn, BLOCK)
            conn.context.bytes += n
            if n < len(BLOCK):
                break

    def finish(self) -> dict[str, Any]:
        """The results. Streams end when the client has read theirs."""
        self.running = False
        seconds = time.monotonic() - self.began
        streams = []
        for i, conn in enumerate(self.streams):
            stream: _Stream = conn.context
            if not stream.closed:
                if hasattr(conn, "info"):         # in the thread of its engine
                    stream.retransmits = conn.info().total_retrans
                conn.close()
            streams.append({"id": i + 2 if i else 1, "bytes": stream.bytes, "jitter": 0, "errors": 0, "packets": 0,
                            "retransmits": stream.retransmits if self.reverse else -1, "start_time": 0, "end_time": seconds})
        return {"cpu_util_total": 0, "cpu_util_user": 0, "cpu_util_system": 0, "sender_has_retransmits": int(self.reverse),
                "streams": streams}


class Iperf3(Handler):
    """One test at a time, like iperf3's own server."""

    def __init__(self) -> None:
        self.test: _Test | None = None
        self.control: _Opening | None = None

    def tcp_accepted(self, conn: Connection) -> None:
        conn.context = _Opening(conn)
        conn.context.begin(self._steps(conn.context))

    def tcp_payload(self, conn: Connection, data: Payload) -> None:
        who = conn.context
        n = len(data)
        if isinstance(who, _Stream):
            who.bytes += n
        else:
            try:
                who.receive(data)
            except _Wrong:
                conn.abort()
                return
        conn.consume(n)

    def tcp_acked(self, conn: Connection, n: int) -> None:
        who = conn.context
        if isinstance(who, _Opening):
            who.flush()
        elif who.test.reverse:
            who.test.fill(conn)

    def tcp_shutdown(self, conn: Connection) -> None:
        conn.close()

    def tcp_closed(self, conn: Connection, reason: Reason) -> None:
        if isinstance(conn.context, _Stream):
            conn.context.closed = True
        elif conn.context is self.control:  # the client went away, or is done
            test, self.test, self.control = self.test, None, None
            for stream in test.streams if test is not None else ():
                stream.abort()

    def _steps(self, who: _Opening) -> Steps:
        cookie = yield COOKIE
        if self.test is None:
            yield from self._test(who, cookie)
        elif cookie == self.test.cookie and len(self.test.streams) < self.test.expected:
            self._stream(who.conn, self.test)
        else:
            who.say(bytes([ACCESS_DENIED]))
            who.close()

    def _stream(self, conn: Connection, test: _Test) -> None:
        assert self.control is not None
        conn.context = _Stream(test)
        test.streams.append(conn)
        if len(test.streams) == test.expected:
            self.control.say(bytes([TEST_START, TEST_RUNNING]))
            test.start()

    def _test(self, who: _Opening, cookie: bytes) -> Steps:
        test = self.test = _Test(cookie)
        self.control = who
        who.conn.nodelay = True
        who.say(bytes([PARAM_EXCHANGE]))
        if not test.configure((yield from _json())):
            who.say(struct.pack(">Bii", SERVER_ERROR, NOT_SUPPORTED, 0))
            who.close()
            return
        who.say(bytes([CREATE_STREAMS]))
        if (yield 1)[0] == TEST_END:
            results = json.dumps(test.finish()).encode()
            who.say(bytes([EXCHANGE_RESULTS]))
            yield from _json()
            who.say(struct.pack(">I", len(results)) + results + bytes([DISPLAY_RESULTS]))
            yield 1
        who.close()


def _json() -> Generator[int, bytes, Any]:
    n = int.from_bytes((yield 4), "big")
    if not 0 < n <= LARGEST:
        raise _Wrong
    text = yield n
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:     # no JSON, or brackets in brackets without end
        raise _Wrong from error
