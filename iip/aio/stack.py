"""A TCP/IP stack in an asyncio event loop."""
from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from iip.aio.connect import Attempt, create_connection
from iip.aio.datagram import Datagrams, DatagramTransport, create_datagram_endpoint
from iip.aio.events import Events
from iip.aio.handler import StreamHandler
from iip.aio.names import ANY_PORT, Address, literal
from iip.aio.reasons import os_error
from iip.aio.resolver import AddrInfo, Resolver
from iip.aio.runner import runner_of
from iip.aio.server import Listeners, Place, Server, create_server
from iip.aio.tls import Tls, start_tls
from iip.aio.transport import StreamTransport
from iip.config import Config
from iip.connection import Connection
from iip.drivers.base import Driver
from iip.events import Conflict, RouterAdvertisement
from iip.facade import Engine
from iip.memory.pool import PacketPool

if TYPE_CHECKING:
    import ssl as ssl_module

    from typing_extensions import Self

_P = TypeVar("_P", bound=asyncio.BaseProtocol)
_LIMIT = 1 << 16


class Stack:
    """One engine in the running event loop: no thread, no polling.

    driver: where packets come from and go to; the loop watches its descriptor if it has one. config: an `iip.Config`; or give its
    settings by name. nameservers: addresses of DNS servers to ask through the stack (needs the extra ``iip[dns]``); without
    them literals and the hosts file resolve. pool, seed: as for `iip.Engine`.

    `open_connection`, `start_server`, `create_connection`, `create_server`, `create_datagram_endpoint` and `getaddrinfo`
    are those of asyncio. Use it as ``async with Stack(...) as net:``, or `close` it.
    """

    def __init__(self, driver: Driver, config: Config | None = None, *, nameservers: Sequence[str] = (),
                 hosts: str = "/etc/hosts", pool: PacketPool | None = None, seed: int | None = None,
                 **settings: Any) -> None:
        self._closed = True       # until it is set up
        self.loop = asyncio.get_running_loop()
        if config is None:
            config = Config(**settings)
        elif settings:
            config = config.replace(**settings)
        self.transports: set[StreamTransport] = set()
        self.attempts: set[Attempt] = set()
        self._lingering: set[Connection] = set()
        self._emptied: asyncio.Future[None] | None = None
        self.listeners = Listeners()
        self.datagrams = Datagrams(self)
        # those who configure us (iip.autoconf, iip.dhcp6); None: the end
        self.hearing: list[Callable[[RouterAdvertisement | Conflict | None], None]] = []
        self.driver = driver
        self.engine = Engine(config, StreamHandler(Events(self)), driver, pool, seed)
        self.random = random.SystemRandom() if seed is None else random.Random(seed)
        self.resolver = Resolver(self, nameservers, hosts)
        self.error: BaseException | None = None     # what ended the stack
        self.awake = False                          # runs or is about to
        self._inside = False                        # runs
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        # other loops than asyncio's own round to milliseconds, and a timer that is early has to be set again
        self._slack = 0.0 if isinstance(self.loop, asyncio.BaseEventLoop) else 0.0005
        self._runner = runner_of(self.loop)
        self._closed = False
        self._watch()

    # -- the loop ------------------------------------------------------------------------------------------
    def _watch(self) -> None:
        """Have the loop look after the stack."""
        self._fd = self.driver.fileno()
        if self._fd is not None:
            self.loop.add_reader(self._fd, self.run)
        else:
            self.driver.notify(self.wake)
        self._guard = _closed_with_loop(self)
        with contextlib.suppress(StopIteration):
            self._guard.asend(None).send(None)
        self.wake()

    def wake(self) -> None:
        """Run the engine before the loop sleeps: for a driver without a descriptor, when it has packets."""
        if not self.awake and not self._closed:
            self.awake = True
            self._runner.wake(self)

    def run(self) -> None:
        """One pass of the engine; the loop calls it."""
        if self._closed:
            return
        now = time.monotonic_ns()
        self.awake = self._inside = True      # what protocols ask for now leaves at the end of this pass
        try:
            deadline = self.engine.run(now)
        except Exception as error:
            self._fail(error)
            return
        finally:
            self.awake = self._inside = False
        if self.datagrams.blocked and self.datagrams.retry():
            self.wake()
        if deadline is None:
            return
        if deadline <= now:
            self.wake()
        elif self._timer is None or deadline < self._timer_at:
            self._arm(deadline, now)

    def _arm(self, deadline: int, now: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self.loop.call_later((deadline - now) / 1e9 + self._slack, self._due)

    def _due(self) -> None:
        self._timer = None        # if the deadline has moved meanwhile, the pass finds nothing to do
        self.wake()

    def soon(self, callback: Callable[..., object], *args: object) -> None:
        """`call_soon`, unless the loop is closed: then nobody is there to be told."""
        if not self.loop.is_closed():
            self.loop.call_soon(callback, *args)

    def _fail(self, error: Exception) -> None:
        """The driver is at its end, and so is everything that uses the stack."""
        self.error = error
        self.loop.call_exception_handler({"message": f"{self!r}: the driver or the engine failed", "exception": error})
        self._inside = False
        self._shut(error)

    # -- ending --------------------------------------------------------------------------------------------
    @property
    def closed(self) -> bool:
        return self._closed

    def check(self) -> None:
        """Raise when the stack is closed."""
        if self._closed:
            raise OSError(errno.ENETDOWN, "the stack is closed" + (f": {self.error}" if self.error else ""))

    def linger(self, conn: Connection) -> None:
        """A connection that its transport has closed: the engine sends the rest."""
        self._lingering.add(conn)

    def gone(self, conn: Connection) -> None:
        """And now it is over."""
        self._lingering.discard(conn)
        if self._emptied is not None and not self._going() and not self._emptied.done():
            self._emptied.set_result(None)

    def _going(self) -> bool:
        return bool(self._lingering) or any(transport.is_closing() for transport in self.transports)

    def close(self) -> None:
        """Abort what is open (`connection_lost` follows), stop listening, close engine and driver. May be called twice, from
        callbacks, and when the loop is closed."""
        if self._inside:
            self.soon(self.close)
        else:
            self._shut(None)

    async def aclose(self, linger: float = 2.0) -> None:
        """`close`, but connections that were closed before may send what they have and end in order, for `linger` seconds
        at most. What is still open is aborted."""
        self.listeners.close()
        if not self._closed and self._going():
            self._emptied = self.loop.create_future()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._emptied, linger)
        self.close()
        await asyncio.sleep(0)    # protocols learn of it

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    def _shut(self, error: Exception | None) -> None:
        if self._closed:
            return
        self.awake = True         # nothing is to run any more
        self.listeners.close()
        for endpoint in set(self.datagrams.table.values()):
            endpoint.lose(error)
        for transport in self.transports.copy():
            transport.fail(error)
        for attempt in self.attempts.copy():
            attempt.fail(os_error(errno.ENETDOWN, "the stack was closed"))
        if error is None:
            self.engine.abort_all()
            with contextlib.suppress(Exception):
                self._last_pass()
        self._closed = True
        for hear in self.hearing:
            hear(None)
        self._unwatch()
        self.engine.close()
        self.driver.close()

    def _last_pass(self) -> None:
        """The RSTs leave."""
        self.engine.run(time.monotonic_ns())

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._fd is None:
            self.driver.notify(None)
        elif not self.loop.is_closed():
            self.loop.remove_reader(self._fd)
        with contextlib.suppress(StopIteration, RuntimeError):
            self._guard.aclose().send(None)

    def __repr__(self) -> str:
        return f"<iip.aio.{type(self).__name__} {' '.join(self.engine.addresses)}{' closed' if self._closed else ''}>"

    # -- configuration -------------------------------------------------------------------------------------
    def readdress(self, old: Iterable[str], new: Iterable[str], **routes: Any) -> None:
        """Have the addresses `new` (as in the settings) in place of `old`; others stay. routes: `routes`, `gateway`, `gateway6`.
        Connections from an address that goes are aborted. Not from callbacks of the engine."""
        wanted, gone = list(new), set(old)
        kept = [address for address in self.engine.config.addresses if address not in gone and address not in wanted]
        self.engine.reconfigure(addresses=(*wanted, *kept), **routes)
        self.wake()

    def use_nameservers(self, old: Iterable[object], new: Iterable[object]) -> None:
        """Ask the DNS servers `new` (addresses) in place of `old`; others stay. Nothing happens without dnspython."""
        self.resolver.use([str(address) for address in old], [str(address) for address in new])

    # -- names and places ----------------------------------------------------------------------------------
    async def getaddrinfo(self, host: str | bytes | None, port: str | bytes | int | None, *, family: int = 0, type: int = 0,
                          proto: int = 0, flags: int = 0) -> list[AddrInfo]:
        """As `loop.getaddrinfo`: literals, the hosts file, and DNS if there are `nameservers`."""
        return await self.resolver.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)

    async def places(self, host: str | Sequence[str | None] | None, port: int | str | None, family: int, kind: int) -> list[Place]:
        """Where a server or an endpoint is: addresses of ours, or a version for all of them, with a port."""
        found: list[Place] = []
        number = 0
        for name in [host] if host is None or isinstance(host, str) else host:
            infos = await self.getaddrinfo(name, 0 if port == ANY_PORT else port or 0, family=family, type=kind,
                                           flags=socket.AI_PASSIVE)
            for info in infos:
                address = literal(info[4][0])
                assert address is not None
                number = info[4][1]
                if not address.is_unspecified:
                    self._check_own(address)
                found.append((address.version if address.is_unspecified else address, number))
        if port == ANY_PORT:
            number = ANY_PORT
        elif number == 0:
            number = self._free_port(kind)
        return [(address, number) for address, _port in dict.fromkeys(found)]

    def _check_own(self, address: Address) -> None:
        config = self.engine.config
        ours = config.accept_any or address.is_link_local or address.is_multicast
        if not ours and address not in [interface.ip for interface in config.interfaces]:
            raise os_error(errno.EADDRNOTAVAIL, f"{address} is not among the stack's addresses")

    def _free_port(self, kind: int) -> int:
        low, high = self.engine.config.ports
        used = self.listeners.used if kind == socket.SOCK_STREAM else self.datagrams.used
        for _ in range(1000):
            port = self.random.randint(low, high)
            if not used(port):
                return port
        raise os_error(errno.EADDRINUSE, "no port is free; widen Config.ports")

    # -- asyncio's calls -----------------------------------------------------------------------------------
    async def create_connection(
            self, protocol_factory: Callable[[], _P], host: str | None = None, port: int | str | None = None, *, ssl: Any = None,
            family: int = 0, proto: int = 0, flags: int = 0, sock: None = None, local_addr: tuple[str, int] | None = None,
            server_hostname: str | None = None, ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None, happy_eyeballs_delay: float | None = None,
            interleave: int | None = None, all_errors: bool = False) -> tuple[asyncio.Transport, _P]:
        """As `loop.create_connection`; `sock` cannot be given."""
        _no_sock(sock)
        return await create_connection(
            self, protocol_factory, host, port, ssl=ssl, family=family, proto=proto, flags=flags, local_addr=local_addr,
            server_hostname=server_hostname, ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout, happy_eyeballs_delay=happy_eyeballs_delay,
            interleave_first=interleave, all_errors=all_errors)

    async def create_server(
            self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str | Sequence[str] | None = None,
            port: int | str | None = None, *, family: int = socket.AF_UNSPEC, flags: int = socket.AI_PASSIVE,
            sock: None = None, backlog: int = 100, ssl: Any = None, reuse_address: bool | None = None,
            reuse_port: bool | None = None, keep_alive: bool | None = None, ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None, start_serving: bool = True) -> Server:
        """As `loop.create_server`; `sock` cannot be given. Half-open connections are limited by settings, not by `backlog`;
        `reuse_address`, `reuse_port` mean nothing here. port: `ANY_PORT` for every port; with `Config.accept_any` every
        destination address is served, and "sockname" is where the peer wanted to go."""
        _no_sock(sock)
        return await create_server(
            self, protocol_factory, host, port, family=family, ssl=ssl, ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout, start_serving=start_serving)

    async def create_datagram_endpoint(
            self, protocol_factory: Callable[[], _P], local_addr: tuple[str | None, int] | None = None,
            remote_addr: tuple[str, int] | None = None, *, family: int = 0, proto: int = 0, flags: int = 0,
            reuse_address: bool | None = None, reuse_port: bool | None = None, allow_broadcast: bool | None = None,
            sock: None = None) -> tuple[DatagramTransport, _P]:
        """As `loop.create_datagram_endpoint`; `sock` cannot be given. With port `ANY_PORT` every port is served, see
        `DatagramTransport`."""
        _no_sock(sock)
        return await create_datagram_endpoint(self, protocol_factory, local_addr, remote_addr, family)

    async def open_connection(self, host: str | None = None, port: int | str | None = None, *, limit: int = _LIMIT,
                              **kwds: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As `asyncio.open_connection`."""
        reader = asyncio.StreamReader(limit=limit, loop=self.loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self.loop)
        transport, _ = await self.create_connection(lambda: protocol, host, port, **kwds)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self.loop)

    async def start_server(self, client_connected_cb: Callable[..., Any], host: str | Sequence[str] | None = None,
                           port: int | str | None = None, *, limit: int = _LIMIT, **kwds: Any) -> Server:
        """As `asyncio.start_server`."""
        def factory() -> asyncio.StreamReaderProtocol:
            reader = asyncio.StreamReader(limit=limit, loop=self.loop)
            return asyncio.StreamReaderProtocol(reader, client_connected_cb, loop=self.loop)

        return await self.create_server(factory, host, port, **kwds)

    async def start_tls(self, transport: Any, protocol: asyncio.BaseProtocol, sslcontext: ssl_module.SSLContext, *,
                        server_side: bool = False, server_hostname: str | None = None,
                        ssl_handshake_timeout: float | None = None,
                        ssl_shutdown_timeout: float | None = None) -> asyncio.Transport:
        """As `loop.start_tls`, which does the same for transports of ours in asyncio's own loops; this does it in any."""
        return await start_tls(self, transport, protocol, Tls(
            sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout))

    @contextlib.contextmanager
    def installed(self) -> Iterator[Self]:
        """Within, the loop's own methods are the stack's: libraries that know nothing of iip use it. Yours is everything
        that runs in the loop meanwhile."""
        names = ("create_connection", "create_server", "create_datagram_endpoint", "getaddrinfo", "start_tls")
        for name in names:
            setattr(self.loop, name, getattr(self, name))
        try:
            yield self
        finally:
            for name in names:
                delattr(self.loop, name)


def _no_sock(sock: object) -> None:
    if sock is not None:
        raise ValueError("sock: a stack has no kernel sockets; give host and port")


async def _closed_with_loop(stack: Stack) -> AsyncGenerator[None, None]:
    """Nobody ends it but the loop when it shuts down its generators, as `asyncio.run` does at the end."""
    try:
        yield
    finally:
        if not stack.closed:
            warnings.warn(f"unclosed stack {stack!r}; use it in 'async with', or close it", ResourceWarning, stacklevel=2,
                          source=stack)
            stack.close()
