"""The link layer against the kernel's: ARP, neighbour discovery, conflicts, long frames."""
import json
import socket
import time

import pytest

import iip
from iip.apps.echo import Echo
from tests.interop.test_bulk import echo
from tests.interop.world import Kernel, Local, Way, need

pytestmark = pytest.mark.interop

TAP = [Way("tap", 4), Way("tap", 6)]
ids = ["arp", "nd"]


def neighbours(netns, device):
    """The kernel's table: address → (link-layer address, states)."""
    rows = json.loads(netns.run("ip", "-json", "neighbour", "show", "dev", device).stdout)
    return {row["dst"]: (row.get("lladdr"), row["state"]) for row in rows}


@pytest.mark.parametrize("way", TAP, ids=ids)
def test_the_kernel_finds_us(netns, way):
    need("ip")
    with Local("tap", Echo(), mac="02:00:00:00:00:42") as local:
        local.engine.handler.engine = local.engine
        local.engine.udp_bind(7)
        with socket.socket(way.family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect((way.iip, 7))
            sock.send(b"hello")
            local.run(0.1)
            assert sock.recv(100) == b"hello"
        assert neighbours(netns, local.device.name)[way.iip][0] == "02:00:00:00:00:42"


@pytest.mark.parametrize("way", TAP, ids=ids)
def test_we_find_the_kernel_again_after_it_changed_its_address(netns, way):
    """The kernel's next question tells us the new one."""
    need("ip")
    replies = []

    class Pinger(iip.Handler):
        def icmp_reply(self, reply):
            replies.append(reply.seq)

    with Local("tap", Pinger()) as local:
        local.run(0.01)
        local.engine.ping(way.kernel, 1, 1)
        local.until(lambda: replies == [1])
        netns.run("ip", "link", "set", local.device.name, "address", "02:00:00:00:00:99")
        netns.run("ip", "neighbour", "flush", "dev", local.device.name)
        with socket.socket(way.family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"who are you?", (way.iip, 9))
        local.run(0.2)
        local.engine.ping(way.kernel, 1, 2)
        local.until(lambda: replies == [1, 2], 2)


class Conflicts(iip.Handler):
    def __init__(self):
        self.conflicts = []

    def address_conflict(self, conflict):
        self.conflicts.append((str(conflict.address), conflict.mac.hex(":")))


@pytest.mark.parametrize("way", TAP, ids=ids)
def test_an_address_that_the_kernel_has_already(netns, way):
    """Our probes find it: a conflict is reported, with the station that has the address."""
    need("ip")
    handler = Conflicts()
    with Local("tap", handler, link_local=False) as local:
        flags = ["nodad"] if way.version == 6 else []
        netns.run("ip", "address", "add", f"{way.iip}/{way.bits}", "dev", local.device.name, *flags)
        time.sleep(0.1)
        mac = json.loads(netns.run("ip", "-json", "link", "show", "dev", local.device.name).stdout)[0]["address"]
        local.until(lambda: handler.conflicts)
        assert set(handler.conflicts) == {(way.iip, mac)}


def test_the_kernel_finds_that_we_have_its_address(netns):
    """Its duplicate address detection: we defend ours, and the kernel gives up."""
    need("ip")
    way = Way("tap", 6)
    with Local("tap") as local:
        local.run(1.2)                             # our own check is over
        netns.run("ip", "address", "add", f"{way.iip}/{way.bits}", "dev", local.device.name)

        def failed():
            local.run(0.05)
            rows = json.loads(netns.run("ip", "-json", "address", "show", "dev", local.device.name).stdout)
            return any(a.get("dadfailed") for row in rows for a in row.get("addr_info", ()) if a["local"] == way.iip)
        assert any(failed() for _ in range(100))


@pytest.mark.parametrize("way", [Way(kind, version) for kind in ("tap", "tun") for version in (4, 6)],
                         ids=["tap4", "tap6", "tun4", "tun6"])
def test_long_frames(netns, way, files):
    """MTU 9000: echo of 5 MB, our segments as long as the kernel's."""
    data = (files / "big").read_bytes()[:5_000_000]
    with Local(way.kind, Echo(), device_mtu=9000, packet_size=9216, pool_packets=2048) as local:
        local.engine.tcp_listen(7)
        kernel = Kernel(echo, way, data)
        local.until(lambda: local.engine.n_connections)
        assert local.engine.connections()[0]["mss"] > 8900
        local.until(kernel.done, 30)
        assert kernel.result() == data
        counters = local.engine.stats()
        assert counters["tx_bytes"] / counters["tx_packets"] > 2000


def test_a_packet_size_that_does_not_fit_the_frames_is_refused(netns):
    with pytest.raises(iip.ConfigError, match=r"packet_size=2048: too small .* use packet_size=\d+"), \
            Local("tap", device_mtu=9000):
        pass


@pytest.mark.parametrize("way", TAP, ids=["tap4", "tap6"])
def test_a_smaller_mtu_than_the_kernel_thinks(netns, way, files):
    """Both keep to ours: the kernel because our SYN's MSS says so. (With the device's offload frames are larger.)"""
    data = (files / "medium").read_bytes()
    with Local("tap", Echo(), mtu=1280, offload=False) as local:
        local.engine.tcp_listen(7)
        kernel = Kernel(echo, way, data)
        local.until(kernel.done)
        assert kernel.result() == data
        counters = local.engine.stats()
        for direction in ("rx", "tx"):
            assert counters[f"{direction}_bytes"] / counters[f"{direction}_packets"] < 1280 + 14
