"""A DHCP client for IPv4 (RFC 2131, RFC 2132): messages in, messages out, the time is an argument.

`Client` is the state machine; `acquire` runs it on a TAP device before an engine has that, and `keep` beside a stack in asyncio.
"""
from __future__ import annotations

import asyncio
import random
import select
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from iip.errors import DriverError

if TYPE_CHECKING:
    from iip.aio.stack import Stack
    from iip.drivers.tap import Tap

CLIENT, SERVER = 68, 67           # ports
DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = 1, 2, 3, 4, 5, 6, 7     # RFC 2132 §9.6
INIT, SELECTING, REQUESTING, BOUND, RENEWING, REBINDING = range(6)             # RFC 2131 figure 5

_MASK, _ROUTER, _DNS, _NAME, _DOMAIN, _MTU = 1, 3, 6, 12, 15, 26
_ADDRESS, _LEASE, _OVERLOAD, _TYPE, _SERVER, _WANTED, _T1, _T2, _CLIENT = 50, 51, 52, 53, 54, 55, 58, 59, 61
_SEARCH_ROUTES = 121              # classless static routes, RFC 3442
_PARAMETERS = bytes((_MASK, _SEARCH_ROUTES, _ROUTER, _DNS, _DOMAIN, _MTU, _LEASE, _T1, _T2))
_COOKIE = b"\x63\x82\x53\x63"
_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
_SECOND = 1_000_000_000
_FOREVER = 0xFFFFFFFF
_TRIES = 4                        # of a request before everything starts anew
_ANYBODY = IPv4Address("255.255.255.255")
_NOBODY = IPv4Address(0)


class Message(NamedTuple):
    """A UDP payload to send from `source`, port 68, to `destination`, port 67."""

    data: bytes
    source: IPv4Address           # 0.0.0.0 while there is no address
    destination: IPv4Address


@dataclass(frozen=True)
class Lease:
    """What a server has granted."""

    interface: IPv4Interface
    server: IPv4Address
    seconds: int | None           # None: for ever
    routers: tuple[IPv4Address, ...] = ()
    nameservers: tuple[IPv4Address, ...] = ()
    routes: tuple[tuple[IPv4Network, IPv4Address], ...] = ()       # a next hop 0.0.0.0 is on link
    domain: str = ""
    mtu: int | None = None
    times: tuple[int, int, int] = field(default=(0, 0, 0), compare=False)     # renew, rebind, end: ns of the clock

    def settings(self) -> dict[str, Any]:
        """For `iip.Config`, without the name servers, which a stack is given by itself."""
        routes = [(str(net), str(hop)) for net, hop in self.routes if int(hop)]
        if not self.routes and self.routers:      # RFC 3442: routes are in place of routers
            routes = [("0.0.0.0/0", str(self.routers[0]))]
        return {"addresses": (str(self.interface),), "routes": tuple(routes), **({"mtu": self.mtu} if self.mtu else {})}


class Client:
    """mac: of our station, 6 bytes; hostname: told to the server; address: the one that we had before, asked for again; seed:
    decides random choices.

    `run(now)` returns what to send and sets `deadline`, when to call it again; `feed(data, now)` takes what came from port 67.
    `lease` is what we have; while it is None there is no address.
    """

    def __init__(self, mac: bytes, *, hostname: str = "", address: IPv4Address | None = None, seed: int | None = None) -> None:
        if len(mac) != 6:
            raise ValueError("mac: must be 6 bytes")
        self.mac, self.hostname = bytes(mac), hostname
        self.lease: Lease | None = None
        self.state = INIT
        self.deadline = 0
        self._random = random.SystemRandom() if seed is None else random.Random(seed)
        self._wanted = address
        self._offer: tuple[IPv4Address, IPv4Address] | None = None    # address and server
        self._xid = 0
        self._began = 0
        self._sent = 0            # messages of this exchange

    # -- out -----------------------------------------------------------------------------------------------
    def run(self, now: int) -> list[Message]:
        """What is due at `now`, ns."""
        if self.lease is not None and self.lease.seconds is not None and now >= self.lease.times[2]:
            self.lease, self.state = None, INIT   # the address must not be used any more
        if now < self.deadline and self.state != INIT:
            return []
        if self.state == BOUND:
            self._begin(RENEWING, now)
        if self.state == RENEWING and self.lease is not None and now >= self.lease.times[1]:
            self._begin(REBINDING, now)
        if self.state == REQUESTING and self._sent >= _TRIES:
            self.state = INIT
        if self.state == INIT:
            self._begin(SELECTING, now)
        return [self._next(now)]

    def _begin(self, state: int, now: int) -> None:
        self.state, self._began, self._sent = state, now, 0
        if state != REQUESTING:   # which answers an offer
            self._xid = self._random.getrandbits(32)

    def _next(self, now: int) -> Message:
        """The message of this state, and when to repeat it (RFC 2131 §4.1, §4.4.5)."""
        self._sent += 1
        if self.lease is not None and self.state in (RENEWING, REBINDING):
            end = self.lease.times[1 if self.state == RENEWING else 2]
            self.deadline = min(end, now + max((end - now) // 2, 60 * _SECOND))
            source = self.lease.interface.ip
            to = self.lease.server if self.state == RENEWING else _ANYBODY
            return Message(self._message(REQUEST, now, source), source, to)
        wait = min(4 << (self._sent - 1), 64) + self._random.uniform(-1, 1)
        self.deadline = now + int(wait * _SECOND)
        if self.state == REQUESTING and self._offer is not None:
            data = self._message(REQUEST, now, _NOBODY, (_ADDRESS, self._offer[0].packed), (_SERVER, self._offer[1].packed))
        else:
            wanted = [] if self._wanted is None else [(_ADDRESS, self._wanted.packed)]
            data = self._message(DISCOVER, now, _NOBODY, *wanted)
        return Message(data, _NOBODY, _ANYBODY)

    def _message(self, kind: int, now: int, ours: IPv4Address, *more: tuple[int, bytes]) -> bytes:
        seconds = min(max(now - self._began, 0) // _SECOND, 0xFFFF)
        header = _HEADER.pack(1, 1, 6, 0, self._xid, seconds, 0, ours.packed, bytes(4), bytes(4), bytes(4), self.mac, b"", b"")
        options = [(_TYPE, bytes([kind])), (_CLIENT, b"\x01" + self.mac), *more]
        if kind in (DISCOVER, REQUEST):
            options.append((_WANTED, _PARAMETERS))
            if self.hostname:
                options.append((_NAME, self.hostname.encode()[:255]))
        body = b"".join(bytes((code, len(value))) + value for code, value in options)
        return (header + _COOKIE + body + b"\xff").ljust(300, b"\0")       # as BOOTP's relays want it

    def release(self, now: int) -> list[Message]:
        """Give the address back."""
        lease, self.lease, self.state = self.lease, None, INIT
        if lease is None:
            return []
        self._xid = self._random.getrandbits(32)
        data = self._message(RELEASE, now, lease.interface.ip, (_SERVER, lease.server.packed))
        return [Message(data, lease.interface.ip, lease.server)]

    def decline(self, now: int) -> list[Message]:
        """Somebody else has the address (`Handler.address_conflict`): another one is asked for, in ten seconds."""
        lease, self.lease, self.state = self.lease, None, SELECTING
        self.deadline, self._wanted = now + 10 * _SECOND, None
        if lease is None:
            return []
        data = self._message(DECLINE, now, _NOBODY, (_ADDRESS, lease.interface.ip.packed), (_SERVER, lease.server.packed))
        return [Message(data, _NOBODY, _ANYBODY)]

    # -- in ------------------------------------------------------------------------------------------------
    def feed(self, data: bytes, now: int) -> bool:
        """A message from a server. False: it is not for us, or makes no sense now."""
        parsed = _parse(data)
        if parsed is None or parsed[0] != self._xid or parsed[1] != self.mac:
            return False
        _xid, _mac, ours, options = parsed
        kind, server = options.get(_TYPE, b""), _address(options.get(_SERVER))
        if self.state == SELECTING and self._sent and kind == bytes([OFFER]) and server is not None and int(ours):
            self._offer = ours, server
            self._begin(REQUESTING, now)
            self.deadline = now
            return True
        if self.state not in (REQUESTING, RENEWING, REBINDING) or server is None:
            return False
        if self.state == REQUESTING and (self._offer is None or server != self._offer[1]):
            return False          # of another server, which was not chosen
        if kind == bytes([NAK]):
            self.lease, self.state, self._wanted, self.deadline = None, INIT, None, now
            return True
        if kind == bytes([ACK]):
            return self._bound(ours, server, options, now)
        return False

    def _bound(self, ours: IPv4Address, server: IPv4Address, options: dict[int, bytes], now: int) -> bool:
        lease = _lease(ours, server, options, now)
        if lease is None:
            return False
        self.lease, self.state, self._wanted = lease, BOUND, ours
        self.deadline = lease.times[0]
        return True


def _lease(ours: IPv4Address, server: IPv4Address, options: dict[int, bytes], now: int) -> Lease | None:
    """Of an ACK; None if it says nothing of use."""
    seconds = _number(options.get(_LEASE))
    mask = _address(options.get(_MASK))
    try:
        interface = IPv4Interface(f"{ours}/{mask if mask is not None else 24}")
    except ValueError:
        return None
    if seconds is None or seconds == 0 or not int(ours) or ours.is_multicast:
        return None
    mtu = _number(options.get(_MTU))
    return Lease(
        interface, server, None if seconds == _FOREVER else seconds, _addresses(options.get(_ROUTER)),
        _addresses(options.get(_DNS)), _routes(options.get(_SEARCH_ROUTES, b"")),
        options.get(_DOMAIN, b"").rstrip(b"\0").decode("ascii", "replace"), mtu if mtu is not None and mtu >= 576 else None,
        _times(seconds, _number(options.get(_T1)), _number(options.get(_T2)), now))


def _times(seconds: int, t1: int | None, t2: int | None, now: int) -> tuple[int, int, int]:
    """When to renew, to rebind, and to stop (RFC 2131 §4.4.5)."""
    if seconds == _FOREVER:
        return (1 << 62,) * 3
    rebind = t2 if t2 is not None and t2 <= seconds else seconds * 7 // 8
    renew = t1 if t1 is not None and t1 <= rebind else min(seconds // 2, rebind)
    return now + renew * _SECOND, now + rebind * _SECOND, now + seconds * _SECOND


# -- reading ---------------------------------------------------------------------------------------------------
def _parse(data: bytes) -> tuple[int, bytes, IPv4Address, dict[int, bytes]] | None:
    """Transaction, station, "your" address and options of an answer; None if it is malformed."""
    if len(data) < _HEADER.size + 4 or data[_HEADER.size:_HEADER.size + 4] != _COOKIE:
        return None
    op, kind, length, _hops, xid, _secs, _flags, _ci, yours, _si, _gi, station, name, file = _HEADER.unpack_from(data)
    if (op, kind, length) != (2, 1, 6):
        return None
    options: dict[int, bytes] = {}
    if not _options(data[_HEADER.size + 4:], options):
        return None
    overload = options.get(_OVERLOAD, b"\0")[:1]
    if overload in (b"\1", b"\3") and not _options(file, options):
        return None
    if overload in (b"\2", b"\3") and not _options(name, options):
        return None
    return xid, station[:6], IPv4Address(yours), options


def _options(data: bytes, into: dict[int, bytes]) -> bool:
    """Collect options; parts of one are joined (RFC 3396). False when one goes beyond the end."""
    at = 0
    while at < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            return False
        end = at + 2 + data[at + 1]
        into[data[at]] = into.get(data[at], b"") + data[at + 2:end]
        at = end
    return True


def _number(value: bytes | None) -> int | None:
    return int.from_bytes(value, "big") if value is not None and len(value) in (2, 4) else None


def _address(value: bytes | None) -> IPv4Address | None:
    return IPv4Address(value) if value is not None and len(value) == 4 else None


def _addresses(value: bytes | None) -> tuple[IPv4Address, ...]:
    return tuple(IPv4Address(value[at:at + 4]) for at in range(0, len(value) - 3, 4)) if value else ()


def _routes(value: bytes) -> tuple[tuple[IPv4Network, IPv4Address], ...]:
    """RFC 3442; none if malformed."""
    found, at = [], 0
    while at < len(value):
        bits, n = value[at], (value[at] + 7) // 8
        if bits > 32 or at + 1 + n + 4 > len(value):
            return ()
        try:
            net = IPv4Network((value[at + 1:at + 1 + n].ljust(4, b"\0"), bits), strict=False)
        except AddressValueError:
            return ()
        found.append((net, IPv4Address(value[at + 1 + n:at + 5 + n])))
        at += 5 + n
    return tuple(found)


# -- frames, while there is no address -----------------------------------------------------------------------
def to_frame(message: Message, mac: bytes) -> bytes:
    """Ethernet, to everybody."""
    length = 8 + len(message.data)
    pseudo = message.source.packed + message.destination.packed + struct.pack("!HH", 17, length)
    udp = struct.pack("!HHHH", CLIENT, SERVER, length, 0)
    total = _checksum(pseudo + udp + message.data) or 0xFFFF
    udp = udp[:6] + struct.pack("!H", total)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, 17, 0, message.source.packed, message.destination.packed)
    ip = ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:]
    return b"\xff" * 6 + mac + b"\x08\x00" + ip + udp + message.data


def from_frame(frame: bytes, mac: bytes) -> bytes | None:
    """The message in a frame for us, from port 67 to 68; None if it is another, a fragment or damaged."""
    if len(frame) < 14 + 28 or frame[12:14] != b"\x08\x00" or frame[:6] not in (mac, b"\xff" * 6):
        return None
    ip = frame[14:]
    size, total = (ip[0] & 15) * 4, int.from_bytes(ip[2:4], "big")
    if ip[0] >> 4 != 4 or size < 20 or not size + 8 <= total <= len(ip) or _checksum(ip[:size]):
        return None
    if ip[9] != 17 or ip[6] & 0x3F or ip[7]:      # not UDP, or a fragment
        return None
    udp = ip[size:total]
    source, target, length, check = struct.unpack_from("!HHHH", udp)
    if (source, target) != (SERVER, CLIENT) or not 8 <= length <= len(udp):
        return None
    udp = udp[:length]
    if check and _checksum(ip[12:20] + struct.pack("!HH", 17, length) + udp):
        return None
    return udp[8:]


def _checksum(data: bytes) -> int:
    if len(data) & 1:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


# -- running it ----------------------------------------------------------------------------------------------
def acquire(tap: Tap, client: Client, *, timeout: float = 30.0, clock: Callable[[], int] = time.monotonic_ns) -> Lease:
    """Get a lease on a TAP device that no engine has yet. The engine is then made with ``Config(mac=client.mac.hex(),
    **lease.settings())``. Raises `DriverError` when no server answers within `timeout` seconds."""
    end = clock() + int(timeout * _SECOND)
    fd = tap.fileno()
    if fd is None:
        raise DriverError(f"{tap.name} is closed")
    while client.lease is None:
        now = clock()
        if now >= end:
            raise DriverError(f"DHCP: no server answered on {tap.name} within {timeout} seconds")
        for message in client.run(now):
            tap.send_frame(to_frame(message, client.mac))
        select.select([fd], [], [], max(0.0, (min(client.deadline, end) - clock()) / _SECOND))
        while (frame := tap.receive_frame()) is not None:
            data = from_frame(frame, client.mac)
            if data is not None:
                client.feed(data, clock())
    return client.lease


class _Eats(Protocol):
    def feed(self, data: bytes, now: int) -> object: ...


class ClientPort(asyncio.DatagramProtocol):
    """A client's port of a stack: what comes from port `server` is for the client, `moved` is set when it made something of it."""

    def __init__(self, client: _Eats, moved: asyncio.Event, clock: Callable[[], int], server: int) -> None:
        self._client, self._moved, self._clock, self._server = client, moved, clock, server

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr[1] == self._server and self._client.feed(data, self._clock()):
            self._moved.set()


async def keep(client: Client, stack: Stack, *, clock: Callable[[], int] = time.monotonic_ns) -> Lease | None:
    """Renew the lease of a stack that runs with it. Returns when the stack cannot go on with what it has: the new lease, if it
    differs in more than its times, or None if there is none any more. Cancelling it releases nothing."""
    before, moved = client.lease, asyncio.Event()
    transport, _ = await stack.create_datagram_endpoint(lambda: ClientPort(client, moved, clock, SERVER), ("0.0.0.0", CLIENT))
    try:
        while client.lease is not None and client.lease == before:
            now = clock()
            if now >= client.deadline:
                for message in client.run(now):
                    transport.sendto(message.data, (str(message.destination), SERVER))
            try:
                await asyncio.wait_for(moved.wait(), max(0.0, (client.deadline - clock()) / _SECOND))
            except asyncio.TimeoutError:
                continue
            moved.clear()
        return client.lease
    finally:
        transport.close()
