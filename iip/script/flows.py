"""Connections as a script sees them: sequence numbers counted from the first, timestamps by the script's own values."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iip.script.packets import M32, TCP, Live
from iip.script.syntax import ANY, Option

SYN = 2
OUR_TICK = 1000                   # µs of the stack's timestamp clock
Sequence = Callable[[int], int]


class Flow:
    """One connection. The script decides the peer's numbers, so only ours are mapped: `iss` is the real number of our
    SYN, `script_iss` what the script calls it."""

    def __init__(self, local: Any, lport: int, remote: Any, rport: int):
        self.local, self.lport, self.remote, self.rport = local, lport, remote, rport
        self.iss: int | None = None
        self.script_iss = 0
        self.tick = self.tolerance = 0               # µs: how fast the script's timestamps count, if they are compared
        self.clock: dict[int, int] = {}              # timestamp value of the script: the real one
        self.first: tuple[int, int] | None = None    # the first pair of them
        self.cookies: dict[bytes, bytes] = {}        # Fast Open cookies of the script: the real ones

    @property
    def key(self) -> tuple[Any, int, Any, int]:
        return self.local, self.lport, self.remote, self.rport

    @property
    def offset(self) -> int:
        return 0 if self.iss is None else self.iss - self.script_iss

    def real(self, number: int) -> int:
        """Our sequence number on the wire for the script's."""
        return (number + self.offset) & M32

    def scripted(self, number: int) -> int:
        return (number - self.offset) & M32

    @property
    def first_real(self) -> int:
        return self.first[1] if self.first else 0

    # -- timestamps ----------------------------------------------------------------------------------------

    def learn(self, scripted: Any, real: int) -> bool:
        """The script calls our timestamp `real` `scripted`. False: its clock, if it has one, says otherwise."""
        if scripted is ANY:
            return True
        self.clock[scripted] = real
        if self.first is None:
            self.first = scripted, real
        if not self.tick:
            return True
        passed = (scripted - self.first[0]) * self.tick, (real - self.first[1]) * OUR_TICK
        return bool(abs(passed[0] - passed[1]) <= self.tolerance + self.tick)

    def echo(self, scripted: int) -> int:
        """What to send back where the script says it echoes `scripted`."""
        if scripted in self.clock:
            return self.clock[scripted]
        if scripted == 0 or self.first is None:
            return scripted
        return (scripted - self.first[0] + self.first[1]) & M32

    def inbound_options(self, options: tuple[Option, ...]) -> tuple[Option, ...]:
        return tuple(self._inbound(option) for option in options)

    def _inbound(self, option: Option) -> Option:
        if option.kind == "sack":
            return Option("sack", tuple((self.real(a), self.real(b)) for a, b in option.value))
        if option.kind == "TS":
            value, echo = (0 if v is ANY else v for v in option.value)
            return Option("TS", (value, self.echo(echo)))
        if option.kind in ("FO", "FOEXP"):
            return Option(option.kind, self.cookies.get(option.value, option.value))
        return option


class Flows:
    """All connections of a run, by their addresses and ports, ours first."""

    def __init__(self, tick: int = 0, tolerance: int = 0) -> None:
        self.tick, self.tolerance = tick, tolerance
        self.by_key: dict[tuple[Any, int, Any, int], Flow] = {}
        self.cookies: dict[bytes, bytes] = {}        # of servers here: they hold for every connection of a peer

    def get(self, local: Any, lport: int, remote: Any, rport: int) -> Flow:
        key = (local, lport, remote, rport)
        if key not in self.by_key:
            self.by_key[key] = Flow(*key)
            self.by_key[key].cookies = self.cookies
            self.by_key[key].tick, self.by_key[key].tolerance = self.tick, self.tolerance
        return self.by_key[key]

    def sent(self, p: Live) -> None:
        """A packet left: SYNs tell our first sequence number."""
        if p.protocol != TCP:
            return
        flow = self.get(p.source, p.sport, p.destination, p.dport)
        if p.flags & SYN:
            flow.iss = p.seq

    def of(self, p: Live) -> Flow:
        """The flow of a packet that left."""
        return self.get(p.source, p.sport, p.destination, p.dport)
