"""TLS by asyncio's own machinery, on any loop."""
from __future__ import annotations

import asyncio
import sys
from asyncio import sslproto
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from iip.aio.stack import Stack


class Tls(NamedTuple):
    """How a connection is to be secured."""

    context: SSLContext | bool
    server_side: bool
    hostname: str | None = None
    handshake_timeout: float | None = None
    shutdown_timeout: float | None = None

    def protocol(self, stack: Stack, app: asyncio.BaseProtocol, waiter: Any,
                 call_connection_made: bool = True) -> Any:
        """The protocol between a transport of ours and the application's `app`."""
        settings: dict[str, Any] = {"ssl_handshake_timeout": self.handshake_timeout}
        if sys.version_info >= (3, 11):
            settings["ssl_shutdown_timeout"] = self.shutdown_timeout
        context: Any = None if self.context is True else self.context
        return sslproto.SSLProtocol(
            stack.loop, app, context, waiter, self.server_side, self.hostname, call_connection_made=call_connection_made,
            **settings)


def app_transport(protocol: Any) -> asyncio.Transport:
    """What the application sees of a TLS connection."""
    if hasattr(protocol, "_get_app_transport"):
        return protocol._get_app_transport()  # type: ignore[no-any-return]
    return protocol._app_transport  # type: ignore[no-any-return]


async def start_tls(stack: Stack, transport: Any, protocol: asyncio.BaseProtocol, tls: Tls) -> asyncio.Transport:
    """Make an open connection a secure one: the transport for `protocol` to go on with."""
    waiter: asyncio.Future[None] = stack.loop.create_future()
    secure = tls.protocol(stack, protocol, waiter, call_connection_made=False)
    transport.pause_reading()     # what comes next is for TLS
    transport.set_protocol(secure)
    made = stack.loop.call_soon(secure.connection_made, transport)
    resumed = stack.loop.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        made.cancel()
        resumed.cancel()
        raise
    return app_transport(secure)
