from collections.abc import Callable
from typing import Any

from typing_extensions import Buffer

from iip.handler import PythonHandler

class Sink:
    transport: Any
    data_received: Callable[[bytes], object] | None
    get_buffer: Callable[[int], Buffer] | None
    buffer_updated: Callable[[int], object] | None
    blocked: bool
    held: bool
    over: bool
    def __init__(self, transport: object) -> None: ...
    def feed(self, data: bytes) -> bytes: ...

class StreamHandler(PythonHandler): ...
