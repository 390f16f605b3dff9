"""Ping-pong over the kernel's loopback device with asyncio's event loop, or uvloop's: both ends in one thread.

    python loops.py asyncio|uvloop SIZE CONNECTIONS SECONDS WARM_UP      prints transactions and the seconds they took
"""
import asyncio
import resource
import sys
import time


class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Client(asyncio.Protocol):
    transactions = 0

    def __init__(self, request):
        self.request = request
        self.received = 0

    def connection_made(self, transport):
        self.transport = transport

    def start(self):
        self.transport.write(self.request)

    def data_received(self, data):
        self.received += len(data)
        if self.received == len(self.request):
            self.received = 0
            Client.transactions += 1
            self.transport.write(self.request)


async def main(size, connections, seconds, warm_up):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    clients = [(await loop.create_connection(lambda: Client(bytes(size)), "127.0.0.1", port))[1] for _ in range(connections)]
    for client in clients:
        client.start()
    await asyncio.sleep(warm_up)
    Client.transactions, begin = 0, time.perf_counter()
    await asyncio.sleep(seconds)
    print(Client.transactions, time.perf_counter() - begin)
    for client in clients:
        client.transport.abort()
    server.close()


if __name__ == "__main__":
    name, size, connections, seconds, warm_up = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if name == "uvloop":
        import uvloop as chosen
    else:
        chosen = asyncio
    loop = chosen.new_event_loop()
    loop.run_until_complete(main(int(size), int(connections), float(seconds), float(warm_up)))
    loop.close()
