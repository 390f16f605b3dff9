"""The only loop and the only clock: run an engine until something ends it."""
from __future__ import annotations

import select
import time
from collections.abc import Callable
from threading import Event
from typing import Literal

from iip.facade import Engine

_NOTICE = 100_000_000             # ns within which `stop` is noticed while nothing happens
_FD_SETSIZE = 1024


def run(engine: Engine, *, until: int | None = None, duration: float | None = None,
        stop: Event | Callable[[], object] | None = None,
        clock: Callable[[], int] = time.monotonic_ns) -> Literal["until", "stop"]:
    """Run `engine` in this thread, sleeping while there is nothing to do; why it ended: ``"until"`` or ``"stop"``.

    until: a time of `clock`, ns; duration: seconds from now; stop: a `threading.Event` or a callable, asked in
    every round and at least ten times a second. Exceptions (`KeyboardInterrupt`, those of handlers and
    drivers) come out between two rounds of the engine, which can be run again or closed.
    """
    if duration is not None:
        end = clock() + int(duration * 1e9)
        until = end if until is None else min(until, end)
    stopped = _asker(stop)
    wait = _waiter(engine.driver.fileno())
    while True:
        now = clock()
        if until is not None and now >= until:
            return "until"
        if stopped is not None and stopped():
            return "stop"
        deadline = engine.run(now)
        if deadline is not None and deadline <= now:
            continue
        wake = [t for t in (deadline, until, now + _NOTICE if stopped is not None else None) if t is not None]
        wait((min(wake) - clock()) / 1e9 if wake else None)


def _asker(stop: Event | Callable[[], object] | None) -> Callable[[], object] | None:
    return stop.is_set if isinstance(stop, Event) else stop


def _waiter(fd: int | None) -> Callable[[float | None], None]:
    """A function that sleeps for some seconds (None: for ever) or until the descriptor is readable."""
    if fd is None:
        def wait(seconds: float | None) -> None:
            if seconds is None:
                raise RuntimeError("nothing can happen any more: the driver has no file descriptor and the engine no "
                                   "deadline; give a duration or stop")
            if seconds > 0:
                time.sleep(seconds)
    elif fd < _FD_SETSIZE and hasattr(select, "select"):
        def wait(seconds: float | None) -> None:
            # unlike poll(2) from Python it sleeps for less than a millisecond
            select.select((fd,), (), (), None if seconds is None else max(0.0, seconds))
    else:
        poller = select.poll()
        poller.register(fd, select.POLLIN)

        def wait(seconds: float | None) -> None:
            poller.poll(None if seconds is None else max(0.0, seconds * 1e3))
    return wait
