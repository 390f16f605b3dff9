import os
from typing import BinaryIO, Literal

from iip.drivers.base import Driver

class Pcap(Driver):
    @property
    def start(self) -> int: ...
    @property
    def finished(self) -> bool: ...
    @property
    def rx_packets(self) -> int: ...
    @property
    def rx_ignored(self) -> int: ...
    @property
    def rx_no_buffer(self) -> int: ...
    @property
    def tx_packets(self) -> int: ...
    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        sink: str | os.PathLike[str] | BinaryIO | None = None,
        direction: Literal["in", "out"] | None = None,
        speed: float | None = 1.0,
        trust_checksums: bool = False,
        mtu: int = 65535,
    ) -> None: ...
    def stats(self) -> dict[str, int]: ...
