"""Two engines in one process, as `iip pingpong` and `iip bulk` use them."""
from __future__ import annotations

import time
from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any

import click
import numpy as np

import iip
from iip.cli.common import Command, nonzero, progress
from iip.drivers import Capability, MemoryLink
from iip.memory.pool import PacketPool
from iip.runtime.threads import Threads

PORT = 7                          # the first of the server's
PER_PORT = 20_000                 # connections to each of its ports: fewer than the client has ports of its own
MOMENT = 0.0005                   # seconds that both run then
AT_ONCE = 256                     # connections that are opened or closed before both engines run
SLICE = 0.1                       # seconds between two looks at the progress
WAITING = 5.0                     # seconds that opening or closing may take, besides the time for many connections


def link_options(command: Command) -> Command:
    for option in reversed([
        click.option("--ipv6", is_flag=True, help="Over IPv6 instead of IPv4."),
        click.option("--ethernet", is_flag=True, help="Ethernet frames (with ARP or neighbour discovery) instead of "
                     "bare IP packets."),
        click.option("--mtu", type=click.IntRange(576, 65535), default=1500, show_default=True, help="Bytes."),
        click.option("--no-offload", is_flag=True, help="The link does nothing for the engines: like all of --no-tx-checksum, "
                     "--no-rx-checksum, --no-sg, --no-tso and --no-lro."),
        click.option("--no-tx-checksum", is_flag=True, help="Checksums of what is sent in software (then TSO is off, too)."),
        click.option("--no-rx-checksum", is_flag=True, help="Checksums of what is received in software."),
        click.option("--no-sg", is_flag=True, help="Packets of one piece: payload is copied next to its headers."),
        click.option("--no-tso", is_flag=True, help="Every segment is a packet of its own from the start."),
        click.option("--no-lro", is_flag=True, help="The link cuts large segments before they are received."),
        click.option("--gso", is_flag=True, help="Without TSO: the sending engine cuts large segments at the last moment."),
        click.option("--gro", is_flag=True, help="The receiving engine joins segments first."),
        click.option("--copy", is_flag=True, help="A packet pool for each engine: packets are copied across."),
        click.option("--tap", is_flag=True, help="Two TAP devices and a bridge of the kernel instead of memory; Ethernet, root."),
    ]):
        command = option(command)
    return command


def handler_option(*choices: str) -> Callable[[Command], Command]:
    return click.option("--handler", type=click.Choice(choices), default="cython", show_default=True,
                        help="Language of the callbacks.")


def _link(connections: int, mtu: int, ethernet: bool, tap: bool, sg: bool, tso: bool, lro: bool, tx_checksum: bool,
          rx_checksum: bool) -> Any:
    if not tap:
        return MemoryLink("ethernet" if ethernet else "ip", mtu=mtu, capacity=max(4096, connections), scatter_gather=sg, tso=tso,
                          lro=lro, tx_checksum=tx_checksum, rx_checksum=rx_checksum)
    from iip.cli.tap_link import TapLink

    offered = {Capability.SG: sg, Capability.TSO4 | Capability.TSO6: tso, Capability.LRO: lro,
               Capability.TX_L4_CSUM: tx_checksum, Capability.RX_L4_CSUM: rx_checksum}
    return TapLink(mtu, reduce(or_, (cap for cap, wanted in offered.items() if wanted), Capability(0)))


class Pair:
    """A client and a server engine on a link of memory or `tap`; with `threads` the server's application runs by their model."""

    def __init__(self, client: Any, server: Any, *, ipv6: bool, ethernet: bool, mtu: int, copy: bool, connections: int,
                 no_offload: bool = False, no_tx_checksum: bool = False, no_rx_checksum: bool = False, no_sg: bool = False,
                 no_tso: bool = False, no_lro: bool = False, tap: bool = False, cell: int | None = None,
                 threads: Threads | None = None, **settings: Any) -> None:
        if ipv6 and mtu < 1280:
            raise click.UsageError(f"--mtu {mtu}: IPv6 needs 1280 or more")
        net = "fd00::{}/64" if ipv6 else "10.0.0.{}/24"
        self.target = net.format(2).split("/")[0]
        link = _link(connections, mtu, ethernet, tap, not (no_offload or no_sg), not (no_offload or no_tso),
                     not (no_offload or no_lro), not (no_offload or no_tx_checksum), not (no_offload or no_rx_checksum))
        size = max(2048, (mtu + 18 + 128 + 63) // 64 * 64) if cell is None else cell
        packets = settings.pop("packets", 4096)
        pools = [PacketPool(packets=packets, packet_size=size, views=4 * packets) for _ in range(2 if copy else 1)]
        common: dict[str, Any] = {
            "medium": link.a.medium, "mtu": mtu, "packet_size": size, "address_check": False, "link_local": False,
            "max_connections": connections + 64, "max_half_open": connections + 64, **settings}
        self.pools = pools
        self.offloads = sorted(c.name.lower() for c in Capability if c in Capability(link.a.caps) and c.name)
        ours, theirs = (iip.Config(addresses=(net.format(i),), **common) for i in (1, 2))
        self.client = iip.Engine(ours, client, link.a, pool=pools[0], seed=1)
        self.member: Any = None   # of the threads, if there are any
        if threads is None:
            self.server = iip.Engine(theirs, server, link.b, pool=pools[-1], seed=2)
        else:
            self.member = threads.add(theirs, server, link.b, pool=pools[-1], seed=2, peer=self.client)
            self.server = self.member.engine
        self.conns = np.empty(0, np.uint64)     # handles of the client

    def connect(self, n: int, step: Callable[[], object]) -> None:
        """Open `n` connections, spread over several ports of the server; `step` runs both engines."""
        opened = []
        # the first alone: on Ethernet few packets wait until the neighbour is known
        for i in (0, *range(1, n, AT_ONCE)):
            port = PORT + i // PER_PORT
            self.server.tcp_listen(port)
            opened.append(self.client.connect_many(self.target, port, min(AT_ONCE, n - i) if i else 1))
            step()
        self.conns = np.concatenate(opened)

    def hang_up(self, step: Callable[[], object]) -> None:
        """Close what is still open."""
        for i in range(0, len(self.conns), AT_ONCE):
            self.client.close_many(self.conns[i:i + AT_ONCE])
            step()

    def counters(self) -> dict[str, dict[str, int]]:
        return {"client": nonzero(self.client.stats()), "server": nonzero(self.server.stats())}

    def close(self) -> None:
        for engine in (self.client, self.server):
            engine.close()
            engine.driver.close()

    def packets_in_use(self) -> int:
        """After `close`: 0 unless something leaked."""
        return sum(p.packets - p.free_packets + p.views - p.free_views for p in self.pools)


def timed(what: str, seconds: float, step: Callable[[float], float], text: Callable[[float], str]) -> float:
    """Call `step(part)` until `seconds` are over, with progress; the time it took, s."""
    took = 0.0
    with progress(what, seconds) as update:
        while took < seconds:
            took += step(min(SLICE, seconds - took))
            update(took, text(took))
    return took


def wait_for(step: Callable[[float], object], condition: Callable[[], bool], what: str, connections: int = 0) -> None:
    patience = WAITING + connections / 5000
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise click.ClickException(f"{what} within {patience:.0f} s")
        step(0.001)
