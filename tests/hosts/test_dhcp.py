"""The DHCP client: states in virtual time with a server of our own, and against dnsmasq on a TAP device."""
import asyncio
import contextlib
import random
import shutil
import socket
import struct
import subprocess
import time
from ipaddress import IPv4Address, IPv4Network

import pytest

from iip import dhcp
from iip.aio import Stack
from iip.dhcp import BOUND, INIT, REBINDING, RENEWING, Client
from iip.drivers import Tap
from iip.errors import DriverError
from tests.harness.netns import netns  # noqa: F401

MAC = bytes.fromhex("020000000001")
SECOND = 1_000_000_000
SERVER, OURS = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.50")
PLAIN = {1: "255.255.255.0", 3: "10.0.0.1", 6: ("10.0.0.1", "10.0.0.3"), 15: b"iip.test", 26: struct.pack("!H", 1400)}


def option(code, value):
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, tuple):
        value = b"".join(IPv4Address(text).packed for text in value)
    elif isinstance(value, int):
        value = value.to_bytes(4, "big")
    return bytes((code, len(value))) + value


def answer(message, kind, options=PLAIN, *, address=OURS, server=SERVER, lease=100, tail=b""):
    """What a server says to a message of the client's."""
    head = bytearray(message.data[:240])
    head[0] = 2
    head[16:20] = address.packed
    return bytes(head) + option(53, bytes([kind])) + option(54, str(server)) + option(51, lease) + b"".join(
        option(*item) for item in options.items()) + tail + b"\xff"


def kind(message):
    """Of a message of the client's: type, requested address, server."""
    options = {}
    assert dhcp._options(message.data[240:], options)
    assert options[61] == b"\1" + MAC
    return options[53][0], options.get(50), options.get(54)


def bound(client, now=0, **settings):
    (discover,) = client.run(now)
    assert kind(discover) == (1, None, None)
    assert (str(discover.source), str(discover.destination)) == ("0.0.0.0", "255.255.255.255")
    assert client.feed(answer(discover, 2), now)
    (request,) = client.run(now)
    assert kind(request) == (3, OURS.packed, SERVER.packed)
    assert client.feed(answer(request, 5, **settings), now)
    assert client.state == BOUND


def test_a_lease():
    client = Client(MAC, seed=1)
    bound(client)
    lease = client.lease
    assert (str(lease.interface), lease.seconds, lease.domain) == ("10.0.0.50/24", 100, "iip.test")
    assert list(map(str, lease.nameservers)) == ["10.0.0.1", "10.0.0.3"]
    assert lease.settings() == {"addresses": ("10.0.0.50/24",), "routes": (("0.0.0.0/0", "10.0.0.1"),), "mtu": 1400}
    assert client.deadline == 50 * SECOND
    assert client.run(49 * SECOND) == []


def test_discovery_is_repeated_later_and_later():
    client = Client(MAC, seed=1)
    for wanted in (4, 8, 16, 32, 64, 64):
        now = client.deadline
        assert [kind(message)[0] for message in client.run(now)] == [1]
        assert abs((client.deadline - now) / SECOND - wanted) <= 1


def test_a_request_without_an_answer_starts_anew():
    client = Client(MAC, seed=1)
    (discover,) = client.run(0)
    client.feed(answer(discover, 2), 0)
    kinds = []
    for _ in range(5):
        kinds += [kind(message)[0] for message in client.run(client.deadline)]
    assert kinds == [3, 3, 3, 3, 1]


def test_renewal_rebinding_and_the_end():
    client = Client(MAC, seed=1)
    bound(client, lease=1000)
    (renew,) = client.run(500 * SECOND)
    assert (client.state, renew.source, renew.destination, kind(renew)) == (RENEWING, OURS, SERVER, (3, None, None))
    assert renew.data[12:16] == OURS.packed
    assert client.deadline == (500 + 187) * SECOND + SECOND // 2      # half of what is left
    assert client.feed(answer(renew, 5, lease=1000), 500 * SECOND)
    assert client.deadline == 1000 * SECOND
    client.run(1000 * SECOND)
    (rebind,) = client.run(1375 * SECOND)
    assert (client.state, str(rebind.destination)) == (REBINDING, "255.255.255.255")
    assert client.lease is not None
    (discover,) = client.run(1500 * SECOND)
    assert client.lease is None
    assert kind(discover)[:2] == (1, OURS.packed)     # the same again, if possible


def test_a_nak():
    client = Client(MAC, seed=1)
    bound(client)
    (renew,) = client.run(50 * SECOND)
    assert client.feed(answer(renew, 6, {}, address=IPv4Address(0)), 50 * SECOND)
    assert (client.lease, client.state) == (None, INIT)
    assert kind(client.run(50 * SECOND)[0]) == (1, None, None)


def test_decline_and_release():
    client = Client(MAC, seed=1)
    bound(client)
    (decline,) = client.decline(SECOND)
    assert kind(decline) == (4, OURS.packed, SERVER.packed)
    assert client.run(2 * SECOND) == []
    bound(client, 11 * SECOND)
    (release,) = client.release(12 * SECOND)
    assert (kind(release)[0], release.source, release.destination) == (7, OURS, SERVER)
    assert client.lease is None


def test_what_is_not_for_us():
    client = Client(MAC, seed=1)
    (discover,) = client.run(0)
    good = answer(discover, 2)
    other = bytearray(good)
    other[4] ^= 1
    station = bytearray(good)
    station[28] ^= 2
    request = bytearray(good)
    request[0] = 1
    for bad in (bytes(other), bytes(station), bytes(request), good[:200], good[:245], answer(discover, 5),
                answer(discover, 2, address=IPv4Address(0))):
        assert not client.feed(bad, 0)
    assert client.feed(good, 0)
    (wanted,) = client.run(0)
    assert not client.feed(answer(wanted, 5, server=IPv4Address("10.0.0.9")), 0)
    assert not client.feed(answer(wanted, 5, lease=0), 0)
    assert client.feed(answer(wanted, 5), 0)
    assert not client.feed(answer(wanted, 5), 0)


def test_random_bytes_do_no_harm():
    client, dice = Client(MAC, seed=1), random.Random(1)
    (discover,) = client.run(0)
    good = answer(discover, 2, {**PLAIN, 121: b"\x08\x0a\x0a\0\0\1", 52: b"\3"})
    for _ in range(3000):
        bad = bytearray(good[:dice.randrange(len(good) + 1)])
        for _ in range(dice.randrange(4)):
            if len(bad) > 36:
                bad[dice.randrange(34, len(bad))] = dice.randrange(256)
        dhcp._parse(bytes(bad))
        dhcp.from_frame(bytes(bad), MAC)


def test_routes_and_split_options():
    client = Client(MAC, seed=1)
    routes = bytes((24, 192, 168, 7, 10, 0, 0, 2)) + bytes((0, 10, 0, 0, 1)) + bytes((8, 11, 0, 0, 0, 0))
    bound(client, tail=option(121, routes[:9]) + option(121, routes[9:]))
    assert client.lease.routes == ((IPv4Network("192.168.7.0/24"), IPv4Address("10.0.0.2")), (IPv4Network("0.0.0.0/0"), SERVER),
                                   (IPv4Network("11.0.0.0/8"), IPv4Address(0)))
    assert client.lease.settings()["routes"] == (("192.168.7.0/24", "10.0.0.2"), ("0.0.0.0/0", "10.0.0.1"))


def test_frames():
    message = dhcp.Message(b"x" * 301, IPv4Address(0), IPv4Address("255.255.255.255"))
    frame = bytearray(dhcp.to_frame(message, MAC))
    assert dhcp.from_frame(bytes(frame), MAC) is None         # that is to port 67
    frame[34:38] = frame[36:38] + frame[34:36]                # the sum does not change
    assert dhcp.from_frame(bytes(frame) + b"padding", MAC) == message.data
    for at in (20, 24, 26, 50, 300):
        bad = bytearray(frame)
        bad[at] ^= 1
        assert dhcp.from_frame(bytes(bad), MAC) is None


# -- the real thing ------------------------------------------------------------------------------------------
@contextlib.contextmanager
def dnsmasq(device, directory, *options):
    if shutil.which("dnsmasq") is None:
        pytest.skip("needs dnsmasq")
    log = directory / "log"
    process = subprocess.Popen(
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", f"--interface={device}", "--bind-interfaces", "--no-resolv",
         "--no-hosts", "--user=root", "--log-dhcp", "--pid-file=", f"--log-facility={log}",
         f"--dhcp-leasefile={directory / 'leases'}", *options])
    try:
        end = time.monotonic() + 10
        while not (log.exists() and "started" in log.read_text()):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        yield log
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.interop
def test_dnsmasq(netns, tmp_path):  # noqa: F811
    tap = Tap("tap0", host_address="10.9.0.1/24")
    client = Client(MAC, hostname="machine", seed=1)
    with dnsmasq("tap0", tmp_path, "--dhcp-range=10.9.0.50,10.9.0.50,255.255.255.0,2m",
                 "--dhcp-option=option:router,10.9.0.1", "--address=/name.test/10.9.0.1") as log:
        lease = dhcp.acquire(tap, client)
        assert str(lease.interface) == "10.9.0.50/24"
        assert lease.seconds == 120
        assert list(map(str, lease.nameservers)) == ["10.9.0.1"]

        async def main():
            servers = list(map(str, lease.nameservers))
            async with Stack(tap, mac=MAC.hex(":"), nameservers=servers, **lease.settings()) as stack:
                before = client.lease.times
                # a minute has passed: the time to renew
                keeper = asyncio.create_task(dhcp.keep(client, stack, clock=lambda: time.monotonic_ns() + 61 * SECOND))
                infos = await stack.getaddrinfo("name.test", 80, type=socket.SOCK_STREAM)
                assert [info[4][0] for info in infos] == ["10.9.0.1"]
                while client.lease.times == before:
                    await asyncio.sleep(0.05)
                assert not keeper.done()
                keeper.cancel()
                await asyncio.wait([keeper])
                transport, _ = await stack.create_datagram_endpoint(asyncio.DatagramProtocol, ("0.0.0.0", 68))
                for message in client.release(time.monotonic_ns()):
                    transport.sendto(message.data, (str(message.destination), 67))
                while "DHCPRELEASE" not in log.read_text():
                    await asyncio.sleep(0.02)
            assert stack.engine.pool.full

        asyncio.run(asyncio.wait_for(main(), 30))
        assert log.read_text().count("DHCPACK") == 2
        assert "machine" in log.read_text()


@pytest.mark.interop
def test_nobody_answers(netns):  # noqa: F811
    tap = Tap("tap0")
    with pytest.raises(DriverError, match="no server answered"):
        dhcp.acquire(tap, Client(MAC), timeout=0.1)
    tap.close()
