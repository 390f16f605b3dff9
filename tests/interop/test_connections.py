"""Connections that begin, idle and end in every way."""
import contextlib
import socket
import struct
import subprocess
import time

import pytest

import iip
from iip.apps.chargen import pattern
from tests.interop.world import CHARGEN, CLOSED, ECHO, Kernel, Local, Server, Way, connect, listen, need

pytestmark = pytest.mark.interop


class Recorder(iip.Handler):
    """Keeps what it is told."""

    def __init__(self):
        self.events = []
        self.data = b""
        self.conn = None

    def tcp_accepted(self, conn):
        self.conn = conn
        self.events.append("accepted")

    def tcp_connected(self, conn):
        self.conn = conn
        self.events.append("connected")

    def tcp_payload(self, conn, data):
        self.data += bytes(data)
        conn.consume(len(data))

    def tcp_shutdown(self, conn):
        self.events.append("shutdown")

    def tcp_closed(self, conn, reason):
        self.events.append(reason.name)


def drain(sock):
    got = bytearray()
    while block := sock.recv(1 << 16):
        got += block
    return bytes(got)


def reset(sock):
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# -- against the server -------------------------------------------------------------------------------------

def test_a_closed_port_refuses_the_kernel(server, way):
    with pytest.raises(ConnectionRefusedError):
        connect(way, CLOSED)


def test_2000_short_connections_in_sequence(server, way):
    number = 2000 if way.version == 4 else 500
    before = server.statistics()["counters"]["tcp_passive_opens"]
    for i in range(number):
        with connect(way, ECHO) as sock:
            sock.sendall(b"%d" % i)
            sock.shutdown(socket.SHUT_WR)
            assert drain(sock) == b"%d" % i
    assert server.statistics()["counters"]["tcp_passive_opens"] - before == number


def test_100_connections_in_parallel(server, way):
    """Each echoes 10 kB; the answers are read only when all have sent."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(way, ECHO)) for _ in range(100)]
        for i, sock in enumerate(socks):
            sock.sendall(b"%04d" % i * 2500)
        for sock in socks:
            sock.shutdown(socket.SHUT_WR)
        for i, sock in enumerate(socks):
            assert drain(sock) == b"%04d" % i * 2500


def test_the_kernel_closes_its_half_first(server, way):
    """Everything that was sent before comes back after our FIN."""
    with connect(way, ECHO) as sock:
        sock.sendall(b"x" * 200_000)
        sock.shutdown(socket.SHUT_WR)
        assert drain(sock) == b"x" * 200_000


def settle(server, connections=0, seconds=5):
    """Wait until the server has so many connections, TIME-WAIT included."""
    deadline = time.monotonic() + seconds
    while True:
        now = server.statistics()
        if now["connections_open"] == connections:
            return now
        assert time.monotonic() < deadline, f"{now['connections_open']} connections are left"
        time.sleep(0.05)


def test_the_kernel_resets_in_mid_transfer(server, way):
    settle(server)
    before = server.statistics()["counters"].get("tcp_rst_in", 0)
    sock = connect(way, CHARGEN)
    assert len(sock.recv(1 << 16)) > 0
    reset(sock)
    assert settle(server)["counters"]["tcp_rst_in"] > before


def test_a_client_killed_in_mid_transfer(server, netns_module, way):
    """The kernel closes for the dead process; what still comes is answered with RST, and nothing stays."""
    need("curl")
    settle(server)
    curl = netns_module.start("curl", "--silent", "--limit-rate", "2M", "-o", "/dev/null", way.url("big"))
    time.sleep(0.3)
    try:
        assert server.statistics()["connections_open"] == 1 and curl.poll() is None
    finally:
        curl.kill()
        curl.wait()
    settle(server)


def test_a_reader_that_sleeps_closes_the_window(server, way):
    """Chargen fills the kernel's buffer; probes keep the connection, and then the stream goes on unaltered."""
    before = server.statistics()["counters"].get("tcp_window_probes", 0)
    with socket.socket(way.family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        sock.settimeout(10)
        sock.connect((way.iip, CHARGEN))
        time.sleep(0.8)
        assert server.statistics()["counters"].get("tcp_window_probes", 0) > before
        got = bytearray()
        while len(got) < 300_000:
            block = sock.recv(1 << 16)
            assert block
            got += block
        period = pattern()
        assert got == (period * (len(got) // len(period) + 1))[:len(got)]


def test_a_writer_whose_peer_does_not_read_is_stopped(server, way):
    """Echo without a reader: our window closes, memory stays bounded, and reading sets it going again."""
    with connect(way, ECHO) as sock:
        sock.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200_000_000:
                sent += sock.send(bytes(1 << 16))
        assert sent < 200_000_000
        sock.settimeout(10)
        sock.shutdown(socket.SHUT_WR)
        got = 0
        while block := sock.recv(1 << 18):
            got += len(block)
        assert got == sent


# -- servers and clients that die ---------------------------------------------------------------------------

def test_the_server_ended_in_mid_transfer(netns, kind, files):
    """SIGTERM while it sends: the memory is whole (`stop` checks it), and a new server on the device works.

    curl sees the reset after what the kernel already holds for it: up to 32 MB."""
    need("curl")
    server = Server(kind, files)
    try:
        ways = [Way(kind, 4), Way(kind, 6)]
        curls = [netns.start("curl", "--silent", "--limit-rate", "10M", "-o", "/dev/null", "--max-time", 20,
                             way.url("big")) for way in ways]
        time.sleep(0.4)
        result = server.stop()
        assert result["connections_open"] == 2
        again = Server(kind, files)
        try:
            # the new one knows nothing of the old one's connections, and says so with RST
            assert all(curl.wait(10) != 0 for curl in curls)
            netns.run("curl", "--silent", "--fail", "-o", "/dev/null", ways[0].url("medium"))
        finally:
            again.stop()
    finally:
        server.kill()
        for curl in curls:
            curl.kill()
            curl.wait()


def test_the_kernels_server_killed_in_mid_transfer(netns, way, files):
    """iip fetches; the server dies: `tcp_closed` tells it, and no connection and no packet is left."""
    source = netns.start(*["python3", "-c", SENDER, way.family.value], stdout=subprocess.PIPE)
    recorder = Recorder()
    try:
        with Local(way.kind, recorder, time_wait=0) as local:
            assert source.stdout.readline() == b"ready\n"
            local.engine.tcp_connect(way.kernel, 5001)
            local.until(lambda: len(recorder.data) > 1_000_000)
            source.kill()
            source.wait()
            local.until(lambda: "shutdown" in recorder.events or len(recorder.events) > 1)
            if not recorder.conn.closed:
                recorder.conn.close()
            local.until(lambda: local.engine.n_connections == 0)
            assert recorder.events[-1] in ("NORMAL", "RESET")
    finally:
        source.kill()
        source.wait()
        source.stdout.close()


SENDER = """
import socket, sys
with socket.socket(socket.AddressFamily(int(sys.argv[1]))) as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", 5001))            # the address may come later
    s.listen()
    print("ready", flush=True)
    peer = s.accept()[0]
    while True:
        peer.sendall(bytes(65536))
"""


# -- iip as the active side, and a look inside ------------------------------------------------------------------

def test_the_kernel_refuses_us(netns, way):
    recorder = Recorder()
    with Local(way.kind, recorder) as local:
        local.engine.tcp_connect(way.kernel, CLOSED)
        local.until(lambda: recorder.events)
        assert recorder.events == ["REFUSED"] and local.engine.n_connections == 0


def test_we_close_our_half_first(netns, way):
    """The kernel goes on sending after our FIN; then it closes, and we are in TIME-WAIT for as long as set."""
    def peer(listener):
        with listener, listener.accept()[0] as sock:
            got = drain(sock)
            sock.sendall(b"y" * 200_000)
            return got

    recorder = Recorder()
    with Local(way.kind, recorder, time_wait=0.3) as local:
        kernel = Kernel(peer, listen(way, 5001))
        conn = local.engine.tcp_connect(way.kernel, 5001)
        conn.send(b"x" * 50_000)
        conn.shutdown()
        local.until(lambda: "shutdown" in recorder.events)
        assert kernel.result() == b"x" * 50_000 and recorder.data == b"y" * 200_000
        local.until(lambda: "NORMAL" in recorder.events)
        assert [row["state"] for row in local.engine.connections()] == [iip.State.TIME_WAIT]
        local.until(lambda: local.engine.n_connections == 0)


@pytest.mark.parametrize("direction", ["accepted", "connected"])
def test_the_kernel_resets_an_idle_connection(netns, way, direction):
    recorder = Recorder()
    with Local(way.kind, recorder) as local:
        if direction == "accepted":
            local.engine.tcp_listen(5001)
            kernel = Kernel(connect, way, 5001)
        else:
            with listen(way, 5001) as listener:
                local.engine.tcp_connect(way.kernel, 5001)
                kernel = Kernel(lambda: listener.accept()[0])
                local.until(kernel.done)
        local.until(lambda: recorder.events == [direction] and kernel.done())
        reset(kernel.result())
        local.until(lambda: local.engine.n_connections == 0)
        assert recorder.events == [direction, "RESET"]


def test_we_abort_and_the_kernel_hears_it(netns, way):
    recorder = Recorder()
    with Local(way.kind, recorder) as local:
        local.engine.tcp_listen(5001)
        kernel = Kernel(connect, way, 5001)
        local.until(lambda: recorder.events and kernel.done())
        recorder.conn.abort()
        local.until(lambda: recorder.events[-1] == "ABORTED")
        local.run(0.01)
        with kernel.result() as sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert local.engine.n_connections == 0


def test_a_syn_that_the_application_refuses(netns, way):
    class Refuser(iip.Handler):
        def tcp_accept(self, syn):
            return syn.remote_port % 2 == 0

    def try_both():
        outcome = []
        for port in (40000, 40001):
            try:
                socket.create_connection((way.iip, 5001), 5, (way.kernel, port)).close()
                outcome.append("accepted")
            except ConnectionRefusedError:
                outcome.append("refused")
        return outcome

    with Local(way.kind, Refuser()) as local:
        local.engine.tcp_listen(5001)
        kernel = Kernel(try_both)
        local.until(kernel.done)
        assert kernel.result() == ["accepted", "refused"]


def test_keepalive_holds_an_idle_connection_and_ends_a_dead_one(netns, way):
    """The kernel answers probes for as long as it has the device up (and no more than two in a second, by default)."""
    netns.sysctl("net/ipv4/tcp_invalid_ratelimit", 0)
    recorder = Recorder()
    with Local(way.kind, recorder, keepalive=0.1, keepalive_interval=0.1, keepalive_probes=3) as local:
        local.engine.tcp_listen(5001)
        kernel = Kernel(connect, way, 5001)
        local.until(lambda: recorder.events and kernel.done())
        with kernel.result() as sock:
            local.run(0.6)
            assert local.engine.stats()["tcp_keepalives"] >= 3 and recorder.events == ["accepted"]
            sock.sendall(b"still there")
            local.until(lambda: recorder.data == b"still there")
            # from now on the kernel hears nothing
            netns.run("ip", "link", "set", local.device.name, "down")
            local.until(lambda: len(recorder.events) > 1)
            assert recorder.events[1:] == ["TIMEOUT"] and local.engine.n_connections == 0


@pytest.mark.parametrize("way", [Way("tap", 4), Way("tun", 6)], ids=["tap4", "tun6"])
def test_the_kernels_keepalive_probes_are_answered(netns, way):
    recorder = Recorder()
    with Local(way.kind, recorder) as local:
        local.engine.tcp_listen(5001)
        kernel = Kernel(connect, way, 5001)
        local.until(lambda: recorder.events and kernel.done())
        with kernel.result() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            local.run(2.3)
            sock.sendall(b"still there")
            local.until(lambda: recorder.data == b"still there")


def test_500_connections_of_ours_in_parallel(netns, way):
    """Each says its number to an echo server of the kernel's."""
    def serve(listener, number):
        socks = []
        with listener:
            for _ in range(number):
                socks.append(listener.accept()[0])
        for sock in socks:
            with sock:
                sock.sendall(drain(sock))

    class Client(iip.Handler):
        def __init__(self):
            self.answers = {}

        def tcp_connected(self, conn):
            conn.context = b"%d" % len(self.answers)
            self.answers[conn.context] = b""
            conn.send(conn.context)
            conn.shutdown()

        def tcp_payload(self, conn, data):
            self.answers[conn.context] += bytes(data)
            conn.consume(len(data))

    client = Client()
    with Local(way.kind, client, time_wait=0) as local:
        kernel = Kernel(serve, listen(way, 5001, 1024), 500)
        for _ in range(500):
            local.engine.tcp_connect(way.kernel, 5001)
        local.until(lambda: kernel.done() and local.engine.n_connections == 0, 20)
        kernel.result()
    assert len(client.answers) == 500 and all(k == v for k, v in client.answers.items())
