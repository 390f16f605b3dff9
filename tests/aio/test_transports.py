"""Transports and protocols: flow control both ways, buffers, the ways to end, what happens when a protocol raises."""
import asyncio

import pytest

from tests.aio.conftest import Net


class Recorder(asyncio.Protocol):
    """Writes down what happens to it."""

    def __init__(self):
        self.calls, self.data, self.transport = [], bytearray(), None
        self.lost = asyncio.get_running_loop().create_future()
        self.keep = False

    def connection_made(self, transport):
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data

    def eof_received(self):
        self.calls.append("eof")
        return self.keep

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")

    def connection_lost(self, exc):
        self.calls.append("lost")
        self.lost.set_result(exc)


class Buffered(asyncio.BufferedProtocol):
    """Takes bytes into a small buffer of its own."""

    def __init__(self, size=700):
        self.buffer, self.data, self.transport = bytearray(size), bytearray(), None
        self.eof = asyncio.get_running_loop().create_future()
        self.hints = []

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.data += self.buffer[:nbytes]

    def eof_received(self):
        self.eof.set_result(None)


class Pair:
    """A connection with a protocol at each end."""

    def __init__(self, net, client=Recorder, server=Recorder):
        self.net, self.factories = net, (client, server)

    async def __aenter__(self):
        accepted = asyncio.get_running_loop().create_future()
        client, server = self.factories

        def factory():
            protocol = server()
            if not accepted.done():
                accepted.set_result(protocol)
            return protocol

        self.listening = await self.net.server.create_server(factory, Net.v4, 7)
        _transport, self.client = await self.net.client.create_connection(client, Net.v4, 7)
        self.server = await accepted
        return self

    async def __aexit__(self, *exc):
        self.client.transport.abort()
        self.listening.close()
        self.listening.abort_clients()
        await self.listening.wait_closed()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_writing_is_paused_and_resumed(run):
    async def main():
        async with Net() as net, Pair(net) as pair:
            out, server = pair.client.transport, pair.server
            server.transport.pause_reading()
            out.set_write_buffer_limits(high=1000, low=100)
            assert out.get_write_buffer_limits() == (100, 1000)
            while out.get_write_buffer_size() <= 1000:
                out.write(b"x" * 10_000)
            assert pair.client.calls == ["made", "pause"]
            server.transport.resume_reading()
            await until(lambda: "resume" in pair.client.calls)
            assert out.get_write_buffer_size() <= 100
            assert pair.client.calls == ["made", "pause", "resume"]

    run(main())


def test_limits_follow_each_other(run):
    async def main():
        async with Net() as net, Pair(net) as pair:
            out = pair.client.transport
            assert out.get_write_buffer_limits() == (16384, 65536)
            out.set_write_buffer_limits(low=50)
            assert out.get_write_buffer_limits() == (50, 200)
            with pytest.raises(ValueError, match="must be >="):
                out.set_write_buffer_limits(high=1, low=2)
            out.set_write_buffer_limits(high=0)
            assert out.get_write_buffer_limits() == (0, 0)
            with pytest.raises(TypeError, match="bytes-like"):
                out.write("text")

    run(main())


def test_a_slow_reader_stops_its_peer_and_bounds_memory(run):
    """With the reader paused neither side holds more than its buffers, and everything arrives once it resumes."""
    async def main():
        async with Net(send_buffer_max=1 << 17, receive_buffer_max=1 << 17) as net, Pair(net) as pair:
            pair.server.transport.pause_reading()
            assert not pair.server.transport.is_reading()
            sent = 0
            while "pause" not in pair.client.calls:
                pair.client.transport.write(bytes([sent >> 13 & 255]) * 8192)
                sent += 8192
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            assert pair.server.data == b""
            assert sent < 4 << 17
            cells = net.pool.packets - net.pool.free_packets
            assert cells * 1024 < 4 << 17
            pair.server.transport.resume_reading()
            await until(lambda: len(pair.server.data) == sent)
            assert pair.server.data == b"".join(bytes([i & 255]) * 8192 for i in range(sent // 8192))

    run(main())


@pytest.mark.parametrize("size", [1, 700, 1 << 20])
def test_a_buffered_protocol_is_filled_directly(run, size):
    data = bytes(range(256)) * (4 if size == 1 else 2000)

    async def main():
        async with Net(tso=True) as net, Pair(net, server=lambda: Buffered(size)) as pair:
            pair.client.transport.write(data)
            pair.client.transport.write_eof()
            await pair.server.eof
            assert pair.server.data == data
            assert min(pair.server.hints) > 0

    run(main())


def test_a_buffered_protocol_that_pauses_in_the_middle_of_a_packet(run):
    class Pausing(Buffered):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.0005, self.transport.resume_reading)

    data = bytes(range(256)) * 100

    async def main():
        async with Net(tso=True) as net, Pair(net, server=Pausing) as pair:
            pair.client.transport.write(data)
            pair.client.transport.write_eof()
            await pair.server.eof
            assert pair.server.data == data

    run(main())


def test_pausing_in_every_callback_loses_nothing(run):
    class Pausing(Recorder):
        paused = False

        def data_received(self, data):
            assert not self.paused
            super().data_received(data)
            self.paused = True
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.resume)

        def resume(self):
            self.paused = False
            self.transport.resume_reading()

        def eof_received(self):
            assert not self.paused
            return super().eof_received()

    data = bytes(range(256)) * 4000

    async def main():
        async with Net(tso=True) as net, Pair(net, server=Pausing) as pair:
            pair.client.transport.write(data)
            pair.client.transport.close()
            assert await pair.server.lost is None
            assert pair.server.data == data
            assert pair.server.calls == ["made", "eof", "lost"]

    run(main())


def test_close_sends_what_was_written(run):
    data = bytes(range(256)) * 8000

    async def main():
        async with Net() as net, Pair(net) as pair:
            pair.client.transport.writelines([data[:1000], bytearray(data[1000:]), memoryview(b"")])
            pair.client.transport.close()
            assert pair.client.transport.is_closing()
            assert await pair.server.lost is None
            assert await pair.client.lost is None
            assert pair.server.data == data
            assert pair.client.calls == ["made", "pause", "resume", "lost"]

    run(main())


def test_a_protocol_that_keeps_the_connection_after_eof_can_answer(run):
    async def main():
        async with Net() as net, Pair(net) as pair:
            pair.server.keep = True
            pair.client.transport.write(b"question")
            pair.client.transport.write_eof()
            await until(lambda: "eof" in pair.server.calls)
            assert not pair.server.transport.is_closing()
            pair.server.transport.write(b"answer")
            pair.server.transport.close()
            assert await pair.client.lost is None
            assert pair.client.data == b"answer"

    run(main())


def test_both_directions_shut_wait_for_close(run):
    async def main():
        async with Net() as net, Pair(net) as pair:
            pair.client.keep = pair.server.keep = True
            pair.client.transport.write_eof()
            pair.server.transport.write_eof()
            await until(lambda: "eof" in pair.server.calls and "eof" in pair.client.calls)
            await asyncio.sleep(0.01)
            assert not pair.client.lost.done()
            pair.client.transport.close()
            pair.server.transport.close()
            assert (await pair.client.lost, await pair.server.lost) == (None, None)

    run(main())


def test_abort_resets(run):
    async def main():
        async with Net() as net, Pair(net) as pair:
            pair.client.transport.write(b"x" * 1_000_000)
            pair.client.transport.abort()
            assert pair.client.transport.get_write_buffer_size() == 0
            assert await pair.client.lost is None
            assert isinstance(await pair.server.lost, ConnectionResetError)
            pair.client.transport.write(b"after the end nothing happens")
            pair.client.transport.close()
            pair.client.transport.abort()

    run(main())


def test_a_reset_does_not_wait_for_a_reader_that_has_paused(run):
    async def main():
        async with Net() as net, Pair(net) as pair:
            pair.server.transport.pause_reading()
            pair.client.transport.write(b"unread")
            await asyncio.sleep(0.01)
            pair.client.transport.abort()
            assert isinstance(await pair.server.lost, ConnectionResetError)
            assert pair.server.data == b""

    run(main())


@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received", "get_buffer", "buffer_updated",
                                   "connection_lost", "pause_writing"])
def test_a_protocol_that_raises(run, where):
    """The loop's exception handler hears of it, the connection ends, others go on."""
    async def main():
        def bad(*_arguments):
            raise LookupError(where)

        made = []

        def server():
            if made:
                return Recorder()
            made.append(True)
            protocol = Buffered() if where in ("get_buffer", "buffer_updated") else Recorder()
            setattr(protocol, where, bad)
            return protocol

        async with Net() as net, Pair(net, server=server) as pair:
            if where == "pause_writing":
                pair.server.transport.set_write_buffer_limits(high=0)
                pair.server.transport.write(bytes(10_000_000))
                assert not pair.server.transport.is_closing()
            else:
                pair.client.transport.write(b"x")
                pair.client.transport.write_eof()
                await pair.client.lost
            await asyncio.sleep(0)
            transport, _protocol = await net.client.create_connection(Recorder, Net.v4, 7)
            transport.abort()

    run(main())
    assert [type(context["exception"]) for context in run.told] == [LookupError]
    assert where in str(run.told[0]["exception"])
    run.told.clear()


def test_what_ends_programs_ends_them(run):
    async def main():
        class Bad(Recorder):
            def data_received(self, data):
                raise SystemExit(3)

        async with Net() as net, Pair(net, server=Bad) as pair:
            pair.client.transport.write(b"x")
            await asyncio.sleep(1)

    with pytest.raises(SystemExit):
        run.loop.run_until_complete(main())


def test_set_protocol(run):
    async def main():
        async with Net() as net, Pair(net) as pair:
            other = Buffered()
            pair.client.transport.write(b"first")
            await until(lambda: pair.server.data)
            pair.server.transport.set_protocol(other)
            assert pair.server.transport.get_protocol() is other
            pair.client.transport.write(b"second")
            await until(lambda: other.data)
            assert (pair.server.data, other.data) == (b"first", b"second")

    run(main())


def test_answers_leave_with_the_acknowledgement(run):
    """What a protocol writes when it is given something leaves at the end of the same pass of the engine."""
    async def main():
        class Echo(Recorder):
            def data_received(self, data):
                self.transport.write(data)

        async with Net() as net, Pair(net, server=Echo) as pair:
            await asyncio.sleep(0.1)
            before = net.client.engine.stats()["rx_packets"]
            pair.client.transport.write(b"x")
            await until(lambda: pair.client.data)
            assert net.client.engine.stats()["rx_packets"] == before + 1

    run(main())
