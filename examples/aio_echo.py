"""An echo server and its client, both on iip, in asyncio.

    python examples/aio_echo.py

The two stacks are joined by a link in memory. With `iip.drivers.Tap("tap0", host_address="10.0.0.1/24")` in place of
`link.b`, as root, the kernel is the other side: nc 10.0.0.2 7
"""
import asyncio

from iip.aio import Stack
from iip.drivers import MemoryLink


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def main():
    link = MemoryLink()
    async with Stack(link.b, addresses=["10.0.0.2/24"]) as there, Stack(link.a, addresses=["10.0.0.1/24"]) as here:
        await there.start_server(echo, port=7)
        reader, writer = await here.open_connection("10.0.0.2", 7)
        writer.write(b"hello")
        print(await reader.readexactly(5))
        writer.close()
        await writer.wait_closed()


asyncio.run(main())
