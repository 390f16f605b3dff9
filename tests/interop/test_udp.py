"""Datagrams both ways."""
import socket

import pytest

import iip
from tests.interop.world import ECHO, Kernel, Local

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("size", [0, 1, 1472, 8192, 60000])
def test_the_server_echoes_datagrams(server, way, size):
    """Up to some kilobytes, and longer ones in as many fragments as it takes."""
    data = bytes(i * 7 & 0xFF for i in range(size))
    with socket.socket(way.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((way.iip, ECHO))
        for _ in range(3):
            sock.send(data)
            assert sock.recv(65535) == data


def test_a_burst_of_datagrams(server, way):
    """As many as one run of the engine may take, none is lost on the way."""
    with socket.socket(way.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((way.iip, ECHO))
        for i in range(200):
            sock.send(b"%d" % i)
        assert [sock.recv(100) for _ in range(200)] == [b"%d" % i for i in range(200)]


class Keep(iip.Handler):
    def __init__(self):
        self.got = []

    def udp_payload(self, datagram):
        self.got.append((bytes(datagram.data), str(datagram.source), datagram.source_port, datagram.destination_port))


@pytest.mark.parametrize("size", [100, 8192])
def test_iip_asks_and_the_kernel_answers(netns, way, size):
    data = bytes(i * 5 & 0xFF for i in range(size))

    def answer(sock):
        got, source = sock.recvfrom(65535)
        sock.sendto(got[::-1], source)

    keep = Keep()
    with Local(way.kind, keep) as local, socket.socket(way.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind((way.kernel, 5002))
        kernel = Kernel(answer, sock)
        local.engine.udp_bind(6000)
        assert local.engine.udp_send(data, way.kernel, 5002, 6000)
        local.until(lambda: keep.got)
        kernel.result()
        assert keep.got == [(data[::-1], way.kernel, 5002, 6000)]


def test_multicast_and_broadcast_reach_us(netns, way):
    group = "239.1.2.3" if way.version == 4 else "ff02::1234"
    keep = Keep()
    with Local(way.kind, keep, multicast=(group,)) as local, socket.socket(way.family, socket.SOCK_DGRAM) as sock:
        local.engine.udp_bind(6000)
        index = socket.if_nametoindex(local.device.name)
        if way.version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(way.kernel))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.bind((way.kernel, 6001))
            sock.sendto(b"to all", (f"{way.net}255", 6000))
            sock.sendto(b"to the group", (group, 6000))
        else:
            sock.bind((way.kernel, 6001))
            sock.sendto(b"to all", ("ff02::1", 6000, 0, index))
            sock.sendto(b"to the group", (group, 6000, 0, index))
        sock.sendto(b"to another", ("239.9.9.9", 6000) if way.version == 4 else ("ff02::9999", 6000, 0, index))
        sock.sendto(b"the last", (way.iip, 6000))
        local.until(lambda: any(data == b"the last" for data, *_ in keep.got))
        assert [data for data, *_ in keep.got] == [b"to all", b"to the group", b"the last"]
