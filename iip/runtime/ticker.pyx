"""Handlers that have something to do by the clock."""
from libc.stdint cimport INT64_MAX, int64_t
from iip.engine cimport Engine, NativeHandler


cdef class Ticker(NativeHandler):
    """A handler whose `tick` the loop of its thread calls before each run of the engine, and before it may sleep."""

    cdef int64_t tick(self, Engine engine, int64_t now) noexcept nogil:
        """Do what is due; when to be called again at the latest, ns."""
        return INT64_MAX
