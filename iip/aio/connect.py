"""Opening connections: one attempt after the other, or in a race (RFC 8305)."""
from __future__ import annotations

import asyncio
import builtins
import functools
from asyncio import staggered
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from iip.aio.names import Address, literal
from iip.aio.reasons import closed_error, open_error
from iip.aio.resolver import AddrInfo
from iip.aio.tls import Tls, app_transport
from iip.aio.transport import StreamTransport
from iip.connection import Connection, Reason

if TYPE_CHECKING:
    from iip.aio.stack import Stack


class Attempt:
    """The `context` of a connection that is being opened."""

    def __init__(self, opening: Opening, what: str) -> None:
        self.opening, self.what = opening, what
        self.opened: asyncio.Future[None] = opening.stack.loop.create_future()
        opening.stack.attempts.add(self)

    def connected(self, conn: Connection) -> None:
        if self.opened.done() or self.opening.transport is not None:
            conn.context = None
            conn.abort()          # another one was quicker, or nobody waits any more
            return
        try:
            self.opening.use(conn)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            conn.context = None
            conn.abort()
            self.opened.set_exception(error)
        else:
            self.opened.set_result(None)

    def failed(self, reason: Reason) -> None:
        self.fail(closed_error(reason, self.what) or OSError(f"{self.what}: closed"))

    def fail(self, error: OSError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)


class Opening:
    """One call of `create_connection`: where it may lead, and what it led to."""

    def __init__(self, stack: Stack, factory: Callable[[], asyncio.BaseProtocol], tls: Tls | None) -> None:
        self.stack, self.factory, self.tls = stack, factory, tls
        self.transport: StreamTransport | None = None
        self.protocol: asyncio.BaseProtocol
        self.secured: asyncio.Future[None] | None = None

    def use(self, conn: Connection) -> None:
        """This is the connection. The protocol learns of it at once, so that it misses nothing."""
        app = outer = self.factory()
        if self.tls is not None:
            self.secured = self.stack.loop.create_future()
            outer = self.tls.protocol(self.stack, app, self.secured)
        self.transport = StreamTransport(self.stack, conn, outer)
        self.protocol, self.outer = app, outer
        self.transport.begin()

    async def attempt(self, info: AddrInfo, source: tuple[str, int] | None) -> None:
        """Connect to one address; `use` it if that works."""
        host, port = info[4][:2]
        what = f"Connect call failed {info[4]}"
        try:
            conn = self.stack.engine.tcp_connect(
                host, port, source=source[0] if source else None, source_port=source[1] if source else 0)
        except (ValueError, OSError) as error:
            raise open_error(error, what) from None
        attempt = conn.context = Attempt(self, what)
        self.stack.wake()
        try:
            await attempt.opened
        except asyncio.CancelledError:
            if self.transport is not None and self.transport.get_extra_info("connection") is conn:
                self.transport.abort()
            elif conn.context is attempt:
                conn.context = None
                conn.abort()
                self.stack.wake()
            raise
        finally:
            self.stack.attempts.discard(attempt)

    async def run(self, infos: Sequence[AddrInfo], sources: Sequence[Address] | None, source_port: int,
                  delay: float | None) -> list[Exception]:
        """Try the addresses until one answers; why the others did not."""
        tries = [functools.partial(self._bound, info, sources, source_port) for info in infos]
        if delay is not None:
            _winner, _index, found = await staggered.staggered_race(tries, delay, loop=self.stack.loop)
            return [error for error in found if isinstance(error, Exception)]
        errors: list[Exception] = []
        for one in tries:
            try:
                await one()
                break
            except OSError as error:
                errors.append(error)
        return errors

    async def _bound(self, info: AddrInfo, sources: Sequence[Address] | None, port: int) -> None:
        if sources is None:
            return await self.attempt(info, None)
        version = 4 if len(info[4]) == 2 else 6
        for source in sources:
            if source.version == version:
                return await self.attempt(info, (str(source), port))
        raise OSError(f"no matching local address with family={info[0]} found")


def interleave(infos: Sequence[AddrInfo], first: int) -> list[AddrInfo]:
    """Take turns between the families, after `first` addresses of the family that comes first."""
    same = [info for info in infos if info[0] == infos[0][0]]
    other = [info for info in infos if info[0] != infos[0][0]]
    mixed, same = same[:first - 1], same[first - 1:]
    while same or other:
        mixed += same[:1] + other[:1]
        same, other = same[1:], other[1:]
    return mixed


def together(errors: list[Exception], all_errors: bool) -> BaseException:
    """One exception for many attempts."""
    if all_errors:
        group: BaseException = builtins.ExceptionGroup("create_connection failed", errors)  # type: ignore[attr-defined]
        return group
    if len({str(error) for error in errors}) == 1:
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(str(error) for error in errors)}")


async def create_connection(
        stack: Stack, factory: Callable[[], Any], host: str | None, port: int | str | None, *, ssl: Any, family: int, proto: int,
        flags: int, local_addr: tuple[str, int] | None, server_hostname: str | None, ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None, happy_eyeballs_delay: float | None, interleave_first: int | None,
        all_errors: bool) -> tuple[asyncio.Transport, Any]:
    if not ssl:
        for name, value in (("server_hostname", server_hostname), ("ssl_handshake_timeout", ssl_handshake_timeout),
                            ("ssl_shutdown_timeout", ssl_shutdown_timeout)):
            if value is not None:
                raise ValueError(f"{name} is only meaningful with ssl")
    elif server_hostname is None:
        if not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        server_hostname = host
    stack.check()
    infos = await stack.getaddrinfo(host, port, family=family, type=1, proto=proto, flags=flags)
    if interleave_first is None and happy_eyeballs_delay is not None:
        interleave_first = 1
    if interleave_first:
        infos = interleave(infos, interleave_first)
    sources, source_port = None, 0
    if local_addr is not None:
        source_port = local_addr[1] or 0
        if local_addr[0]:
            found = await stack.getaddrinfo(local_addr[0], source_port, family=family, type=1)
            sources = [a for info in found if (a := literal(info[4][0])) is not None]
        else:
            sources = [a for a in (literal("0.0.0.0"), literal("::")) if a is not None]
    tls = Tls(ssl, False, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout) if ssl else None
    opening = Opening(stack, factory, tls)
    errors = await opening.run(infos, sources, source_port, happy_eyeballs_delay)
    if opening.transport is None:
        raise together(errors, all_errors)
    if opening.secured is None:
        return opening.transport, opening.protocol
    secure = app_transport(opening.outer)
    try:
        await opening.secured
    except BaseException:
        secure.close()
        raise
    return secure, opening.protocol
