from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from typing_extensions import Buffer

from iip.engine import Engine

class State(IntEnum):
    CLOSED = 0
    LISTEN = 1
    SYN_SENT = 2
    SYN_RCVD = 3
    ESTABLISHED = 4
    FIN_WAIT_1 = 5
    FIN_WAIT_2 = 6
    CLOSE_WAIT = 7
    CLOSING = 8
    LAST_ACK = 9
    TIME_WAIT = 10

class Reason(IntEnum):
    NORMAL = 0
    RESET = 1
    REFUSED = 2
    TIMEOUT = 3
    ABORTED = 4
    UNREACHABLE = 5
    REJECTED = 6
    NO_MEMORY = 7

class Connection:
    context: Any
    @property
    def engine(self) -> Engine: ...
    @property
    def handle(self) -> int: ...
    def __init__(self) -> None: ...
    def send(self, data: Buffer, *, reference: bool | None = None) -> int: ...
    def consume(self, n: int) -> None: ...
    def shutdown(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def state(self) -> State: ...
    @property
    def send_room(self) -> int: ...
    @property
    def unacknowledged(self) -> int: ...
    @property
    def mss(self) -> int: ...
    @property
    def nodelay(self) -> bool: ...
    @nodelay.setter
    def nodelay(self, on: bool) -> None: ...
    @property
    def cork(self) -> bool: ...
    @cork.setter
    def cork(self, on: bool) -> None: ...
    @property
    def local(self) -> tuple[IPv4Address | IPv6Address, int]: ...
    @property
    def remote(self) -> tuple[IPv4Address | IPv6Address, int]: ...
