"""The thread that runs engines, and the lock under which other threads speak to them."""
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


class Worker:
    """Runs the engines of its stacks, and sleeps while none has anything to do. Only this thread runs them, so a signal, whose
    Python handler runs in the main thread, never interrupts a callback. Whoever holds `lock` may call an engine, and then `wake`.

    Stacks that a memory link joins need the same worker; others have one each.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.stacks: list[Stack] = []
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._woken = False
        self._thread: threading.Thread | None = None

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

    def ours(self) -> bool:
        """Is this the thread that runs the engines?"""
        return threading.current_thread() is self._thread

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
                stacks = list(self.stacks)
                deadlines = [stack.run() for stack in stacks]
                fds = [self._event, *(fd for stack in stacks if (fd := stack.fileno()) is not None)]
            for stack in stacks:
                stack.after()
            times = [deadline for deadline in deadlines if deadline is not None]
            _sleep(fds, (min(times) - time.monotonic_ns()) / 1e9 if times else None)


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
