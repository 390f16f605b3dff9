"""The loops of threads."""
from libc.stdint cimport int64_t, uint64_t
from iip.engine cimport Engine
from iip.runtime.channel cimport Bell
from iip.runtime.relay cimport Relay
from iip.runtime.remote cimport Remote
from iip.runtime.ticker cimport Ticker

cdef enum:
    IDLE_SPIN = 0
    IDLE_SPIN_THEN_SLEEP
    IDLE_SLEEP


cdef class Loop:
    # 128 bytes of its own before and after what is written all the time: objects lie where the allocator puts them
    cdef char _before[128]
    cdef size_t stopping          # set by another thread
    cdef size_t called            # calls wait
    cdef int policy
    cdef int64_t spin             # ns
    cdef int64_t busy_at
    cdef object calls
    cdef readonly uint64_t rounds
    cdef readonly uint64_t sleeps
    cdef char _after[128]
    cdef Bell* bell(self) noexcept nogil
    cdef int ready(self) noexcept nogil
    cdef void run_calls(self)


cdef class NetworkLoop(Loop):
    cdef readonly Engine a
    cdef readonly Engine b
    cdef Relay relay_a
    cdef Relay relay_b
    cdef Ticker ticker            # the handler of one of them, if it is one
    cdef Engine ticked
    cdef Bell own
    cdef Bell* mine
    cdef int fd_a
    cdef int fd_b
    cdef int64_t now
    cdef int64_t turn(self) noexcept nogil
    cdef bint many(self, int64_t end) noexcept nogil


cdef class ApplicationLoop(Loop):
    cdef readonly Remote remote
    cdef bint many(self) noexcept nogil
