"""Waiting for a change under a lock."""
import threading

cdef object _new = threading.Lock
cdef double _longest = threading.TIMEOUT_MAX


cdef class Gate:
    """Threads that wait for a change of what a lock guards. As `threading.Condition`, except that a signal's handler may raise at
    any moment: whoever comes out of `wait`, by whatever way, holds the lock. In Python the handler may run between giving it back
    and the `try` that would take it again."""

    cdef object lock              # a threading.RLock
    cdef readonly list waiting    # a lock of each thread's own, held until there is a change

    def __init__(self, lock):
        self.lock = lock
        self.waiting = []

    def open(self):
        """There was a change: everybody goes on. Called with the lock held."""
        for own in self.waiting:
            own.release()
        self.waiting.clear()

    def wait(self, timeout=None):
        """Give the lock back, wait for `open` or for so many seconds (None: for ever), and take the lock again."""
        cdef double seconds = -1 if timeout is None else min(max(<double>timeout, 0.0), _longest)
        own = _new()
        own.acquire()
        self.waiting.append(own)
        held = self.lock._release_save()
        try:
            own.acquire(True, seconds)
        finally:
            self.lock._acquire_restore(held)
            if own in self.waiting:
                self.waiting.remove(own)
