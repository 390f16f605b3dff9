"""`iip ping`: ICMP echo through a network device."""
from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Collection
from typing import Any

import click

from iip import Handler, IcmpError, IcmpReply
from iip.cli.common import device_options, emit, errors, json_option, open_engine
from iip.runtime.loop import run


class _Pinger(Handler):
    def __init__(self) -> None:
        self.sent: dict[int, int] = {}        # sequence number → when, ns
        self.replies: list[tuple[int, float]] = []
        self.errors: list[str] = []
        self.quiet = False

    def icmp_reply(self, reply: IcmpReply) -> None:
        now = time.monotonic_ns()
        at = self.sent.pop(reply.seq, None)
        if at is None:
            return
        ms = (now - at) / 1e6
        self.replies.append((reply.seq, ms))
        if not self.quiet:
            click.echo(f"{len(reply.data)} bytes from {reply.source}: seq={reply.seq} time={ms:.3f} ms")

    def icmp_error(self, error: IcmpError) -> None:
        self.errors.append(str(error))
        if not self.quiet:
            click.echo(f"error: {error}")


def resolve(host: str, versions: Collection[int] = (4, 6)) -> str:
    """The address of a host; the resolver is the kernel's side's."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise click.ClickException(f"{host}: cannot be resolved ({error}); give an address") from None
    for version in versions:
        for family, _, _, _, address in found:
            if family == (socket.AF_INET if version == 4 else socket.AF_INET6):
                return str(address[0]).split("%")[0]
    raise click.ClickException(f"{host}: has no address of a version that --address has; add one of that version")


@click.command()
@click.argument("host")
@device_options
@click.option("-c", "--count", type=click.IntRange(1, 1_000_000), default=4, show_default=True, help="Requests.")
@click.option("-i", "--interval", type=click.FloatRange(0.0, 3600), default=1.0, show_default=True, help="Seconds.")
@click.option("-s", "--size", type=click.IntRange(0, 65000), default=56, show_default=True, help="Bytes of data.")
@click.option("-W", "--timeout", type=click.FloatRange(0.001, 3600), default=2.0, show_default=True,
              help="Seconds to wait for the last reply.")
@json_option
@errors
def ping(host: str, count: int, interval: float, size: int, timeout: float, as_json: bool, **device: Any) -> None:
    """Send ICMP echo requests to HOST through a network device. Exit code 1 if there was no reply."""
    pinger = _Pinger()
    pinger.quiet = as_json
    versions = [6 if ":" in a else 4 for a in device["addresses"]]
    address = resolve(host, versions)
    engine = open_engine(pinger, **device)
    ident = os.getpid() & 0xFFFF
    data = bytes(i & 0xFF for i in range(size))
    transmitted = 0
    try:
        for seq in range(1, count + 1):
            pinger.sent[seq & 0xFFFF] = time.monotonic_ns()
            engine.ping(address, ident, seq & 0xFFFF, data)
            transmitted += 1
            last = seq == count
            run(engine, duration=timeout if last else interval, stop=(lambda: not pinger.sent) if last else None)
    except KeyboardInterrupt:
        pass
    finally:
        engine.close()
        engine.driver.close()
    times = [ms for _, ms in pinger.replies]
    result = {
        "host": host, "address": address, "transmitted": transmitted, "received": len(times),
        "loss": 1 - len(times) / transmitted if transmitted else 0.0, "errors": pinger.errors,
        "times_ms": times,
    }
    if times:
        result["rtt_ms"] = {"min": min(times), "avg": statistics.fmean(times), "max": max(times)}
    emit(result, as_json, f"ping {host}", skip=("times_ms", "host", "errors"))
    if not times:
        raise SystemExit(1)
