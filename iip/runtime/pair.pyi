from collections.abc import Callable
from threading import Event
from typing import Literal

from iip.engine import Engine

def run_pair(
    a: Engine,
    b: Engine,
    *,
    until: int | None = None,
    duration: float | None = None,
    stop: Event | Callable[[], object] | None = None,
) -> Literal["until", "stop"]: ...

def run_rounds(a: Engine, b: Engine, rounds: int, now: int = 0, step: int = 10_000) -> int: ...
