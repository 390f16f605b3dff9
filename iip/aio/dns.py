"""DNS through the stack: dnspython's resolver on our sockets (``pip install 'iip[dns]'``)."""
from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from iip.aio.names import Address, SockName
from iip.aio.resolver import temporary_failure
from iip.errors import ConfigError

try:
    import dns.asyncbackend
    import dns.asyncresolver
    import dns.exception
except ImportError:
    raise ConfigError("nameservers: names are resolved by dnspython, which is not installed; pip install 'iip[dns]'") from None

if TYPE_CHECKING:
    from iip.aio.stack import Stack

_RECORDS = ((socket.AF_INET6, "AAAA"), (socket.AF_INET, "A"))
_QUEUE = 64                       # datagrams that wait to be read


class Dns:
    """The addresses of names, asked of `nameservers` and kept as long as they say."""

    def __init__(self, stack: Stack, nameservers: Sequence[str]) -> None:
        self.nameservers = list(nameservers)
        self._backend = _Backend(stack)
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.nameservers = self.nameservers
        self._resolver.cache = dns.resolver.LRUCache()

    async def addresses(self, host: str, family: int) -> list[Address]:
        """All of a name; none if it does not exist. Raises `socket.gaierror` when no server answers."""
        kinds = [kind for f, kind in _RECORDS if family in (0, f)]
        answers = await asyncio.gather(*(self._ask(host, kind) for kind in kinds), return_exceptions=True)
        found = [ip_address(record.address) for answer in answers if not isinstance(answer, BaseException)
                 for record in answer]
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if failed and not found:
            raise temporary_failure() from failed[0]
        return found

    async def _ask(self, host: str, kind: str) -> list[Any]:
        try:
            return list(await self._resolver.resolve(host, kind, backend=self._backend, search=False))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.exception.SyntaxError, dns.exception.FormError,
                dns.name.LabelTooLong, dns.name.EmptyLabel):
            return []


class _Backend(dns.asyncbackend.Backend):
    """Sockets and time for dnspython."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def name(self) -> str:
        return "iip"

    async def make_socket(self, af: int, socktype: int, proto: int = 0, source: Any = None, destination: Any = None,
                          timeout: float | None = None, ssl_context: Any = None, server_hostname: str | None = None) -> Any:
        local = source[:2] if source else None
        if socktype == socket.SOCK_DGRAM:
            _transport, protocol = await self._stack.create_datagram_endpoint(
                _Inbox, local_addr=local, remote_addr=destination[:2] if destination else None, family=af)
            return _Datagrams(af, protocol)
        opening = self._stack.open_connection(*destination[:2], ssl=ssl_context, server_hostname=server_hostname,
                                              local_addr=local)
        return _Stream(af, *await self.wait_for(opening, timeout))

    def datagram_connection_required(self) -> bool:
        return False

    async def sleep(self, interval: float) -> None:
        await asyncio.sleep(interval)

    async def wait_for(self, awaitable: Awaitable[Any], timeout: float | None) -> Any:
        try:
            return await asyncio.wait_for(awaitable, timeout)
        except asyncio.TimeoutError:
            raise dns.exception.Timeout(timeout=timeout) from None


class _Inbox(asyncio.DatagramProtocol):
    """Keeps datagrams until they are read."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[tuple[bytes, SockName] | Exception] = asyncio.Queue(_QUEUE)
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self.arrived.full():
            self.arrived.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        if not self.arrived.full():
            self.arrived.put_nowait(exc)


class _Datagrams(dns.asyncbackend.DatagramSocket):
    def __init__(self, family: int, inbox: _Inbox) -> None:
        super().__init__(family, socket.SOCK_DGRAM)
        self._inbox = inbox

    async def sendto(self, what: bytes, destination: Any, timeout: float | None) -> int:
        self._inbox.transport.sendto(what, destination)
        return len(what)

    async def recvfrom(self, size: int, timeout: float | None) -> tuple[bytes, SockName]:
        try:
            got = await asyncio.wait_for(self._inbox.arrived.get(), timeout)
        except asyncio.TimeoutError:
            raise dns.exception.Timeout(timeout=timeout) from None
        if isinstance(got, Exception):
            raise got
        return got

    async def close(self) -> None:
        self._inbox.transport.close()

    async def getpeername(self) -> Any:
        return self._inbox.transport.get_extra_info("peername")

    async def getsockname(self) -> Any:
        return self._inbox.transport.get_extra_info("sockname")


class _Stream(dns.asyncbackend.StreamSocket):
    def __init__(self, family: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._reader, self._writer = reader, writer

    async def sendall(self, what: bytes, timeout: float | None) -> None:
        self._writer.write(what)
        await asyncio.wait_for(self._writer.drain(), timeout)

    async def recv(self, size: int, timeout: float | None) -> bytes:
        try:
            return await asyncio.wait_for(self._reader.read(size), timeout)
        except asyncio.TimeoutError:
            raise dns.exception.Timeout(timeout=timeout) from None

    async def close(self) -> None:
        self._writer.close()

    async def getpeername(self) -> Any:
        return self._writer.get_extra_info("peername")

    async def getsockname(self) -> Any:
        return self._writer.get_extra_info("sockname")
