"""Checksums and segmentation left to the other side (IFF_VNET_HDR), or not: what arrives is what was sent."""
import contextlib
import hashlib
import socket

import pytest

import iip
from iip.drivers import Capture, Impair, Impairments
from tests.interop.world import BIG, Kernel, Local, connect, listen, sha256

pytestmark = pytest.mark.interop

SMALL = 1_500_000


class Both(iip.Handler):
    """Sends a file to whom it connects, and hashes what it gets."""

    def __init__(self, file=None, n=None):
        self.file, self.n = file, n
        self.at = self.got = 0
        self.digest = hashlib.sha256()
        self.reason = None

    def tcp_connected(self, conn):
        self.tcp_acked(conn, 0)

    def tcp_acked(self, conn, n):
        if self.file is None or self.at == self.n:
            return
        self.at += conn.send_file(self.file, self.at, self.n - self.at)
        if self.at == self.n:
            conn.shutdown()

    def tcp_payload(self, conn, data):
        self.digest.update(data)
        self.got += len(data)
        conn.consume(len(data))

    def tcp_shutdown(self, conn):
        conn.close()

    def tcp_closed(self, conn, reason):
        self.reason = reason.name


def sink(listener):
    digest = hashlib.sha256()
    with listener, listener.accept()[0] as sock:
        sock.settimeout(60)
        buffer = memoryview(bytearray(1 << 18))
        while n := sock.recv_into(buffer):
            digest.update(buffer[:n])
    return digest.hexdigest()


def source(way, path, n):
    with connect(way, 7, 60) as sock, path.open("rb") as f:
        while n:
            n -= sock.sendfile(f, f.tell(), min(n, 1 << 20))
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(60)
        assert sock.recv(1) == b""


@pytest.fixture(scope="session")
def part(files):
    path = files / "start"
    with (files / "big").open("rb") as f:
        path.write_bytes(f.read(SMALL))
    return path


@pytest.mark.parametrize("offload", [True, False], ids=["on", "off"])
def test_iip_sends(netns, way, offload, files):
    with (files / "big").open("rb") as f:
        handler = Both(f, BIG)
        with Local(way.kind, handler, offload=offload, time_wait=0) as local:
            assert local.device.offload == offload
            kernel = Kernel(sink, listen(way, 5001))
            local.engine.tcp_connect(way.kernel, 5001)
            local.until(lambda: kernel.done() and handler.reason, 60)
            assert kernel.result() == sha256(files / "big")
            stats = local.device.stats()
            assert (stats["tx_bytes"] / stats["tx_packets"] > 10_000) == offload
            assert local.engine.stats()["tcp_out_data"] > BIG // 1500


@pytest.mark.parametrize("offload", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("gro", [False, True], ids=["", "gro"])
def test_iip_receives(netns, way, offload, gro, files):
    handler = Both()
    with Local(way.kind, handler, offload=offload, time_wait=0, gro=gro) as local:
        local.engine.tcp_listen(7)
        kernel = Kernel(source, way, files / "big", BIG)
        local.until(lambda: kernel.done() and handler.reason, 60)
        kernel.result()
        assert handler.got == BIG and handler.digest.hexdigest() == sha256(files / "big")
        stats = local.device.stats()
        assert (stats["rx_bytes"] / stats["rx_packets"] > 3_000) == offload
        if gro and not offload:
            assert local.engine.stats()["tcp_coalesced"] > 1000


@pytest.mark.parametrize("offload", [True, False], ids=["on", "off"])
def test_over_a_bad_wire(netns, way, offload, part):
    """Loss, reordering, duplication, corruption: of segments, whatever the size of the frames."""
    bad = Impairments(loss=0.01, delay=0.002, duplicate=0.005, reorder=0.01, corrupt=0.001)
    with part.open("rb") as f:
        handler = Both(f, SMALL)
        with Local(way.kind, handler, lambda d: Impair(d, seed=5, rx=bad, tx=bad), offload=offload, time_wait=0,
                   pool_packets=8192) as local:
            kernel = Kernel(sink, listen(way, 5001))
            local.engine.tcp_connect(way.kernel, 5001)
            local.until(lambda: kernel.done() and handler.reason, 60)
            assert kernel.result() == sha256(part)
            handler.reason = None
            local.engine.tcp_listen(7)
            kernel = Kernel(source, way, part, SMALL)
            local.until(lambda: kernel.done() and handler.reason, 60)
            kernel.result()
            assert handler.digest.hexdigest() == sha256(part)
            wire = local.driver.stats()
            assert wire["tx_lost"] > 5 and wire["rx_lost"] > 5
            assert wire["tx_packets"] > SMALL // 1500 and wire["rx_packets"] > SMALL // 1500


def test_only_tx_wire(netns, way, part):
    """Nothing is corrupted on the way out, so the device cuts: the wire has to."""
    with part.open("rb") as f:
        handler = Both(f, SMALL)
        with Local(way.kind, handler, lambda d: Impair(d, seed=6, tx=Impairments(loss=0.02)), time_wait=0) as local:
            kernel = Kernel(sink, listen(way, 5001))
            local.engine.tcp_connect(way.kernel, 5001)
            local.until(lambda: kernel.done() and handler.reason, 60)
            assert kernel.result() == sha256(part)
            assert local.engine.stats()["tcp_retransmits"] > 5


def test_through_a_capture(netns, way, part, tmp_path):
    with part.open("rb") as f, contextlib.ExitStack() as stack:
        handler = Both(f, SMALL)
        local = stack.enter_context(Local(way.kind, handler, lambda d: Capture(d, tmp_path / "trace"), time_wait=0))
        kernel = Kernel(sink, listen(way, 5001))
        local.engine.tcp_connect(way.kernel, 5001)
        local.until(lambda: kernel.done() and handler.reason, 60)
        assert kernel.result() == sha256(part)
        assert local.driver.packets > 20


def test_a_pool_without_room_for_large_frames(netns, way, part):
    """The kernel is asked for segments then."""
    handler = Both()
    with Local(way.kind, handler, time_wait=0, pool_packets=64, receive_buffer=20_000) as local:
        local.engine.tcp_listen(7)
        kernel = Kernel(source, way, part, SMALL)
        local.until(lambda: kernel.done() and handler.reason, 60)
        kernel.result()
        assert handler.digest.hexdigest() == sha256(part)
        assert local.device.stats()["rx_too_long"] == 0
