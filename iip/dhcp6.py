"""A DHCP client for IPv6 (RFC 8415; DNS: RFC 3646): messages in, messages out, the time is an argument.

`Client` is the state machine; `keep` runs it beside a stack in asyncio.
"""
from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, NamedTuple

from iip.autoconf import domain_names
from iip.dhcp import ClientPort

if TYPE_CHECKING:
    from iip.aio.stack import Stack
    from iip.events import Conflict, RouterAdvertisement

CLIENT, SERVER = 546, 547         # ports
SERVERS = "ff02::1:2"             # all relay agents and servers

SOLICIT, ADVERTISE, REQUEST, RENEW, REBIND, REPLY, RELEASE, DECLINE, INFORM = 1, 2, 3, 5, 6, 7, 8, 9, 11    # RFC 8415 §7.3
BOUND, INFORMED, ENDED = -1, -2, -3       # further states: nothing is asked for

_CLIENT_ID, _SERVER_ID, _IA_NA, _ADDRESS, _WANTED, _PREFERENCE, _ELAPSED = 1, 2, 3, 5, 6, 7, 8
_STATUS, _RAPID, _DNS, _DOMAINS, _REFRESH, _SOLICIT_MAX, _INFORM_MAX = 13, 14, 23, 24, 32, 82, 83
_OK, _NO_ADDRESS, _NO_BINDING = 0, 2, 3
_SECOND = 1_000_000_000
_FOREVER = 0xFFFFFFFF
_NEVER = 1 << 62
_REFRESH_DEFAULT, _REFRESH_MIN = 86400, 600
_MOST = 16                        # addresses, and name servers, that are kept


class _Retry(NamedTuple):
    """RFC 8415 §7.6: seconds of the first and the longest wait (0: no limit), messages at most (0: no limit)."""

    first: float
    longest: float
    times: int = 0


_RETRIES = {SOLICIT: _Retry(1, 3600), REQUEST: _Retry(1, 30, 10), RENEW: _Retry(10, 600), REBIND: _Retry(10, 600),
            INFORM: _Retry(1, 3600), RELEASE: _Retry(1, 0, 4), DECLINE: _Retry(1, 0, 4)}


class Granted(NamedTuple):
    address: IPv6Address
    preferred: int                # until then, ns
    valid: int


@dataclass(frozen=True)
class Lease:
    """What a server has given; addresses only if they were asked for."""

    server: bytes                 # its DUID
    addresses: tuple[Granted, ...] = ()
    nameservers: tuple[IPv6Address, ...] = ()
    search: tuple[str, ...] = ()
    renew: int = field(default=_NEVER, compare=False)             # ns of the clock
    rebind: int = field(default=_NEVER, compare=False)

    def settings(self) -> dict[str, Any]:
        """For `iip.Config`. What is on link, routers tell and not DHCP: see `iip.autoconf`."""
        return {"addresses": tuple(f"{granted.address}/128" for granted in self.addresses)}


class Client:
    """mac: of our station, 6 bytes; stateless: only ask what else there is to know (advertisements with `other` and without
    `managed`); seed: decides random choices.

    `run(now)` returns the messages to send to `SERVERS`, port 547, and sets `deadline`, when to call it again; `feed(data, now)`
    takes what came to port 546. `lease` is what we have.
    """

    def __init__(self, mac: bytes, *, stateless: bool = False, seed: int | None = None) -> None:
        if len(mac) != 6:
            raise ValueError("mac: must be 6 bytes")
        self.duid = b"\0\3\0\1" + bytes(mac)      # DUID-LL, §11.4
        self.stateless = stateless
        self.lease: Lease | None = None
        self.deadline = 0
        self._iaid = bytes(mac[2:])
        self._random = random.SystemRandom() if seed is None else random.Random(seed)
        self._retries = dict(_RETRIES)
        self._offer: tuple[int, Lease] | None = None      # the best advertisement so far, with its preference
        self._giving: tuple[IPv6Address, ...] = ()        # released or declined
        self._begin(INFORM if stateless else SOLICIT, 0)
        self._began = -1          # with the first message, which waits for a moment (§18.2.1, §18.2.6)

    # -- out -----------------------------------------------------------------------------------------------
    def run(self, now: int) -> list[bytes]:
        """What is due at `now`, ns."""
        self._expire(now)
        if now < self.deadline:
            return []
        if self._began < 0:
            self._began, self.deadline = now, now + int(self._random.random() * _SECOND)
            return []
        if self.state == BOUND:
            self._begin(RENEW, now)
        elif self.state == INFORMED:
            self._begin(INFORM, now)
        if self.state == RENEW and self.lease is not None and now >= self.lease.rebind:
            self._begin(REBIND, now)
        if self.state == SOLICIT and self._offer is not None:
            self._begin(REQUEST, now)
        retry = self._retries.get(self.state)
        if retry is not None and retry.times and self._sent >= retry.times:
            if self.state in (RELEASE, DECLINE):
                self._settled(now)
            else:
                self._restart(now)
        return [] if self.state < 0 else [self._next(now)]

    def _begin(self, state: int, now: int) -> None:
        self.state, self._began, self._sent, self.deadline = state, now, 0, now
        self._wait = 0.0
        self._xid = self._random.getrandbits(24)

    def _restart(self, now: int) -> None:
        """Look for a server anew."""
        self._offer = None
        self._begin(SOLICIT, now)

    def _expire(self, now: int) -> None:
        """Addresses whose lifetime ends; without any, everything starts anew."""
        lease = self.lease
        if lease is None or not lease.addresses or all(granted.valid > now for granted in lease.addresses):
            return
        left = tuple(granted for granted in lease.addresses if granted.valid > now)
        self.lease = Lease(lease.server, left, lease.nameservers, lease.search, lease.renew, lease.rebind) if left else None
        if self.lease is None:
            self._restart(now)

    def _next(self, now: int) -> bytes:
        """The message of this state, and when to repeat it (§15)."""
        retry, dice = self._retries[self.state], self._random.uniform(-0.1, 0.1)
        if self._wait == 0:       # answers to the first SOLICIT are collected for at least a second (§18.2.1)
            self._wait = retry.first * (1 + (abs(dice) if self.state == SOLICIT else dice))
        else:
            self._wait *= 2 + dice
        if retry.longest and self._wait > retry.longest:
            self._wait = retry.longest * (1 + dice)
        self._sent += 1
        self.deadline = now + int(self._wait * _SECOND)
        if self.lease is not None and self.state == RENEW:
            self.deadline = min(self.deadline, self.lease.rebind)
        if self.lease is not None and self.lease.addresses:
            self.deadline = min(self.deadline, *(granted.valid for granted in self.lease.addresses))
        return self._message(now)

    def _message(self, now: int) -> bytes:
        elapsed = min(max(now - self._began, 0) // (_SECOND // 100), 0xFFFF)
        options = [(_CLIENT_ID, self.duid), (_ELAPSED, elapsed.to_bytes(2, "big"))]
        wanted = [_DNS, _DOMAINS]
        lease = self._offer[1] if self.state == REQUEST and self._offer is not None else self.lease
        if self.state in (REQUEST, RENEW, RELEASE, DECLINE) and lease is not None:
            options.append((_SERVER_ID, lease.server))
        if self.state == INFORM:
            wanted += [_REFRESH, _INFORM_MAX]
        else:
            ours = self._giving or (() if lease is None else tuple(granted.address for granted in lease.addresses))
            parts = b"".join(_option(_ADDRESS, address.packed + bytes(8)) for address in ours)
            options.append((_IA_NA, self._iaid + bytes(8) + parts))
        if self.state == SOLICIT:
            wanted.append(_SOLICIT_MAX)
            options.append((_RAPID, b""))
        if self.state not in (RELEASE, DECLINE):
            options.append((_WANTED, struct.pack(f"!{len(wanted)}H", *wanted)))
        return bytes([self.state]) + self._xid.to_bytes(3, "big") + b"".join(_option(*option) for option in options)

    def release(self, now: int) -> None:
        """Give the addresses back: they must not be used any more. `run` says it to the server until that answers."""
        self._give(RELEASE, None, now)

    def decline(self, address: IPv6Address, now: int) -> bool:
        """Somebody else has an address of ours (`address_conflict`). False: it is none of ours."""
        if self.lease is None or address not in [granted.address for granted in self.lease.addresses]:
            return False
        self._give(DECLINE, address, now)
        return True

    def _give(self, state: int, address: IPv6Address | None, now: int) -> None:
        if self.lease is None or not self.lease.addresses:
            self.state, self.deadline = ENDED, _NEVER
            return
        self._giving = tuple(granted.address for granted in self.lease.addresses if address in (None, granted.address))
        self.lease = Lease(self.lease.server)
        self._begin(state, now)

    def _settled(self, now: int) -> None:
        """A RELEASE or DECLINE is answered, or nobody will."""
        self._giving, self.lease = (), None
        if self.state == DECLINE:
            self._restart(now)
        else:
            self.state, self.deadline = ENDED, _NEVER

    # -- in ------------------------------------------------------------------------------------------------
    def feed(self, data: bytes, now: int) -> bool:
        """A message from a server. False: it is not for us, malformed, or makes no sense now (§16)."""
        options = _options(data[4:]) if len(data) >= 4 else None
        if options is None or int.from_bytes(data[1:4], "big") != self._xid or not self._sent:
            return False
        server = options.get(_SERVER_ID, [b""])[0]
        if options.get(_CLIENT_ID) != [self.duid] or not server:
            return False
        self._limits(options)
        if data[0] == ADVERTISE and self.state == SOLICIT:
            return self._advertised(server, options, now)
        if data[0] != REPLY:
            return False
        if self.state in (RELEASE, DECLINE):
            self._settled(now)
            return True
        if self.state == INFORM:
            return self._informed(server, options, now)
        if self.state in (RENEW, REBIND, REQUEST) or (self.state == SOLICIT and _RAPID in options):
            return self._replied(server, options, now)
        return False

    def _limits(self, options: dict[int, list[bytes]]) -> None:
        """A server may have clients ask less often (§21.24, §21.25)."""
        for state, option in ((SOLICIT, _SOLICIT_MAX), (INFORM, _INFORM_MAX)):
            seconds = int.from_bytes(options.get(option, [b""])[0], "big")
            if 60 <= seconds <= 86400:
                self._retries[state] = self._retries[state]._replace(longest=seconds)

    def _advertised(self, server: bytes, options: dict[int, list[bytes]], now: int) -> bool:
        """The server of the highest preference is chosen; at once if it cannot be higher, or the first wait is over (§18.2.1)."""
        if _status(options) != _OK:
            return False
        _code, lease = self._granted(server, options, now)
        if not lease.addresses:
            return False
        preference = int.from_bytes(options.get(_PREFERENCE, [b"\0"])[0][:1], "big")
        if self._offer is None or preference > self._offer[0]:
            self._offer = preference, lease
        if preference == 255 or self._sent > 1:
            self.deadline = now
        return True

    def _replied(self, server: bytes, options: dict[int, list[bytes]], now: int) -> bool:
        """§18.2.10.1."""
        code, lease = self._granted(server, options, now)
        if _status(options) != _OK or (code != _OK and not lease.addresses):
            if code == _NO_BINDING and self.state in (RENEW, REBIND):
                kept = self.lease or lease
                self._offer = 0, Lease(server, kept.addresses)
                self._begin(REQUEST, now)
                return True
            if self.state == REQUEST:             # not what was advertised
                self._restart(now)
                return True
            return False          # it is asked again, or another server is
        if not lease.addresses:   # taken away
            self.lease = None
            self._restart(now)
            return True
        self.lease, self._offer = lease, None
        self.state, self.deadline = BOUND, lease.renew
        return True

    def _informed(self, server: bytes, options: dict[int, list[bytes]], now: int) -> bool:
        if _status(options) != _OK:
            return False
        self.lease = Lease(server, (), _addresses(options), _names(options))
        value = options.get(_REFRESH, [b""])[0]
        seconds = int.from_bytes(value, "big") if len(value) == 4 else _REFRESH_DEFAULT
        self.state = INFORMED
        self.deadline = _NEVER if seconds == _FOREVER else now + max(seconds, _REFRESH_MIN) * _SECOND
        return True

    def _granted(self, server: bytes, options: dict[int, list[bytes]], now: int) -> tuple[int, Lease]:
        """The status of our addresses, and what is granted."""
        found: list[Granted] = []
        code, t1, t2 = _NO_ADDRESS, 0, 0
        for value in options.get(_IA_NA, []):
            inner = _options(value[12:]) if len(value) >= 12 and value[:4] == self._iaid else None
            if inner is None:
                continue
            code = _status(inner)
            t1, t2 = struct.unpack_from("!II", value, 4)
            for part in inner.get(_ADDRESS, [])[:_MOST]:
                if len(part) >= 24:
                    preferred, valid = struct.unpack_from("!II", part, 16)
                    address = IPv6Address(part[:16])
                    if valid and preferred <= valid and not (
                            address.is_multicast or address.is_link_local or address.is_unspecified):
                        found.append(Granted(address, _until(preferred, now), _until(valid, now)))
        renew, rebind = _times(t1, t2, found, now)
        return code, Lease(server, tuple(found), _addresses(options), _names(options), renew, rebind)


def _times(t1: int, t2: int, found: list[Granted], now: int) -> tuple[int, int]:
    """When to renew and to rebind: as the server says, or by the shortest preferred lifetime (§14.2, §21.4)."""
    shortest = min((granted.preferred for granted in found), default=_NEVER)
    if t1 > t2 > 0:
        t1 = 0
    if shortest == _NEVER:
        guess = _NEVER, _NEVER
    else:
        guess = now + (shortest - now) // 2, now + (shortest - now) * 4 // 5
    rebind = _until(t2, now) if t2 else guess[1]
    renew = _until(t1, now) if t1 else guess[0]
    return min(renew, rebind), rebind


def _until(seconds: int, now: int) -> int:
    return _NEVER if seconds == _FOREVER else now + seconds * _SECOND


# -- reading and writing ---------------------------------------------------------------------------------------
def _option(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def _options(data: bytes) -> dict[int, list[bytes]] | None:
    """By their codes; None if one goes beyond the end."""
    found: dict[int, list[bytes]] = {}
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            return None
        code, size = struct.unpack_from("!HH", data, at)
        at += 4 + size
        if at > len(data):
            return None
        found.setdefault(code, []).append(data[at - size:at])
    return found


def _status(options: dict[int, list[bytes]]) -> int:
    return int.from_bytes(options.get(_STATUS, [b"\0\0"])[0][:2], "big")


def _addresses(options: dict[int, list[bytes]]) -> tuple[IPv6Address, ...]:
    def each() -> Iterator[IPv6Address]:
        for value in options.get(_DNS, []):
            for at in range(0, len(value) - 15, 16):
                yield IPv6Address(value[at:at + 16])
    return tuple(each())[:_MOST]


def _names(options: dict[int, list[bytes]]) -> tuple[str, ...]:
    return tuple(name for value in options.get(_DOMAINS, []) for name in domain_names(value))[:_MOST]


# -- running it ----------------------------------------------------------------------------------------------
async def keep(client: Client, stack: Stack, *, clock: Callable[[], int] = time.monotonic_ns,
               changed: Callable[[Lease | None], object] | None = None) -> None:
    """Get a lease for a running stack and keep it: the addresses are the stack's as long as they are valid, name servers are asked.
    changed: called with every new lease, None when there is none any more. Ends when it is cancelled, the stack is closed, or
    everything was given back by `client.release`."""
    moved = asyncio.Event()

    def hear(event: RouterAdvertisement | Conflict | None) -> None:
        address = getattr(event, "address", None)
        if event is None or (isinstance(address, IPv6Address) and client.decline(address, clock())):
            moved.set()

    transport, _ = await stack.create_datagram_endpoint(lambda: ClientPort(client, moved, clock, SERVER), ("::", CLIENT))
    stack.hearing.append(hear)
    have: Lease | None = None
    try:
        while not stack.closed and client.state != ENDED:
            for data in client.run(clock()):
                transport.sendto(data, (SERVERS, SERVER))
            if client.lease != have:
                _apply(stack, have, client.lease)
                have = client.lease
                if changed is not None:
                    changed(have)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(moved.wait(), min(max(0.0, (client.deadline - clock()) / _SECOND), 86400.0))
            moved.clear()
    finally:
        stack.hearing.remove(hear)
        transport.close()


def _apply(stack: Stack, old: Lease | None, new: Lease | None) -> None:
    before, now = (() if lease is None else lease.settings()["addresses"] for lease in (old, new))
    if before != now:
        stack.readdress(before, now)
    stack.use_nameservers(() if old is None else old.nameservers, () if new is None else new.nameservers)
