"""What goes wrong around the stack, and what must not: leaks, hangs, other exceptions than the user expects."""
import asyncio
import contextlib
import gc
import os
import random
import weakref

import pytest

from iip.aio import Stack
from iip.drivers import MemoryLink, PythonDriver
from tests.aio.conftest import Net, echo
from tests.aio.test_transports import Recorder


def test_a_thousand_streams_cancelled_at_random(run):
    """Clients die in the middle of whatever they do; those that live see their own bytes, and nothing is left."""
    dice = random.Random(3)
    sizes = [dice.randrange(1, 60_000) for _ in range(1200)]
    doomed = {i: dice.random() * 0.4 for i in range(len(sizes)) if dice.random() < 0.5}

    async def main():
        async with Net(packets=32768, max_connections=4096, send_buffer=8192, receive_buffer=8192,
                       receive_buffer_max=1 << 16, send_buffer_max=1 << 16) as net:
            port = await net.serve(echo)

            async def client(n):
                reader, writer = await net.client.open_connection(net.v4, port)
                try:
                    writer.write(bytes([n & 255]) * n)
                    writer.write_eof()
                    got = await reader.read()
                    assert got == bytes([n & 255]) * n
                    return True
                finally:
                    writer.transport.abort()

            tasks = [asyncio.create_task(client(n)) for n in sizes]
            for i, after in doomed.items():
                run.loop.call_later(after, tasks[i].cancel)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(results[i] is True for i in range(len(sizes)) if i not in doomed)
            assert {type(result) for result in results} <= {bool, asyncio.CancelledError}
            assert sum(isinstance(result, asyncio.CancelledError) for result in results) > 10
            while net.server.transports:
                await asyncio.sleep(0.001)
            assert net.client.transports == net.client.attempts == set()
            states = {int(row["state"]) for stack in (net.client, net.server) for row in stack.engine.connections()}
            assert states <= {10}         # TIME-WAIT

    run(main(), 60)
    # servers whose client was reset while they wrote
    assert all(isinstance(context["exception"], ConnectionError) for context in run.told)
    run.told.clear()


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


def test_ten_thousand_streams_at_once():
    """All are open before the first ends; half are cancelled at random moments, the others see their bytes; nothing is left."""
    count, dice = 1000 if os.environ.get("IIP_SANITIZED") else 10_000, random.Random(10)
    told = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: told.append(context["exception"]))
        settings = {"max_connections": 24_000, "max_half_open": 20_000, "tx_queue": 16_384, "send_buffer": 4096,
                    "receive_buffer": 4096, "time_wait": 0.0, "syn_cookies": "off"}
        async with Net(packets=65_536, link=MemoryLink(capacity=16_384), **settings) as net:
            await net.server.create_server(Echo, port=7)
            everybody = asyncio.Event()
            opened = 0

            async def client(n):
                nonlocal opened
                reader, writer = await net.client.open_connection(net.v4, 7)
                try:
                    opened += 1
                    if opened == count:
                        everybody.set()
                    await everybody.wait()
                    writer.write(n.to_bytes(4, "big") * 200)
                    assert await reader.readexactly(800) == n.to_bytes(4, "big") * 200
                    return n
                finally:
                    writer.transport.abort()

            tasks = [asyncio.create_task(client(n)) for n in range(count)]
            await everybody.wait()
            assert len(net.client.transports) == count
            for n in range(0, count, 2):
                loop.call_later(dice.random() if n % 20 else 0, tasks[n].cancel)    # some before an answer can be there
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert results[1::2] == list(range(1, count, 2))
            assert all(result == 2 * n or isinstance(result, asyncio.CancelledError) for n, result in enumerate(results[::2]))
            assert sum(isinstance(result, asyncio.CancelledError) for result in results) > 10
            while net.server.transports:
                await asyncio.sleep(0.001)
            assert net.client.transports == net.client.attempts == set()
            assert net.client.engine.n_connections == net.server.engine.n_connections == 0

    asyncio.run(asyncio.wait_for(main(), 60))
    assert all(isinstance(error, ConnectionError) for error in told)


class Failing(PythonDriver):
    """Works until it is told not to."""

    broken = False

    def __init__(self):
        super().__init__(medium="ip", mtu=1500)

    def receive(self, now, limit):
        if self.broken:
            raise OSError("the cable is gone")
        return ()


def test_a_driver_that_raises_ends_all_that_uses_the_stack(run):
    async def main():
        driver = Failing()
        async with Stack(driver, addresses=["10.0.0.1/24"]) as net:
            server = await net.create_server(Recorder, port=7)
            connecting = asyncio.create_task(net.open_connection("10.0.0.2", 7))
            here, _ = await net.create_connection(Recorder, "10.0.0.1", 7)
            protocol = here.get_protocol()
            _endpoint, inbox = await net.create_datagram_endpoint(Inbox, ("10.0.0.1", 9))
            driver.broken = True
            here.write(b"x")
            assert "cable" in str(await protocol.lost)
            assert "cable" in str(await inbox.lost)
            with pytest.raises(OSError, match="closed"):
                await connecting
            await server.wait_closed()
            assert net.closed
            assert "cable" in str(net.error)
            with pytest.raises(OSError, match="the stack is closed: the cable is gone"):
                await net.open_connection("10.0.0.2", 7)

    run(main())
    assert ["cable" in str(context["exception"]) for context in run.told] == [True]
    run.told.clear()


class Inbox(asyncio.DatagramProtocol):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def test_a_stack_that_is_left_open_is_closed_with_the_loop(run):
    """`asyncio.run` closes the loop under open connections: the peer is told, and every packet is given back."""
    net = Net()

    async def main():
        net.client, net.server = net.stack(net.link.a, 1), net.stack(net.link.b, 2)
        await net.server.create_server(Recorder, port=7)
        transport, net.protocol = await net.client.create_connection(Recorder, net.v4, 7)
        transport.write(bytes(1_000_000))
        await asyncio.sleep(0)
        assert not net.pool.full

    with pytest.warns(ResourceWarning, match="unclosed stack"):
        run(main())
    assert net.client.closed
    assert net.server.closed
    assert net.pool.full
    run.loop.run_until_complete(asyncio.sleep(0))
    assert net.protocol.lost.done()


def test_a_stack_can_be_closed_after_its_loop():
    net, loop = Net(), asyncio.new_event_loop()

    async def main():
        net.client, net.server = net.stack(net.link.a, 1), net.stack(net.link.b, 2)
        await net.server.create_server(Recorder, port=7)
        transport, _ = await net.client.create_connection(Recorder, net.v4, 7)
        transport.write(bytes(1_000_000))

    loop.run_until_complete(main())
    loop.close()
    net.client.close()
    net.server.close()
    net.client.close()
    assert net.pool.full


def test_closing_from_a_callback(run):
    async def main():
        net = Net()

        class Closing(Recorder):
            def data_received(self, data):
                net.server.close()

        async with net:
            server = await net.server.create_server(Closing, port=7)
            _transport, protocol = await net.client.create_connection(Recorder, net.v4, 7)
            protocol.transport.write(b"x")
            assert isinstance(await protocol.lost, ConnectionResetError)
            await server.wait_closed()
            assert net.server.closed

    run(main())


def test_stacks_come_and_go(run):
    """Nothing of a closed stack is left: no packet, no object."""
    seen = []

    async def main():
        for _ in range(20):
            async with Net(packets=256) as net:
                seen.append(weakref.ref(net.client))
                port = await net.serve(echo)
                _reader, writer = await net.client.open_connection(net.v4, port)
                writer.write(b"x")
                await asyncio.sleep(0)
                writer.close()

    run(main())
    gc.collect()
    assert [ref for ref in seen[:-1] if ref() is not None] == []


def test_a_loop_is_not_kept_alive():
    loop = asyncio.new_event_loop()

    async def main():
        async with Net():
            pass

    loop.run_until_complete(main())
    loop.close()
    ref = weakref.ref(loop)
    del loop
    gc.collect()
    assert ref() is None


def test_many_stacks_in_one_process(run):
    async def main():
        async with contextlib.AsyncExitStack() as all_:
            nets = [await all_.enter_async_context(Net(packets=256, max_connections=64)) for _ in range(50)]

            async def use(net):
                port = await net.serve(echo)
                reader, writer = await net.client.open_connection(net.v6, port)
                writer.write(b"hello")
                got = await reader.readexactly(5)
                writer.close()
                return got

            assert await asyncio.gather(*(use(net) for net in nets)) == [b"hello"] * 50

    run(main())


def test_an_idle_stack_costs_nothing(run):
    """No polling: the engine does not run while nothing happens."""
    async def main():
        async with Net() as net:
            port = await net.serve(echo)
            reader, writer = await net.client.open_connection(net.v4, port)
            writer.write(b"x")
            await reader.read(1)
            await asyncio.sleep(0.1)
            passes = 0
            original = net.client.run

            def counting():
                nonlocal passes
                passes += 1
                original()

            net.client.run = counting
            await asyncio.sleep(0.3)
            assert passes <= 2
            writer.close()

    run(main())


def test_errors_of_users_say_what_to_do(run):
    async def main():
        async with Net() as net:
            server = await net.server.create_server(Recorder, net.v4, 7)
            with pytest.raises(OSError, match="Address already in use"):
                await net.server.create_server(Recorder, net.v4, 7)
            with pytest.raises(OSError, match="not among the stack's addresses"):
                await net.server.create_server(Recorder, "10.9.9.9", 7)
            with pytest.raises(TypeError, match="SSLContext"):
                await net.server.create_server(Recorder, port=8, ssl=True)
            with pytest.raises(ValueError, match="server_hostname"):
                await net.client.create_connection(Recorder, net.v4, 7, server_hostname="x")
            server.close()
            assert server.sockets == ()
            again = await net.server.create_server(Recorder, net.v4, 7, start_serving=False)
            with pytest.raises(ConnectionRefusedError):
                await net.client.open_connection(net.v4, 7)
            await again.start_serving()
            assert again.is_serving()
            transport, _ = await net.client.create_connection(Recorder, net.v4, 7)
            transport.close()

    run(main())


def test_serve_forever_ends_when_it_is_cancelled(run):
    async def main():
        async with Net() as net:
            server = await net.server.start_server(echo, port=7)
            task = asyncio.create_task(server.serve_forever())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not server.is_serving()

    run(main())
