from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface

from iip.drivers.base import Driver
from iip.drivers.capability import Capability

_Address = str | IPv4Interface | IPv6Interface

class TunTap(Driver):
    @property
    def name(self) -> str: ...
    @property
    def rx_packets(self) -> int: ...
    @property
    def rx_bytes(self) -> int: ...
    @property
    def rx_errors(self) -> int: ...
    @property
    def rx_too_long(self) -> int: ...
    @property
    def rx_no_buffer(self) -> int: ...
    @property
    def tx_packets(self) -> int: ...
    @property
    def tx_bytes(self) -> int: ...
    @property
    def tx_errors(self) -> int: ...
    @property
    def offload(self) -> bool: ...
    def send_frame(self, frame: bytes) -> None: ...
    def receive_frame(self) -> bytes | None: ...
    def stats(self) -> dict[str, int]: ...

class Tap(TunTap):
    def __init__(
        self,
        name: str | None = None,
        *,
        mtu: int | None = None,
        host_address: _Address | Iterable[_Address] = (),
        queues: int = 1,
        persist: bool | None = None,
        create: bool = True,
        offload: bool | Capability = True,
    ) -> None: ...

class Tun(TunTap):
    def __init__(
        self,
        name: str | None = None,
        *,
        mtu: int | None = None,
        host_address: _Address | Iterable[_Address] = (),
        queues: int = 1,
        persist: bool | None = None,
        create: bool = True,
        offload: bool | Capability = True,
    ) -> None: ...
