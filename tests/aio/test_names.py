"""getaddrinfo: literals, the hosts file, DNS through the stack."""
import asyncio
import socket

import pytest

from tests.aio.conftest import Net

dns = pytest.importorskip("dns.message")

ZONE = {("www.example.", "A"): ["192.0.2.7"], ("www.example.", "AAAA"): ["2001:db8::7"], ("big.example.", "A"): [
    f"192.0.2.{n}" for n in range(1, 250)]}


def answer(wire, limit):
    """What a name server says to a query."""
    import dns.flags
    import dns.rcode
    import dns.rdatatype
    import dns.rrset

    query = dns.message.from_wire(wire)
    question = query.question[0]
    kind = dns.rdatatype.to_text(question.rdtype)
    reply = dns.message.make_response(query)
    found = ZONE.get((question.name.to_text(), kind))
    if found:
        reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
    elif not any(name == question.name.to_text() for name, _ in ZONE):
        reply.set_rcode(dns.rcode.NXDOMAIN)
    whole = reply.to_wire(max_size=65535)
    if len(whole) > limit:
        reply.answer.clear()
        reply.flags |= dns.flags.TC
        whole = reply.to_wire()
    return whole


class NameServer(asyncio.DatagramProtocol):
    asked = 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        NameServer.asked += 1
        self.transport.sendto(answer(data, 512), addr)


async def by_stream(reader, writer):
    n = int.from_bytes(await reader.readexactly(2), "big")
    reply = answer(await reader.readexactly(n), 65535)
    writer.write(len(reply).to_bytes(2, "big") + reply)
    writer.close()


def addresses(infos):
    return [info[4][0] for info in infos]


def test_dns_through_the_stack(run):
    async def main():
        async with Net() as net:
            await net.server.create_datagram_endpoint(NameServer, (net.v4, 53))
            await net.server.start_server(by_stream, net.v4, 53)
            resolver = net.client.resolver
            resolver.__init__(net.client, ["10.0.0.2"], "/nonexistent")
            ask = net.client.getaddrinfo
            assert addresses(await ask("www.example", 80, type=socket.SOCK_STREAM)) == ["2001:db8::7", "192.0.2.7"]
            assert await ask("www.example", "http", family=socket.AF_INET, type=socket.SOCK_DGRAM) == [
                (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.7", 80))]
            asked = NameServer.asked
            await ask("www.example", 80)
            assert NameServer.asked == asked, "the answer was kept"
            assert len(await ask("big.example", 80, type=socket.SOCK_STREAM)) == 249, "by TCP, since it was truncated"
            with pytest.raises(socket.gaierror) as caught:
                await ask("none.example", 80)
            assert caught.value.errno == socket.EAI_NONAME
            NameServer.datagram_received, kept = lambda *_: None, NameServer.datagram_received
            resolver._dns._resolver.lifetime = resolver._dns._resolver.timeout = 0.05
            try:
                with pytest.raises(socket.gaierror) as caught:
                    await ask("www2.example", 80)
                assert caught.value.errno == socket.EAI_AGAIN
            finally:
                NameServer.datagram_received = kept

    run(main())


def test_literals_and_services(run):
    async def main():
        async with Net() as net:
            ask = net.client.getaddrinfo
            assert await ask("10.1.2.3", 80, type=socket.SOCK_STREAM) == [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 80))]
            assert addresses(await ask("fe80::1%eth0", 1, proto=6)) == ["fe80::1"]
            assert addresses(await ask(None, 1, flags=socket.AI_PASSIVE, type=socket.SOCK_STREAM)) == ["::", "0.0.0.0"]
            for bad in ({"port": "no-such-service"}, {"port": 1, "family": socket.AF_INET6}, {"port": 1, "type": socket.SOCK_RAW}):
                with pytest.raises(socket.gaierror):
                    await ask("10.1.2.3", **bad)

    run(main())
