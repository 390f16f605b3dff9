"""Engines and applications in threads, under every model: the same application, the same result, no packet lost."""
import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

import iip
from iip.apps import bench
from iip.apps.echo import Echo
from iip.drivers import MemoryLink, PythonDriver
from iip.memory.pool import PacketPool
from iip.runtime.threads import MODELS, Threads

COMMON = {"medium": "ip", "address_check": False, "link_local": False, "max_connections": 64}
SERVER, CLIENT = "10.0.0.2", "10.0.0.1"


def until(condition, seconds=10):
    """Wait for other threads."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


class Sender(iip.Handler):
    """Sends data, and notes what comes back and how each connection ends."""

    def __init__(self, data, close=True):
        self.data, self.close = data, close
        self.received, self.sent, self.reasons, self.conns = {}, {}, [], []

    def tcp_connected(self, conn):
        self.conns.append(conn)
        self.received[conn], self.sent[conn] = bytearray(), 0
        self._go_on(conn)

    def tcp_acked(self, conn, n):
        self._go_on(conn)

    def _go_on(self, conn):
        if self.sent[conn] < len(self.data):
            self.sent[conn] += conn.send(memoryview(self.data)[self.sent[conn]:])

    def tcp_payload(self, conn, data):
        self.received[conn] += bytes(data)
        conn.consume(len(data))
        if self.close and len(self.received[conn]) == len(self.data):
            conn.close()

    def tcp_closed(self, conn, reason):
        self.reasons.append(reason)


class World:
    """A client engine, which runs in the server's network thread, and a server under the model."""

    def __init__(self, server, client, model, pool=None, settings=None, **options):
        link = self.link = MemoryLink(tso=True)
        self.pool = PacketPool(2048, 2048) if pool is None else pool
        self.client = iip.Engine(iip.Config(addresses=(f"{CLIENT}/24",), **COMMON), client, link.a, self.pool, seed=1)
        self.threads = Threads(model, **options)
        config = iip.Config(addresses=(f"{SERVER}/24",), **COMMON, **(settings or {}))
        self.member = self.threads.add(config, server, link.b, pool=self.pool, seed=2, peer=self.client, name="test")
        self.server = self.member.application
        self.server.tcp_listen(7)

    def __enter__(self):
        self.threads.start()
        return self

    def __exit__(self, *exc):
        try:
            self.threads.stop()
        finally:
            self.client.close()
            self.link.close()

    def at_client(self, function, *arguments):
        """Call it in the thread of the engines; its result."""
        result = []
        self.member.network_loop.call(lambda: result.append(function(*arguments)))
        until(lambda: result)
        return result[0]

    def connect(self, n=1):
        for _ in range(n):
            self.at_client(self.client.tcp_connect, SERVER, 7)


@pytest.mark.parametrize("idle", ["sleep", "spin-then-sleep"])
@pytest.mark.parametrize("server", [bench.PingPongServer, Echo])
@pytest.mark.parametrize("model", MODELS)
def test_the_same_application_under_every_model(model, server, idle):
    data = bytes(range(256)) * 600
    client = Sender(data)
    with World(Echo() if server is Echo else bench.PingPongServer(), client, model, idle=idle) as world:
        if server is bench.PingPongServer:
            client.data = data[:1000]     # it does not keep what a send buffer did not take
        world.connect(5)
        until(lambda: len(client.reasons) == 5)
        assert set(client.reasons) == {iip.Reason.NORMAL}
        assert all(bytes(got) == client.data for got in client.received.values())
        assert world.threads.error is None
    assert world.pool.full


def test_a_handler_with_a_clock_does_not_sleep_over_what_an_answer_made_due():
    """The connection is free again after the engines ran, and a request is due: no timer of TCP's need go off for it."""
    client = bench.PingPongClient(1, 1, rate=20_000)
    with World(bench.PingPongServer(), client, "unified", idle="sleep") as world:
        conns = world.at_client(world.client.connect_many, SERVER, 7, 1)
        until(lambda: client.connected)
        world.at_client(client.launch, world.client, conns)
        until(lambda: client.transactions > 1000)     # with a delayed ACK's 40 ms for each it takes 40 s
        world.at_client(client.finish, world.client)
        until(lambda: client.closed)
    assert world.pool.full


@pytest.mark.parametrize("model", ["merge", "split"])
def test_a_refused_connection_is_reset_before_it_opens(model):
    class Choosy(iip.Handler):
        def tcp_accept(self, syn):
            return syn.remote_port % 2 == 0

    client = Sender(b"")
    with World(Choosy(), client, model) as world:
        for port in (1001, 1002):
            world.at_client(lambda p=port: world.client.tcp_connect(SERVER, 7, source_port=p))
        until(lambda: client.reasons and client.conns)
        assert client.reasons == [iip.Reason.REFUSED] and client.conns[0].local[1] == 1002
    assert world.pool.full


def test_connections_that_the_application_opens():
    """It has the connection object at once; a port where nobody listens, and an address without a route, end it."""
    client = Sender(b"x" * 5000)
    link, pool = MemoryLink(), PacketPool(1024, 2048)
    peer = iip.Engine(iip.Config(addresses=(f"{SERVER}/24",), **COMMON), bench.PingPongServer(), link.b, pool, seed=1)
    peer.tcp_listen(7)
    threads = Threads("split", idle="sleep")
    member = threads.add(iip.Config(addresses=(f"{CLIENT}/24",), **COMMON), client, link.a, pool=pool, peer=peer)
    first = member.application.tcp_connect(SERVER, 7)
    first.context = "kept"
    with threads:
        until(lambda: client.reasons)
        assert bytes(client.received[first]) == client.data and client.conns[0].context == "kept" and first.closed
        member.call(member.application.tcp_connect, SERVER, 8)
        member.call(member.application.tcp_connect, "fd00::1", 7)
        until(lambda: len(client.reasons) == 3)
        assert sorted(client.reasons) == sorted([iip.Reason.NORMAL, iip.Reason.REFUSED, iip.Reason.UNREACHABLE])
        for _ in range(20):               # names are used again
            member.call(member.application.tcp_connect, SERVER, 7)
        until(lambda: client.reasons.count(iip.Reason.NORMAL) == 21)
    peer.close()
    link.close()
    assert pool.full and member.application.n_connections == 0


def test_received_bytes_that_are_kept_hold_their_packets_until_they_are_dropped():
    class Keeper(iip.Handler):
        def __init__(self):
            self.kept = []

        def tcp_payload(self, conn, data):
            self.kept.append(data)
            conn.consume(len(data))

    keeper, client = Keeper(), Sender(b"0123456789" * 1000, close=False)
    with World(keeper, client, "split") as world:
        world.connect()
        until(lambda: sum(map(len, keeper.kept)) == len(client.data))
        assert b"".join(map(bytes, keeper.kept)) == client.data
        keeper.kept.clear()
    assert world.pool.full


def test_datagrams():
    class Answer(iip.Handler):
        def udp_payload(self, datagram):
            world.server.udp_send(bytes(datagram.data)[::-1], datagram.source, datagram.source_port, datagram.destination_port)

    class Listen(iip.Handler):
        def __init__(self):
            self.got = []

        def udp_payload(self, datagram):
            self.got.append(bytes(datagram.data))

    client = Listen()
    with World(Answer(), client, "split") as world:
        world.member.call(world.server.udp_bind, 9)
        world.at_client(world.client.udp_bind, 5000)
        until(lambda: world.at_client(world.client.udp_send, b"abc", SERVER, 9, 5000) and (time.sleep(0.01) or client.got))
        assert client.got[0] == b"cba"
        with pytest.raises(ValueError, match="packet_size"):
            world.server.udp_send(bytes(3000), CLIENT, 5000, 9)
    assert world.pool.full


# -- faults ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("model", ["merge", "split"])
def test_an_application_thread_that_dies(model):
    """Its peers are reset, who comes later is refused, and the error is told."""
    class Dies(iip.Handler):
        def tcp_payload(self, conn, data):
            raise ZeroDivisionError("on purpose")

    client = Sender(b"x" * 100_000)
    world = World(Dies(), client, model)
    with pytest.raises(ZeroDivisionError, match="on purpose"), world:
        world.connect(3)
        until(lambda: len(client.reasons) == 3)
        assert set(client.reasons) == {iip.Reason.RESET} and world.threads.wait(5)
        assert isinstance(world.threads.error, ZeroDivisionError)
        world.connect()
        until(lambda: len(client.reasons) == 4)
        assert client.reasons[3] == iip.Reason.REFUSED
        assert world.member.stats()["connections_aborted"] == 3
    world.member.error.__traceback__ = None       # its frames have the payload
    assert world.pool.full


def test_an_application_that_stops_reading():
    """After the patience its connections are reset; when it reads again it learns that it was given up."""
    release = threading.Event()

    class Stands(iip.Handler):
        def tcp_payload(self, conn, data):
            release.wait(20)

    client = Sender(b"x" * 3000)
    world = World(Stands(), client, "split", patience=0.2, idle="sleep")
    with pytest.raises(iip.IipError, match="given up"), world:
        world.connect(2)
        until(lambda: len(client.reasons) == 2)
        # the second may have come when the first had stopped everything
        assert client.reasons[0] == iip.Reason.RESET and client.reasons[1] in (iip.Reason.RESET, iip.Reason.REFUSED)
        assert world.member.stats()["given_up"] == 1
        assert isinstance(world.threads.error, iip.IipError)
        release.set()
        until(lambda: world.threads.wait(0))
    assert world.pool.full


def test_more_events_than_the_ring_holds_wait_in_the_engine():
    """An application that is slow is not an error: what happens meanwhile waits, and nothing is lost."""
    release = threading.Event()

    class Slow(iip.Handler):
        def __init__(self):
            self.got = self.ended = 0

        def tcp_payload(self, conn, data):
            release.wait(20)
            self.got += len(data)
            conn.consume(len(data))

        def tcp_shutdown(self, conn):
            self.ended += 1
            conn.close()

    class Many(Sender):
        def tcp_acked(self, conn, n):
            super().tcp_acked(conn, n)
            if self.sent[conn] == len(self.data) > 0:
                conn.shutdown()

    server, client = Slow(), Many(b"")
    world = World(server, client, "split", PacketPool(1 << 15, 512), {"mss": 100}, patience=0, idle="sleep", ring=4096)
    with world:
        world.connect(8)
        until(lambda: len(client.conns) == 8)
        client.data = b"x" * 100_000
        world.at_client(lambda: [client._go_on(conn) for conn in client.conns])
        until(lambda: world.member.stats()["stalls"])
        release.set()
        until(lambda: len(client.reasons) == server.ended == 8)
        assert server.got == 800_000 and set(client.reasons) == {iip.Reason.NORMAL}
        assert world.member.stats()["events_lost"] == 0 and world.threads.error is None
    assert world.pool.full


def test_a_send_that_came_short_goes_on_when_there_are_packets_again():
    """Nothing of its own is on the way that could wake the application, and it sleeps."""
    class Pours(Sender):
        tcp_accepted = Sender.tcp_connected

    server, client = Pours(bytes(range(256)) * 1000), Sender(b"", close=False)
    with World(server, client, "split", PacketPool(512, 2048), idle="sleep", stock=16) as world:
        held = world.at_client(lambda: [world.pool.alloc() for _ in range(world.pool.free_packets - 40)])
        world.connect()
        sent, received = server.sent.values, client.received.values
        until(lambda: any(sent()) and sum(map(len, received())) == sum(sent()))
        time.sleep(0.05)
        assert sum(map(len, received())) == sum(sent()) < len(server.data)
        world.at_client(lambda: [world.pool.free(packet) for packet in held])
        until(lambda: sum(map(len, received())) == len(server.data))
        assert [bytes(got) for got in received()] == [server.data]
    assert world.pool.full


def test_a_driver_that_fails_ends_both_threads():
    class Broken(PythonDriver):
        def receive(self, now, limit):
            raise iip.DriverError("the device is gone")

    threads = Threads("split", idle="sleep")
    member = threads.add(iip.Config(addresses=("10.0.0.1/24",), **COMMON), Echo(), Broken(medium="ip"))
    with pytest.raises(iip.DriverError, match="gone"), threads:
        until(lambda: not any(thread.is_alive() for thread in member.threads))
    assert member.engine.pool.full


def test_a_callback_that_never_returns_does_not_hang_the_end():
    release = threading.Event()

    class Stuck(iip.Handler):
        def tcp_accepted(self, conn):
            release.wait(30)

    world = World(Stuck(), Sender(b""), "split", patience=0, idle="sleep")
    with pytest.raises(iip.IipError, match="does not return"), world:
        world.connect()
        time.sleep(0.05)
    release.set()


# -- settings, names, cores, sleep -----------------------------------------------------------------------------------

def test_settings_are_checked():
    for wrong, name in (({"model": "both"}, "model"), ({"patience": -1}, "patience")):
        with pytest.raises(iip.ConfigError, match=name):
            Threads(**wrong)
    config = iip.Config(addresses=("10.0.0.1/24",), **COMMON)
    for wrong, name in (({"idle": "never"}, "idle"), ({"spin": 2}, "spin"), ({"ring": 1000}, "ring"), ({"stock": 5}, "stock")):
        threads = Threads("split", **wrong)
        with pytest.raises(iip.ConfigError, match=name):
            threads.add(config, Echo(), MemoryLink().a)
            threads.start()
    with pytest.raises(iip.ConfigError, match="cores"):
        Threads("split").add(config, Echo(), MemoryLink().a, cores=(0,))
    with pytest.raises(iip.ConfigError, match="tcp_events"):
        Threads("split").add(config, type("Batches", (), {"tcp_events": lambda self, batch: None})(), MemoryLink().a)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux's /proc")
def test_threads_are_named_and_pinned_and_sleep():
    core = min(os.sched_getaffinity(0))
    link = MemoryLink()
    threads = Threads("split", idle="sleep")
    member = threads.add(iip.Config(addresses=("10.0.0.1/24",), **COMMON), Echo(), link.a, cores=(core, core), name="web")
    with threads:
        def tasks():
            return {Path(f"/proc/self/task/{t}/comm").read_text().strip(): int(t) for t in os.listdir("/proc/self/task")}
        until(lambda: {"web-net", "web-app"} <= set(tasks()))
        until(lambda: all(os.sched_getaffinity(tasks()[name]) == {core} for name in ("web-net", "web-app")))
        until(lambda: member.stats()["network_sleeps"] > 1)
        before = member.stats()
        time.sleep(0.3)
        after = member.stats()
        assert after["network_rounds"] - before["network_rounds"] < 50
        assert after["application_rounds"] - before["application_rounds"] < 50


def test_what_threads_share_lies_on_cache_lines_of_its_own():
    from iip.runtime.channel import Link

    lines, words = Link().layout()
    assert lines == {"start": 0, "tell": 64, "ask": 32, "tells_data": 0, "asks_data": 0, "stock_data": 0}
    places = sorted(words.values())
    assert all(b - a >= 128 for a, b in pairwise(places)), words
