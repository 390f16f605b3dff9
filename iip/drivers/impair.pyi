from iip.drivers.base import Driver
from iip.drivers.impairments import Impairments as Impairments

class Impair(Driver):
    @property
    def inner(self) -> Driver: ...
    def __init__(
        self, driver: Driver, *, seed: int, rx: Impairments | None = None, tx: Impairments | None = None
    ) -> None: ...
    def stats(self) -> dict[str, int]: ...
