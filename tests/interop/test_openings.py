"""SYN cookies and Fast Open against the kernel, both roles."""
import hashlib
import socket
import struct

import pytest

import iip
from tests.attack.world import Echo as Digest
from tests.interop.world import Kernel, Local, connect, listen

pytestmark = pytest.mark.interop

MSG_FASTOPEN = 0x20000000
CLIENT_AND_SERVER = 3


class Echo(iip.Handler):
    def tcp_payload(self, conn, data):
        conn.send(bytes(data))
        conn.consume(len(data))


def test_the_kernel_opens_connections_by_cookies(netns, way):
    """Half a megabyte for each, and its digest back."""
    data = bytes(range(256)) * 2000

    def talk():
        for _ in range(5):
            with connect(way, 7) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(100) == hashlib.sha256(data).digest()

    with Local(way.kind, Digest(), syn_cookies="always", time_wait=0) as local:
        local.engine.tcp_listen(7)
        kernel = Kernel(talk)
        local.until(kernel.done, 20)
        kernel.result()
        local.run(0.2)
        stats = local.engine.stats()
        assert stats["tcp_cookies_sent"] >= 5
        assert stats["tcp_cookies_received"] == 5
        assert local.engine.n_connections == 0


def test_the_kernel_as_fast_open_client(netns, way):
    """The first connection fetches a cookie, the others bring their request with the SYN."""
    netns.sysctl("net/ipv4/tcp_fastopen", CLIENT_AND_SERVER)

    def talk():
        for _ in range(4):
            with socket.socket(way.family, socket.SOCK_STREAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 10, 0))
                sock.sendto(b"hello", MSG_FASTOPEN, (way.iip, 7))
                got = b""
                while len(got) < 5:
                    got += sock.recv(10)
                assert got == b"hello"

    with Local(way.kind, Echo(), fastopen="server", time_wait=0) as local:
        local.engine.tcp_listen(7)
        kernel = Kernel(talk)
        local.until(kernel.done, 20)
        kernel.result()
        local.run(0.2)
        stats = local.engine.stats()
        assert stats["tcp_fastopen_cookies_out"] >= 1
        assert stats["tcp_fastopen_in"] == 3
        assert stats["tcp_fastopen_bad_cookie"] == 0


class Request(iip.Handler):
    def __init__(self):
        self.got = b""
        self.over = False

    def tcp_payload(self, conn, data):
        self.got += bytes(data)
        conn.consume(len(data))

    def tcp_closed(self, conn, reason):
        self.over = True


def test_the_kernel_as_fast_open_server(netns, way):
    """It gives us a cookie and takes data with our next SYN."""
    netns.sysctl("net/ipv4/tcp_fastopen", CLIENT_AND_SERVER)

    def serve(listener):
        with listener:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
            for _ in range(4):
                with listener.accept()[0] as sock:
                    sock.settimeout(10)
                    sock.sendall(sock.recv(100).upper())

    handler = Request()
    with Local(way.kind, handler, fastopen="client", time_wait=0) as local:
        kernel = Kernel(serve, listen(way, 5002))
        for _ in range(4):
            handler.got, handler.over = b"", False
            local.engine.tcp_connect(way.kernel, 5002, data=b"request")
            local.until(lambda: handler.over, 10)
            assert handler.got == b"REQUEST"
        kernel.result()
        stats = local.engine.stats()
        # the first SYN may get lost while the kernel looks for us, and asks for no cookie then
        assert stats["tcp_fastopen_out"] == stats["tcp_fastopen_acked"] >= 2
        assert stats["tcp_fastopen_fallback"] == 0
