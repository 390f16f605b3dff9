"""Streams as programs use them, on the loops of asyncio and uvloop."""
import asyncio
import hashlib
import random
import socket
import ssl
import subprocess

import pytest

import iip
from tests.aio.conftest import Net, echo


@pytest.mark.parametrize("host", [Net.v4, Net.v6])
@pytest.mark.parametrize("settings", [{}, {"tso": True}, {"mtu": 16000}])
def test_bulk_arrives_as_it_was_sent(run, host, settings):
    data = random.Random(1).randbytes(5_000_000)

    async def main():
        async with Net(**settings) as net:
            port = await net.serve(echo)
            reader, writer = await net.client.open_connection(host, port)

            async def send():
                writer.write(data)
                await writer.drain()
                writer.write_eof()

            _, got = await asyncio.gather(send(), reader.read())
            writer.close()
            await writer.wait_closed()
            return hashlib.sha256(got).digest()

    assert run(main()) == hashlib.sha256(data).digest()


def test_mutable_buffers_may_change_after_write(run):
    async def main():
        async with Net() as net:
            port = await net.serve(echo)
            reader, writer = await net.client.open_connection(net.v4, port)
            data = bytearray(b"a" * 1_000_000)
            writer.write(data)
            writer.write(memoryview(data)[:10])
            data[:] = b"b" * len(data)
            writer.write_eof()
            got = await reader.read()
            writer.close()
            return got

    assert run(main()) == b"a" * 1_000_010


def test_names_and_information(run):
    async def main():
        async with Net() as net:
            seen = []

            async def serve(reader, writer):
                seen.append(writer.get_extra_info("sockname"))
                writer.close()

            port = await net.serve(serve, net.v6)
            reader, writer = await net.client.open_connection(net.v6, port, local_addr=("fd00::1", 4711))
            info = writer.get_extra_info
            assert await reader.read() == b""
            assert info("peername") == seen[0] == ("fd00::2", port, 0, 0)
            assert info("sockname") == ("fd00::1", 4711, 0, 0)
            assert info("socket").getpeername() == info("peername")
            assert isinstance(info("connection"), iip.Connection)
            assert info("tcp_info").snd_mss == 1428
            assert info("nothing", 7) == 7
            writer.close()
            await writer.wait_closed()
            assert info("peername") == ("fd00::2", port, 0, 0)

    run(main())


def test_socket_options_reach_the_connection(run):
    async def main():
        async with Net() as net:
            port = await net.serve(echo)
            _reader, writer = await net.client.open_connection(net.v4, port)
            sock, conn = writer.get_extra_info("socket"), writer.get_extra_info("connection")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
            assert (conn.nodelay, conn.keepalive, conn.keepalive_idle) == (False, True, 77)
            with pytest.raises(OSError, match="Protocol not available"):
                sock.setsockopt(socket.IPPROTO_TCP, 250, 1)
            with pytest.raises(AttributeError, match="use the transport"):
                sock.recv(1)
            writer.close()

    run(main())


def test_half_close_goes_on_receiving(run):
    async def main():
        async with Net() as net:
            async def count(reader, writer):
                writer.write(str(len(await reader.read())).encode())
                writer.close()

            port = await net.serve(count)
            reader, writer = await net.client.open_connection(net.v4, port)
            writer.write(b"x" * 300_000)
            writer.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                writer.write(b"more")
            assert await reader.read() == b"300000"
            writer.close()

    run(main())


def test_refused_unreachable_and_unknown(run):
    async def main():
        async with Net(rto_initial=0.01, syn_retries=1) as net:
            with pytest.raises(ConnectionRefusedError, match=r"Connect call failed \('10.0.0.2', 9\)"):
                await net.client.open_connection(net.v4, 9)
            with pytest.raises(TimeoutError):
                await net.client.open_connection("10.0.0.9", 9)
            with pytest.raises(OSError, match="no route"):
                await net.client.open_connection("127.0.0.1", 9)
            with pytest.raises(OSError, match="Name or service not known"):
                await net.client.open_connection("no.such.name.invalid", 9)
            with pytest.raises(ValueError, match="sock"):
                await net.client.open_connection(sock=object())

    run(main())


def test_a_reset_is_what_asyncio_says_it_is(run):
    async def main():
        async with Net() as net:
            async def reset(reader, writer):
                await reader.readexactly(1)
                writer.transport.abort()

            port = await net.serve(reset)
            reader, writer = await net.client.open_connection(net.v4, port)
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            with pytest.raises(ConnectionResetError):
                await writer.drain()

    run(main())


def test_a_peer_that_vanishes(run):
    async def main():
        async with Net(rto_min=0.01, rto_initial=0.01, retries=3) as net:
            port = await net.serve(echo)
            reader, writer = await net.client.open_connection(net.v4, port)
            net.link.b.close()
            writer.write(b"anybody?")
            with pytest.raises(TimeoutError):
                await reader.read()

    run(main())


def test_cancelling_a_connect_leaves_nothing(run):
    async def main():
        async with Net() as net:
            task = asyncio.create_task(net.client.open_connection("10.0.0.9", 9))
            await asyncio.sleep(0.01)
            assert net.client.engine.n_connections == 1
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(task, 0.01)
            await asyncio.sleep(0.01)
            assert net.client.engine.n_connections == 0

    run(main())


def test_happy_eyeballs_take_the_address_that_answers(run, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("fd00::99 both # nobody there\n10.0.0.2 both\n")

    async def main():
        async with Net(hosts=str(hosts)) as net:
            client = net.client
            port = await net.serve(echo)
            infos = await client.getaddrinfo("both", port)
            assert [info[4][0] for info in infos] == ["fd00::99", "fd00::99", "10.0.0.2", "10.0.0.2"]
            _reader, writer = await client.open_connection("both", port, happy_eyeballs_delay=0.02)
            assert writer.get_extra_info("peername") == ("10.0.0.2", port)
            writer.close()
            await writer.wait_closed()

    run(main())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of a server called example.test: (server context, client context)."""
    path = tmp_path_factory.mktemp("tls")
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=example.test", "-addext", "subjectAltName=DNS:example.test",
         "-keyout", path / "key", "-out", path / "crt"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("needs openssl")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path / "crt", path / "key")
    return server, ssl.create_default_context(cafile=path / "crt")


def test_tls(run, certificate):
    server, client = certificate
    data = random.Random(2).randbytes(1_000_000)

    async def main():
        async with Net() as net:
            port = await net.serve(echo, ssl=server)
            reader, writer = await net.client.open_connection(net.v6, port, ssl=client, server_hostname="example.test")
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            assert writer.get_extra_info("peername") == ("fd00::2", port, 0, 0)

            async def send():
                writer.write(data)
                await writer.drain()

            _, got = await asyncio.gather(send(), reader.readexactly(len(data)))
            writer.close()
            await writer.wait_closed()
            with pytest.raises(ssl.SSLCertVerificationError):
                await net.client.open_connection(net.v6, port, ssl=client, server_hostname="other.test")
            return got

    assert run(main()) == data


def test_start_tls(run, certificate):
    server, client = certificate

    class Upgrading(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            if data == b"STARTTLS":
                self.transport.write(b"go")
                self.task = asyncio.create_task(self.upgrade())
            else:
                self.transport.write(data.upper())

        async def upgrade(self):
            self.transport = await self.stack.start_tls(self.transport, self, server, server_side=True)

    async def main():
        async with Net() as net:
            Upgrading.stack = net.server
            listening = await net.server.create_server(Upgrading, port=0)
            port = listening.sockets[0].getsockname()[1]
            reader = asyncio.StreamReader()
            transport, protocol = await net.client.create_connection(lambda: asyncio.StreamReaderProtocol(reader), net.v4, port)
            transport.write(b"STARTTLS")
            assert await reader.readexactly(2) == b"go"
            secure = await net.client.start_tls(transport, protocol, client, server_hostname="example.test")
            secure.write(b"hello")
            assert await reader.readexactly(5) == b"HELLO"
            secure.close()
            listening.close()
            listening.close_clients()
            await listening.wait_closed()

    run(main())


def test_libraries_use_the_stack_while_it_is_installed(run):
    async def main():
        async with Net() as net:
            with net.server.installed():
                server = await asyncio.start_server(echo, net.v4, 7)
            with net.client.installed():
                reader, writer = await asyncio.open_connection(net.v4, 7)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            assert type(server).__module__ == "iip.aio.server"
            assert "iip.aio" not in repr(asyncio.get_running_loop().create_connection)

    run(main())
