"""asyncio programs on iip, the kernel's programs on the other side of a TAP or TUN device, all in one event loop."""
import asyncio
import hashlib
import random

import h11
import pytest

from iip.aio import Stack
from iip.drivers import Tap, Tun
from tests.aio.conftest import LOOPS
from tests.harness.netns import netns  # noqa: F401
from tests.interop.world import Way, need

pytestmark = pytest.mark.interop

DATA = random.Random(6).randbytes(5_000_000)


@pytest.fixture(params=list(LOOPS))
def run(request, netns, way):  # noqa: F811
    """Run a coroutine that is given a stack on a device of its own."""
    def run(main):
        async def whole():
            device = (Tap if way.kind == "tap" else Tun)(f"aio{way.kind}0", host_address=Way(way.kind, 4).addresses("kernel"))
            async with Stack(device, addresses=Way(way.kind, 4).addresses("iip"), mtu=device.mtu, seed=1) as stack:
                await asyncio.wait_for(main(stack), 60)
            assert stack.engine.pool.full

        loop = LOOPS[request.param]()
        try:
            loop.run_until_complete(whole())
        finally:
            loop.close()

    return run


async def http(reader, writer):
    """GET: the data; POST: the SHA-256 of what came."""
    conn = h11.Connection(h11.SERVER)
    request, digest = None, hashlib.sha256()
    while True:
        event = conn.next_event()
        if event is h11.NEED_DATA:
            if conn.they_are_waiting_for_100_continue:
                writer.write(conn.send(h11.InformationalResponse(status_code=100, headers=[])))
            conn.receive_data(await reader.read(1 << 16))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            digest.update(event.data)
        elif isinstance(event, h11.EndOfMessage):
            body = DATA if request.method == b"GET" else digest.hexdigest().encode()
            writer.write(conn.send(h11.Response(status_code=200, headers=[("Content-Length", str(len(body)))])))
            writer.write(conn.send(h11.Data(data=body)))
            conn.send(h11.EndOfMessage())
            await writer.drain()
            if conn.our_state is h11.MUST_CLOSE:
                break
            conn.start_next_cycle()
        else:
            break
    writer.close()


async def curl(*arguments):
    process = await asyncio.create_subprocess_exec("curl", "--silent", "--show-error", "--fail", "--max-time", "40", *arguments,
                                                   stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out


def test_curl_fetches_and_posts(run, way, tmp_path):
    need("curl")
    (tmp_path / "data").write_bytes(DATA)

    async def main(stack):
        await stack.start_server(http, way.iip, 80)
        assert await curl(way.url("")) == DATA
        posted = await curl("--data-binary", f"@{tmp_path / 'data'}", way.url(""))
        assert posted.decode() == hashlib.sha256(DATA).hexdigest()
        # one connection for several requests, and several at once
        assert await curl(way.url("a"), way.url("b")) == DATA * 2
        assert await asyncio.gather(*(curl(way.url(str(i))) for i in range(10))) == [DATA] * 10

    run(main)


def test_a_client_of_the_kernels_server(run, way):
    async def kernel(reader, writer):
        writer.write(await reader.read())
        writer.close()

    async def main(stack):
        server = await asyncio.start_server(kernel, way.kernel, 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await stack.open_connection(way.kernel, port)

        async def send():
            writer.write(DATA)
            await writer.drain()
            writer.write_eof()

        _, got = await asyncio.gather(send(), reader.read())
        assert got == DATA
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await stack.open_connection(way.kernel, 9)
        server.close()

    run(main)


def test_datagrams_to_the_kernel_and_back(run, way):
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.transport.sendto(data[::-1], addr)

    class Answers(asyncio.DatagramProtocol):
        def __init__(self):
            self.got = asyncio.Queue()

        def datagram_received(self, data, addr):
            self.got.put_nowait(data)

    async def main(stack):
        kernel, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, (way.kernel, 5353))
        transport, answers = await stack.create_datagram_endpoint(Answers, remote_addr=(way.kernel, 5353))
        for size in (1, 1400, 9000):
            transport.sendto(DATA[:size])
            assert await answers.got.get() == DATA[:size][::-1]
        kernel.close()

    run(main)
