"""A transparent intercepting proxy: programs connect to servers as ever, the kernel's routes lead them into a TUN device, iip
accepts every connection whatever its destination, and passes the bytes on to where it wanted to go.

    sudo python examples/intercept.py tun0 203.0.113.0/24

makes the device, and a rule that sends what goes to 203.0.113.0/24 into it, except the proxy's own connections, which are marked.
Each connection is reported when it ends: a line of JSON with both ends, the bytes each way, and the first line that the client
sent. """
import asyncio
import json
import signal
import socket
import subprocess
import sys

import iip.aio
from iip.drivers import Tun

MARK, TABLE = 0x11F, 287          # of the proxy's own packets; of routes for the others
CHUNK = 1 << 16


def route(device, network):
    """What is not marked goes into the device."""
    version = "-6" if ":" in network else "-4"
    for command in (f"route replace {network} dev {device} table {TABLE}",
                    f"rule add not fwmark {MARK} lookup {TABLE} priority {TABLE}"):
        subprocess.run(["ip", version, *command.split()], check=True)


async def connect(host, port):
    """To the real server, by a marked socket of the kernel's."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        return await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise


async def carry(reader, writer, seen):
    """One direction, up to its end."""
    while data := await reader.read(CHUNK):
        if not seen["bytes"]:
            seen["first"] = data.partition(b"\n")[0].decode("latin-1").strip()
        seen["bytes"] += len(data)
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def intercept(reader, writer):
    client, server = writer.get_extra_info("peername")[:2], writer.get_extra_info("sockname")[:2]
    there, back = {"bytes": 0, "first": ""}, {"bytes": 0, "first": ""}
    error = None
    try:
        server_reader, server_writer = await connect(*server)
    except OSError as failed:
        writer.transport.abort()              # as the server would have refused it
        error = str(failed)
    else:
        try:
            await asyncio.gather(carry(reader, server_writer, there), carry(server_reader, writer, back))
        except OSError as failed:
            error = str(failed)
            writer.transport.abort()
            server_writer.transport.abort()
        finally:
            writer.close()
            server_writer.close()
    print(json.dumps({"client": client, "server": server, "sent": there["bytes"], "received": back["bytes"], "request":
    there["first"],
                      "error": error}), flush=True)


async def main(name, network):
    own = "fd11::1/128" if ":" in network else "192.0.2.1/32"     # never seen: it answers for everybody
    device = Tun(name)
    async with iip.aio.Stack(device, medium="ip", mtu=device.mtu, addresses=[own], accept_any=True) as stack:
        route(name, network)
        await stack.start_server(intercept, port=iip.aio.ANY_PORT)
        print(f"intercepting {network} by {name}", file=sys.stderr, flush=True)
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
