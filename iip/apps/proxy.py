"""A proxy into a stack's network: SOCKS version 5 (RFC 1928) and HTTP (CONNECT and requests for whole URLs, RFC 9110 and 9112) on
one port."""
from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CHUNK = 1 << 16
_HEAD = 1 << 16                   # bytes that the head of a request may have
_OPENING = 30.0                   # seconds until the client has said what it wants
_REFUSED, _UNREACHABLE, _FAILED, _NO_COMMAND, _NO_TYPE = 5, 4, 1, 7, 8       # RFC 1928 §6
_HOP_BY_HOP = (b"proxy-connection:", b"proxy-authorization:", b"connection:", b"keep-alive:")


class Refused(Exception):
    """What a client asked for cannot be had; the answer is sent already."""


class Proxy:
    """Passes connections on. connect: opens one to (host, port), like `iip.aio.Stack.open_connection`; port: of a server made by
    `start`.

    Each connection is told to `done(client, target, bytes sent, bytes received, error)` when it ends.
    """

    def __init__(self, connect: Callable[[str, int], Awaitable[Streams]],
                 done: Callable[[object, str, int, int, str | None], object] | None = None) -> None:
        self._connect, self._done = connect, done

    async def start(self, host: str = "127.0.0.1", port: int = 1080) -> asyncio.Server:
        """Serve on the kernel's side."""
        return await asyncio.start_server(self.serve, host, port, limit=_HEAD)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        target, counts, error = "", [0, 0], None
        try:
            target, streams, first = await asyncio.wait_for(self._open(reader, writer), _OPENING)
            counts[0] += len(first)
            streams[1].write(first)
            await relay((reader, writer), streams, counts)
        except (Refused, OSError, ValueError, EOFError, asyncio.LimitOverrunError, asyncio.TimeoutError) as failed:
            error = str(failed) or type(failed).__name__
        except asyncio.CancelledError:        # the loop ends, and streams of Python 3.11 would call that an error
            error = "cancelled"
        finally:
            writer.close()
            if self._done is not None and target:
                self._done(writer.get_extra_info("peername"), target, counts[0], counts[1], error)

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, Streams, bytes]:
        """What the client wants, a connection for it, and what to send on it first."""
        first = await reader.readexactly(1)
        if first == b"\x05":
            return await self._socks(reader, writer)
        return await self._http(first, reader, writer)

    # -- SOCKS -----------------------------------------------------------------------------------------------
    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, Streams, bytes]:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        if 0 not in methods:      # the only one we have: no authentication
            writer.write(b"\x05\xff")
            raise Refused("SOCKS: the client wants to authenticate")
        writer.write(b"\x05\x00")
        _version, command, _reserved, kind = await reader.readexactly(4)
        host = await _socks_host(reader, kind)
        port = int.from_bytes(await reader.readexactly(2), "big")
        if host is None or command != 1:
            writer.write(_socks_answer(_NO_TYPE if host is None else _NO_COMMAND))
            raise Refused(f"SOCKS: command {command}, kind of address {kind}")
        try:
            streams = await self._connect(host, port)
        except OSError as error:
            writer.write(_socks_answer(_socks_code(error)))
            raise
        writer.write(_socks_answer(0))
        return f"{host}:{port}", streams, b""

    # -- HTTP ------------------------------------------------------------------------------------------------
    async def _http(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, Streams, bytes]:
        head = first + await reader.readuntil(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")[:-2]
        words = line.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            writer.write(_http_answer(400, "Bad Request"))
            raise Refused(f"neither SOCKS 5 nor HTTP/1: {line[:40]!r}")
        method, target = words[0], words[1].decode("latin-1")
        tunnel = method == b"CONNECT"
        parts = urlsplit(f"//{target}" if tunnel else target)
        if not parts.hostname or (not tunnel and parts.scheme != "http") or (tunnel and not parts.port):
            writer.write(_http_answer(400, "Bad Request"))
            raise Refused(f"HTTP: cannot go to {target}")
        port = parts.port or 80
        try:
            streams = await self._connect(parts.hostname, port)
        except OSError as error:
            writer.write(_http_answer(504 if isinstance(error, TimeoutError) else 502, "Bad Gateway", str(error)))
            raise
        if tunnel:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            return target, streams, b""
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        kept = [field for field in fields if not field.lower().startswith(_HOP_BY_HOP)]
        # one request for a connection: the next may be for another server
        request = [b" ".join((method, path.encode("latin-1"), words[2])), *kept, b"Connection: close", b"", b""]
        return f"{parts.hostname}:{port}", streams, b"\r\n".join(request)


async def relay(client: Streams, server: Streams, counts: list[int]) -> None:
    """Bytes both ways until both directions have ended, or one fails."""
    async def one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int) -> None:
        while data := await reader.read(_CHUNK):
            counts[way] += len(data)
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    ways = [asyncio.ensure_future(one_way(client[0], server[1], 0)), asyncio.ensure_future(one_way(server[0], client[1], 1))]
    try:
        await asyncio.gather(*ways)
    except BaseException:
        for writer in (client[1], server[1]):
            writer.transport.abort()
        raise
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        server[1].close()


async def _socks_host(reader: asyncio.StreamReader, kind: int) -> str | None:
    if kind == 1:
        return str(IPv4Address(await reader.readexactly(4)))
    if kind == 4:
        return str(IPv6Address(await reader.readexactly(16)))
    if kind == 3:
        return (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii")
    return None


def _socks_answer(code: int) -> bytes:
    return bytes((5, code, 0, 1)) + bytes(6)


def _socks_code(error: OSError) -> int:
    if isinstance(error, ConnectionRefusedError):
        return _REFUSED
    if isinstance(error, (socket.gaierror, TimeoutError)) or error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return _UNREACHABLE
    return _FAILED


def _http_answer(status: int, text: str, why: str = "") -> bytes:
    body = f"{why}\n".encode() if why else b""
    return f"HTTP/1.1 {status} {text}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
