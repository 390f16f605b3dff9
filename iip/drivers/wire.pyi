from collections.abc import Callable
from threading import Event

from iip.drivers.base import Driver
from iip.drivers.impairments import Impairments
from iip.memory.pool import PacketPool

class Wire:
    @property
    def a(self) -> Driver: ...
    @property
    def b(self) -> Driver: ...
    @property
    def pool(self) -> PacketPool: ...
    def __init__(
        self,
        a: Driver,
        b: Driver,
        *,
        seed: int,
        there: Impairments | None = None,
        back: Impairments | None = None,
        packets: int = 32768,
    ) -> None: ...
    def stats(self) -> dict[str, dict[str, int]]: ...
    def close(self) -> None: ...
    def run(self, duration: float | None = None, stop: Event | Callable[[], object] | None = None) -> None: ...
