"""Two stacks in one process, and between them whatever carries packets: here two queues.

    python examples/tunnel.py

In a VPN a queue would be a socket, a QUIC connection, a USB pipe, ... The stack on the right accepts connections to any
address and port, as an intercepting proxy does, and says where they wanted to go.
"""
import asyncio

from iip.aio import ANY_PORT, Tunnel


async def carry(queue, tunnel):
    """What arrives goes into the stack."""
    while True:
        tunnel.feed_many(await queue.get())


async def intercept(reader, writer):
    request = await reader.read(65536)
    writer.write(b"%d bytes for %s port %d" % (len(request), *map(ascii_, writer.get_extra_info("sockname")[:2])))
    writer.close()


def ascii_(value):
    return value.encode() if isinstance(value, str) else value


async def main():
    to_left, to_right = asyncio.Queue(), asyncio.Queue()
    async with (Tunnel(addresses=["fd00::1/64"], mtu=16000, output=to_right.put_nowait) as left,
                Tunnel(addresses=["fd00::2/64"], mtu=16000, output=to_left.put_nowait, accept_any=True) as right):
        carriers = [asyncio.create_task(carry(to_left, left)), asyncio.create_task(carry(to_right, right))]
        await right.start_server(intercept, port=ANY_PORT)
        for host, port in (("2001:db8::80", 80), ("2001:db8::25", 25)):
            reader, writer = await left.open_connection(host, port)
            writer.write(b"hello")
            print((await reader.read()).decode())
            writer.close()
        for carrier in carriers:
            carrier.cancel()


asyncio.run(main())
