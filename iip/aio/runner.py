"""When the stacks of a loop run: one callback per turn for all of them, one timer each."""
from __future__ import annotations

import asyncio
import contextvars
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iip.aio.stack import Stack

_ROUNDS = 8                       # times that stacks may wake each other in one turn of the loop

# A runner lives as long as one of its stacks, and its loop as long as it does
_runners: weakref.WeakValueDictionary[asyncio.AbstractEventLoop, Runner] = weakref.WeakValueDictionary()


class Runner:
    """Runs the stacks that have something to do. Stacks joined by a memory link wake each other, and then need no turn of
    the loop for every packet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._context = contextvars.copy_context()
        self._ready: list[Stack] = []
        self._scheduled = False   # or running

    def wake(self, stack: Stack) -> None:
        """Run `stack` before long; it sees to it that it is not here twice."""
        self._ready.append(stack)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run, context=self._context)

    def _run(self) -> None:
        try:
            for _ in range(_ROUNDS):
                ready, self._ready = self._ready, []
                while ready:
                    ready.pop(0).run()
                if not self._ready:
                    break
        finally:
            self._ready[:0] = ready
            self._scheduled = bool(self._ready)
            if self._scheduled:
                self._call_soon(self._run, context=self._context)


def runner_of(loop: asyncio.AbstractEventLoop) -> Runner:
    """The one of this loop."""
    runner = _runners.get(loop)
    if runner is None:
        runner = _runners[loop] = Runner(loop)
    return runner
