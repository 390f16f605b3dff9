from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iip.handler import PythonHandler
from iip.payload import Payload

EVENT: np.dtype[np.void]

class Event(IntEnum):
    ACCEPTED = 1
    CONNECTED = 2
    ACKED = 3
    PAYLOAD = 4
    SHUTDOWN = 5
    CLOSED = 6

class Batch:
    @property
    def engine(self) -> Any: ...
    @property
    def events(self) -> NDArray[np.void]: ...
    @property
    def payloads(self) -> NDArray[np.void]: ...
    @property
    def memory(self) -> NDArray[np.uint8]: ...
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def rows(self, kind: int) -> NDArray[np.void]: ...
    def payload(self, index: int | np.integer[Any]) -> Payload: ...
    def send(
        self, rows: NDArray[np.void] | None = None, to: NDArray[np.uint64] | None = None
    ) -> NDArray[np.int64]: ...
    def consume(self, rows: NDArray[np.void] | None = None) -> None: ...

class BatchHandler(PythonHandler): ...
