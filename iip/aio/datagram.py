"""UDP endpoints."""
from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from iip.aio.limits import WriteLimits
from iip.aio.names import ANY_PORT, Address, SockName, StackSocket, literal, sockname
from iip.aio.reasons import os_error
from iip.errors import ConfigError
from iip.events import Datagram, IcmpError

if TYPE_CHECKING:
    from iip.aio.server import Place
    from iip.aio.stack import Stack

_UDP = 17
_LARGEST = 65507
_PORT_UNREACHABLE = {(4, 3, 3), (6, 1, 4)}        # version, type, code


class Datagrams:
    """Which endpoint a datagram is for."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.table: dict[Place, DatagramTransport] = {}
        self.blocked: list[DatagramTransport] = []

    def find(self, address: Address, port: int) -> DatagramTransport | None:
        get, version = self.table.get, address.version
        return (get((version, port)) or get((address, port)) or get((version, ANY_PORT)) or get((address, ANY_PORT)))

    def used(self, port: int) -> bool:
        return any(place[1] == port for place in self.table)

    def arrived(self, datagram: Datagram) -> None:
        endpoint = self.find(datagram.destination, datagram.destination_port)
        if endpoint is not None:
            endpoint.arrived(datagram)

    def failed(self, error: IcmpError) -> None:
        """An ICMP error: of interest to an endpoint with one peer."""
        if error.protocol != _UDP:
            return
        for (_place, port), endpoint in list(self.table.items()):
            if port == error.source_port and endpoint.peer == (error.destination, error.destination_port):
                refused = (error.destination.version, error.type, error.code) in _PORT_UNREACHABLE
                endpoint.failed(os_error(errno.ECONNREFUSED if refused else errno.EHOSTUNREACH))
                return

    def retry(self) -> bool:
        """After a pass of the engine: queues that were full may have room. True when something was sent."""
        blocked, self.blocked = self.blocked, []
        sent = [endpoint.flush() for endpoint in blocked]
        return any(sent)


class DatagramTransport(WriteLimits, asyncio.DatagramTransport):
    """Made by `Stack.create_datagram_endpoint`; what `asyncio.DatagramTransport` documents holds.

    An endpoint that takes any address or port shows where a datagram was sent to: a protocol with a method
    `datagram_received_at(data, addr, local)` is called so instead of `datagram_received`, and `sendto` has `source`.
    """

    def __init__(self, stack: Stack, protocol: asyncio.BaseProtocol, places: list[Place],
                 peer: tuple[Address, int] | None) -> None:
        super().__init__()
        self._stack, self._places, self.peer = stack, places, peer
        self._closing = self._lost = self._paused = False
        self._waiting: deque[tuple[bytes, tuple[Address, int], tuple[Address, int] | None]] = deque()
        self._port = places[0][1]
        fixed = places[0][0]
        self._source = None if isinstance(fixed, int) else fixed
        self._local: SockName = (("0.0.0.0", self._port) if fixed == 4 else ("::", self._port, 0, 0)) if isinstance(
            fixed, int) else sockname(fixed, self._port)
        self._remote = sockname(*peer) if peer else None
        self.set_protocol(protocol)
        for place in places:
            stack.datagrams.table[place] = self
        stack.engine.udp_bind(max(self._port, 0))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol: Any = protocol
        self._received_at = getattr(protocol, "datagram_received_at", None)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol  # type: ignore[no-any-return]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of `name`: "peername", "sockname", "socket"."""
        if name == "sockname":
            return self._local
        if name == "peername":
            return self._remote if self._remote is not None else default
        if name == "socket":
            return StackSocket(socket.SOCK_DGRAM, self._local, self._remote)
        return super().get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closing

    # -- receiving -------------------------------------------------------------------------------------------
    def arrived(self, datagram: Datagram) -> None:
        source = (datagram.source, datagram.source_port)
        if self._closing or (self.peer is not None and source != self.peer):
            return
        data, addr = bytes(datagram.data), sockname(*source)  # type: ignore[call-overload]
        try:
            if self._received_at is not None:
                self._received_at(data, addr, sockname(datagram.destination, datagram.destination_port))
            else:
                self._protocol.datagram_received(data, addr)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal(error, "Fatal error: a callback of the protocol failed.")

    def failed(self, error: OSError) -> None:
        try:
            self._protocol.error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as worse:
            self._fatal(worse, "Fatal error: protocol.error_received() call failed.")

    # -- sending ---------------------------------------------------------------------------------------------
    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None, source: Any = None) -> None:
        """Send one datagram. source: (address, port) to send from, for endpoints of any address or port (a transparent
        proxy answers from where it was asked)."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self.peer is not None:
            if addr is not None and _end(addr) != self.peer:
                raise ValueError(f"Invalid address: must be None or {self._remote}")
            to = self.peer
        elif addr is None:
            raise ValueError("sendto: the endpoint has no remote address; give one")
        else:
            to = _end(addr)
        if self._lost:
            return
        origin = None if source is None else _end(source)
        if origin is None and self._port == ANY_PORT:
            raise ValueError("sendto: an endpoint of every port has to be told its source")
        if self._waiting or not self._send(data, to, origin):
            self._waiting.append((bytes(data), to, origin))
            self._size += len(data)
            if len(self._waiting) == 1:
                self._stack.datagrams.blocked.append(self)
            if self._size > self._high and not self._paused:
                self._paused = True
                self._protocol.pause_writing()
        self._stack.wake()

    def _send(self, data: bytes | bytearray | memoryview, to: tuple[Address, int],
              origin: tuple[Address, int] | None) -> bool:
        """False: no room now."""
        if len(data) > _LARGEST:
            self._stack.soon(self.failed, os_error(errno.EMSGSIZE))
            return True
        address, port = origin or (self._source, self._port)
        try:
            return self._stack.engine.udp_send(data, to[0], to[1], port, source=address)
        except ConfigError:
            self._stack.soon(self.failed, os_error(errno.ENETUNREACH, str(to[0])))
            return True

    def flush(self) -> bool:
        """Send what waits; False when nothing could be."""
        before = len(self._waiting)
        while self._waiting:
            if not self._send(*self._waiting[0]):
                self._stack.datagrams.blocked.append(self)
                break
            self._size -= len(self._waiting.popleft()[0])
        if self._paused and self._size <= self._low:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing and not self._waiting:
            self.lose(None)
        return len(self._waiting) < before

    # -- ending ----------------------------------------------------------------------------------------------
    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._waiting:
            self.lose(None)

    def abort(self) -> None:
        self.lose(None)

    def _fatal(self, error: BaseException, message: str) -> None:
        self._stack.loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol})
        self.lose(error)

    def lose(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._closing = self._lost = True
        self._waiting.clear()
        datagrams = self._stack.datagrams
        for place in self._places:
            datagrams.table.pop(place, None)
        if not datagrams.used(self._port) and not self._stack.closed:
            self._stack.engine.udp_unbind(max(self._port, 0))
        self._stack.soon(self._protocol.connection_lost, error)

    def __repr__(self) -> str:
        return f"<iip.aio.DatagramTransport {self._local}{f' {self._remote}' if self._remote else ''}>"


def _end(addr: Any) -> tuple[Address, int]:
    """A socket address, which has to be a literal, as the engine's."""
    address = literal(addr[0])
    if address is None:
        raise ValueError(f"{addr[0]!r} is not an IP address; resolve names with getaddrinfo first")
    return address, addr[1]


async def create_datagram_endpoint(
        stack: Stack, factory: Any, local_addr: tuple[str | None, int] | None, remote_addr: tuple[str, int] | None,
        family: int) -> tuple[DatagramTransport, Any]:
    stack.check()
    if local_addr is None and remote_addr is None and family == 0:
        raise ValueError("unexpected address family")
    peer = None
    if remote_addr is not None:
        infos = await stack.getaddrinfo(*remote_addr, family=family, type=socket.SOCK_DGRAM)
        peer = _end(infos[0][4])
        family = infos[0][0]
    host, port = local_addr or (None, 0)
    places = await stack.places(host, port, family, socket.SOCK_DGRAM)
    for place in places:
        if place in stack.datagrams.table:
            raise os_error(errno.EADDRINUSE, f"port {place[1]}")
    protocol = factory()
    transport = DatagramTransport(stack, protocol, places, peer)
    protocol.connection_made(transport)
    return transport, protocol
