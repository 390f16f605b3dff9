"""Addresses of IPv6 from router advertisements: SLAAC (RFC 4861 §6.3, RFC 4862 §5.5), temporary addresses (RFC 8981), stable
opaque ones (RFC 7217), DNS servers (RFC 8106). Frames in, frames out, the time is an argument.

`Host` is the state; `acquire` runs it on a TAP device before an engine has that, `follow` beside a running stack in asyncio.
"""
from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import select
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from typing import TYPE_CHECKING, Any

from iip.errors import DriverError
from iip.events import Conflict, RouterAdvertisement

if TYPE_CHECKING:
    from iip.aio.stack import Stack
    from iip.drivers.tap import Tap

_SECOND = 1_000_000_000
_SOLICIT, _ADVERTISE = 133, 134
_PREFIX, _MTU, _RDNSS, _DNSSL = 3, 5, 25, 31
_ALL_NODES, _ALL_ROUTERS = IPv6Address("ff02::1"), IPv6Address("ff02::2")
_HEAD = struct.Struct("!BBHBBHII")            # RFC 4861 §4.2
_FOREVER = 0xFFFFFFFF
_NEVER = 1 << 62
_SOLICITATIONS, _INTERVAL, _DELAY = 3, 4, 1.0         # RFC 4861 §10; seconds
_TWO_HOURS = 7200 * _SECOND
_TEMP_VALID, _TEMP_PREFERRED = 2 * 86400 * _SECOND, 86400 * _SECOND       # RFC 8981 §3.8
_REGENERATE = 5 * _SECOND         # before the old one is deprecated
_MIN_MTU = 1280
_TRIES = 3                        # identifiers after duplicates, RFC 7217 §6, RFC 8981 §3.8
_MOST = 16                        # prefixes, routers and name servers that are kept of a kind


@dataclass
class Address:
    """One of ours."""

    interface: IPv6Interface
    preferred: int                # until then, ns
    valid: int
    temporary: bool = False
    replaced: bool = False        # a successor was made


class Host:
    """mac: of our station; privacy: temporary addresses beside the lasting one of each prefix; secret: bytes that make the lasting
    ones opaque (without it they show the MAC); seed: decides random choices.

    `run(now)` returns frames to send and sets `deadline`; `feed(frame, now)` takes what came, `hear` what an engine has heard.
    """

    def __init__(self, mac: bytes, *, privacy: bool = True, secret: bytes | None = None, seed: int | None = None) -> None:
        if len(mac) != 6:
            raise ValueError("mac: must be 6 bytes")
        self.mac, self.privacy, self._secret = bytes(mac), privacy, secret
        self._random = random.SystemRandom() if seed is None else random.Random(seed)
        self.addresses: list[Address] = []
        self.routers: dict[IPv6Address, int] = {}         # and until when
        self.nameservers: dict[IPv6Address, int] = {}
        self.search: dict[str, int] = {}
        self.mtu: int | None = None
        self.hop_limit: int | None = None
        self.managed = self.other = False     # more is to be had by DHCP
        self.deadline = 0
        self._now = 0
        self._duplicates: dict[IPv6Network, int] = {}     # identifiers of a prefix that somebody else had
        self._advertised = False
        self._solicited = -1      # the first waits for a moment

    # -- out -----------------------------------------------------------------------------------------------
    def run(self, now: int) -> list[bytes]:
        """What is due at `now`: solicitations, the end of lifetimes, successors of temporary addresses."""
        self._expire(now)
        self._renew(now)
        frames = []
        if not self._advertised and self._solicited < _SOLICITATIONS and now >= self.deadline:
            if self._solicited < 0:
                self._next_solicit = now + int(self._random.uniform(0, _DELAY) * _SECOND)
                self._solicited = 0
            if now >= self._next_solicit:
                frames.append(self._solicit())
                self._solicited += 1
                self._next_solicit = now + _INTERVAL * _SECOND
        self._schedule(now)
        return frames

    def _solicit(self) -> bytes:
        """From nobody, so that no address has to be checked before; the answer goes to all nodes."""
        body = struct.pack("!BBHI", _SOLICIT, 0, 0, 0)
        body = body[:2] + struct.pack("!H", _checksum(IPv6Address(0), _ALL_ROUTERS, body)) + body[4:]
        header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + bytes(16) + _ALL_ROUTERS.packed
        return b"\x33\x33\0\0\0\2" + self.mac + b"\x86\xdd" + header + body

    def _schedule(self, now: int) -> None:
        self._now = now
        times = [_NEVER, *self.routers.values(), *self.nameservers.values(), *self.search.values()]
        for address in self.addresses:
            times.append(address.preferred if address.preferred > now else address.valid)
            if address.temporary and not address.replaced:
                times.append(address.preferred - _REGENERATE)
        if not self._advertised and self._solicited < _SOLICITATIONS:
            times.append(self._next_solicit)
        self.deadline = max(min(times), now + 1)

    def _expire(self, now: int) -> None:
        self.addresses = [address for address in self.addresses if address.valid > now]
        for table in (self.routers, self.nameservers, self.search):
            for key in [key for key, until in table.items() if until <= now]:
                del table[key]  # type: ignore[arg-type]

    def _renew(self, now: int) -> None:
        """A successor for each temporary address that is about to be deprecated (RFC 8981 §3.4, rule 5)."""
        for old in [a for a in self.addresses if a.temporary and not a.replaced and now >= a.preferred - _REGENERATE]:
            old.replaced = True
            lasting = self._of(old.interface.network, temporary=False)
            if lasting is not None and lasting.preferred > now + _REGENERATE:
                self._temporary(lasting, now)

    # -- in ------------------------------------------------------------------------------------------------
    def feed(self, frame: bytes, now: int) -> bool:
        """A frame; False if it is no good router advertisement (RFC 4861 §6.1.2)."""
        parsed = _advertisement(frame, self.mac)
        if parsed is None:
            return False
        self._heard(*parsed, now)
        return True

    def hear(self, advertisement: RouterAdvertisement, now: int) -> bool:
        """The same of an engine's callback `router_advertisement`."""
        options = _options(advertisement.data)
        if options is None or not isinstance(advertisement.router, IPv6Address):
            return False
        self._heard(advertisement.router, advertisement.data, options, now)
        return True

    def _heard(self, router: IPv6Address, body: bytes, options: list[tuple[int, bytes]], now: int) -> None:
        _type, _code, _sum, hops, flags, lifetime, _reachable, _retrans = _HEAD.unpack_from(body)
        self._advertised = True
        self.managed, self.other = bool(flags & 0x80), bool(flags & 0x40)
        if hops:
            self.hop_limit = hops
        _note(self.routers, router, lifetime, now)
        for kind, value in options:
            if kind == _PREFIX and len(value) == 30:
                self._prefix(value, now)
            elif kind == _MTU and len(value) == 6 and int.from_bytes(value[2:], "big") >= _MIN_MTU:
                self.mtu = int.from_bytes(value[2:], "big")
            elif kind == _RDNSS and len(value) >= 22 and (len(value) - 6) % 16 == 0:
                for at in range(6, len(value), 16):
                    _note(self.nameservers, IPv6Address(value[at:at + 16]), int.from_bytes(value[2:6], "big"), now)
            elif kind == _DNSSL and len(value) > 6:
                for name in domain_names(value[6:]):
                    _note(self.search, name, int.from_bytes(value[2:6], "big"), now)
        self._schedule(now)

    def _prefix(self, value: bytes, now: int) -> None:
        """RFC 4862 §5.5.3."""
        bits, flags, valid, preferred = struct.unpack_from("!BBII", value)
        prefix = IPv6Network((value[14:30], bits), strict=False) if bits <= 128 else None
        if prefix is None or bits != 64 or prefix.is_link_local or prefix.is_multicast:
            return
        if not flags & 0x40 or preferred > valid:
            return
        lasting = self._of(prefix, temporary=False)
        if lasting is None:
            if valid and len(self.addresses) < 2 * _MOST:
                lasting = Address(self._lasting(prefix), _until(preferred, now), _until(valid, now))
                self.addresses.append(lasting)
                if self.privacy and preferred * _SECOND > _REGENERATE:
                    self._temporary(lasting, now)
            return
        lasting.preferred = _until(preferred, now)
        until = _until(valid, now)
        if until > now + _TWO_HOURS or until > lasting.valid:     # others may not shorten it that much
            lasting.valid = until
        elif lasting.valid > now + _TWO_HOURS:
            lasting.valid = now + _TWO_HOURS

    def _of(self, prefix: IPv6Network, temporary: bool) -> Address | None:
        return next((a for a in self.addresses if a.interface.network == prefix and a.temporary == temporary), None)

    def _lasting(self, prefix: IPv6Network) -> IPv6Interface:
        if self._secret is None:  # EUI-64, RFC 4291 appendix A
            ident = bytes([self.mac[0] ^ 2]) + self.mac[1:3] + b"\xff\xfe" + self.mac[3:]
        else:                     # RFC 7217 §5
            again = bytes(self._duplicates.get(prefix, 0))
            ident = hashlib.sha256(prefix.network_address.packed[:8] + self.mac + self._secret + again).digest()[:8]
        return IPv6Interface((prefix.network_address.packed[:8] + ident, 64))

    def _temporary(self, lasting: Address, now: int) -> None:
        """RFC 8981 §3.3.1 and §3.4."""
        ident = self._random.getrandbits(64).to_bytes(8, "big")
        preferred = _TEMP_PREFERRED - int(self._random.uniform(0, 0.4) * _TEMP_PREFERRED)
        interface = IPv6Interface((lasting.interface.network.network_address.packed[:8] + ident, 64))
        until = min(lasting.preferred, now + preferred), min(lasting.valid, now + _TEMP_VALID)
        self.addresses.append(Address(interface, *until, temporary=True))

    def duplicate(self, address: IPv6Address, now: int) -> bool:
        """Somebody else has an address of ours (`address_conflict`): another one takes its place, unless it shows the MAC or that
        went wrong too often (RFC 7217 §6, RFC 8981 §3.4). False: it is none of ours."""
        old = next((a for a in self.addresses if a.interface.ip == address), None)
        if old is None:
            return False
        self.addresses.remove(old)
        prefix = old.interface.network
        self._duplicates[prefix] = self._duplicates.get(prefix, 0) + 1
        if self._duplicates[prefix] <= _TRIES:
            lasting = self._of(prefix, temporary=False)
            if not old.temporary and self._secret is not None:
                self.addresses.append(Address(self._lasting(prefix), old.preferred, old.valid))
            elif old.temporary and not old.replaced and lasting is not None:
                self._temporary(lasting, now)
        self._schedule(now)
        return True

    # -- what comes of it ----------------------------------------------------------------------------------
    def settings(self) -> dict[str, Any]:
        """For `iip.Config`: the newest temporary address first, since of equals the first is the source, deprecated ones last."""
        ours = sorted(self.addresses, key=lambda a: (a.preferred <= self._now, not a.temporary, -a.preferred))
        found: dict[str, Any] = {"addresses": tuple(str(a.interface) for a in ours)}
        if self.routers:
            found["gateway6"] = str(next(iter(self.routers)))
        if self.mtu is not None:
            found["mtu"] = self.mtu
        if self.hop_limit is not None:
            found["ttl"] = self.hop_limit
        return found


def _until(seconds: int, now: int) -> int:
    return _NEVER if seconds == _FOREVER else now + seconds * _SECOND


def _note(table: dict[Any, int], key: object, seconds: int, now: int) -> None:
    """Until when something may be used; 0: no more."""
    if seconds == 0:
        table.pop(key, None)
    elif key in table or len(table) < _MOST:
        table[key] = _until(seconds, now)


def domain_names(data: bytes) -> list[str]:
    """Domain names (RFC 1035 §3.1, not compressed); those before something malformed."""
    found: list[str] = []
    labels: list[str] = []
    at = 0
    while at < len(data):
        size, at = data[at], at + 1
        if size == 0:
            if not labels:
                break             # padding
            found.append(".".join(labels))
            labels = []
        elif size > 63 or at + size > len(data):
            break
        else:
            labels.append(data[at:at + size].decode("ascii", "replace"))
            at += size
    return found


def _advertisement(frame: bytes, mac: bytes) -> tuple[IPv6Address, bytes, list[tuple[int, bytes]]] | None:
    """The router, the message and its options, if the frame brings a valid advertisement."""
    if len(frame) < 14 + 40 + _HEAD.size or frame[12:14] != b"\x86\xdd" or frame[:6] not in (mac, b"\x33\x33\0\0\0\1"):
        return None
    first, length, proto, hops = struct.unpack_from("!IHBB", frame, 14)
    body = frame[54:54 + length]
    source, target = IPv6Address(frame[22:38]), IPv6Address(frame[38:54])
    if first >> 28 != 6 or proto != 58 or hops != 255 or not _HEAD.size <= length == len(body):
        return None
    if body[:2] != bytes((_ADVERTISE, 0)) or not source.is_link_local or _checksum(source, target, body):
        return None
    options = _options(body)
    return None if options is None else (source, body, options)


def _options(body: bytes) -> list[tuple[int, bytes]] | None:
    """Of an advertisement; None if one is malformed."""
    options, at = [], _HEAD.size
    while at < len(body):
        size = body[at + 1] * 8 if at + 1 < len(body) else 0
        if size == 0 or at + size > len(body):
            return None
        options.append((body[at], body[at + 2:at + size]))
        at += size
    return options


def _checksum(source: IPv6Address, target: IPv6Address, body: bytes) -> int:
    data = source.packed + target.packed + struct.pack("!II", len(body), 58) + body + bytes(len(body) & 1)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def acquire(tap: Tap, host: Host, *, timeout: float = 15.0, clock: Callable[[], int] = time.monotonic_ns) -> None:
    """Have routers answer on a TAP device that no engine has yet. The engine is then made with ``Config(mac=host.mac.hex(),
    **host.settings())``. Raises `DriverError` when none gives an address within `timeout` seconds."""
    end = clock() + int(timeout * _SECOND)
    fd = tap.fileno()
    if fd is None:
        raise DriverError(f"{tap.name} is closed")
    while not host.addresses:
        now = clock()
        if now >= end:
            raise DriverError(f"no router on {tap.name} gave an address within {timeout} seconds")
        for frame in host.run(now):
            tap.send_frame(frame)
        select.select([fd], [], [], max(0.0, (min(host.deadline, end) - clock()) / _SECOND))
        while (came := tap.receive_frame()) is not None:
            host.feed(came, clock())


async def follow(host: Host, stack: Stack, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
    """Keep a running stack as routers say: addresses of new prefixes come, those whose lifetime ends go, temporary ones get
    successors, the default router and the name servers change, an address that somebody else has is replaced. It asks for
    advertisements unless `host` has heard one. Ends when it is cancelled, or the stack is closed."""
    moved = asyncio.Event()
    have = host.settings()
    servers: tuple[IPv6Address, ...] = ()

    def hear(event: RouterAdvertisement | Conflict | None) -> None:
        if event is None:
            changed = True
        elif isinstance(event, Conflict):
            changed = isinstance(event.address, IPv6Address) and host.duplicate(event.address, clock())
        else:
            changed = host.hear(event, clock())
        if changed:
            moved.set()

    stack.hearing.append(hear)
    try:
        while not stack.closed:
            if host.run(clock()):
                stack.engine.solicit_routers()
                stack.wake()
            have = _apply(stack, have, host)
            stack.use_nameservers(servers, host.nameservers)
            servers = tuple(host.nameservers)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(moved.wait(), min(max(0.0, (host.deadline - clock()) / _SECOND), 86400.0))
            moved.clear()
    finally:
        stack.hearing.remove(hear)


def _apply(stack: Stack, have: dict[str, Any], host: Host) -> dict[str, Any]:
    """The stack gets what is other than what it has."""
    want = host.settings()
    if (want["addresses"], want.get("gateway6")) != (have["addresses"], have.get("gateway6")) or not set(
            want["addresses"]) <= set(stack.engine.config.addresses):
        stack.readdress(have["addresses"], want["addresses"], gateway6=want.get("gateway6"))
    return want
