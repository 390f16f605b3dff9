"""Connections as a script sees them: sequence numbers counted from the first, timestamps by the script's own values."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from iip.script.packets import M32, TCP, Live
from iip.script.syntax import ANY, Option

SYN = 2
Sequence = Callable[[int], int]


class Flow:
    """One connection. The script decides the peer's numbers, so only ours are mapped: `iss` is the real number of our
    SYN, `script_iss` what the script calls it."""

    def __init__(self, local: Any, lport: int, remote: Any, rport: int):
        self.local, self.lport, self.remote, self.rport = local, lport, remote, rport
        self.iss: int | None = None
        self.script_iss = 0
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

    # -- timestamps ----------------------------------------------------------------------------------------

    def learn(self, scripted: Any, real: int) -> None:
        """The script calls our timestamp `real` `scripted`."""
        if scripted is ANY:
            return
        self.clock[scripted] = real
        if self.first is None:
            self.first = scripted, real

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

    def __init__(self) -> None:
        self.by_key: dict[tuple[Any, int, Any, int], Flow] = {}
        self.cookies: dict[bytes, bytes] = {}        # of servers here: they hold for every connection of a peer

    def get(self, local: Any, lport: int, remote: Any, rport: int) -> Flow:
        key = (local, lport, remote, rport)
        if key not in self.by_key:
            self.by_key[key] = Flow(*key)
            self.by_key[key].cookies = self.cookies
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
