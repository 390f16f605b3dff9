"""An HTTP API served by uvicorn on iip: the kernel of this machine is the client, through a TAP device.

    pip install uvicorn 'iip[netlink]'
    sudo python examples/http_api.py tap0 10.0.0.2/24 10.0.0.1/24
    curl -d '{"name": "x"}' http://10.0.0.2/items          # in another terminal
    curl http://10.0.0.2/items/1

uvicorn knows nothing of iip: within `stack.installed()` the loop's `create_server` is the stack's. The application is plain ASGI;
FastAPI and others are used the same way.
"""
import asyncio
import json
import sys

import uvicorn

from iip.aio import Stack
from iip.drivers import Tap

items = {}


async def body(receive):
    """The whole body of a request."""
    data = b""
    while True:
        event = await receive()
        data += event.get("body", b"")
        if not event.get("more_body"):
            return data


async def app(scope, receive, send):
    assert scope["type"] == "http"
    method, path = scope["method"], scope["path"].strip("/").split("/")
    status, answer = 404, {"error": "not found"}
    if path == ["items"] and method == "POST":
        number = len(items) + 1
        items[number] = json.loads(await body(receive))
        status, answer = 201, {"id": number}
    elif path == ["items"] and method == "GET":
        status, answer = 200, items
    elif path[0] == "items" and len(path) == 2 and method == "GET" and path[1].isdecimal() and int(path[1]) in items:
        status, answer = 200, items[int(path[1])]
    elif path == ["peer"]:
        status, answer = 200, {"client": scope["client"], "server": scope["server"]}
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def main(device, address, host_address):
    async with Stack(Tap(device, host_address=host_address), addresses=[address], address_check=False) as stack:
        with stack.installed():
            await uvicorn.Server(uvicorn.Config(app, host=address.split("/")[0], port=80, lifespan="off")).serve()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
