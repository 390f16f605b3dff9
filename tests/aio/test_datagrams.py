"""UDP endpoints."""
import asyncio

import pytest

from iip.aio import ANY_PORT
from tests.aio.conftest import Net


class Peer(asyncio.DatagramProtocol):
    def __init__(self):
        self.seen, self.errors, self.calls = asyncio.Queue(), asyncio.Queue(), []

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.seen.put_nowait((data, addr))

    def error_received(self, exc):
        self.errors.put_nowait(exc)

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")


class Echo(Peer):
    def datagram_received(self, data, addr):
        self.transport.sendto(data.upper(), addr)


@pytest.mark.parametrize("host", [Net.v4, Net.v6])
@pytest.mark.parametrize("size", [0, 5, 20_000])
def test_there_and_back(run, host, size):
    async def main():
        async with Net() as net:
            await net.server.create_datagram_endpoint(Echo, (host, 53))
            transport, peer = await net.client.create_datagram_endpoint(Peer, remote_addr=(host, 53))
            assert transport.get_extra_info("peername")[:2] == (host, 53)
            assert transport.get_extra_info("socket").getsockname()[1] >= 32768
            transport.sendto(b"a" * size)
            data, addr = await peer.seen.get()
            assert (data, addr[:2]) == (b"A" * size, (host, 53))

    run(main())


def test_a_closed_port_and_a_missing_route(run):
    async def main():
        async with Net() as net:
            transport, peer = await net.client.create_datagram_endpoint(Peer, remote_addr=(net.v4, 9))
            transport.sendto(b"x")
            assert isinstance(await peer.errors.get(), ConnectionRefusedError)
            transport.sendto(bytes(70_000))
            assert "too long" in str(await peer.errors.get())
            with pytest.raises(ValueError, match="must be None or"):
                transport.sendto(b"x", ("10.0.0.2", 10))
            free, other = await net.client.create_datagram_endpoint(Peer, ("0.0.0.0", 0))
            free.sendto(b"x", ("127.0.0.1", 1))
            assert "unreachable" in str(await other.errors.get())
            with pytest.raises(ValueError, match="resolve names"):
                free.sendto(b"x", ("name", 1))
            with pytest.raises(ValueError, match="no remote address"):
                free.sendto(b"x")

    run(main())


def test_an_address_is_used_once_and_again_after_close(run):
    async def main():
        async with Net() as net:
            first, _ = await net.server.create_datagram_endpoint(Peer, (net.v4, 53))
            with pytest.raises(OSError, match="in use"):
                await net.server.create_datagram_endpoint(Peer, (net.v4, 53))
            first.close()
            assert first.is_closing()
            await net.server.create_datagram_endpoint(Peer, (net.v4, 53))

    run(main())


def test_writing_is_paused_when_queues_are_full(run):
    async def main():
        async with Net(packets=512, udp_queue=4096, tx_queue=16) as net:
            _, server = await net.server.create_datagram_endpoint(Peer, (net.v4, 53))
            transport, peer = await net.client.create_datagram_endpoint(Peer, remote_addr=(net.v4, 53))
            for i in range(200):
                transport.sendto(i.to_bytes(2, "big") + bytes(500))
            assert peer.calls == ["pause"]
            got = [int.from_bytes((await server.seen.get())[0][:2], "big") for _ in range(200)]
            assert got == list(range(200))
            assert peer.calls == ["pause", "resume"]

    run(main())


def test_every_address_and_port(run):
    """A transparent proxy sees where a datagram was sent to, and answers from there."""
    class Proxy(Peer):
        def datagram_received_at(self, data, addr, local):
            self.transport.sendto(f"{data.decode()} for {local[0]} {local[1]}".encode(), addr, source=local)

    async def main():
        async with Net(accept_any=True) as net:
            proxy, _ = await net.server.create_datagram_endpoint(Proxy, ("0.0.0.0", ANY_PORT))
            with pytest.raises(ValueError, match="its source"):
                proxy.sendto(b"x", ("10.0.0.1", 1))
            for host, port in (("192.0.2.1", 4433), ("198.51.100.7", 1)):
                transport, peer = await net.client.create_datagram_endpoint(Peer, remote_addr=(host, port))
                transport.sendto(b"query")
                assert await peer.seen.get() == (f"query for {host} {port}".encode(), (host, port))

    run(main())


def test_a_transparent_tcp_proxy_sees_where_the_client_wanted_to_go(run):
    async def main():
        async with Net(accept_any=True) as net:
            async def tell(reader, writer):
                writer.write(repr(writer.get_extra_info("sockname")).encode())
                writer.close()

            await net.server.start_server(tell, port=ANY_PORT)
            for host, port in (("192.0.2.1", 443), ("2001:db8::7", 1)):
                reader, _writer = await net.client.open_connection(host, port)
                got = (await reader.read()).decode()
                assert got.startswith(f"('{host}', {port}")
                _writer.close()

    run(main())
