"""Who runs engines: the thread that has just told them something, or else one that waits for packets and deadlines. And the lock
under which all threads speak to them."""
from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iip.socket.stack import Stack

_FD_SETSIZE = 1024
_NEVER = float("inf")
_PASSES = 100                     # that one thread makes before it lets others have the lock


class Worker:
    """Runs the engines of its stacks, and sleeps while none has anything to do. Whoever holds `lock` may call an engine, and then
    `run`, which does the same in his own thread: a round trip then costs no more changes of threads than between processes.

    Stacks that a memory link joins need the same worker; others have one each.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.stacks: list[Stack] = []
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._woken = False
        self._thread: threading.Thread | None = None
        self.runner = 0          # the thread that runs the engines at this moment
        self.again = False       # meanwhile something was to be done
        self._until: float = 0    # when the thread wakes by itself, ns

    def __del__(self) -> None:
        event, self._event = self._event, -1
        os.close(event)

    def add(self, stack: Stack) -> None:
        with self.lock:
            self.stacks.append(stack)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="iip", daemon=True)
                self._thread.start()
            self.wake()

    def remove(self, stack: Stack) -> None:
        """The thread ends with its last stack."""
        with self.lock:
            if stack in self.stacks:
                self.stacks.remove(stack)
            self.wake()

    def wake(self) -> None:
        """Run the engines soon; from any thread. Who calls has done before what they are to see."""
        if not self._woken and self._event >= 0:
            self._woken = True
            os.eventfd_write(self._event, 1)

    def run(self) -> None:
        """Run the engines at once, after they were told something. Called with the lock."""
        if self.runner:          # from a callback
            self.again = True
        elif all(stack.inline for stack in self.stacks):
            try:
                deadline = self._passes()
            except BaseException:             # of a signal's handler
                self.wake()
                raise
            if deadline < self._until:
                self.wake()
        else:
            self.wake()

    def _passes(self) -> float:
        """Until there is nothing to do, or much was done. When to go on, ns."""
        self.runner = threading.get_ident()
        try:
            for _ in range(_PASSES):
                self.again = False
                now = time.monotonic_ns()
                deadlines = [stack.run(now) for stack in self.stacks.copy()]
                deadline = min((at for at in deadlines if at is not None), default=_NEVER)
                if deadline > now and not self.again:
                    return deadline
            return 0
        finally:
            self.runner = 0

    def ours(self) -> bool:
        """Does this thread run the engines?"""
        return threading.current_thread() is self._thread or self.runner == threading.get_ident()

    def join(self) -> None:
        """Wait for the thread if it is ending."""
        thread = self._thread
        if thread is not None and not self.stacks and not self.ours():
            thread.join()

    def _work(self) -> None:
        while True:
            # first the event, then the flag: who finds the flag set has come before the run
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._event)
            self._woken = False
            with self.lock:
                if not self.stacks:
                    self._thread = None
                    return
                self._until = self._passes()
                stacks = list(self.stacks)
                fds = [self._event, *(fd for stack in stacks if (fd := stack.fileno()) is not None)]
            for stack in stacks:
                stack.after()
            _sleep(fds, (self._until - time.monotonic_ns()) / 1e9 if self._until < _NEVER else None)


def _sleep(fds: list[int], seconds: float | None) -> None:
    """Until one is readable, or for so long."""
    wait = None if seconds is None else max(0.0, seconds)
    if max(fds) < _FD_SETSIZE:
        # unlike poll(2) from Python it sleeps for less than a millisecond
        with contextlib.suppress(OSError, ValueError):      # a driver was closed: the next round knows
            select.select(fds, (), (), wait)
        return
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    poller.poll(None if wait is None else wait * 1e3)
