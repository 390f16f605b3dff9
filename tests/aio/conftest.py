"""Two stacks in one loop, joined by a memory link."""
import asyncio
import contextlib

import pytest

from iip import PacketPool
from iip.aio import Stack
from iip.drivers import MemoryLink

LOOPS = {"asyncio": asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


@pytest.fixture(params=list(LOOPS))
def run(request):
    """Run a coroutine to its end, for at most half a minute; what the loop's exception handler was told is in `run.told`."""
    loop = LOOPS[request.param]()
    loop.set_exception_handler(lambda _loop, context: run.told.append(context))

    def run(coroutine, limit=30):
        try:
            return loop.run_until_complete(asyncio.wait_for(coroutine, limit))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())

    run.told, run.loop, run.name = [], loop, request.param
    yield run
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
    assert run.told == []


class Net:
    """Client and server on a link of their own; when it is left, every packet is back in the pool."""

    v4, v6 = "10.0.0.2", "fd00::2"

    def __init__(self, packets=4096, mtu=1500, tso=False, link=None, **settings):
        self.pool = PacketPool(packets)
        self.link = link or MemoryLink(mtu=mtu, tso=tso)
        self.settings = settings

    def stack(self, end, n, **more):
        addresses = (f"10.0.0.{n}/24", f"fd00::{n}/64")
        return Stack(end, addresses=addresses, pool=self.pool, seed=n, **{**self.settings, **more})

    async def __aenter__(self):
        self.client, self.server = self.stack(self.link.a, 1), self.stack(self.link.b, 2)
        return self

    async def __aexit__(self, *exc):
        await self.client.aclose()
        await self.server.aclose()
        assert self.pool.full

    async def serve(self, callback, host=None, **settings):
        """A stream server; its port."""
        server = await self.server.start_server(callback, host, 0, **settings)
        return server.sockets[0].getsockname()[1]


async def echo(reader, writer):
    """Send back what comes, then FIN."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
