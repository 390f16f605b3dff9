"""Bulk flows between hosts of a simulation, and what became of them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iip.errors import ConfigError
from iip.sim.network import Host
from iip.sim.simulation import Simulation
from iip.sim.traffic import Traffic

TRACE = np.dtype([
    ("time", "f8"),               # s since the beginning
    ("sent", "u8"),               # bytes given to TCP,
    ("acked", "u8"),              # acknowledged,
    ("received", "u8"),           # taken by the receiving application
    ("cwnd", "u4"),               # bytes
    ("ssthresh", "u4"),           # bytes
    ("in_flight", "u4"),          # bytes
    ("srtt", "f8"),               # s
    ("retransmits", "u4"),        # segments
])


class BulkFlow:
    """A connection from `src` to `dst` that sends as fast as TCP lets it.

    start: s; bytes: how many, None: without end; stop: when to stop sending, s; version: of IP; sample: s between
    two rows of `trace`, 0: none. Both hosts must have the default handler.
    """

    def __init__(self, sim: Simulation, src: Host, dst: Host, *, start: float = 0.0, stop: float | None = None,
                 bytes: int | None = None, version: Literal[4, 6] = 4, sample: float = 0.01) -> None:
        for host in (src, dst):
            if not isinstance(host.engine.handler, Traffic):
                raise ConfigError(f"{host.name} has a handler of its own; flows need hosts without one")
        self.sim, self.src, self.dst = sim, src, dst
        self.connection: Any = None
        self.number = sim.traffic.add(src.engine, bytes)
        self._address = _address(dst, version)
        self._rows: list[tuple[float, ...]] = []
        self._last: Any = None
        sim.at(start, self._open)
        if stop is not None:
            sim.at(stop, lambda: sim.traffic.end(self.number))
        if sample:
            sim.observe(sample, self._look, start=start)

    def _open(self) -> None:
        self.connection = self.src.engine.tcp_connect(self._address, self.sim.traffic.port(self.number))
        self.sim.traffic.begin(self.number, self.connection)

    def _look(self) -> bool:
        sent, acked, received, _, _, closed = self.sim.traffic.state(self.number)
        row = self.info()
        if row is not None:
            self._rows.append((self.sim.now, sent, acked, received, int(row["cwnd"]), int(row["ssthresh"]),
                               int(row["in_flight"]), float(row["srtt"]) / 1e9, int(row["retransmits"])))
        return not closed

    def info(self) -> Any:
        """The row of `Engine.connections()` of the sending side, as it was last; None before it began."""
        if self.connection is None:
            return None
        rows = self.src.engine.connections()
        rows = rows[rows["handle"] == self.connection.handle]
        if len(rows):
            self._last = rows[0].copy()
        return self._last

    @property
    def trace(self) -> NDArray[np.void]:
        """What was seen, one row a sample: a structured array of dtype `TRACE`."""
        return np.array(self._rows, dtype=TRACE)

    @property
    def received(self) -> int:
        """Bytes that the receiving application got."""
        return self.sim.traffic.state(self.number)[2]

    @property
    def retransmits(self) -> int:
        """Segments sent again."""
        row = self.info()
        return 0 if row is None else int(row["retransmits"])

    @property
    def connected(self) -> float | None:
        """When the connection was established, s; None: not yet."""
        at = self.sim.traffic.state(self.number)[3]
        return None if at < 0 else at / 1e9

    @property
    def done(self) -> float | None:
        """When the receiver had all of it, s; None: not yet."""
        at = self.sim.traffic.state(self.number)[4]
        return None if at < 0 else at / 1e9

    def goodput(self, begin: float = 0.0, end: float | None = None) -> float:
        """Bits per second that the receiving application got between two times, by the trace; `end` None: now."""
        end = self.sim.now if end is None else end
        if end <= begin:
            raise ConfigError(f"goodput: end={end} must be later than begin={begin}")
        rows = self.trace
        if len(rows) == 0:
            raise ConfigError("goodput: there is no trace; give the flow a sample, and run the simulation")
        times = np.append(rows["time"], self.sim.now)
        octets = np.append(rows["received"], self.received).astype(float)
        first, last = np.interp([begin, end], times, octets)
        return float(last - first) * 8 / (end - begin)


def _address(host: Host, version: int) -> str:
    for text in host.engine.addresses:
        address = text.split("/")[0]
        if (":" in address) == (version == 6):
            return address
    raise ConfigError(f"{host.name} has no IPv{version} address")


def jain(rates: Sequence[float]) -> float:
    """Jain's fairness index of some rates: 1 when all are equal, 1/n when one has everything."""
    total = sum(rates)
    return total * total / (len(rates) * sum(r * r for r in rates)) if total else 0.0
