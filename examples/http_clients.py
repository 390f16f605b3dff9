"""requests and httpx as clients on iip, blocking and in asyncio; the server is the kernel's, through a TAP device.

    pip install requests httpx 'iip[netlink]'
    sudo python examples/http_clients.py tap0 10.0.0.2/24 10.0.0.1/24 http://10.0.0.1:8000/

The libraries know nothing of iip: within `installed()` the socket module's, or the loop's, calls are the stack's.
"""
import asyncio
import hashlib
import sys

import httpx
import requests

import iip.aio
import iip.socket
from iip.drivers import Tap


def show(who, answer):
    print(who, answer.status_code, len(answer.content), hashlib.sha256(answer.content).hexdigest(), flush=True)


def blocking(device, settings, url):
    with iip.socket.Stack(device, **settings) as stack, iip.socket.installed(stack):
        with requests.Session() as session:       # one connection for both
            show("requests", session.get(url, timeout=10))
            show("requests", session.get(url, timeout=10))
        with httpx.Client(timeout=10, trust_env=False) as client:
            show("httpx", client.get(url))


async def several(device, settings, url):
    async with iip.aio.Stack(device, **settings) as stack:
        with stack.installed():
            async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
                for answer in await asyncio.gather(*(client.get(url) for _ in range(5))):
                    show("httpx.AsyncClient", answer)


def main(name, address, host_address, url):
    settings = {"addresses": [address], "address_check": False}
    blocking(Tap(name, host_address=host_address), settings, url)
    asyncio.run(several(Tap(name, host_address=host_address), settings, url))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
