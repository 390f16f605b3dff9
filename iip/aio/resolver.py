"""Names to addresses: literals, the hosts file, and DNS asked through the stack."""
from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from iip.aio.names import Address, SockName, family_of, literal, sockname

if TYPE_CHECKING:
    from iip.aio.dns import Dns
    from iip.aio.stack import Stack

AddrInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, SockName]

_PROTOCOLS = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}


class Resolver:
    """`getaddrinfo` of one stack."""

    def __init__(self, stack: Stack, nameservers: Sequence[str], hosts: str) -> None:
        self._stack, self._path = stack, hosts
        self._hosts: dict[str, list[Address]] = {}
        self._stamp: tuple[int, int] | None = None      # of the file as it was read
        self._dns: Dns | None = None
        if nameservers:
            from iip.aio.dns import Dns
            self._dns = Dns(stack, nameservers)

    async def getaddrinfo(self, host: str | bytes | None, port: str | bytes | int | None, *, family: int = 0, type: int = 0,
                          proto: int = 0, flags: int = 0) -> list[AddrInfo]:
        """As `socket.getaddrinfo`; raises `socket.gaierror`."""
        number = _port(port, flags)
        kinds = [kind for kind, p in _PROTOCOLS.items() if type in (0, kind) and proto in (0, p)]
        if not kinds:
            raise _error(socket.EAI_SOCKTYPE)
        if host is None and port is None:
            raise _error(socket.EAI_NONAME)
        text = host.decode("ascii") if isinstance(host, bytes) else host
        found = [a for a in await self._addresses(text, family, flags) if family in (0, family_of(a))]
        if not found:
            raise _error(socket.EAI_NONAME)
        name = text if text and flags & socket.AI_CANONNAME else ""
        return [(family_of(a), kind, _PROTOCOLS[kind], name, sockname(a, number)) for a in self._ordered(found) for kind in kinds]

    async def _addresses(self, host: str | None, family: int, flags: int) -> list[Address]:
        if not host:
            texts = ("::", "0.0.0.0") if flags & socket.AI_PASSIVE else ("::1", "127.0.0.1")
            return [a for text in texts if (a := literal(text)) is not None]
        address = literal(host)
        if address is not None:
            return [address]
        if flags & socket.AI_NUMERICHOST:
            return []
        known = self._file().get(host.rstrip(".").lower())
        if known:
            return known
        return await self._dns.addresses(host, family) if self._dns is not None else []

    def _ordered(self, addresses: list[Address]) -> list[Address]:
        """RFC 6724 as far as it matters here: first what we have an address for, and IPv6 before IPv4."""
        if len(addresses) == 1:
            return addresses
        ours = {interface.version for interface in self._stack.engine.config.interfaces}
        return sorted(dict.fromkeys(addresses), key=lambda a: (a.version not in ours, -a.version))

    def _file(self) -> dict[str, list[Address]]:
        """The hosts file, read again when it has changed."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                with open(self._path, encoding="utf-8") as file:
                    self._hosts = _parse(file.read())
                self._stamp = stamp
        return self._hosts


def _parse(text: str) -> dict[str, list[Address]]:
    table: dict[str, list[Address]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        address = literal(words[0]) if words else None
        if address is not None:
            for name in words[1:]:
                table.setdefault(name.lower(), []).append(address)
    return table


def _port(port: str | bytes | int | None, flags: int) -> int:
    if port is None or port == "" or port == b"":
        return 0
    text = port.decode("ascii") if isinstance(port, bytes) else port
    if isinstance(text, int):
        return text
    if text.isdecimal():
        return int(text)
    try:
        if flags & socket.AI_NUMERICSERV:
            raise OSError
        return socket.getservbyname(text)
    except OSError:
        raise _error(socket.EAI_SERVICE) from None


_TEXTS = {socket.EAI_NONAME: "Name or service not known", socket.EAI_SERVICE: "Servname not supported for ai_socktype",
          socket.EAI_SOCKTYPE: "ai_socktype not supported", socket.EAI_AGAIN: "Temporary failure in name resolution"}


def _error(code: int) -> socket.gaierror:
    return socket.gaierror(code, _TEXTS[code])


def temporary_failure() -> socket.gaierror:
    return _error(socket.EAI_AGAIN)
