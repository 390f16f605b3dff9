"""Transfers over a bad wire: what arrives is what was sent.

20 ms of delay each way, 2 % loss, 1 % duplication, 2 % reordering and 0.1 % corruption, in both directions, from a
seed. Congestion control is NewReno, which such a wire holds to some hundred kB/s; so the files are small: what counts
is that nothing is lost or altered, and that it ends.
"""
import hashlib

import pytest

from iip.drivers import Impair, Impairments
from tests.interop.test_bulk import Source, echo
from tests.interop.world import Kernel, Local, Server, listen, need, sha256

pytestmark = pytest.mark.interop

OPTIONS = {"loss": 0.02, "delay": 20, "duplicate": 0.01, "reorder": 0.02, "corrupt": 0.001}
WIRE = Impairments(loss=0.02, delay=0.02, duplicate=0.01, reorder=0.02, corrupt=0.001)


@pytest.fixture(scope="module")
def bad_server(netns_module, kind, files):
    options = [word for name, value in OPTIONS.items() for word in (f"--{name}", value)]
    server = Server(kind, files, *options, "--seed", 7)
    try:
        yield server
    except BaseException:
        server.kill()
        raise
    result = server.stop()
    # the wire was as bad as it was meant to be
    counters = result["counters"]
    assert counters.get("tcp_bad_checksum", 0) + counters.get("ip_bad_checksum", 0) > 0
    assert counters["tcp_retransmits"] > 0


@pytest.fixture(scope="session")
def small(tmp_path_factory, files):
    data = (files / "big").read_bytes()[:300_000]
    (files / "part").write_bytes(data)
    return data


def test_curl(bad_server, netns_module, way, files, small, tmp_path):
    """Three at once."""
    need("curl")
    curls = [netns_module.start("curl", "--silent", "--fail", "--max-time", 60, "-o", tmp_path / str(i),
                                way.url("part")) for i in range(3)]
    assert [curl.wait(70) for curl in curls] == [0, 0, 0]
    assert {sha256(tmp_path / str(i)) for i in range(3)} == {sha256(files / "part")}


@pytest.mark.every_driver
def test_echo(bad_server, way, small):
    """Both directions at once."""
    data = small[:200_000]
    assert hashlib.sha256(echo(way, data)).digest() == hashlib.sha256(data).digest()


@pytest.mark.every_driver
def test_many_small_exchanges(bad_server, way):
    """Connections that begin and end on such a wire: SYN, FIN and their answers are lost, too."""
    kernels = [Kernel(echo, way, b"%d" % i) for i in range(60)]
    assert [k.result(60) for k in kernels] == [b"%d" % i for i in range(60)]


def test_iip_as_the_active_side(netns, way, small):
    data = small

    def peer(listener):
        with listener, listener.accept()[0] as sock:
            sock.settimeout(60)
            got = bytearray()
            while block := sock.recv(1 << 18):
                got += block
            return bytes(got)

    source = Source(data)
    with Local(way.kind, source, lambda driver: Impair(driver, seed=3, rx=WIRE, tx=WIRE), time_wait=0) as local:
        kernel = Kernel(peer, listen(way, 5001))
        local.engine.tcp_connect(way.kernel, 5001)
        local.until(lambda: kernel.done() and source.reason, 60)
        assert kernel.result() == data
        wire = local.driver.stats()
        assert wire["tx_lost"] and wire["tx_duplicated"] and wire["tx_reordered"] and wire["rx_lost"]
