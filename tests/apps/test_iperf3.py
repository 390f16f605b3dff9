"""The control connection of `iip serve --iperf3`, in virtual time: what is no iperf3, and tests that end early."""
import json
import struct

import pytest

import iip
from iip.apps.iperf3 import ACCESS_DENIED, CREATE_STREAMS, LARGEST, PARAM_EXCHANGE, SERVER_ERROR, TEST_END, TEST_START, Iperf3
from tests.apps.wire import Collector, Wire

COOKIE, OTHER = b"a" * 37, b"b" * 37


class Client(Collector):
    """What came on each connection."""

    def __init__(self):
        super().__init__()
        self.by_conn = {}
        self.closed = {}

    def tcp_payload(self, conn, data):
        self.by_conn[conn] = self.by_conn.get(conn, b"") + bytes(data)
        conn.consume(len(data))

    def tcp_shutdown(self, conn):
        conn.close()

    def tcp_closed(self, conn, reason):
        self.closed[conn] = reason


def text(**parameters):
    encoded = json.dumps(parameters).encode()
    return struct.pack(">I", len(encoded)) + encoded


class World:
    def __init__(self):
        self.app = Iperf3()
        self.seen = Client()
        self.wire = Wire(self.app, self.seen, time_wait=0)
        self.wire.server.tcp_listen(5201)

    def connect(self, *pieces):
        conn = self.wire.client.tcp_connect("10.0.0.2", 5201)
        for piece in pieces:
            conn.send(piece)
            self.wire.run(0.5)
        return conn

    def close(self):
        self.wire.client.abort_all()
        self.wire.run(1)
        assert self.app.test is None
        self.wire.close()


def test_a_test_with_pieces_in_odd_places():
    world = World()
    asked = text(tcp=True, parallel=2)
    control = world.connect(COOKIE[:10], COOKIE[10:] + asked[:3], asked[3:9], asked[9:])
    streams = [world.connect(COOKIE) for _ in range(2)]
    assert world.seen.by_conn[control][:2] == bytes([PARAM_EXCHANGE, CREATE_STREAMS])
    assert world.seen.by_conn[control][2] == TEST_START
    for i, conn in enumerate(streams):
        conn.send(bytes(1000 * (i + 1)))
    world.wire.run(0.5)
    control.send(bytes([TEST_END]) + text(streams=[]))
    world.wire.run(0.5)
    said = world.seen.by_conn[control][5:]
    results = json.loads(said[4:4 + struct.unpack(">I", said[:4])[0]])
    assert [(s["id"], s["bytes"]) for s in results["streams"]] == [(1, 1000), (3, 2000)]
    control.send(bytes([16]))
    world.wire.run(1)
    assert world.seen.closed[control] == iip.Reason.NORMAL
    world.close()


def test_one_at_a_time():
    world = World()
    first = world.connect(COOKIE)
    second = world.connect(OTHER)
    assert world.seen.by_conn[second] == bytes([ACCESS_DENIED])
    first.abort()
    world.wire.run(1)
    third = world.connect(OTHER)
    assert world.seen.by_conn[third] == bytes([PARAM_EXCHANGE])
    world.close()


@pytest.mark.parametrize("parameters", [{"udp": True}, {"tcp": True, "bidirectional": 1}])
def test_what_is_not_supported_is_said(parameters):
    world = World()
    control = world.connect(COOKIE, text(**parameters))
    assert world.seen.by_conn[control][1] == SERVER_ERROR and world.seen.closed[control] == iip.Reason.NORMAL
    world.close()


@pytest.mark.parametrize("wrong", [
    struct.pack(">I", LARGEST + 1), struct.pack(">I", 0), struct.pack(">I", 3) + b"{]}", struct.pack(">I", 2) + b"[]",
    struct.pack(">I", 2) + b"\xff\xff", struct.pack(">I", LARGEST) + b"[" * LARGEST,
    text(tcp=True, parallel=0), text(tcp=True, parallel="many"), text(tcp=True, parallel=1000)])
def test_who_speaks_something_else_is_reset(wrong):
    world = World()
    control = world.connect(COOKIE, wrong)
    assert world.seen.closed[control] == iip.Reason.RESET
    world.close()


def test_the_streams_of_a_client_that_vanishes_end():
    world = World()
    control = world.connect(COOKIE, text(tcp=True, reverse=True))
    stream = world.wire.client.tcp_connect("10.0.0.2", 5201)
    stream.send(COOKIE)
    world.wire.run(1, until=lambda: len(world.seen.by_conn.get(stream, b"")) > 100_000)
    control.abort()
    world.wire.run(1)
    assert stream in world.seen.closed
    world.close()
