"""Two stacks in one event loop, an asyncio application at both ends: for bench/test_aio.py and the comparisons."""
import asyncio
import contextlib
from typing import Any, NamedTuple

from iip import PacketPool
from iip.aio import Stack, Tunnel
from iip.drivers import MemoryLink

ADDRESSES = ("fd00::1/64", "fd00::2/64")


class Ends(NamedTuple):
    """Who can connect, and who listens where."""

    client: Any
    server: Any
    host: str = "fd00::2"
    port: int = 7


@contextlib.asynccontextmanager
async def joined(way, mtu, **settings):
    """Client and server: `way` is "memory", a link that passes packets by reference, "tunnel", which carries them as bytes
    objects with all their checksums, or "kernel": the loop itself at both ends, over the loopback device."""
    if way == "kernel":
        loop = asyncio.get_running_loop()
        yield Ends(loop, loop, "::1", 4712)
        return
    packet_size = max(2048, (mtu + 256 + 63) // 64 * 64)
    settings = {"packet_size": packet_size, "pool_packets": max(1024, (64 << 20) // packet_size), "mtu": mtu, **settings}
    if way == "memory":
        link = MemoryLink(mtu=mtu, tso=True)
        pool = PacketPool(settings["pool_packets"], packet_size)
        ends = [Stack(end, addresses=[address], pool=pool, **settings)
                for end, address in zip((link.a, link.b), ADDRESSES, strict=True)]
    else:
        def over(packets):
            ends[1].feed_many(packets)

        ends = [Tunnel(addresses=ADDRESSES[:1], output=over, **settings)]
        ends.append(Tunnel(addresses=ADDRESSES[1:], output=ends[0].feed_many, **settings))
    async with ends[0], ends[1]:
        yield Ends(*ends)


class Sink(asyncio.Protocol):
    """Takes everything, and counts it."""

    def __init__(self, expected):
        self.left = expected
        self.done = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.left -= len(data)
        if self.left <= 0 and not self.done.done():
            self.done.set_result(None)


class Source(asyncio.Protocol):
    """Writes large pieces as long as there is room."""

    def __init__(self, size, piece=1 << 20):
        self.left, self.piece = size, bytes(piece)
        self.paused = False

    def connection_made(self, transport):
        self.transport = transport

    def start(self):
        while self.left > 0 and not self.paused:
            self.left -= len(self.piece)
            self.transport.write(self.piece)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.start()


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Asker(asyncio.Protocol):
    """Sends a request, waits for the answer, `times` times."""

    def __init__(self, size):
        self.request, self.left, self.got = bytes(size), 0, 0
        self.done = None

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, times):
        self.left = times
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(self.request)
        return self.done

    def data_received(self, data):
        self.got += len(data)
        if self.got == len(self.request):
            self.got = 0
            self.left -= 1
            if self.left:
                self.transport.write(self.request)
            else:
                self.done.set_result(None)


async def bulk(ends, size):
    """Send so many bytes over a new connection with protocols at both ends."""
    client, server, *place = ends
    sink = Sink(size)
    listening = await server.create_server(lambda: sink, *place)
    transport, source = await client.create_connection(lambda: Source(size), *place)
    source.start()
    await sink.done
    transport.abort()
    listening.close()


async def stream_bulk(ends, size, piece=1 << 20):
    """The same with streams."""
    client, server, *place = ends
    done = asyncio.get_running_loop().create_future()

    async def drain(reader, writer):
        while await reader.read(1 << 18):
            pass
        writer.close()
        done.set_result(None)

    listening = await server.start_server(drain, *place, limit=1 << 20)
    _reader, writer = await client.open_connection(*place)
    data = bytes(piece)
    for _ in range(size // piece):
        writer.write(data)
        await writer.drain()
    writer.close()
    await done
    listening.close()


async def askers(ends, n, size=1):
    """So many connections to an echo server."""
    client, server, *place = ends
    await server.create_server(Echo, *place)
    return [(await client.create_connection(lambda: Asker(size), *place))[1] for _ in range(n)]


async def exchange(asking, times):
    """So many requests and responses on each connection, all at the same time."""
    await asyncio.gather(*(asker.ask(times) for asker in asking))


async def connections(ends, n):
    """Open, ask, answer, close: one after the other."""
    client, server, *place = ends
    listening = await server.create_server(Echo, *place)
    for _ in range(n):
        transport, asker = await client.create_connection(lambda: Asker(1), *place)
        await asker.ask(1)
        transport.close()
    listening.close()
