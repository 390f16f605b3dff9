"""Spreading one device over several engines: each connection has one engine for life, also those that the engines open."""
import pytest

import iip
from iip.apps import bench
from iip.drivers import MemoryLink
from iip.runtime.steering import Steering
from iip.wire.toeplitz import symmetric_queue

QUEUES = 3


class Client(iip.Handler):
    def __init__(self):
        self.received, self.reasons = {}, []

    def tcp_connected(self, conn):
        conn.send(b"x" * 3000)

    def tcp_payload(self, conn, data):
        conn.consume(len(data))
        self.received[conn] = self.received.get(conn, 0) + len(data)

    def tcp_closed(self, conn, reason):
        self.reasons.append(reason)


@pytest.mark.parametrize("medium", ["ip", "ethernet"])
@pytest.mark.parametrize("net", ["10.0.0.{}/24", "fd00::{}/64"])
def test_connections_stay_with_their_engine(medium, net):
    ours, theirs = net.format(1), net.format(2)
    common = {"medium": medium, "address_check": False, "link_local": False, "neighbour_queue": 64}
    link = MemoryLink(medium, tso=False, checksum_offload=False)
    client = Client()
    far = iip.Engine(iip.Config(addresses=(theirs,), **common), client, link.b, seed=1)
    far.tcp_listen(80)
    steering = Steering(link.a, QUEUES)
    engines, clients = [], []
    for i, port in enumerate(steering.ports):
        clients.append(Client())
        config = iip.Config(addresses=(ours,), queue=i, queues=QUEUES, mac="02:00:00:00:00:01" if medium == "ethernet" else None,
                            **common)
        engines.append(iip.Engine(config, bench.PingPongServer(), port, seed=10 + i))
        engines[-1].tcp_listen(7)
    now = [1_000_000_000]

    def run(rounds=300):
        for _ in range(rounds):
            now[0] += 100_000
            far.run(now[0])
            steering.poll(now[0])
            for engine in engines:
                engine.run(now[0])

    conns = [far.tcp_connect(ours.split("/")[0], 7) for _ in range(60)]
    run()
    assert all(client.received.get(conn) == 3000 for conn in conns)
    at = [engine.n_connections for engine in engines]
    assert sum(at) == 60 and min(at) > 5
    assert all(engine.stats()["tcp_retransmits"] == 0 for engine in (far, *engines))
    # what the engines open is answered to them: nobody else has such a connection, and would reset it
    opened = [engine.tcp_connect(theirs.split("/")[0], 80) for engine in engines for _ in range(20)]
    run()
    assert [conn.state for conn in opened] == [iip.State.ESTABLISHED] * len(opened)
    for n, conn in enumerate(opened):
        assert symmetric_queue(*(str(end[0]) for end in (conn.local, conn.remote)), conn.local[1], conn.remote[1],
                               QUEUES) == n // 20
    assert steering.stats()["dropped"] == [0] * QUEUES
    for engine in (far, *engines):
        engine.close()
    steering.close()
    link.close()
    assert all(engine.pool.full for engine in (far, *engines))


def test_engines_in_threads():
    """The device's thread, and two engines in threads of their own; the other end runs here."""
    import threading

    from iip.drivers import PythonDriver
    from iip.runtime.threads import Threads

    lock, to_wire, from_wire = threading.Lock(), [], []

    class Wire(PythonDriver):
        """A device that another thread may look into."""

        def receive(self, now, limit):
            with lock:
                got, from_wire[:] = from_wire[:limit], from_wire[limit:]
            return got

        def transmit(self, now, frames):
            with lock:
                to_wire.extend(frames)

    class Here(PythonDriver):
        def receive(self, now, limit):
            with lock:
                got, to_wire[:] = to_wire[:limit], to_wire[limit:]
            return got

        def transmit(self, now, frames):
            with lock:
                from_wire.extend(frames)

    import time

    common = {"medium": "ip", "address_check": False}
    client = Client()
    far = iip.Engine(iip.Config(addresses=("10.0.0.2/24",), **common), client, Here(medium="ip"), seed=1)
    steering = Steering(Wire(medium="ip"), 2, idle="sleep")
    threads = Threads("unified", idle="sleep")
    for port in steering.ports:
        member = threads.add(iip.Config(addresses=("10.0.0.1/24",), **common), bench.PingPongServer(), port)
        member.engine.tcp_listen(7)
    threads.start()
    steering.start()
    conns = [far.tcp_connect("10.0.0.1", 7) for _ in range(20)]
    end = time.monotonic() + 10
    while not all(client.received.get(conn) == 3000 for conn in conns):
        assert time.monotonic() < end and threads.error is None
        far.run(time.monotonic_ns())
        time.sleep(0.001)
    assert min(member.engine.n_connections for member in threads.members) > 2
    threads.stop()
    steering.close()
    far.close()
    assert all(member.engine.pool.full for member in threads.members)


def test_settings():
    for wrong in ({"queues": 0}, {"queues": 2, "ring": 3}):
        with pytest.raises(iip.ConfigError, match=list(wrong)[-1]):
            Steering(MemoryLink().a, **wrong)
    with pytest.raises(iip.ConfigError, match="queue=2"):
        iip.Config(queue=2, queues=2)


def test_a_device_that_fails_ends_its_engines():
    from iip.drivers import PythonDriver
    from iip.runtime.threads import Threads

    class Broken(PythonDriver):
        def receive(self, now, limit):
            raise iip.DriverError("the device is gone")

    steering, threads = Steering(Broken(medium="ip"), 2, idle="sleep"), Threads(idle="sleep")
    for port in steering.ports:
        threads.add(iip.Config(addresses=("10.0.0.1/24",), medium="ip"), bench.PingPongServer(), port)
    with pytest.raises(iip.DriverError, match="gone"), threads:
        steering.start()
        assert threads.wait(10)
        steering.close()
