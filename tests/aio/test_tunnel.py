"""Tunnels: packets in and out of stacks, in an event loop and without."""
import asyncio
import random
import runpy
from collections import deque
from pathlib import Path

import pytest

import iip
from iip.aio import Tunnel
from iip.drivers import Capability
from tests.aio.conftest import echo

EXAMPLES = Path(__file__).parents[2] / "examples"


def joined(**settings):
    """Two tunnels whose packets cross directly."""
    def over(packets):
        there.feed_many(packets)

    here = Tunnel(addresses=["fd00::1/64"], output=over, **settings)
    there = Tunnel(addresses=["fd00::2/64"], output=here.feed_many, **settings)
    return here, there


async def there_and_back(here, there, data):
    await there.start_server(echo, port=7)
    reader, writer = await here.open_connection("fd00::2", 7)

    async def send():
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    _, got = await asyncio.gather(send(), reader.read())
    writer.close()
    return got


@pytest.mark.parametrize("mtu", [1280, 1500, 16000, 65535])
def test_bulk_by_callbacks(run, mtu):
    data = random.Random(4).randbytes(3_000_000)

    async def main():
        here, there = joined(mtu=mtu)
        async with here, there:
            assert await there_and_back(here, there, data) == data
        assert here.engine.pool.full
        assert there.engine.pool.full
        assert here.tunnel.refused == there.tunnel.refused == 0

    run(main())


def test_bulk_by_awaiting_packets(run):
    data = random.Random(5).randbytes(1_000_000)

    async def main():
        async with Tunnel(addresses=["fd00::1/64"]) as here, Tunnel(addresses=["fd00::2/64"]) as there:
            async def carry(source, target):
                async for packets in source:
                    assert all(type(packet) is bytes and len(packet) <= 1500 for packet in packets)
                    target.feed_many(packets)

            carriers = [asyncio.create_task(carry(here, there)), asyncio.create_task(carry(there, here))]
            assert await there_and_back(here, there, data) == data
            await asyncio.sleep(0)
            await here.aclose()
            await there.aclose()
            await asyncio.gather(*carriers)

    run(main())


def test_the_other_side_hears_of_the_end(run):
    async def main():
        async with Tunnel(addresses=["10.0.0.1/24"]) as here:
            task = asyncio.create_task(here.open_connection("10.0.0.2", 7))
            (syn,) = await here.packets()
            assert syn[0] >> 4 == 4
            with pytest.raises(RuntimeError, match="another task"):
                waiting = asyncio.create_task(here.packets())
                await asyncio.sleep(0)
                await here.packets()
            here.close()
            assert await waiting == []
            assert await here.packets() == []
            with pytest.raises(OSError, match="closed"):
                await task

    run(main())


def test_a_queue_that_nobody_drains_costs_no_time(run):
    async def main():
        async with Tunnel(addresses=["10.0.0.1/24"], capacity=8) as here:
            transport, _ = await here.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("10.0.0.2", 9))
            for _ in range(100):
                transport.sendto(b"x")
            await asyncio.sleep(0.1)
            passes, run = 0, here.run

            def counting():
                nonlocal passes
                passes += 1
                run()

            here.run = counting
            await asyncio.sleep(0.2)
            assert passes <= 8
            assert here.tunnel.pending == 8
            got = 0
            while got < 100:
                got += len(await here.packets())

    run(main())


def test_an_output_that_raises_ends_the_stack(run):
    async def main():
        def output(_packets):
            raise OSError("the carrier is gone")

        async with Tunnel(addresses=["10.0.0.1/24"], output=output) as here:
            with pytest.raises(OSError, match="closed"):
                await here.open_connection("10.0.0.2", 7)
            assert here.closed

    run(main())
    assert "carrier" in str(run.told.pop()["exception"])


class Asks(iip.Handler):
    got = b""

    def tcp_connected(self, conn):
        conn.send(b"hello" * 2000)

    def tcp_payload(self, conn, data):
        self.got += bytes(data)
        conn.consume(len(data))
        if len(self.got) == 10_000:
            conn.close()

    def tcp_closed(self, conn, reason):
        self.reason = reason


class Echoes(iip.Handler):
    def tcp_payload(self, conn, data):
        conn.send(data)
        conn.consume(len(data))


def test_without_a_loop():
    """The synchronous twin, in virtual time, the packets carried by hand or by callbacks."""
    handler, wire = Asks(), deque()
    with iip.Tunnel(handler, addresses=["10.0.0.1/24"], mtu=1400, output=wire.extend, seed=1, clock=lambda: 0) as here, \
            iip.Tunnel(Echoes(), addresses=["10.0.0.2/24"], mtu=1400, seed=2, clock=lambda: 0) as there:
        there.engine.tcp_listen(7)
        here.engine.tcp_connect("10.0.0.2", 7)
        deadline = here.run(0)
        assert deadline > 0
        for now in range(1, 200):
            there.feed_many(wire)
            wire.clear()
            there.run(now * 1_000_000)
            for packet in there.drain():
                assert len(packet) <= 1400
                assert here.feed(packet)
            here.run(now * 1_000_000)
        assert handler.got == b"hello" * 2000
        assert handler.reason == iip.Reason.NORMAL
        assert here.engine.driver.caps == Capability.SG
        conn = here.engine.tcp_connect("10.0.0.2", 7)
        here.run(10**9)
        there.feed_many(wire)
        there.run(10**9)
        here.feed_many(there.drain())
        here.run(10**9)
        there.feed_many(wire)
        there.run(10**9)
        assert conn.state == iip.State.ESTABLISHED
        last = there.close()
        assert last[-1][33] & 4, "RST"
        assert there.close() == []
    assert here.engine.pool.full
    assert there.engine.pool.full


def test_many_tunnels_share_nothing(run):
    async def main():
        pairs = [joined(pool_packets=256, max_connections=64) for _ in range(30)]
        got = await asyncio.gather(*(there_and_back(*pair, bytes([i]) * 10_000) for i, pair in enumerate(pairs)))
        assert got == [bytes([i]) * 10_000 for i in range(30)]
        for pair in pairs:
            for end in pair:
                await end.aclose()
                assert end.engine.pool.full

    run(main())


@pytest.mark.parametrize("name, expected", [
    ("aio_echo.py", "b'hello'\n"),
    ("tunnel.py", "5 bytes for 2001:db8::80 port 80\n5 bytes for 2001:db8::25 port 25\n")])
def test_the_examples_run(name, expected, capsys):
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert capsys.readouterr().out == expected
