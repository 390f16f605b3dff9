"""The recorder: a pcapng file with what passed, in both directions; checked by a reader of its own and by tcpdump."""
import io
import shutil
import struct
import subprocess

import pytest

from iip.drivers import Capture, DriverProbe, MemoryLink, PythonDriver
from iip.errors import ConfigError
from iip.memory.pool import PacketPool

PING = bytes.fromhex("450000 1c 0001 0000 40 01 66de 0a000001 0a000002 0800 f7fd 0001 0001")


def blocks(data):
    while data:
        kind, total = struct.unpack_from("<II", data)
        assert total % 4 == 0 and struct.unpack_from("<I", data, total - 4) == (total,)
        yield kind, data[8:total - 4]
        data = data[total:]


def recorded(data):
    for kind, body in blocks(data):
        if kind == 6:
            _, high, low, kept, length = struct.unpack_from("<IIIII", body)
            options = body[20 + (kept + 3) // 4 * 4:]
            yield (high << 32) + low, length, body[20:20 + kept], struct.unpack_from("<HHI", options)[2]


def recorder(file, link=None, **settings):
    link = link or MemoryLink()
    pool = PacketPool(packets=32)
    return DriverProbe(Capture(link.a, file, **settings), pool), DriverProbe(link.b, pool)


def test_both_directions_with_times():
    file = io.BytesIO()
    a, b = recorder(file, epoch=10**18)
    assert a.tx(b"one", b"three", now=5) == 2
    assert b.rx() == [b"one", b"three"]
    b.tx(b"back")
    assert a.rx(now=77) == [b"back"]
    assert list(recorded(file.getvalue())) == [
        (10**18 + 5, 3, b"one", 2), (10**18 + 5, 5, b"three", 2), (10**18 + 77, 4, b"back", 1)]
    assert [kind for kind, _ in blocks(file.getvalue())][:2] == [0x0A0D0D0A, 1]
    assert a.driver.packets == 3 and a.pool.full
    a.driver.close()
    assert not file.closed


def test_snaplen():
    file = io.BytesIO()
    a, _ = recorder(file, snaplen=2)
    a.tx(b"12345")
    assert list(recorded(file.getvalue())) == [(0, 5, b"12", 2)]


def test_what_the_driver_refuses_is_recorded_once():
    file = io.BytesIO()
    a, b = recorder(file, MemoryLink(capacity=1))
    assert a.tx(b"1", b"2") == 1
    b.rx()
    assert a.tx(b"2") == 1
    assert [frame for _, _, frame, _ in recorded(file.getvalue())] == [b"1", b"2"]


def test_another_tool_reads_it(tmp_path):
    tcpdump = shutil.which("tcpdump")
    if tcpdump is None:
        pytest.skip("tcpdump is not installed")
    path = tmp_path / "ping.pcapng"
    a, _ = recorder(path)
    a.tx(PING)
    a.driver.close()
    shown = subprocess.run([tcpdump, "-nr", path], capture_output=True, text=True, timeout=20, check=True).stdout
    assert "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 1" in shown


def test_a_file_that_cannot_be_written_ends_the_driver():
    class Full(io.BytesIO):
        full = False

        def write(self, data):
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(data)

    file = Full()
    a, _ = recorder(file)
    file.full = True
    with pytest.raises(OSError, match="No space"):
        a.tx(b"1")
    a.driver.error = None
    assert a.tx(b"2") == 1


def test_errors_of_the_driver_behind_come_through():
    class Broken(PythonDriver):
        def receive(self, now, limit):
            raise RuntimeError("cable")

    probe = DriverProbe(Capture(Broken(), io.BytesIO()), PacketPool(packets=4))
    with pytest.raises(RuntimeError, match="cable"):
        probe.rx()


def test_wrong_snaplen():
    with pytest.raises(ConfigError, match="snaplen"):
        Capture(MemoryLink().a, io.BytesIO(), snaplen=-1)
