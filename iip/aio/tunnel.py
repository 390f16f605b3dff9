"""A stack whose packets the program carries, in an event loop."""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from iip.aio.stack import Stack
from iip.drivers.tunnel import Tunnel as Driver

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BATCH = 1 << 18                  # bytes that one call of `output` brings: they stay in the cache, and in the heap
_FULL = 50_000_000                # ns between two looks at a queue that nobody drains


class Tunnel(Stack):
    """A stack at the end of a tunnel: IP packets go in by `feed`, and come out in batches, to `output(packets)` or
    ``await tunnel.packets()``. As many of them in a process as you like.

    mtu: bytes of a packet; capacity: packets that may wait in each direction; addresses, routes and the rest as for `Stack`.
    """

    def __init__(self, *, mtu: int = 1500, output: Callable[[list[bytes]], object] | None = None, capacity: int = 1024,
                 **settings: Any) -> None:
        self.tunnel = Driver(mtu, capacity=capacity, scatter_gather=True)
        self._capacity, self._output = capacity, output
        self._batch = max(16, _BATCH // mtu)
        self._rest: list[bytes] = []          # what was to go out when the tunnel was closed
        self._wanted: asyncio.Future[None] | None = None
        # a packet costs more in the engine than its share of a larger one
        super().__init__(self.tunnel, mtu=mtu, **{"gso": True, "gro": True, **settings})

    # -- in ------------------------------------------------------------------------------------------------
    def feed(self, packet: Buffer) -> bool:
        """A packet from the other side (bytes-like; the payload of large `bytes` is not copied). False: it was not taken, because
        its length is no packet's or the pool is empty; that is a loss as on any network."""
        self._room()
        return self.tunnel.feed(packet)

    def feed_many(self, packets: Iterable[Buffer]) -> int:
        """`feed` each; how many were taken."""
        batch = packets if isinstance(packets, (list, tuple)) else list(packets)
        if len(batch) + self.tunnel.waiting <= self._capacity:
            return self.tunnel.feed_many(batch)
        taken = done = 0
        while done < len(batch):
            self._room()
            part = batch[done:done + max(self._capacity - self.tunnel.waiting, 1)]
            taken += self.tunnel.feed_many(part)
            done += len(part)
        return taken

    def _room(self) -> None:
        """The engine takes what waits when the queue is full."""
        if self.tunnel.waiting >= self._capacity and not self._inside:
            self.run()

    # -- out -----------------------------------------------------------------------------------------------
    async def packets(self) -> list[bytes]:
        """What is to go to the other side, as soon as there is something; an empty list when the tunnel is closed. For one task
        only, and not together with `output`."""
        if self._output is not None or self._wanted is not None:
            raise RuntimeError("packets(): the packets go to output() or to another task")
        while not self.closed and not self.tunnel.pending:
            self._wanted = self.loop.create_future()
            try:
                await self._wanted
            finally:
                self._wanted = None
        if self.closed:
            rest, self._rest = self._rest, []
            return rest
        return self._drain()

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        """Batches until the tunnel is closed."""
        while packets := await self.packets():
            yield packets

    def _drain(self, limit: int | None = None) -> list[bytes]:
        packets = self.tunnel.drain(limit)
        if len(packets) >= self._capacity:
            self.wake()           # the engine may have more
        return packets

    def run(self) -> None:
        super().run()
        if self._closed or not self.tunnel.pending:
            return
        output = self._output
        if output is not None:
            try:
                while packets := self._drain(self._batch):
                    output(packets)
                    if len(packets) < self._batch:
                        break     # what came meanwhile wakes us
            except Exception as error:
                self._fail(error)
        elif self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def _arm(self, deadline: int, now: int) -> None:
        if self.tunnel.pending >= self._capacity:
            deadline = max(deadline, now + _FULL)
        super()._arm(deadline, now)

    def _last_pass(self) -> None:
        super()._last_pass()
        packets = self.tunnel.drain()
        if self._output is None:
            self._rest = packets
        elif packets:
            self._output(packets)

    def _unwatch(self) -> None:
        super()._unwatch()
        if self._wanted is not None and not self._wanted.done() and not self.loop.is_closed():
            self._wanted.set_result(None)
