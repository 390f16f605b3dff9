"""What a bad wire does to packets; the settings of `iip.drivers.impair`."""
from __future__ import annotations

from dataclasses import dataclass, fields

from iip.errors import ConfigError

_PROBABILITIES = ("loss", "duplicate", "reorder", "corrupt")
_TIMES = ("delay", "jitter", "reorder_delay")


@dataclass(frozen=True)
class Impairments:
    """One direction of a bad wire. All off by default.

    Each packet is lost, duplicated, held back or hit independently of the others. Packets keep their order, jitter
    or not, except those that `reorder` picks: they are held `reorder_delay` longer while others overtake them.
    """

    loss: float = 0.0                 # probability, 0 to 1
    duplicate: float = 0.0            # probability that a packet arrives twice
    reorder: float = 0.0              # probability that a packet is overtaken
    corrupt: float = 0.0              # probability that one bit of a packet is flipped
    delay: float = 0.0                # seconds
    jitter: float = 0.0               # seconds: up to so much more delay, uniformly
    reorder_delay: float = 0.001      # seconds
    rate: float = 0.0                 # bits per second; 0: unlimited
    queue: int = 1 << 18              # bytes that may wait for their turn at `rate`; more are dropped
    limit: int = 16384                # packets on the wire at once; more are dropped

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigError(f"{f.name}={value!r}: must be a number")
            if f.name in _PROBABILITIES:
                if not 0 <= value <= 1:
                    raise ConfigError(f"{f.name}={value}: a probability is from 0 to 1 (2 % is 0.02)")
            elif f.name in _TIMES and not 0 <= value <= 3600:
                raise ConfigError(f"{f.name}={value}: must be from 0 to 3600 seconds")
        if self.rate != 0 and not 1 <= self.rate <= 1e13:
            raise ConfigError(f"rate={self.rate}: must be 0 (unlimited) or from 1 to 1e13 bits per second")
        if not isinstance(self.queue, int) or not 1 <= self.queue <= 1 << 40:
            raise ConfigError(f"queue={self.queue}: must be from 1 to 2**40 bytes")
        if not isinstance(self.limit, int) or not 1 <= self.limit <= 1 << 24:
            raise ConfigError(f"limit={self.limit}: must be from 1 to 2**24 packets")
