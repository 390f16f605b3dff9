"""`iip proxy`: SOCKS5 and HTTP CONNECT into the network behind a TAP or TUN device."""
from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import click

from iip.aio import Stack
from iip.apps.proxy import Proxy, Streams
from iip.cli.common import device_options, errors, json_option, stack_on_device
from iip.cli.nc import nameserver_option


@click.command()
@device_options
@nameserver_option
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:1080", show_default=True,
              help="Where clients come, on the kernel's side.")
@json_option
@errors
def proxy(listen: str, nameservers: tuple[str, ...], as_json: bool, **device: Any) -> None:
    """Let programs into a network that only this stack is in: SOCKS 5 and HTTP proxy on one port.

    Example: iip proxy --tap tap0 --address 10.0.0.2/24; curl --socks5-hostname 127.0.0.1:1080 http://10.0.0.1/

    Ends with SIGINT or SIGTERM. --json prints a line for each connection that has ended.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.UsageError(f"--listen {listen}: write it like 127.0.0.1:1080")
    asyncio.run(_run(host.strip("[]"), int(port), nameservers, as_json, device))


async def _run(host: str, port: int, nameservers: tuple[str, ...], as_json: bool, device: dict[str, Any]) -> None:
    async with stack_on_device(Stack, nameservers=nameservers, **device) as stack:
        async def connect(name: str, number: int) -> Streams:
            return await stack.open_connection(name, number)

        def done(client: object, target: str, sent: int, received: int, error: str | None) -> None:
            if as_json:
                click.echo(json.dumps({"client": client, "target": target, "sent": sent, "received": received, "error": error}))
            elif error:
                click.echo(f"{target}: {error}", err=True)

        server = await Proxy(connect, done).start(host, port)
        click.echo(f"proxy on {host} port {server.sockets[0].getsockname()[1]}; stop with Ctrl-C", err=True)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
        server.close()
