"""Servers, and how a connection finds its own."""
from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from iip.aio.names import ANY_PORT, Address, StackSocket, sockname
from iip.aio.reasons import os_error
from iip.aio.tls import Tls
from iip.aio.transport import StreamTransport
from iip.connection import Connection

if TYPE_CHECKING:
    from iip.aio.stack import Stack

Place = tuple[Address | int, int]         # an address, or the IP version of which it is any; port or ANY_PORT


class Listeners:
    """Which server a connection is for."""

    def __init__(self) -> None:
        self.table: dict[Place, Server] = {}

    def find(self, address: Address, port: int) -> Server | None:
        get, version = self.table.get, address.version
        return (get((version, port)) or get((address, port)) or get((version, ANY_PORT)) or get((address, ANY_PORT)))

    def used(self, port: int) -> bool:
        return any(place[1] == port for place in self.table)

    def close(self) -> None:
        for server in set(self.table.values()):
            server.close()


class Server(asyncio.AbstractServer):
    """What `create_server` returns, with the methods of `asyncio.Server` of the newest Python: `wait_closed` waits for the
    connections, `close_clients` and `abort_clients` end them."""

    def __init__(self, stack: Stack, factory: Callable[[], asyncio.BaseProtocol], places: Sequence[Place],
                 tls: Tls | None) -> None:
        self._stack, self._factory, self._places, self._tls = stack, factory, places, tls
        self._clients: set[StreamTransport] = set()
        self._serving = self._closed = False
        self._waiters: list[asyncio.Future[None]] = []
        self._forever: asyncio.Future[None] | None = None

    # -- connections -----------------------------------------------------------------------------------------
    def accepted(self, conn: Connection) -> None:
        """A connection is established: make its protocol."""
        try:
            protocol = self._factory()
            if self._tls is not None:
                protocol = self._tls.protocol(self._stack, protocol, None)
            transport = StreamTransport(self._stack, conn, protocol, self)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            conn.abort()
            self._stack.loop.call_exception_handler(
                {"message": "Error on transport creation for incoming connection", "exception": error})
            return
        transport.begin()

    def attach(self, transport: StreamTransport) -> None:
        self._clients.add(transport)

    def detach(self, transport: StreamTransport) -> None:
        self._clients.discard(transport)
        self._wake()

    # -- asyncio.Server --------------------------------------------------------------------------------------
    @property
    def sockets(self) -> tuple[StackSocket, ...]:
        """Objects whose `getsockname()` tells address and port."""
        if self._closed:
            return ()
        any_ = {4: "0.0.0.0", 6: "::"}
        names = [((any_[a], p) if a == 4 else (any_[a], p, 0, 0)) if isinstance(a, int) else sockname(a, p)
                 for a, p in self._places]
        return tuple(StackSocket(socket.SOCK_STREAM, name) for name in names)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._stack.loop

    def is_serving(self) -> bool:
        return self._serving

    def listen(self) -> None:
        """Offer the ports."""
        if self._serving or self._closed:
            return
        table = self._stack.listeners.table
        for place in self._places:
            if place in table:
                raise os_error(errno.EADDRINUSE, f"port {place[1]}")
        for place in self._places:
            table[place] = self
            self._stack.engine.tcp_listen(max(place[1], 0))
        self._serving = True

    async def start_serving(self) -> None:
        self.listen()

    async def serve_forever(self) -> None:
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._closed:
            raise RuntimeError(f"server {self!r} is closed")
        self.listen()
        self._forever = self._stack.loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Accept no more. Connections go on."""
        if self._closed:
            return
        self._closed = True
        listeners = self._stack.listeners
        if self._serving:
            self._serving = False
            for place in self._places:
                del listeners.table[place]
            for port in {port for _address, port in self._places}:
                if not listeners.used(port) and not self._stack.closed:
                    self._stack.engine.tcp_listen(max(port, 0), on=False)
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._wake()

    def close_clients(self) -> None:
        for transport in self._clients.copy():
            transport.close()

    def abort_clients(self) -> None:
        for transport in self._clients.copy():
            transport.abort()

    def _wake(self) -> None:
        if self._closed and not self._clients:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its last connection is lost."""
        if not self._closed or self._clients:
            waiter: asyncio.Future[None] = self._stack.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()
        await self.wait_closed()

    def __repr__(self) -> str:
        return f"<iip.aio.Server sockets={self.sockets}>"


async def create_server(
        stack: Stack, factory: Callable[[], asyncio.BaseProtocol], host: str | Sequence[str] | None,
        port: int | str | None, *,
        family: int, ssl: Any, ssl_handshake_timeout: float | None, ssl_shutdown_timeout: float | None,
        start_serving: bool) -> Server:
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    if ssl is None:
        for name, value in (("ssl_handshake_timeout", ssl_handshake_timeout), ("ssl_shutdown_timeout", ssl_shutdown_timeout)):
            if value is not None:
                raise ValueError(f"{name} is only meaningful with ssl")
    stack.check()
    places = await stack.places(host, port, family, socket.SOCK_STREAM)
    tls = Tls(ssl, True, None, ssl_handshake_timeout, ssl_shutdown_timeout) if ssl is not None else None
    server = Server(stack, factory, places, tls)
    if start_serving:
        server.listen()
    return server
