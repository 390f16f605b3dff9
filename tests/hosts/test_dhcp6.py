"""The DHCPv6 client: states in virtual time with a server of our own, in a stack, and against dnsmasq on a TAP device."""
import asyncio
import itertools
import random
import socket
import struct
import time
from ipaddress import IPv6Address

import pytest

from iip import autoconf, dhcp6
from iip.aio import Stack
from iip.dhcp6 import BOUND, DECLINE, ENDED, INFORM, REBIND, RELEASE, RENEW, REQUEST, SOLICIT, Client
from iip.drivers import Tap
from tests.harness.netns import netns  # noqa: F401
from tests.hosts import virtual
from tests.hosts.test_dhcp import dnsmasq

MAC = bytes.fromhex("020000000001")
DUID = b"\0\3\0\1" + MAC
SERVER = b"\0\3\0\1server"
SECOND = 1_000_000_000
OURS, OTHER = IPv6Address("fd01::50"), IPv6Address("fd01::51")
DNS = (23, IPv6Address("fd01::53").packed)


def option(code, value=b""):
    return struct.pack("!HH", code, len(value)) + value


def ia(*addresses, t1=0, t2=0, preferred=100, valid=200, status=None):
    parts = b"".join(option(5, address.packed + struct.pack("!II", preferred, valid)) for address in addresses)
    if status is not None:
        parts += option(13, struct.pack("!H", status) + b"why")
    return 3, MAC[2:] + struct.pack("!II", t1, t2) + parts


def answer(message, kind, *options, server=SERVER, client=DUID):
    return bytes([kind]) + message[1:4] + option(1, client) + option(2, server) + b"".join(option(*item) for item in options)


def parsed(message):
    return message[0], {code: values[0] for code, values in dhcp6._options(message[4:]).items()}


def sent(client, now):
    """The only message that is due."""
    (message,) = client.run(now)
    return message


def soliciting(**settings):
    client = Client(MAC, seed=1, **settings)
    assert client.run(0) == []
    assert 0 <= client.deadline <= SECOND
    return client, sent(client, client.deadline)


def bound(*options):
    """Two messages by a server of the highest preference; the time is that of the lease."""
    client, solicit = soliciting()
    now = client.deadline
    assert client.feed(answer(solicit, 2, ia(OURS), (7, b"\xff")), now)
    request = sent(client, now)
    assert client.feed(answer(request, 7, *(options or [ia(OURS), DNS])), now)
    assert client.state == BOUND
    return client, now


def test_a_lease():
    client, solicit = soliciting()
    kind, options = parsed(solicit)
    assert kind == SOLICIT
    assert options[1] == DUID
    assert options[3] == MAC[2:] + bytes(8)
    assert 14 in options
    assert 23 in struct.unpack(f"!{len(options[6]) // 2}H", options[6])
    now = client.deadline - 1
    assert client.feed(answer(solicit, 2, ia(OURS)), now)
    assert client.run(now) == []              # others may be better
    now = client.deadline
    kind, options = parsed(request := sent(client, now))
    assert (kind, options[2]) == (REQUEST, SERVER)
    assert OURS.packed in options[3]
    names = b"\4home\4test\0"
    assert client.feed(answer(request, 7, ia(OURS), DNS, (24, names)), now)
    assert client.lease.settings() == {"addresses": ("fd01::50/128",)}
    assert client.lease.nameservers == (IPv6Address("fd01::53"),)
    assert client.lease.search == ("home.test",)
    assert client.deadline == now + 50 * SECOND           # half of the preferred lifetime
    assert client.run(client.deadline - 1) == []


def test_solicitations_are_repeated_later_and_later():
    client, _solicit = soliciting()
    waits, now = [], client.deadline
    for _ in range(16):
        before, elapsed = now, parsed(sent(client, now))[1][8]
        now = client.deadline
        waits.append((now - before) / SECOND)
    assert 1.9 <= waits[0] <= 2.31
    for one, two in itertools.pairwise(waits[:10]):
        assert 1.9 * one <= two <= 2.1 * one
    assert all(3240 <= wait <= 3960 for wait in waits[-3:])
    assert elapsed == b"\xff\xff"
    assert len({round(wait / 3600, 4) for wait in waits[-3:]}) == 3


def test_a_server_may_ask_for_less():
    client, solicit = soliciting()
    assert not client.feed(answer(solicit, 2, ia(status=2), (82, struct.pack("!I", 60))), 0)
    for _ in range(10):
        now = client.deadline
        client.run(now)
    assert client.deadline - now <= 66 * SECOND


def test_the_highest_preference_wins():
    client, solicit = soliciting()
    now = client.deadline - 1
    assert client.feed(answer(solicit, 2, ia(OURS), (7, b"\5"), server=b"five"), now)
    assert client.feed(answer(solicit, 2, ia(OURS), (7, b"\7"), server=b"seven"), now)
    assert client.feed(answer(solicit, 2, ia(OURS), server=b"none"), now)
    assert parsed(sent(client, client.deadline))[1][2] == b"seven"
    late, solicit = soliciting()
    solicit = sent(late, late.deadline)
    assert late.feed(answer(solicit, 2, ia(OURS)), late.deadline - 1)     # after the first wait the first is taken
    assert parsed(sent(late, late.deadline))[0] == REQUEST


def test_rapid_commit():
    client, solicit = soliciting()
    assert not client.feed(answer(solicit, 7, ia(OURS)), 0)
    assert client.feed(answer(solicit, 7, ia(OURS), (14, b"")), 0)
    assert client.state == BOUND


def test_a_request_without_answer_starts_anew():
    client, solicit = soliciting()
    now = client.deadline
    client.feed(answer(solicit, 2, ia(OURS), (7, b"\xff")), now)
    kinds = []
    for _ in range(11):
        kinds.append(parsed(sent(client, client.deadline))[0])
    assert kinds == [REQUEST] * 10 + [SOLICIT]
    client, solicit = soliciting()
    client.feed(answer(solicit, 2, ia(OURS), (7, b"\xff")), client.deadline)
    assert client.feed(answer(sent(client, client.deadline), 7, ia(status=2)), client.deadline)   # gone meanwhile
    assert (client.state, client.lease) == (SOLICIT, None)


def test_renewal_rebinding_and_the_end():
    client, now = bound(ia(OURS, t1=60, t2=96, preferred=120, valid=200))
    assert client.deadline == now + 60 * SECOND
    kind, options = parsed(sent(client, client.deadline))
    assert (kind, options[2]) == (RENEW, SERVER)
    assert 9 * SECOND <= client.deadline - now - 60 * SECOND <= 11 * SECOND
    seen = []
    while client.lease is not None:
        at = client.deadline
        seen += [(round((at - now) / SECOND), *parsed(message)[:1]) for message in client.run(at)]
    assert [at for at, kind in seen if kind == RENEW][-1] < 96
    assert next(at for at, kind in seen if kind == REBIND) == 96
    assert seen[-1] == (200, SOLICIT)


def test_renewed():
    client, now = bound()
    renew = sent(client, client.deadline)
    now = client.deadline
    assert client.feed(answer(renew, 7, ia(OURS, valid=500, preferred=400)), now)
    assert client.deadline == now + 200 * SECOND
    renew = sent(client, client.deadline)
    assert client.feed(answer(renew, 7, ia(OTHER)), client.deadline)      # another one in its place
    assert client.lease.settings() == {"addresses": ("fd01::51/128",)}
    renew = sent(client, client.deadline)
    assert client.feed(answer(renew, 7, ia(OTHER, valid=0, preferred=0)), client.deadline)
    assert (client.lease, client.state) == (None, SOLICIT)


def test_a_server_that_has_forgotten_us():
    client, _now = bound()
    renew = sent(client, client.deadline)
    assert client.feed(answer(renew, 7, ia(status=3), server=b"new"), client.deadline)
    kind, options = parsed(sent(client, client.deadline))
    assert (kind, options[2]) == (REQUEST, b"new")
    assert OURS.packed in options[3]


def test_stateless():
    client, inform = soliciting(stateless=True)
    kind, options = parsed(inform)
    assert (kind, 3 in options, 2 in options) == (INFORM, False, False)
    now = client.deadline
    assert client.feed(answer(inform, 7, DNS, (32, struct.pack("!I", 10))), now)
    assert (client.lease.nameservers, client.lease.addresses) == ((IPv6Address("fd01::53"),), ())
    assert client.deadline == now + 600 * SECOND          # no oftener
    assert parsed(sent(client, client.deadline))[0] == INFORM
    assert client.lease is not None


def test_release_and_decline():
    client, now = bound()
    client.release(now)
    assert client.lease.addresses == ()
    kinds = []
    while client.state != ENDED:
        kinds += [parsed(message)[0] for message in client.run(client.deadline)]
    assert kinds == [RELEASE] * 4
    client, now = bound()
    assert not client.decline(OTHER, now)
    assert client.decline(OURS, now)
    kind, options = parsed(decline := sent(client, now))
    assert (kind, options[2]) == (DECLINE, SERVER)
    assert OURS.packed in options[3]
    assert client.feed(answer(decline, 7), now)
    assert parsed(sent(client, now))[0] == SOLICIT


def test_what_is_not_for_us():
    client, solicit = soliciting()
    for bad in (answer(solicit, 2, ia(OURS), client=b"other"), answer(solicit, 2, ia(OURS), server=b""),
                answer(solicit, 7, ia(OURS)), answer(b"\0\0\0\0", 2, ia(OURS)), answer(solicit, 2),
                answer(solicit, 2, ia(OURS, status=2, valid=0, preferred=0)),
                answer(solicit, 2, ia(OURS), (13, b"\0\2")), answer(solicit, 2, ia(IPv6Address("fe80::1"))),
                answer(solicit, 2, ia(OURS, preferred=300)), answer(solicit, 2, ia(OURS))[:-1], b""):
        assert not client.feed(bad, 0)
    good, dice = answer(solicit, 2, ia(OURS), DNS, (24, b"\4home\0"), (7, b"\1")), random.Random(1)
    for _ in range(3000):
        bad = bytearray(good[:dice.randrange(len(good) + 1)])
        for _ in range(dice.randrange(4)):
            if len(bad) > 4:
                bad[dice.randrange(4, len(bad))] = dice.randrange(256)
        client.feed(bytes(bad), 0)
        assert client.lease is None


# -- in a stack ------------------------------------------------------------------------------------------------
def test_a_stack_has_the_address_as_long_as_it_is_valid(monkeypatch):
    seen = []

    async def main(clock):
        client = Client(MAC, seed=1)
        async with virtual.ethernet(MAC, address_check=False) as (stack, driver):
            async with virtual.doing(dhcp6.keep(client, stack, clock=clock, changed=seen.append)) as task:
                replies = {SOLICIT: 2, REQUEST: 7}
                while client.state != BOUND:
                    await asyncio.sleep(0.1)
                    for frame in driver.drain():
                        if frame[12:14] == b"\x86\xdd" and frame[20] == 17 and struct.unpack_from("!HH", frame, 54) == (546, 547):
                            message = frame[62:]
                            client.feed(answer(message, replies[message[0]], ia(OURS), (7, b"\xff")), clock())
                            task.get_loop().call_soon(stack.hearing[0], None)
                await asyncio.sleep(0.1)
                assert stack.engine.addresses == ("fd01::50/128",)
                await asyncio.sleep(199)
                assert stack.engine.addresses == ("fd01::50/128",)
                await asyncio.sleep(2)
                assert stack.engine.addresses == ()
            assert stack.hearing == []

    virtual.run(monkeypatch, main)
    assert [lease is not None for lease in seen] == [True, False]


# -- the real thing ------------------------------------------------------------------------------------------
async def until(condition):
    while not condition():
        await asyncio.sleep(0.05)


@pytest.mark.interop
def test_dnsmasq(netns, tmp_path):  # noqa: F811
    """Router advertisements with the flag M, addresses by DHCP: renewed, used, given back."""
    tap = Tap("tap0", host_address="fd09::1/64")
    shift = [0]

    def clock():
        return time.monotonic_ns() + shift[0]

    async def main(log):
        host, client = autoconf.Host(MAC), Client(MAC)
        async with Stack(tap, mac=MAC.hex(":")) as stack, virtual.doing(autoconf.follow(host, stack)):
            await until(lambda: host.managed)
            assert host.addresses == []
            keeper = asyncio.create_task(dhcp6.keep(client, stack, clock=clock))
            await until(lambda: client.lease is not None)
            (granted,) = client.lease.addresses
            assert granted.address in autoconf.IPv6Network("fd09::/64")
            await until(lambda: stack.engine.addresses == (f"{granted.address}/128",))
            assert str(stack.engine.source("2001:db8::1")) == str(granted.address)
            infos = await stack.getaddrinfo("name.test", 7, type=socket.SOCK_STREAM)
            assert infos[0][4][0] == "fd09::1"
            with pytest.raises(ConnectionRefusedError):
                await stack.open_connection("name.test", 7)
            shift[0] = 61 * SECOND            # a minute has passed: the time to renew
            stack.hearing[-1](None)
            await until(lambda: "DHCPRENEW" in log.read_text() and client.state == BOUND)
            client.release(clock())
            stack.hearing[-1](None)
            await keeper
            assert stack.engine.addresses == ()
            assert "DHCPRELEASE" in log.read_text()
        assert stack.engine.pool.full

    with dnsmasq("tap0", tmp_path, "--enable-ra", "--dhcp-range=fd09::100,fd09::1ff,64,2m", "--address=/name.test/fd09::1",
                 "--dhcp-option=option6:dns-server,[fd09::1]") as log:
        asyncio.run(asyncio.wait_for(main(log), 30))


@pytest.mark.interop
def test_dnsmasq_tells_a_host_that_has_addresses_the_rest(netns, tmp_path):  # noqa: F811
    tap = Tap("tap0", host_address="fd09::1/64")

    async def main():
        host, client = autoconf.Host(MAC, privacy=False), Client(MAC, stateless=True)
        async with Stack(tap, mac=MAC.hex(":")) as stack, virtual.doing(autoconf.follow(host, stack)):
            await until(lambda: host.other)
            assert (host.managed, len(host.addresses)) == (False, 1)
            async with virtual.doing(dhcp6.keep(client, stack)):
                await until(lambda: client.lease is not None)
            assert client.lease.nameservers == (IPv6Address("fd09::1"),)
            assert client.lease.search == ("home.test",)

    with dnsmasq("tap0", tmp_path, "--enable-ra", "--dhcp-range=fd09::,ra-stateless,64,600", "--domain=home.test",
                 "--dhcp-option=option6:dns-server,[fd09::1]", "--dhcp-option=option6:domain-search,home.test"):
        asyncio.run(asyncio.wait_for(main(), 30))
