"""Nothing stays behind a connection: no object, no packet, no memory."""
import gc
import os
import sys
import tracemalloc
import weakref

import pytest

import iip
from iip.drivers import MemoryLink, Tunnel

ADDRESSES = ("10.0.0.1", "10.0.0.2")


class Mark:
    """What a connection carries as its `context`: it goes with the connection object."""


class Echo(iip.Handler):
    def __init__(self):
        self.conns = []
        self.reasons = []

    def tcp_accepted(self, conn):
        conn.context = Mark()
        self.conns.append(weakref.ref(conn.context))

    tcp_connected = tcp_accepted

    def tcp_payload(self, conn, data):
        conn.consume(len(data))
        conn.send(bytes(data))

    def tcp_closed(self, conn, reason):
        self.reasons.append(reason)


class Client(Echo):
    def __init__(self, data=b"hello", end="close"):
        super().__init__()
        self.data = data
        self.end = end

    def tcp_connected(self, conn):
        self.tcp_accepted(conn)
        conn.send(self.data)

    def tcp_payload(self, conn, data):
        conn.consume(len(data))
        getattr(conn, self.end)()


class Pair:
    def __init__(self, client, server, **settings):
        link = MemoryLink()
        self.now = 10**9
        self.engines = [
            iip.Engine(iip.Config(addresses=(address + "/24",), medium="ip", time_wait=0.01, max_connections=16, pool_packets=256,
                                  **settings), handler, end, seed=5)
            for address, handler, end in zip(ADDRESSES, (client, server), (link.a, link.b), strict=True)]
        self.engines[1].tcp_listen(7)
        self.link = link

    def run(self, rounds=20):
        for _ in range(rounds):
            for engine in self.engines:
                engine.run(self.now)
            self.now += 5_000_000

    def close(self):
        for engine in self.engines:
            engine.close()
        self.link.close()
        for engine in self.engines:
            assert engine.pool.full


@pytest.mark.parametrize("end", ["close", "abort", "shutdown"])
def test_connection_objects_go_when_the_connection_is_over(end):
    client, server = Client(end=end), Echo()
    pair = Pair(client, server)
    for _ in range(5):
        pair.engines[0].tcp_connect("10.0.0.2", 7)
        pair.run()
    assert len(client.reasons) == len(server.reasons) == 5
    gc.collect()
    assert [r() for r in client.conns + server.conns] == [None] * 10
    assert [e.n_connections for e in pair.engines] == [0, 0]
    pair.close()


def test_a_kept_connection_object_is_only_an_object():
    client, server = Client(), Echo()
    pair = Pair(client, server)
    conn = pair.engines[0].tcp_connect("10.0.0.2", 7)
    pair.run()
    assert conn.closed and sys.getrefcount(conn) == 2
    with pytest.raises(iip.ConnectionGone):
        conn.send(b"x")
    pair.close()
    assert conn.state == iip.State.CLOSED


def test_handlers_and_engines_go_after_close():
    client, server = Client(), Echo()
    pair = Pair(client, server)
    pair.engines[0].tcp_connect("10.0.0.2", 7)
    pair.run(2)
    assert pair.engines[0].n_connections == 1
    refs = [weakref.ref(x) for x in (client, server, *client.conns, *server.conns) if not isinstance(x, weakref.ref)]
    refs += client.conns + server.conns
    pair.close()
    del pair, client, server
    gc.collect()
    assert [r() for r in refs] == [None] * len(refs)


def test_a_kept_payload_keeps_its_packet_and_nothing_else():
    kept = []

    class Keep(Echo):
        def tcp_payload(self, conn, data):
            conn.consume(len(data))
            kept.append((data, memoryview(data)[1:]))

    pair = Pair(Client(b"0123456789" * 30), Keep())
    pair.engines[0].tcp_connect("10.0.0.2", 7)
    pair.run()
    pool = pair.engines[1].pool
    for engine in pair.engines:
        engine.close()
    pair.link.close()
    assert len(kept) == 1 and not pool.full
    data, view = kept.pop()
    assert bytes(data) == b"0123456789" * 30
    del data
    assert bytes(view) == (b"0123456789" * 30)[1:] and not pool.full
    del view
    assert pool.full


def test_a_kept_payload_outlives_engine_and_pool():
    kept = []

    class Keep(Echo):
        def tcp_payload(self, conn, data):
            kept.append(data)

    pair = Pair(Client(b"still here"), Keep())
    pair.engines[0].tcp_connect("10.0.0.2", 7)
    pair.run()
    for engine in pair.engines:
        engine.close()
    del pair, engine
    gc.collect()
    assert bytes(kept[0]) == b"still here"


def test_keeping_payloads_needs_no_views():
    """They hold the bytes, not descriptors."""
    kept = []

    class Keep(Echo):
        def tcp_payload(self, conn, data):
            conn.consume(len(data))
            kept.append(data)
            conn.close()

    pair = Pair(Client(bytes(100)), Keep())
    views = pair.engines[1].pool.free_views
    for _ in range(40):
        pair.engines[0].tcp_connect("10.0.0.2", 7)
        pair.run(8)
    pair.run()
    assert len(kept) == 40 and pair.engines[1].pool.free_views >= views - 40
    kept.clear()
    pair.close()


def test_lent_data_is_given_back():
    data = os.urandom(60000)
    before = sys.getrefcount(data)
    pair = Pair(Client(data), Echo())
    pair.engines[0].tcp_connect("10.0.0.2", 7)
    pair.run(2)
    assert sys.getrefcount(data) > before + 1        # client.data and the queue
    pair.run(40)
    pair.close()
    del pair
    gc.collect()
    assert sys.getrefcount(data) == before


def test_callbacks_that_raise_leave_nothing():
    class Boom(Exception):
        pass

    class Raises(Client):
        def tcp_payload(self, conn, data):
            conn.abort()
            raise Boom

    refs = []
    client = Raises()
    pair = Pair(client, Echo())
    for _ in range(5):
        pair.engines[0].tcp_connect("10.0.0.2", 7)
        with pytest.raises(Boom) as caught:
            pair.run()
        refs.append(weakref.ref(caught.value))
        del caught
        pair.run()
    gc.collect()
    assert [r() for r in refs + client.conns] == [None] * 10
    pair.close()


def test_close_and_run_are_refused_inside_callbacks():
    errors = []

    class Wrong(iip.Handler):
        def udp_payload(self, datagram):
            for call in (engine.close, lambda: engine.run(2)):
                try:
                    call()
                except iip.IipError as error:
                    errors.append(str(error))

    tunnel = Tunnel()
    engine = iip.Engine(iip.Config(addresses=("10.0.0.2/24",), medium="ip"), Wrong(), tunnel)
    engine.udp_bind(7)
    assert engine.udp_send(b"x", "10.0.0.2", 7, 7)
    engine.run(1)
    engine.run(2)
    assert len(errors) == 2 and all("from a callback" in e for e in errors)
    engine.close()
    assert engine.pool.full


def test_time_never_goes_back():
    tunnel = Tunnel()
    engine = iip.Engine(iip.Config(addresses=("10.0.0.2/24",), medium="ip"), iip.Handler(), tunnel)
    engine.tcp_connect("10.0.0.9", 7)
    first = engine.run(10**9)
    assert engine.run(-5) == engine.run(0) == first
    assert engine.run(17 * 10**17) is not None       # decades later, at once
    engine.close()
    tunnel.close()
    assert engine.pool.full


@pytest.mark.skipif("IIP_SANITIZED" in os.environ, reason="measures memory")
def test_memory_stays_the_same_over_many_connections():
    pair = Pair(Client(bytes(5000)), Echo())

    def some(n):
        for _ in range(n):
            pair.engines[0].tcp_connect("10.0.0.2", 7)
            pair.run(6)
        pair.run()
        for engine in pair.engines:
            engine.handler.conns.clear()
            engine.handler.reasons.clear()
        gc.collect()

    some(50)
    tracemalloc.start()
    try:
        some(50)
        before = tracemalloc.get_traced_memory()[0]
        blocks = sys.getallocatedblocks()
        some(500)
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
        assert sys.getallocatedblocks() - blocks < 300
    finally:
        tracemalloc.stop()
    pair.close()
