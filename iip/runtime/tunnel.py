"""A stack whose packets the program carries, without an event loop."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from iip.config import Config
from iip.drivers.tunnel import Tunnel as Driver
from iip.facade import Engine
from iip.memory.pool import PacketPool

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

_PASSES = 1000                    # of one `run`, so that it ends


class Tunnel:
    """An engine at the end of a tunnel: IP packets go in by `feed`, and come out in batches, to `output(packets)` or by `drain`.
    As many of them in a process as you like.

    handler: an object with callbacks, as for `iip.Engine`, which is `engine` here and opens connections; mtu: bytes of a packet;
    capacity: packets that may wait in each direction; clock: what time it is, ns; further arguments are settings
    (`iip.Config`), like `addresses` and `routes`. `iip.aio.Tunnel` is the same in an event loop.
    """

    def __init__(self, handler: object, *, mtu: int = 1500, output: Callable[[list[bytes]], object] | None = None,
                 capacity: int = 1024, pool: PacketPool | None = None, seed: int | None = None,
                 clock: Callable[[], int] = time.monotonic_ns, **settings: Any) -> None:
        self.driver = Driver(mtu, capacity=capacity, scatter_gather=True)
        self.engine = Engine(Config(mtu=mtu, **{"gso": True, "gro": True, **settings}), handler, self.driver, pool, seed)
        self._output, self._clock = output, clock

    def feed(self, packet: Buffer) -> bool:
        """A packet from the other side (bytes-like; the payload of large `bytes` is not copied), for the next `run`. False: it was
        not taken, because the queue or the pool is full or its length is no packet's; that is a loss as on any network."""
        return self.driver.feed(packet)

    def feed_many(self, packets: Iterable[Buffer]) -> int:
        """`feed` each; how many were taken."""
        return self.driver.feed_many(packets)

    def run(self, now: int | None = None) -> int | None:
        """Let the engine work at time `now`, by default the clock's, until it has done all there is to do. Returns when to
        call again even if nothing was fed: a time of the clock, None if there is no need.

        Outgoing packets are given to `output`, or wait for `drain`. Raises what callbacks raised.
        """
        at = self._clock() if now is None else now
        for _ in range(_PASSES):
            deadline = self.engine.run(at)
            if self._output is not None and self.driver.pending:
                self._output(self.driver.drain())
            if deadline is None or deadline > at:
                return deadline
        return at

    def drain(self, limit: int | None = None) -> list[bytes]:
        """Take up to `limit` packets for the other side."""
        return self.driver.drain(limit)

    def close(self) -> list[bytes]:
        """Abort what is open and close; the last packets, which tell the peers, unless `output` got them. May be called
        twice."""
        if self.driver.closed:
            return []
        self.engine.abort_all()
        self.run()
        last = self.drain()
        self.engine.close()
        self.driver.close()
        return last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
