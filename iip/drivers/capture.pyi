import os
from typing import BinaryIO

from iip.drivers.base import Driver

class Capture(Driver):
    @property
    def inner(self) -> Driver: ...
    @property
    def packets(self) -> int: ...
    def __init__(
        self, driver: Driver, file: str | os.PathLike[str] | BinaryIO, *, snaplen: int = 0, epoch: int = 0
    ) -> None: ...
