from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal

from iip.drivers.base import Driver
from iip.drivers.xdp import Program
from iip.memory.pool import PacketPool

_Address = str | IPv4Address | IPv6Address | IPv4Interface | IPv6Interface

class AfXdp(Driver):
    @property
    def name(self) -> str: ...
    @property
    def queue(self) -> int: ...
    @property
    def program(self) -> Program | None: ...
    @property
    def native(self) -> bool: ...
    @property
    def zero_copy(self) -> bool: ...
    @property
    def rx_packets(self) -> int: ...
    @property
    def rx_bytes(self) -> int: ...
    @property
    def tx_packets(self) -> int: ...
    @property
    def tx_bytes(self) -> int: ...
    @property
    def tx_errors(self) -> int: ...
    def __init__(
        self,
        name: str,
        *,
        addresses: str | Iterable[_Address] = (),
        queue: int = 0,
        queues: int = 1,
        mode: Literal["auto", "native", "generic"] = "auto",
        zero_copy: bool | None = None,
        ring: int = 2048,
        busy_poll: int = 0,
        trust_checksums: bool = False,
        beside: AfXdp | None = None,
        mtu: int | None = None,
    ) -> None: ...
    def __del__(self) -> None: ...
    def attach(self, pool: PacketPool) -> None: ...
    def stats(self) -> dict[str, int]: ...
