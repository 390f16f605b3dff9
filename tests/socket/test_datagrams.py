"""UDP and ICMP sockets, names, TLS, swapped modules, tunnels."""
import contextlib
import errno
import http.client
import http.server
import select
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

import iip.socket
from tests.harness.tls import contexts
from tests.socket.conftest import echo
from tests.socket.test_streams import DATA, eventually, fails


@pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2"])
def test_datagrams(net, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with net.server.socket(family, socket.SOCK_DGRAM) as here, net.client.socket(family, socket.SOCK_DGRAM) as there:
        here.bind(("", 0))
        port = here.getsockname()[1]
        for size in (0, 1, 1472, 60_000):
            assert there.sendto(DATA[:size], (host, port)) == size
            data, peer = here.recvfrom(65536)
            assert data == DATA[:size]
            here.sendto(data[::-1], peer)
            assert there.recv(65536) == DATA[:size][::-1]
        fails(errno.EMSGSIZE, there.sendto, bytes(65508), (host, port))
        there.connect((host, port))
        assert there.getsockname()[0] == ("fd00::1" if ":" in host else "10.0.0.1")
        there.send(b"abc")
        assert here.recvmsg(2)[::2] == (b"ab", socket.MSG_TRUNC)
        assert select.select([here], [here], [], 0)[:2] == ([], [here])
        there.send(b"d")
        assert select.select([here], [], [], 10)[0] == [here]
        assert here.recv(1, socket.MSG_PEEK) == here.recv(1) == b"d"
        here.setblocking(False)
        fails(errno.EAGAIN, here.recv, 1)


def test_nobody_listens(net):
    with net.client.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect((net.v4, 9))
        sock.send(b"x")
        sock.settimeout(10)
        fails(errno.ECONNREFUSED, sock.recv, 1)
    with net.client.socket(type=socket.SOCK_DGRAM) as sock:
        fails(errno.EDESTADDRREQ, sock.send, b"x")


def test_a_full_queue_drops(net):
    with net.server.socket(type=socket.SOCK_DGRAM) as here, net.client.socket(type=socket.SOCK_DGRAM) as there:
        here.bind(("", 7))
        here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
        for _ in range(100):
            there.sendto(bytes(1000), (net.v4, 7))
        there.sendto(b"", (net.v4, 8))
        eventually(lambda: len(here._core.queue) == 13)


def test_both_versions_on_one_socket(net):
    with net.server.socket(socket.AF_INET6, socket.SOCK_DGRAM) as here:
        here.bind(("::", 7))
        with net.server.socket(type=socket.SOCK_DGRAM) as other:
            fails(errno.EADDRINUSE, other.bind, ("", 7))
        for family, to, seen in ((socket.AF_INET, net.v4, "::ffff:10.0.0.1"), (socket.AF_INET6, net.v6, "fd00::1")):
            with net.client.socket(family, socket.SOCK_DGRAM) as there:
                there.sendto(b"x", (to, 7))
                assert here.recvfrom(1)[1][0] == seen


@pytest.mark.parametrize("kind", [socket.SOCK_RAW, socket.SOCK_DGRAM])
@pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2"])
def test_ping(net, kind, host):
    family, proto, request = ((socket.AF_INET6, socket.IPPROTO_ICMPV6, 128) if ":" in host else
                              (socket.AF_INET, socket.IPPROTO_ICMP, 8))
    with net.client.socket(family, kind, proto) as sock:
        sock.settimeout(10)
        sock.sendto(struct.pack("!BBHHH", request, 0, 0, 77, 5) + b"hello", (host, 0))
        data, peer = sock.recvfrom(1000)
        assert peer[0] == host
        if kind == socket.SOCK_RAW and family == socket.AF_INET:
            assert data[0] == 0x45
            assert data[12:20] == socket.inet_aton(host) + socket.inet_aton("10.0.0.1")
            data = data[20:]
        reply, code, _sum, ident, seq = struct.unpack_from("!BBHHH", data)
        assert (reply, code, seq, data[8:]) == ({8: 0, 128: 129}[request], 0, 5, b"hello")
        assert ident == (77 if kind == socket.SOCK_RAW else sock.getsockname()[1])


# -- names ---------------------------------------------------------------------------------------------------
def test_names(net, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.2 peer peer.test\nfd00::2 peer\n")
    with iip.socket.Tunnel(output=print, addresses=["10.0.0.9/24"], hosts=str(hosts)) as stack:
        assert [info[4][0] for info in stack.getaddrinfo("peer", 80, type=socket.SOCK_STREAM)] == ["10.0.0.2", "fd00::2"]
        assert stack.getaddrinfo("10.0.0.7", "http", type=socket.SOCK_STREAM)[0][4] == ("10.0.0.7", 80)
        with pytest.raises(socket.gaierror):
            stack.getaddrinfo("nobody.test", 80)
        with stack.socket() as sock, pytest.raises(socket.gaierror):
            sock.connect(("nobody.test", 80))


def dns_server(net):
    """A, and nothing for AAAA; for big.test only by TCP."""
    pytest.importorskip("dns")
    import dns.flags
    import dns.message
    import dns.rrset

    asked = []
    udp = net.server.socket(type=socket.SOCK_DGRAM)
    udp.bind(("", 53))
    tcp = net.server.create_server(("", 53))

    def answer(wire, over):
        query = dns.message.from_wire(wire)
        name, kind = query.question[0].name.to_text(), query.question[0].rdtype
        asked.append((name, over))
        response = dns.message.make_response(query)
        if name == "big.test." and over == "udp":
            response.flags |= dns.flags.TC
        elif kind == 1 and name.endswith("test."):
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "10.0.0.2"))
        return response.to_wire()

    def serve_udp():
        with contextlib.suppress(OSError):
            while True:
                wire, peer = udp.recvfrom(512)
                udp.sendto(answer(wire, "udp"), peer)

    def serve_tcp():
        with contextlib.suppress(OSError):
            while True:
                sock, _ = tcp.accept()
                with sock:
                    out = answer(sock.recv(int.from_bytes(sock.recv(2, socket.MSG_WAITALL), "big"), socket.MSG_WAITALL), "tcp")
                    sock.sendall(len(out).to_bytes(2, "big") + out)

    net.thread(serve_udp)
    net.thread(serve_tcp)
    return asked, lambda: (udp.close(), tcp.close())


@pytest.mark.parametrize("net", [{"nameservers": ["10.0.0.77", "10.0.0.2"]}], indirect=True)
def test_dns_through_the_stack(net, monkeypatch):
    monkeypatch.setattr("iip.socket.dns._WAIT", 0.3)
    asked, close = dns_server(net)
    with echo(net) as port:
        with net.client.create_connection(("peer.test", port)) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        assert net.client.getaddrinfo("big.test", 1)[0][4][0] == "10.0.0.2"
        assert ("big.test.", "tcp") in asked
        before = asked.count(("peer.test.", "udp"))
        assert net.client.getaddrinfo("peer.test", 1, socket.AF_INET)[0][4][0] == "10.0.0.2"
        assert asked.count(("peer.test.", "udp")) == before       # kept
    close()


# -- TLS and libraries that know nothing of iip --------------------------------------------------------------
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *arguments):
        """Quiet."""


def test_the_standard_librarys_http_over_tls(net, tmp_path):
    """An http.server and urllib on two stacks: the server was made while its stack was installed."""
    for_server, for_client = contexts(tmp_path, "10.0.0.2")
    before = socket.socket
    with iip.socket.installed(net.server):
        server = http.server.ThreadingHTTPServer(("10.0.0.2", 443), Handler)
        server.daemon_threads = False
        server.socket = for_server.wrap_socket(server.socket, server_side=True)
    assert socket.socket is before
    assert isinstance(server.socket, iip.socket.socket)
    net.thread(server.serve_forever, 0.05)
    with iip.socket.installed(net.client):
        for _ in range(3):
            with urllib.request.urlopen("https://10.0.0.2/", context=for_client, timeout=20) as answer:
                assert answer.read() == DATA
        connection = http.client.HTTPSConnection("10.0.0.2", context=for_client)
        for _ in range(2):
            connection.request("GET", "/")
            assert connection.getresponse().read() == DATA
        connection.close()
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen("https://10.0.0.2/", timeout=20)
    server.shutdown()
    server.server_close()


def test_the_module_in_the_place_of_the_standard_one():
    code = """
import sys, iip.socket
from iip.drivers import MemoryLink
sys.modules["socket"] = iip.socket
import socket, selectors, socketserver, threading
socket.use(socket.Stack(MemoryLink().a, addresses=["10.0.0.1/24"]))
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline())
server = socketserver.ThreadingTCPServer(("10.0.0.1", 0), Echo)
threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
with socket.create_connection(server.server_address, timeout=10) as sock:
    sock.sendall(b"hello\\n")
    print(type(sock).__module__, sock.recv(10), socket.AF_UNIX.name, socket.gethostbyname("10.0.0.1"))
a, b = socket.socketpair()
a.send(b"x"); print(b.recv(1)); a.close(); b.close()
server.shutdown(); server.server_close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split("\n")[:2] == ["iip.socket.sock b'hello\\n' AF_UNIX 10.0.0.1", "b'x'"], done.stderr


def test_without_a_stack(net):
    fails(errno.ENETDOWN, iip.socket.socket)
    iip.socket.use(net.client)
    try:
        with iip.socket.socket() as sock:
            assert sock.stack is net.client
        with iip.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as kernel:
            assert type(kernel) is socket.socket
    finally:
        iip.socket.use(None)


# -- tunnels -------------------------------------------------------------------------------------------------
def test_two_tunnels():
    """Each with a thread of its own; the packets of one are fed to the other."""
    def to_right(packets):
        right.feed_many(packets)

    left = iip.socket.Tunnel(addresses=["fd00::1/64"], mtu=9000, output=to_right)
    right = iip.socket.Tunnel(addresses=["fd00::2/64"], mtu=9000, output=left.feed_many, accept_any=True)
    with left, right, right.socket(socket.AF_INET6) as listener:
        listener.bind(("", iip.socket.ANY_PORT))
        listener.listen()
        with left.create_connection(("2001:db8::1", 443)) as there:
            here, _ = listener.accept()
            with here:
                assert here.getsockname()[:2] == ("2001:db8::1", 443)     # where it wanted to go
                there.sendall(DATA[:200_000])
                assert here.recv(200_000, socket.MSG_WAITALL) == DATA[:200_000]
    assert left.engine.pool.full
    assert right.engine.pool.full


def test_an_output_that_raises():
    def output(packets):
        raise ValueError("no way out")

    with iip.socket.Tunnel(addresses=["10.0.0.1/24"], output=output) as stack, stack.socket() as sock:
        with pytest.raises(OSError, match="no way out"):
            sock.connect(("10.0.0.2", 1))
        assert stack.closed

