"""The network thread's side of an application in another thread."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.engine cimport Engine, NativeHandler
from iip.runtime.channel cimport Ask, Channel, Link, Tell, Writer


cdef class Relay(NativeHandler):
    cdef readonly Link link
    cdef Channel* c
    cdef Writer out
    cdef uint32_t base            # handles of connections that the application opened have indexes from here on
    cdef uint64_t* opened         # of those, by the rest of the index: the engine's handle
    cdef uint64_t* asked          # and the application's
    cdef uint32_t blocked         # bytes of the request at hand that were dealt with
    cdef uint64_t unasked         # connection that was accepted without a question
    cdef uint32_t n_stock
    cdef int64_t patience         # ns without progress after which the application is given up
    cdef int64_t moved_at
    cdef size_t head_seen
    cdef bint gone
    cdef readonly uint64_t events
    cdef readonly uint64_t requests
    cdef readonly uint64_t stalls         # runs in which events waited because the application did not read
    cdef readonly uint64_t datagrams_dropped
    cdef readonly uint64_t connections_aborted
    cdef readonly uint64_t events_lost
    cdef Tell* tell(self, Engine engine, int kind, uint64_t conn) noexcept nogil
    cdef int take(self, Engine engine) noexcept nogil
    cdef bint apply(self, Engine engine, Ask* ask) noexcept nogil
    cdef void supply(self, Engine engine) noexcept nogil
    cdef void watch(self, Engine engine, int64_t now) noexcept nogil
    cdef void give_up(self, Engine engine) noexcept nogil
    cdef void drain(self, Engine engine) noexcept nogil
    cdef uint64_t real(self, uint64_t conn) noexcept nogil
