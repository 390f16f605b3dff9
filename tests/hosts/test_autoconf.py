"""Addresses from router advertisements: in virtual time with a router of our own, and from dnsmasq on a TAP device."""
import asyncio
import random
import socket
import struct
from ipaddress import IPv6Address, IPv6Network

import pytest

from iip import autoconf
from iip.aio import Stack
from iip.autoconf import Host
from iip.drivers import Tap
from iip.errors import DriverError
from tests.harness.netns import netns  # noqa: F401
from tests.hosts import virtual
from tests.hosts.test_dhcp import dnsmasq

MAC = bytes.fromhex("020000000001")
SECOND = 1_000_000_000
DAY = 86400
ROUTER = IPv6Address("fe80::1")
EUI = "fd01::ff:fe00:1/64"


def prefix(net="fd01::/64", valid=10 * DAY, preferred=5 * DAY, flags=0xC0):
    net = IPv6Network(net)
    return struct.pack("!BBBBIII", 3, 4, net.prefixlen, flags, valid, preferred, 0) + net.network_address.packed


def advertise(*options, router=ROUTER, lifetime=1800, flags=0, hops=255, damage=False):
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, flags, lifetime, 0, 0) + b"".join(options)
    target = IPv6Address("ff02::1")
    total = autoconf._checksum(router, target, body) ^ damage
    body = body[:2] + struct.pack("!H", total) + body[4:]
    return (b"\x33\x33\0\0\0\1" + bytes.fromhex("020000000099") + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(body), 58, hops)
            + router.packed + target.packed + body)


def made(*options, **settings):
    host = Host(MAC, seed=1, **settings)
    assert host.feed(advertise(*(options or [prefix()])), 0)
    return host


def texts(host):
    return [str(address.interface) for address in host.addresses]


def test_solicitations():
    host, times = Host(MAC, seed=1), []
    now = 0
    while len(times) < 3:
        frames = host.run(now)
        if frames:
            times.append(now)
            assert frames[0][:14] == b"\x33\x33\0\0\0\2" + MAC + b"\x86\xdd"
            assert frames[0][21] == 255
            assert frames[0][22:38] == bytes(16)
            assert autoconf._checksum(IPv6Address(0), IPv6Address("ff02::2"), frames[0][54:]) == 0
        now = host.deadline
    assert times[0] <= SECOND
    assert [b - a for a, b in zip(times, times[1:], strict=False)] == [4 * SECOND] * 2  # noqa: RUF007
    assert host.run(host.deadline) == []


def test_an_advertisement_ends_them():
    host = Host(MAC, seed=1)
    host.run(0)
    host.feed(advertise(prefix()), 1)
    assert [host.run(n * SECOND) for n in range(20)] == [[]] * 20


def test_addresses_router_and_servers():
    rdnss = struct.pack("!BBHI", 25, 5, 0, 600) + IPv6Address("fd01::53").packed + IPv6Address("fd01::54").packed
    dnssl = struct.pack("!BBHI", 31, 3, 0, 600) + b"\4home\4test\0".ljust(16, b"\0")
    host = made(prefix(), rdnss, dnssl, struct.pack("!BBHI", 5, 1, 0, 1400), privacy=False)
    assert host.settings() == {"addresses": (EUI,), "gateway6": "fe80::1", "mtu": 1400, "ttl": 64}
    assert list(map(str, host.nameservers)) == ["fd01::53", "fd01::54"]
    assert list(host.search) == ["home.test"]
    host.run(600 * SECOND)
    assert (host.nameservers, host.search) == ({}, {})
    host.run(1800 * SECOND)
    assert host.routers == {}
    assert host.settings()["addresses"] == (EUI,)
    host.run(10 * DAY * SECOND)
    assert host.addresses == []


def test_a_router_that_leaves():
    host = made()
    host.feed(advertise(lifetime=0), SECOND)
    assert "gateway6" not in host.settings()


def test_prefixes_that_give_no_address():
    for bad in (prefix(flags=0x80), prefix("fd01::/48"), prefix("fe80::/64"), prefix(valid=0, preferred=0),
                prefix(valid=10, preferred=20)):
        assert made(bad).addresses == []


def test_nobody_shortens_a_lifetime_below_two_hours():
    host = made(prefix(), privacy=False)
    (address,) = host.addresses
    host.feed(advertise(prefix(valid=60, preferred=0)), 0)
    assert (address.valid, address.preferred) == (7200 * SECOND, 0)
    host.feed(advertise(prefix(valid=60, preferred=60)), 3600 * SECOND)
    assert address.valid == 7200 * SECOND
    host.feed(advertise(prefix(valid=4000, preferred=60)), 3600 * SECOND)
    assert address.valid == (3600 + 4000) * SECOND


def test_temporary_addresses_have_successors():
    host = made(prefix(valid=0xFFFFFFFF, preferred=0xFFFFFFFF))
    lasting, first = host.addresses
    assert str(lasting.interface) == EUI
    assert host.settings()["addresses"][0] == str(first.interface)
    assert 0.6 * DAY * SECOND <= first.preferred <= DAY * SECOND
    assert first.valid == 2 * DAY * SECOND
    assert host.deadline <= first.preferred - 5 * SECOND
    host.run(first.preferred - 5 * SECOND)
    assert len(host.addresses) == 3
    assert host.settings()["addresses"][0] not in (EUI, str(first.interface))
    seen = set()
    now = 0
    while now < 30 * DAY * SECOND:
        host.run(now)
        now = host.deadline
        seen |= set(texts(host))
        assert 2 <= len(host.addresses) <= 6
    assert len(seen) > 30


def test_deprecated_addresses_are_used_last():
    host = made(prefix(valid=100, preferred=50), prefix("fd02::/64", valid=100, preferred=100), privacy=False)
    assert host.settings()["addresses"] == ("fd02::ff:fe00:1/64", EUI)
    host = made(prefix(valid=100, preferred=50))
    two = host.settings()["addresses"]
    host.feed(advertise(prefix("fd02::/64", valid=1000, preferred=1000)), 0)
    host.run(50 * SECOND)
    assert host.settings()["addresses"][2:] == two
    assert host.deadline > 50 * SECOND


def test_an_address_that_somebody_else_has():
    host = made()
    lasting, first = host.addresses
    assert not host.duplicate(IPv6Address("fd01::1"), 0)
    for _ in range(5):
        host.duplicate(next((a for a in host.addresses if a.temporary), first).interface.ip, 0)
    assert host.addresses == [lasting]            # three others were tried
    assert host.duplicate(lasting.interface.ip, 0)
    assert host.addresses == []                   # it shows the MAC: there is no other
    host = made(secret=b"x", privacy=False)
    (before,) = texts(host)
    host.duplicate(host.addresses[0].interface.ip, 0)
    (after,) = texts(host)
    assert after != before


def test_opaque_addresses_are_stable_and_differ_by_prefix():
    one, two = made(secret=b"x", privacy=False), made(secret=b"x", privacy=False)
    other = made(prefix("fd02::/64"), secret=b"x", privacy=False)
    assert texts(one) == texts(two)
    assert EUI not in texts(one)
    assert one.addresses[0].interface.packed[8:] != other.addresses[0].interface.packed[8:]


def test_what_is_not_valid():
    host = Host(MAC)
    good = advertise(prefix())
    for bad in (advertise(prefix(), hops=64), advertise(prefix(), router=IPv6Address("fd01::1")), advertise(prefix(), damage=True),
                good[:-1], advertise(b"\3\0"), advertise(b"\3\5" + bytes(30)), b"", good[:60], b"\x02" + good[1:]):
        assert not host.feed(bad, 0)
    assert host.addresses == []
    dice = random.Random(1)
    for _ in range(2000):
        bad = bytearray(good)
        bad[dice.randrange(54, len(bad))] = dice.randrange(256)
        host.feed(bytes(bad[:dice.randrange(len(bad))]), 0)
    many = Host(MAC)
    for n in range(100):
        many.feed(advertise(prefix(f"fd01:{n:x}::/64"), router=IPv6Address(f"fe80::{n + 1:x}")), 0)
    assert len(many.addresses) <= 33
    assert len(many.routers) == 16


# -- beside a running stack ------------------------------------------------------------------------------------
def claims(address):
    """Another station's advertisement of an address."""
    source, target = IPv6Address(address), IPv6Address("ff02::1")
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + source.packed + bytes((2, 1)) + bytes.fromhex("020000000077")
    body = body[:2] + struct.pack("!H", autoconf._checksum(source, target, body)) + body[4:]
    return (b"\x33\x33\0\0\0\1" + bytes.fromhex("020000000077") + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(body), 58, 255)
            + source.packed + target.packed + body)


def test_a_stack_follows_routers(monkeypatch):
    async def main(clock):
        host = Host(MAC, seed=1)
        async with virtual.ethernet(MAC, addresses=["10.0.0.1/24"], seed=1) as (stack, driver):
            async with virtual.doing(autoconf.follow(host, stack, clock=clock)):
                await asyncio.sleep(1.5)
                asked = [frame for frame in driver.drain() if frame[12:14] == b"\x86\xdd" and frame[54] == 133]
                assert [frame[:14] + frame[22:54] for frame in asked] == [
                    b"\x33\x33\0\0\0\2" + MAC + b"\x86\xdd" + bytes(16) + IPv6Address("ff02::2").packed]
                driver.feed(advertise(prefix(valid=2 * DAY, preferred=DAY)))
                await asyncio.sleep(0.1)
                temporary, lasting, other = stack.engine.addresses
                assert (lasting, other) == (EUI, "10.0.0.1/24")
                assert str(stack.engine.source("2001:db8::1")) + "/64" == temporary
                assert stack.engine.config.gateway6 == "fe80::1"
                driver.feed(claims(temporary[:-3]))           # while it is being checked
                await asyncio.sleep(0.1)
                assert temporary not in stack.engine.addresses
                temporary = stack.engine.addresses[0]
                assert len(stack.engine.addresses) == 3
                await asyncio.sleep(10)
                # another router, and the first one leaves
                driver.feed(advertise(router=IPv6Address("fe80::2"), lifetime=3600))
                driver.feed(advertise(lifetime=0))
                await asyncio.sleep(0.1)
                assert stack.engine.config.gateway6 == "fe80::2"
                conn = stack.engine.tcp_connect("2001:db8::1", 80)
                await asyncio.sleep(3700)
                assert stack.engine.config.gateway6 is None
                assert conn.closed
                # a day later nothing is preferred any more, and a day after that nothing is valid
                await asyncio.sleep(DAY)
                assert stack.engine.addresses[-1] == "10.0.0.1/24"
                assert temporary in stack.engine.addresses
                await asyncio.sleep(DAY)
                assert stack.engine.addresses == ("10.0.0.1/24",)
                # with a router that goes on, temporary addresses succeed each other
                seen = set()
                for _ in range(60 * 4):
                    driver.feed(advertise(prefix()))
                    await asyncio.sleep(DAY / 4)
                    driver.drain()
                    seen.add(stack.engine.addresses[0])
                    assert len(stack.engine.addresses) <= 6
                assert len(seen) > 50
            assert stack.hearing == []

    virtual.run(monkeypatch, main)


def test_following_ends_with_the_stack(monkeypatch):
    async def main(clock):
        async with virtual.ethernet(MAC) as (stack, _driver):
            task = asyncio.create_task(autoconf.follow(Host(MAC), stack, clock=clock))
            await asyncio.sleep(100)
        await asyncio.wait_for(task, 1)

    virtual.run(monkeypatch, main)


@pytest.mark.interop
def test_dnsmasq(netns, tmp_path):  # noqa: F811
    tap = Tap("tap0", host_address="fd09::1/64")
    host = Host(MAC)
    with dnsmasq("tap0", tmp_path, "--enable-ra", "--dhcp-range=fd09::,ra-only,64,600", "--address=/name.test/fd09::1"):
        autoconf.acquire(tap, host)
        assert len(host.addresses) == 2
        assert all(address.interface in IPv6Network("fd09::/64") for address in host.addresses)
        assert host.settings()["gateway6"].startswith("fe80::")
        servers = list(map(str, host.nameservers))        # dnsmasq gives its link-local address
        assert len(servers) == 1

        async def main():
            async with Stack(tap, mac=MAC.hex(":"), nameservers=servers, **host.settings()) as stack:
                infos = await stack.getaddrinfo("name.test", 7, type=socket.SOCK_STREAM)
                assert infos[0][4][0] == "fd09::1"
                assert str(stack.engine.source("2001:db8::1")) == str(host.addresses[1].interface.ip)     # the temporary one
                with pytest.raises(ConnectionRefusedError):
                    await stack.open_connection("name.test", 7)
            assert stack.engine.pool.full

        asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.interop
def test_no_router(netns):  # noqa: F811
    tap = Tap("tap0")
    with pytest.raises(DriverError, match="no router"):
        autoconf.acquire(tap, Host(MAC), timeout=0.1)
    tap.close()
