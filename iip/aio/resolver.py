"""Names to addresses: literals, the hosts file, and DNS asked through the stack."""
from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from iip.aio.names import Address, SockName, family_of, literal, sockname
from iip.errors import ConfigError

if TYPE_CHECKING:
    from iip.aio.dns import Dns
    from iip.aio.stack import Stack
    from iip.config import Config

AddrInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, SockName]

_PROTOCOLS = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}


class Query:
    """What `getaddrinfo` was asked, checked; raises `socket.gaierror`."""

    def __init__(self, host: str | bytes | None, port: str | bytes | int | None, family: int, type: int, proto: int,
                 flags: int) -> None:
        self.number = _port(port, flags)
        self.kinds = [kind for kind, p in _PROTOCOLS.items() if type in (0, kind) and proto in (0, p)]
        if not self.kinds:
            raise _error(socket.EAI_SOCKTYPE)
        if host is None and port is None:
            raise _error(socket.EAI_NONAME)
        self.host = host.decode("ascii") if isinstance(host, bytes) else host
        self.family, self.flags = family, flags

    def answer(self, addresses: list[Address]) -> list[AddrInfo]:
        found = [a for a in addresses if self.family in (0, family_of(a))]
        if not found:
            raise _error(socket.EAI_NONAME)
        name = self.host if self.host and self.flags & socket.AI_CANONNAME else ""
        return [(family_of(a), kind, _PROTOCOLS[kind], name, sockname(a, self.number)) for a in found for kind in self.kinds]


class Names:
    """The names that are known without asking: literals and the hosts file."""

    def __init__(self, hosts: str) -> None:
        self._path = hosts
        self._hosts: dict[str, list[Address]] = {}
        self._stamp: tuple[int, int] | None = None      # of the file as it was read

    def known(self, query: Query) -> list[Address] | None:
        """The addresses of a query; None: somebody else has to be asked."""
        if not query.host:
            texts = ("::", "0.0.0.0") if query.flags & socket.AI_PASSIVE else ("::1", "127.0.0.1")
            return [a for text in texts if (a := literal(text)) is not None]
        address = literal(query.host)
        if address is not None:
            return [address]
        if query.flags & socket.AI_NUMERICHOST:
            return []
        return self._file().get(query.host.rstrip(".").lower())

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


class Resolver(Names):
    """`getaddrinfo` of one stack."""

    def __init__(self, stack: Stack, nameservers: Sequence[str], hosts: str) -> None:
        super().__init__(hosts)
        self._stack = stack
        self._dns: Dns | None = None
        if nameservers:
            from iip.aio.dns import Dns
            self._dns = Dns(stack, nameservers)

    def use(self, old: list[str], new: list[str]) -> None:
        """Other servers, the new ones first. Without dnspython names go on being those of the hosts file."""
        if old == new:
            return
        have = [] if self._dns is None else self._dns.nameservers
        servers = new + [server for server in have if server not in old and server not in new]
        with contextlib.suppress(ConfigError):
            from iip.aio.dns import Dns
            self._dns = Dns(self._stack, servers) if servers else None

    async def getaddrinfo(self, host: str | bytes | None, port: str | bytes | int | None, *, family: int = 0, type: int = 0,
                          proto: int = 0, flags: int = 0) -> list[AddrInfo]:
        """As `socket.getaddrinfo`; raises `socket.gaierror`."""
        query = Query(host, port, family, type, proto, flags)
        found = self.known(query)
        if found is None:
            found = await self._dns.addresses(query.host or "", family) if self._dns is not None else []
        return query.answer(ordered(found, self._stack.engine.config))


def ordered(addresses: list[Address], config: Config) -> list[Address]:
    """RFC 6724 as far as it matters here: first what we have an address for, and IPv6 before IPv4."""
    if len(addresses) <= 1:
        return addresses
    ours = {interface.version for interface in config.interfaces}
    return sorted(dict.fromkeys(addresses), key=lambda a: (a.version not in ours, -a.version))


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
