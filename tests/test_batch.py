"""Events in batches: what is in them, in which order, how long it may be looked at, and what the calls for many do."""
import gc
import weakref

import numpy as np
import pytest

import iip
from iip import Event, Reason
from iip.batch import EVENT
from iip.drivers import MemoryLink


class Recorder(iip.Handler):
    """Keeps a copy of each batch; `on` does the work of the test."""

    def __init__(self, on=None):
        self.batches = []
        self.on = on or (lambda batch: batch.consume())

    def tcp_events(self, batch):
        self.batches.append(batch.events.copy())
        self.on(batch)

    def take(self):
        rows = np.concatenate([np.empty(0, EVENT), *self.batches])
        self.batches.clear()
        return rows

    def kinds(self):
        return [Event(kind) for kind in self.take()["kind"]]


class PerEvent(iip.Handler):
    """The same by single callbacks."""

    def __init__(self):
        self.log = []

    def tcp_accepted(self, conn):
        self.log.append((conn.handle, Event.ACCEPTED, 0, 0))

    def tcp_payload(self, conn, data):
        self.log.append((conn.handle, Event.PAYLOAD, len(data), 0))
        conn.consume(len(data))
        conn.send(data)

    def tcp_acked(self, conn, n):
        self.log.append((conn.handle, Event.ACKED, n, 0))

    def tcp_shutdown(self, conn):
        self.log.append((conn.handle, Event.SHUTDOWN, 0, 0))
        conn.close()

    def tcp_closed(self, conn, reason):
        self.log.append((conn.handle, Event.CLOSED, 0, reason))


class Pair:
    def __init__(self, client, server, *, packets=4096, link=None, **settings):
        self.pool = iip.PacketPool(packets, views=4 * packets)
        self.now = 10**9
        self.link = link or MemoryLink()
        config = {"max_connections": 64, "time_wait": 0.01, **settings}
        self.a, self.b = (
            iip.Engine(iip.Config(addresses=(f"10.0.0.{i}/24",), **config), handler, end, self.pool, seed=i)
            for i, handler, end in ((1, client, self.link.a), (2, server, self.link.b)))
        self.b.tcp_listen(7)

    def run(self, rounds=4, step=10_000):
        for _ in range(rounds):
            self.a.run(self.now)
            self.b.run(self.now)
            self.now += step

    def settle(self):
        """Long enough for delayed ACKs and Nagle's algorithm."""
        self.run(20, 100_000_000)

    def open(self, n=1):
        conns = self.a.connect_many("10.0.0.2", 7, n)
        self.run()
        return conns


@pytest.fixture
def make():
    pairs = []

    def make(client=None, server=None, **settings):
        pairs.append(Pair(client or Recorder(), server or Recorder(), **settings))
        return pairs[-1]

    yield make
    for pair in pairs:
        pair.a.close()
        pair.b.close()
        pair.link.close()
        gc.collect()
        assert pair.pool.full


def handlers(pair):
    return pair.a.handler, pair.b.handler


def test_a_connection_from_beginning_to_end(make):
    pair = make(server=Recorder(lambda batch: (batch.consume(), batch.send())))
    client, server = handlers(pair)
    conns = pair.open()
    assert client.kinds() == [Event.CONNECTED] and server.kinds() == [Event.ACCEPTED]
    assert list(pair.a.send_many(conns, b"hello")) == [5]
    pair.settle()
    rows = server.take()
    assert rows["kind"].tolist() == [Event.PAYLOAD, Event.ACKED] and rows["n"].tolist() == [5, 5]
    rows = client.take()
    assert rows["kind"].tolist() == [Event.ACKED, Event.PAYLOAD] and rows["n"].tolist() == [5, 5]
    assert (rows["conn"] == conns[0]).all()
    pair.a.close_many(conns)
    pair.run()
    assert server.kinds() == [Event.SHUTDOWN]
    pair.b.close_many(pair.b.connections()["handle"])
    pair.run()
    for handler in (server, client):
        rows = handler.take()
        assert rows["kind"].tolist() == [Event.CLOSED] and rows["reason"].tolist() == [Reason.NORMAL]


def test_the_same_events_in_the_same_order_as_by_single_callbacks(make):
    """Between engines of the same seeds, one event a row."""
    def echo(batch):
        batch.consume()
        batch.send()
        batch.engine.close_many(batch.rows(Event.SHUTDOWN)["conn"])

    logs = []
    for server in (PerEvent(), Recorder(echo)):
        pair = make(server=server)
        conns = pair.open(20)
        for size in (1, 100, 5000, 20_000):
            pair.a.send_many(conns[::3], bytes(size))
            pair.run(6)
        pair.a.close_many(conns[:10])
        pair.a.close_many(conns[10:15], abort=True)
        pair.run(8)
        logs.append(server.log if isinstance(server, PerEvent)
                    else server.take()[["conn", "kind", "n", "reason"]].tolist())
    assert len(logs[0]) > 100 and logs[0] == logs[1]


def test_bytes_of_payloads(make):
    """By row, as one array over the pool's memory, and by selection."""
    seen = []

    def on(batch):
        for row in batch.payloads:
            data = bytes(batch.payload(row["index"]))
            seen.append(data)
            assert bytes(batch.memory[row["at"]:row["at"] + row["n"]]) == data
        first = batch.memory[batch.payloads["at"]]
        assert first.tolist() == [data[0] for data in seen[-len(first):] if len(first)]
        batch.consume(batch.payloads[batch.payloads["n"] > 3])

    pair = make(server=Recorder(on))
    conns = pair.open(3)
    assert pair.a.send_many(conns, [b"one", b"three", memoryview(b"seven")]).tolist() == [3, 5, 5]
    pair.run()
    assert seen == [b"one", b"three", b"seven"]
    assert sorted(pair.b.connections()["rcv_buffered"]) == [0, 0, 3]


def test_a_payload_may_be_kept_and_rows_may_not(make):
    kept = []

    def on(batch):
        batch.consume()
        kept.extend((batch, batch.payload(row["index"])) for row in batch.payloads)

    pair = make(server=Recorder(on))
    conns = pair.open()
    for data in (b"first", b"again"):
        pair.a.send_many(conns, data)
        pair.run()
    (batch, first), (same, again) = kept
    assert batch is same and len(batch) == 0 and batch.engine is None
    assert bytes(first) == b"first" and bytes(again) == b"again"
    for call in (lambda: batch.payload(0), lambda: batch.send(np.zeros(1, EVENT))):
        with pytest.raises(IndexError, match="index"):
            call()
    with pytest.raises(ValueError, match="during"):
        batch.memory  # noqa: B018
    assert not pair.pool.full
    kept.clear()


def test_only_rows_with_payload_have_bytes(make):
    errors = []

    def on(batch):
        for index in (0, -1, len(batch), 2**40):
            try:
                batch.payload(index)
            except IndexError as error:
                errors.append(str(error))
        with pytest.raises(ValueError):
            batch.events["n"] = 7

    pair = make(server=Recorder(on))
    pair.open()
    assert len(errors) == 4


def test_exceptions_come_out_of_run_and_nothing_is_lost(make):
    def fail(batch):
        raise RuntimeError("boom")

    pair = make(server=Recorder(fail))
    _, server = handlers(pair)
    with pytest.raises(RuntimeError, match="boom"):
        pair.open()
    server.on = lambda batch: (batch.consume(), batch.send())
    pair.run()
    assert server.kinds() == [Event.ACCEPTED]
    server.on = fail
    pair.a.send_many(pair.a.connections()["handle"], b"x")
    pair.a.run(pair.now)
    with pytest.raises(RuntimeError, match="boom"):
        pair.b.run(pair.now)
    server.on = lambda batch: (batch.consume(), batch.send())
    pair.a.send_many(pair.a.connections()["handle"], b"y")
    pair.settle()
    assert pair.b.connections()["bytes_received"].tolist() == [2]
    assert pair.a.connections()["bytes_received"].tolist() == [1]


def test_more_events_than_a_batch_has_rows(make):
    """They come in several batches of one run, in order, and every byte once."""
    data = []

    def on(batch):
        data.extend(bytes(batch.payload(row["index"])) for row in batch.payloads)
        batch.consume()

    pair = make(server=Recorder(on), max_connections=1500, max_half_open=1500, burst=1024, packets=16384)
    _, server = handlers(pair)
    conns = pair.open(1200)
    pair.run(8)
    assert len(server.take()) == 1200
    assert pair.a.send_many(conns[:600], b"abc").sum() == 1800
    pair.a.run(pair.now)
    pair.a.close_many(conns[:600])
    pair.a.run(pair.now)
    pair.a.send_many(conns[600:], b"de")
    pair.b.run(pair.now)
    pair.a.run(pair.now)
    pair.run(8)
    assert sorted(data) == [b"abc"] * 600 + [b"de"] * 600
    rows = server.take()
    assert (rows["kind"] == Event.SHUTDOWN).sum() == 600


def test_what_the_application_causes_comes_in_the_same_run(make):
    def on(batch):
        batch.engine.close_many(batch.payloads["conn"], abort=True)

    pair = make(server=Recorder(on))
    client, server = handlers(pair)
    conns = pair.open(2)
    client.take(), server.take()
    pair.a.send_many(conns, b"x")
    pair.a.run(pair.now)
    pair.b.run(pair.now)
    rows = server.take()
    assert rows["kind"].tolist() == [Event.PAYLOAD] * 2 + [Event.CLOSED] * 2
    assert (rows["reason"][2:] == Reason.ABORTED).all()
    pair.run()
    rows = client.take()
    assert rows["kind"].tolist() == [Event.CLOSED] * 2 and (rows["reason"] == Reason.RESET).all()


def test_words_of_connections_come_with_their_events(make):
    pair = make()
    client, _ = handlers(pair)
    conns = pair.open(3)
    pair.a.set_users(conns, [-2**63, 5, 2**63 - 1])
    client.take()
    pair.a.close_many(conns, abort=True)
    pair.a.run(pair.now)
    assert client.take()["user"].tolist() == [-2**63, 5, 2**63 - 1]


def test_calls_for_connections_that_are_gone(make):
    pair = make()
    conns = pair.open(3)
    pair.a.close_many(conns[:1], abort=True)
    pair.run()
    pair.a.close_many(conns[1:2])
    assert pair.a.send_many(conns, b"abc").tolist() == [-1, -1, 3]
    assert pair.a.send_many(conns, [b"a", b"b", b""]).tolist() == [-1, -1, 0]
    pair.a.consume_many(conns, 1)
    pair.a.set_users(conns, np.arange(3))
    pair.a.close_many(conns)
    with pytest.raises(iip.ConnectionGone):
        pair.a.connection(conns[0])


@pytest.mark.parametrize("call", [
    lambda e, c: e.send_many(c, [b"x"]), lambda e, c: e.consume_many(c, np.ones(3, int)), lambda e, c: e.set_users(c, [1])])
def test_numbers_that_do_not_match_are_refused(make, call):
    pair = make()
    with pytest.raises(ValueError, match=r"for 2 connections"):
        call(pair.a, pair.open(2))


def test_consuming_opens_windows(make):
    pair = make(server=Recorder(lambda batch: None), receive_buffer=10_000)
    conns = pair.open(2)
    pair.a.send_many(conns, bytes(40_000))
    pair.settle()
    full, same = pair.b.connections()["rcv_buffered"].tolist()
    assert 8_000 < full <= 10_000 and same == full
    pair.b.consume_many(pair.b.connections()["handle"], np.array([full, 4_000]))
    assert pair.b.connections()["rcv_buffered"].tolist() == [0, full - 4_000]
    pair.settle()
    one, two = pair.b.connections()["bytes_received"].tolist()
    assert 2 * full - 1460 < one <= full + 10_000 and full + 2_000 < two <= 14_000


def test_long_bytes_for_all_are_lent_once(make):
    """And what arrives lies in the sender's memory: no place in the pool, but bytes all the same."""
    seen = []

    def on(batch):
        rows = batch.payloads
        seen.extend((int(row["at"]), bytes(batch.payload(row["index"]))) for row in rows)
        batch.consume(rows)
        batch.send(rows)

    pair = make(server=Recorder(on))
    conns = pair.open(2)
    data = bytes(range(256)) * 40
    assert pair.a.send_many(conns, data).tolist() == [len(data)] * 2
    pair.run(8)
    assert sorted(b"".join(piece for _at, piece in seen)) == sorted(data * 2)
    assert sum(at == -1 for at, _piece in seen) > 0
    assert pair.a.connections()["bytes_received"].tolist() == [len(data)] * 2


def test_sending_to_other_connections(make):
    """A relay: what comes from one goes to another."""
    other = {}

    def on(batch):
        accepted = batch.rows(Event.ACCEPTED)["conn"]
        if len(accepted):
            other.update({int(accepted[0]): accepted[1], int(accepted[1]): accepted[0]})
        rows = batch.payloads
        batch.consume()
        assert batch.send(rows, to=np.array([other[int(c)] for c in rows["conn"]], np.uint64)).tolist() == rows["n"].tolist()
        with pytest.raises(ValueError, match="connections for"):
            batch.send(rows, to=np.zeros(len(rows) + 1, np.uint64))

    got = {}

    def client(batch):
        got.update({int(row["conn"]): bytes(batch.payload(row["index"])) for row in batch.payloads})
        batch.consume()

    pair = make(Recorder(client), Recorder(on))
    one, two = pair.open(2)
    pair.a.send_many(np.array([one, two]), [b"to two", b"to one"])
    pair.run()
    assert got == {int(one): b"to one", int(two): b"to two"}


def test_pool_at_its_end(make):
    """A send comes short and an event of 0 bytes says when there is memory again."""
    pair = make(packets=256, max_connections=64, send_buffer=1 << 20, receive_buffer=1 << 20)
    client, _ = handlers(pair)
    conns = pair.open(8)
    client.take()
    taken = pair.a.send_many(conns, bytearray(200_000))
    assert 0 < taken.sum() < 8 * 200_000
    pair.settle()
    rows = client.take()
    acked = rows[rows["kind"] == Event.ACKED]
    assert acked["n"].sum() == taken.sum()
    assert pair.b.connections()["bytes_received"].sum() == taken.sum()


def test_connections_run_out(make):
    pair = make(max_connections=8)
    assert len(pair.a.connect_many("10.0.0.2", 7, 20)) == 8
    with pytest.raises(iip.Exhausted, match="max_connections"):
        pair.a.connect_many("10.0.0.2", 7, 1)


def test_kinds_that_are_not_wanted_do_the_default(make):
    class Closed(Recorder):
        tcp_event_kinds = (Event.CLOSED,)

    pair = make(Recorder(), Closed())
    conns = pair.open(2)
    pair.a.send_many(conns, b"x")
    pair.settle()
    assert pair.b.connections()["rcv_buffered"].tolist() == [0, 0]
    pair.a.close_many(conns)
    pair.settle()
    client, server = handlers(pair)
    assert server.kinds() == [Event.CLOSED] * 2
    assert client.kinds()[-2:] == [Event.CLOSED] * 2 and pair.a.n_connections == 0


def test_kinds_that_do_not_exist_are_refused():
    class Wrong(Recorder):
        tcp_event_kinds = (1, 7)

    with pytest.raises(iip.ConfigError, match="tcp_event_kinds has 7"):
        iip.Engine(iip.Config(addresses=("10.0.0.1/24",)), Wrong(), MemoryLink().a)


def test_accept_is_still_asked_one_by_one(make):
    class Choosy(Recorder):
        def tcp_accept(self, syn):
            return syn.remote_port % 2 == 0

    pair = make(server=Choosy())
    client, server = handlers(pair)
    pair.open(30)
    accepted, rows = len(server.take()), client.take()
    assert 0 < accepted < 30
    assert (rows["kind"] == Event.CONNECTED).sum() == accepted
    assert (rows["reason"][rows["kind"] == Event.CLOSED] == Reason.REFUSED).all()


def test_objects_of_connections(make):
    pair = make()
    conn = pair.a.tcp_connect("10.0.0.2", 7)
    pair.run()
    assert pair.a.connection(conn.handle) is conn
    assert pair.a.connection(np.uint64(conn.handle)) is conn
    handle = int(pair.b.connections()["handle"][0])
    theirs = pair.b.connection(handle)
    assert theirs.handle == handle and theirs.remote[1] == conn.local[1]
    conn.context = mark = Recorder()
    mark = weakref.ref(mark)
    conn.abort()
    pair.run()
    assert conn.closed and theirs.closed
    del conn
    assert mark() is None


def test_both_forms_at_once_are_refused():
    class Both(iip.Handler):
        def tcp_events(self, batch):
            pass

        def tcp_payload(self, conn, data):
            pass

    with pytest.raises(iip.ConfigError, match="tcp_payload"):
        iip.Engine(iip.Config(addresses=("10.0.0.1/24",)), Both(), MemoryLink().a)


def test_batches_are_not_made_by_hand():
    with pytest.raises(TypeError):
        iip.Batch()
