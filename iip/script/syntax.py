"""What a script consists of, once parsed."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

INBOUND, OUTBOUND = "<", ">"

# -- expressions: int, float, str and bytes stand for themselves ---------------------------------------------


class _Any:
    """`...`: whatever fits."""

    def __repr__(self) -> str:
        return "..."


ANY = _Any()


@dataclass(frozen=True)
class Word:
    """A name whose value a table knows."""

    name: str

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Operation:
    """`a | b` and the like; `left` is None for `~a`, `-a`, `!a`."""

    operator: str
    left: Any
    right: Any

    def __repr__(self) -> str:
        return f"{'' if self.left is None else f'{self.left!r} '}{self.operator}{self.right!r}"


@dataclass(frozen=True)
class Call:
    """`htons(80)`."""

    name: str
    arguments: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.arguments))})"


@dataclass(frozen=True)
class Struct:
    """`{name=value, ...}`; the name of a value without one is its position."""

    members: tuple[tuple[str | int, Any], ...]

    def get(self, *names: str | int, default: Any = None) -> Any:
        for name, value in self.members:
            if name in names:
                return value
        return default

    def __repr__(self) -> str:
        return "{" + ", ".join(repr(v) if isinstance(k, int) else f"{k}={v!r}" for k, v in self.members) + "}"


@dataclass(frozen=True)
class Array:
    """`[a, b]`."""

    items: tuple[Any, ...]

    def __repr__(self) -> str:
        return "[" + ", ".join(map(repr, self.items)) + "]"


# -- times -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Time:
    """When an event happens, microseconds. `relative`: since the event before; `end`: of a range, with the same
    base; `any_time`: `*`. `until`: when a call that blocks returns, relative to the same base."""

    start: int = 0
    end: int | None = None
    relative: bool = False
    any_time: bool = False
    until: int | None = None


# -- packets -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """A TCP option. `value`: by kind an int, a pair, blocks, bytes; ANY where the script does not care."""

    kind: str
    value: Any = None


@dataclass(frozen=True)
class IpFields:
    """What the brackets before a packet say; None: not said."""

    ecn: str | None = None            # noecn, ect0, ect1, ect01, ce
    tos: int | None = None
    ttl: int | None = None
    flow_label: int | None = None


@dataclass(frozen=True)
class TcpPacket:
    flags: int
    seq: int
    length: int
    ack: int | None = None            # None: no ack field in the script; -1: any
    window: int | None = None
    urgent: int = 0
    options: tuple[Option, ...] = ()
    any_options: bool = False         # more options than listed are allowed; `<...>` lists none
    ace: int | None = None
    payload: bytes | None = None
    ports: tuple[int, int] | None = None


@dataclass(frozen=True)
class UdpPacket:
    length: int
    payload: bytes | None = None
    ports: tuple[int, int] | None = None


@dataclass(frozen=True)
class IcmpPacket:
    type: str
    code: str | int | None = None
    mtu: int = 0
    ident: int | None = None
    quoted: tuple[str, int, int] | None = None     # protocol, sequence number, payload length
    length: int = 0


@dataclass(frozen=True)
class PacketEvent:
    direction: str
    body: TcpPacket | UdpPacket | IcmpPacket
    ip: IpFields = IpFields()
    addresses: tuple[str, str] | None = None
    encapsulation: str = ""


# -- events ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CallEvent:
    name: str
    arguments: tuple[Any, ...]
    result: Any
    errno: str | None = None
    note: str = ""


@dataclass(frozen=True)
class ShellEvent:
    text: str


@dataclass(frozen=True)
class CodeEvent:
    text: str


@dataclass(frozen=True)
class Event:
    line: int
    time: Time
    body: PacketEvent | CallEvent | ShellEvent | CodeEvent
    source: str                       # the text, on one line


@dataclass
class Script:
    path: str
    options: list[tuple[str, str | None, int]] = field(default_factory=list)    # name, value, line
    init: list[tuple[str, int]] = field(default_factory=list)                   # shell blocks before the events
    events: list[Event] = field(default_factory=list)
