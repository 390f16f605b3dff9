"""Handlers that have something to do by the clock."""
from libc.stdint cimport int64_t
from iip.engine cimport Engine, NativeHandler


cdef class Ticker(NativeHandler):
    cdef int64_t tick(self, Engine engine, int64_t now) noexcept nogil
