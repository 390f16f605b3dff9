"""Captures as a driver: packets at their times, into an engine and out of it."""
import gzip
import io
import struct

import pytest
from scapy.utils import rdpcap, wrpcap, wrpcapng

import iip
from iip.drivers import Capture, DriverProbe, MemoryLink, Pcap
from iip.drivers.pcapng import INBOUND, OUTBOUND, PcapngWriter
from iip.errors import ConfigError, DriverError
from iip.memory.pool import PacketPool

START = 1_700_000_000_000_000_123
BODIES = [bytes([n]) * (40 + n) for n in range(10)]


def pcapng(path, bodies=BODIES, gap=1000, medium="ip", direction=INBOUND):
    writer = PcapngWriter(path)
    writer.interface(medium)
    for i, body in enumerate(bodies):
        writer.frame(START + i * gap, body, direction if isinstance(direction, int) else direction[i % 2])
    writer.close()
    return path


def pcap(nano, link=101, bodies=BODIES):
    head = struct.pack("<IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    return head + b"".join(struct.pack("<IIII", START // 10**9, i, len(b), len(b)) + b for i, b in enumerate(bodies))


def play(driver, start=1_000):
    """All packets, with the times at which they come."""
    probe = DriverProbe(driver, PacketPool(packets=64))
    now, got = start, []
    while not driver.finished:
        got += [(now, frame) for frame in probe.rx(now=now)]
        assert driver.finished or probe.poll_at(now) > now
        now = probe.poll_at(now)
    assert probe.poll_at(0) is None and probe.pool.full
    return got


def test_packets_come_at_their_times(tmp_path):
    driver = Pcap(pcapng(tmp_path / "trace", gap=999))
    assert (driver.medium, driver.start) == ("ip", START)
    assert play(driver, START) == [(START + 999 * i, b) for i, b in enumerate(BODIES)]
    assert driver.stats() == {"rx_packets": 10, "rx_ignored": 0, "rx_no_buffer": 0, "tx_packets": 0}


def test_faster_and_at_once(tmp_path):
    pcapng(tmp_path / "trace")
    assert play(Pcap(tmp_path / "trace", speed=4)) == [(1_000 + 250 * i, b) for i, b in enumerate(BODIES)]
    assert play(Pcap(tmp_path / "trace", speed=None)) == [(1_000, b) for b in BODIES]


@pytest.mark.parametrize("nano", [False, True])
def test_the_older_format(nano):
    driver = Pcap(io.BytesIO(pcap(nano)))
    assert driver.start == START // 10**9 * 10**9
    assert play(driver) == [(1_000 + (i if nano else 1000 * i), b) for i, b in enumerate(BODIES)]


def test_compressed(tmp_path):
    (tmp_path / "trace.gz").write_bytes(gzip.compress(pcap(True)))
    assert [b for _, b in play(Pcap(tmp_path / "trace.gz"))] == BODIES


@pytest.mark.parametrize("write", [wrpcap, wrpcapng])
def test_captures_of_scapy(tmp_path, write):
    from scapy.layers.l2 import Ether

    frames = [bytes(Ether() / bytes([i] * 50)) for i in range(3)]
    write(str(tmp_path / "trace"), [Ether(f) for f in frames])
    driver = Pcap(tmp_path / "trace")
    assert driver.medium == "ethernet" and [b for _, b in play(driver)] == frames


def test_one_direction(tmp_path):
    pcapng(tmp_path / "trace", direction=(OUTBOUND, INBOUND))
    driver = Pcap(tmp_path / "trace", direction="in")
    assert [b for _, b in play(driver)] == BODIES[1::2]
    assert driver.stats()["rx_ignored"] == 5 and driver.start == START


def test_what_was_cut_short_is_ignored(tmp_path):
    writer = PcapngWriter(tmp_path / "trace", snaplen=45)
    writer.interface("ip")
    for body in BODIES:
        writer.frame(START, body, INBOUND)
    writer.close()
    driver = Pcap(tmp_path / "trace")
    assert [b for _, b in play(driver)] == BODIES[:6] and driver.stats()["rx_ignored"] == 4


def test_a_full_pool_loses_packets(tmp_path):
    driver = Pcap(pcapng(tmp_path / "trace"), speed=None)
    probe = DriverProbe(driver, PacketPool(packets=4))
    assert len(probe.rx(now=1)) == 4 and driver.finished
    assert driver.stats()["rx_no_buffer"] == 6


def test_nothing_in_it(tmp_path):
    driver = Pcap(pcapng(tmp_path / "trace", bodies=[]))
    assert driver.finished and DriverProbe(driver, PacketPool(packets=4)).rx() == []


class Echo(iip.Handler):
    def tcp_payload(self, conn, data):
        conn.send(bytes(data))
        conn.consume(len(data))


class Client(iip.Handler):
    def __init__(self):
        self.got = b""

    def tcp_connected(self, conn):
        conn.send(b"hello")

    def tcp_payload(self, conn, data):
        self.got += bytes(data)
        conn.consume(len(data))
        conn.close()


def test_a_recorded_conversation_is_answered_alike(tmp_path):
    """An echo server records; the same server, given what came in then, sends the same again at the same times."""
    def server(driver):
        engine = iip.Engine(iip.Config(addresses="10.0.0.1/24"), Echo(), driver, seed=7)
        engine.tcp_listen(7)
        return engine

    link = MemoryLink(checksum_offload=False)
    first = server(Capture(link.a, tmp_path / "recorded", epoch=START))
    client = Client()
    peer = iip.Engine(iip.Config(addresses="10.0.0.2/24", time_wait=0), client, link.b, seed=8)
    peer.tcp_connect("10.0.0.1", 7)
    for now in range(10**6, 10**9, 10**6):
        peer.run(now)
        first.run(now)
    assert client.got == b"hello"
    first.driver.close()

    driver = Pcap(tmp_path / "recorded", direction="in", sink=tmp_path / "answers")
    again = server(driver)
    now = driver.start - START
    while now is not None and not driver.finished:
        now = again.run(now)
    driver.close()

    def sent(name):
        return [bytes(p) for p in rdpcap(str(tmp_path / name))]
    recorded = [bytes(p) for p in rdpcap(str(tmp_path / "recorded")) if p.direction == OUTBOUND]
    assert len(recorded) >= 3 and sent("answers") == recorded
    assert [p.time for p in rdpcap(str(tmp_path / "answers"))] == \
        [p.time for p in rdpcap(str(tmp_path / "recorded")) if p.direction == OUTBOUND]
    again.close()
    assert again.pool.full


@pytest.mark.parametrize("settings, words", [
    ({"source": "/no/such/trace"}, "there is no capture '/no/such/trace'"),
    ({"source": io.BytesIO(b"#!/bin/sh something else")}, "editcap"),
    ({"direction": "up"}, "direction='up'"),
    ({"speed": 0}, "speed=0"),
])
def test_wrong_settings_name_the_setting(settings, words):
    with pytest.raises((DriverError, ConfigError), match=words):
        Pcap(**{"source": io.BytesIO(pcap(True)), **settings})
