"""Bytes in one direction, and in both at once. What they took is printed (`pytest -s`), not judged."""
import socket
import threading
import time

import pytest

from iip.apps.chargen import pattern
from tests.interop.world import CHARGEN, DISCARD, ECHO, Kernel, Local, connect, iperf3, listen, need

pytestmark = pytest.mark.interop

AMOUNT = 50_000_000


def report(capsys, what, way, octets, start):
    seconds = time.monotonic() - start
    with capsys.disabled():
        print(f"[{what} {way.kind} IPv{way.version}: {octets * 8 / seconds / 1e9:.2f} Gbit/s]", end=" ")


@pytest.mark.every_driver
def test_the_kernel_sends_to_discard(server, way, capsys):
    block = bytes(1 << 16)
    before = server.statistics()["counters"].get("rx_bytes", 0)
    start = time.monotonic()
    with connect(way, DISCARD, 60) as sock:
        left = AMOUNT
        while left:
            left -= sock.send(block[:left])
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""                 # it has taken everything, and closed
    report(capsys, "to discard", way, AMOUNT, start)
    assert server.statistics()["counters"]["rx_bytes"] - before >= AMOUNT


@pytest.mark.every_driver
def test_chargen_sends_to_the_kernel(server, way, capsys):
    period = pattern()
    expected = memoryview(period * ((1 << 20) // len(period) + 2))
    start = time.monotonic()
    got = 0
    with connect(way, CHARGEN, 60) as sock:
        buffer = memoryview(bytearray(1 << 20))
        while got < AMOUNT:
            n = sock.recv_into(buffer)
            assert n > 0
            at = got % len(period)
            assert buffer[:n] == expected[at:at + n], f"altered near byte {got}"
            got += n
    report(capsys, "from chargen", way, got, start)


def test_nc_sends_to_discard(server, netns_module, way, files):
    need("nc")
    with (files / "medium").open("rb") as data:
        netns_module.run("nc", f"-{way.version}", "-N", way.iip, DISCARD, stdin=data, timeout=30)


def echo(way, data, port=ECHO):
    """Send `data` and receive it back at the same time."""
    back = bytearray()
    with connect(way, port, 60) as sock:
        def send():
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        while block := sock.recv(1 << 18):
            back += block
        sender.join()
    return bytes(back)


@pytest.mark.every_driver
def test_both_directions_at_once(server, way, files):
    data = (files / "big").read_bytes()[:10_000_000]
    assert echo(way, data) == data


class Source:
    """Sends `data` to whom it connects."""

    def __init__(self, data):
        self.left = memoryview(data)
        self.reason = None

    def tcp_connected(self, conn):
        self.tcp_acked(conn, 0)

    def tcp_acked(self, conn, n):
        if self.left is not None:
            self.left = self.left[conn.send(self.left, reference=True):]
            if not len(self.left):
                conn.close()
                self.left = None

    def tcp_closed(self, conn, reason):
        self.reason = reason.name


@pytest.mark.every_driver
def test_iip_as_the_active_side_sends(netns, way, files):
    data = (files / "big").read_bytes()[:20_000_000]

    def receive(listener):
        with listener, listener.accept()[0] as sock:
            got = bytearray()
            while block := sock.recv(1 << 18):
                got += block
            return bytes(got)

    source = Source(data)
    with Local(way.kind, source, time_wait=0) as local:
        kernel = Kernel(receive, listen(way, 5001))
        local.engine.tcp_connect(way.kernel, 5001)
        local.until(lambda: source.reason and kernel.done(), 30)
        assert kernel.result() == data
        assert source.reason == "NORMAL" and local.engine.n_connections == 0


def test_iperf3_through_a_relay(netns, way, capsys):
    """iperf3 wants its own protocol on a second connection: iip relays the bytes of both to iperf3's server, so that
    they pass the stack twice, as a client and as a server."""
    need("iperf3")
    server = netns.start("iperf3", "-s", "-1", "-p", 5201, "--forceflush", stdout=-3, stderr=-3)
    try:
        deadline = time.monotonic() + 10
        with Local(way.kind, Relay(way.kernel, 5201), pool_packets=16384) as local:
            local.engine.tcp_listen(5201)
            time.sleep(0.5)
            summary = iperf3(netns, local, "-c", way.iip, "-t", 1)
            local.run(0.1)
        assert summary["sum_received"]["bytes"] > 1_000_000
        with capsys.disabled():
            print(f"[iperf3 through a relay {way.kind} IPv{way.version}: "
                  f"{summary['sum_received']['bits_per_second'] / 1e9:.2f} Gbit/s]", end=" ")
        assert time.monotonic() < deadline + 20
    finally:
        server.kill()
        server.wait()


class Relay:
    """What comes in on one connection goes out on another, to `address` and `port`."""

    def __init__(self, address, port):
        self.address, self.port = address, port

    def tcp_accepted(self, conn):
        other = conn.engine.tcp_connect(self.address, self.port)
        conn.context, other.context = [other, [], False], [conn, [], False]

    def tcp_payload(self, conn, data):
        conn.context[1].append(bytes(data))
        self._forward(conn)

    def tcp_connected(self, conn):
        self._forward(conn.context[0])

    def tcp_acked(self, conn, n):
        self._forward(conn.context[0])

    def tcp_shutdown(self, conn):
        conn.context[2] = True
        self._forward(conn)

    def tcp_closed(self, conn, reason):
        other = conn.context[0]
        if not other.closed and reason.name != "NORMAL":
            other.abort()

    def _forward(self, conn):
        other, queue, finished = conn.context
        if other.closed or conn.closed:
            return
        while queue:
            n = other.send(queue[0])
            conn.consume(n)
            queue[0] = queue[0][n:]
            if queue[0]:
                return
            del queue[0]
        if finished:
            other.shutdown()
