from collections.abc import Sequence
from typing import Any, Literal

from iip.drivers.base import Driver

class MemoryDriver(Driver):
    @property
    def pending(self) -> int: ...
    def __init__(self, *, capacity: int = 4096, **settings: Any) -> None: ...
    def stats(self) -> dict[str, int]: ...

class MemoryLink:
    @property
    def a(self) -> MemoryDriver: ...
    @property
    def b(self) -> MemoryDriver: ...
    def __init__(
        self,
        medium: Literal["ip", "ethernet"] = "ip",
        mtu: int = 1500,
        capacity: int = 4096,
        checksum_offload: bool = True,
        scatter_gather: bool = True,
        tso: bool = False,
        macs: Sequence[bytes] | None = None,
        *,
        tx_checksum: bool | None = None,
        rx_checksum: bool | None = None,
        lro: bool | None = None,
    ) -> None: ...
    def close(self) -> None: ...
