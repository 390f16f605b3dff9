"""redis-py on iip, to a real Redis server of the kernel's side, through a TAP device.

    pip install redis 'iip[netlink]'
    redis-server --bind 10.0.0.1 --protected-mode no        # once tap0 is there
    sudo python examples/redis_client.py tap0 10.0.0.2/24 10.0.0.1/24 10.0.0.1 6379

First blocking with a thread per worker, then in asyncio, with publish and subscribe.
"""
import asyncio
import sys
import threading

import redis
import redis.asyncio

import iip.aio
import iip.socket
from iip.drivers import Tap


def blocking(device, settings, host, port):
    with iip.socket.Stack(device, **settings) as stack, iip.socket.installed(stack):
        client = redis.Redis(host, port, socket_timeout=10)
        client.flushdb()
        blob = bytes(range(256)) * 4000
        client.set("blob", blob)
        assert client.get("blob") == blob

        def work(n):
            for _ in range(50):
                client.incrby("sum", n)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        with client.pipeline() as pipe:
            for n in range(1000):
                pipe.rpush("list", n)
            pipe.execute()
        print("sum", int(client.get("sum")), "list", client.llen("list"), flush=True)
        client.close()


async def with_asyncio(device, settings, host, port):
    async with iip.aio.Stack(device, **settings) as stack:
        with stack.installed():
            async with redis.asyncio.Redis(host=host, port=port) as client, client.pubsub() as subscriber:
                await subscriber.subscribe("news")
                await client.publish("news", "hello")
                async for message in subscriber.listen():
                    if message["type"] == "message":
                        print("news", message["data"].decode(), flush=True)
                        break
                print("sum", int(await client.get("sum")), flush=True)


def main(name, address, host_address, host, port):
    settings = {"addresses": [address], "address_check": False}
    blocking(Tap(name, host_address=host_address), settings, host, int(port))
    asyncio.run(with_asyncio(Tap(name, host_address=host_address), settings, host, int(port)))


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
