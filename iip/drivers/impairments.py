"""What a bad wire does to packets; the settings of `iip.drivers.impair`."""
from __future__ import annotations

from dataclasses import dataclass, fields

from iip.errors import ConfigError

_PROBABILITIES = ("loss", "duplicate", "reorder", "corrupt")
_TIMES = ("delay", "jitter", "reorder_delay")


def _number(name: str, value: object, low: float, high: float, what: str, whole: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        raise ConfigError(f"{name}={value!r}: must be {what}")


def _check_size(queue: DropTail | CoDel) -> None:
    _number("bytes", queue.bytes, 1, 1 << 40, "from 1 to 2**40 bytes", whole=True)
    _number("packets", queue.packets, 0, 1 << 24, "from 0 (no limit) to 2**24 packets", whole=True)


@dataclass(frozen=True)
class GilbertElliott:
    """Losses in bursts: a Markov chain of two states (Gilbert 1960, Elliott 1963). Every packet first moves the state.

    The share of lost packets is (good r + bad p) / (p + r), the mean length of a bad time 1 / r packets.
    """

    p: float                          # probability of going from the good state to the bad one, per packet
    r: float                          # and back
    bad: float = 1.0                  # probability of loss in the bad state
    good: float = 0.0                 # and in the good one

    def __post_init__(self) -> None:
        for f in fields(self):
            _number(f.name, getattr(self, f.name), 0, 1, "a probability from 0 to 1")


@dataclass(frozen=True)
class DropTail:
    """A queue that drops what finds no room."""

    bytes: int = 1 << 18              # that may wait, beside the packet in transmission
    packets: int = 0                  # that may wait; 0: no limit but that of bytes
    mark: int = 0                     # bytes waiting above which packets are marked (ECN, as RFC 8257 asks); 0: never

    def __post_init__(self) -> None:
        _check_size(self)
        _number("mark", self.mark, 0, 1 << 40, "from 0 (never) to 2**40 bytes", whole=True)


@dataclass(frozen=True)
class CoDel:
    """A queue that drops (or with `ecn` marks, where packets allow it) once packets wait too long (RFC 8289)."""

    target: float = 0.005             # seconds of waiting that are all right
    interval: float = 0.1             # seconds for which it may take longer, about the longest usual round trip
    ecn: bool = False
    bytes: int = 1 << 24              # that may wait at all
    packets: int = 0                  # that may wait at all; 0: no limit but that of bytes

    def __post_init__(self) -> None:
        _check_size(self)
        for name in ("target", "interval"):
            _number(name, getattr(self, name), 1e-6, 60, "from 0.000001 to 60 seconds")


@dataclass(frozen=True)
class Impairments:
    """One direction of a bad wire. All off by default.

    Each packet is lost, duplicated, held back or hit independently of the others. Packets keep their order, jitter
    or not, except those that `reorder` picks: they are held `reorder_delay` longer while others overtake them.
    """

    loss: float | GilbertElliott = 0.0    # probability, 0 to 1, or bursts
    duplicate: float = 0.0            # probability that a packet arrives twice
    reorder: float = 0.0              # probability that a packet is overtaken
    corrupt: float = 0.0              # probability that one bit of a packet is flipped
    delay: float = 0.0                # seconds
    jitter: float = 0.0               # seconds: up to so much more delay, uniformly
    reorder_delay: float = 0.001      # seconds
    rate: float = 0.0                 # bits per second; 0: unlimited
    queue: int | DropTail | CoDel = 1 << 18   # what waits for its turn at `rate`; a number: of bytes, more are dropped
    limit: int = 16384                # packets waiting and on their way at once; more are dropped

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in _PROBABILITIES and not (f.name == "loss" and isinstance(value, GilbertElliott)):
                _number(f.name, value, 0, 1, "a probability from 0 to 1 (2 % is 0.02)")
            elif f.name in _TIMES:
                _number(f.name, value, 0, 3600, "from 0 to 3600 seconds")
        if self.rate != 0:
            _number("rate", self.rate, 1, 1e13, "0 (unlimited) or from 1 to 1e13 bits per second")
        if not isinstance(self.queue, (DropTail, CoDel)):
            _number("queue", self.queue, 1, 1 << 40, "from 1 to 2**40 bytes, a DropTail or a CoDel", whole=True)
        _number("limit", self.limit, 1, 1 << 24, "from 1 to 2**24 packets", whole=True)
