"""An event loop whose time passes as soon as nothing else is to be done, and a stack in it."""
import asyncio
import contextlib
import types

from iip.aio import Stack
from iip.drivers import Tunnel


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        super().__init__()
        self._at = 0.0
        select = self._selector.select

        def jump(timeout):
            found = select(0)
            if not found and timeout:
                self._at += timeout
            return found
        self._selector.select = jump

    def time(self):
        return self._at


def run(monkeypatch, main):
    """Run `main(clock)`."""
    loop = VirtualLoop()

    def clock():
        return round(loop.time() * 1e9)
    monkeypatch.setattr("iip.aio.stack.time", types.SimpleNamespace(monotonic_ns=clock))
    try:
        loop.run_until_complete(main(clock))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


@contextlib.asynccontextmanager
async def ethernet(mac, **settings):
    """A stack, and the driver that frames go into and come out of."""
    driver = Tunnel(medium="ethernet")
    async with Stack(driver, medium="ethernet", mac=mac.hex(":"), **settings) as stack:
        yield stack, driver
    assert stack.engine.pool.full


@contextlib.asynccontextmanager
async def doing(coroutine):
    """A task for as long as the block takes."""
    task = asyncio.ensure_future(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()
