"""What an engine and a driver say to each other. API of out-of-tree drivers written in Cython."""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from iip.memory.pool cimport PacketPool, Pool

cdef int64_t NEVER                         # "no deadline"

cdef uint32_t copy_in(Pool* pool, object frame) except? 0
cdef uint32_t pkt_from_bytes(Pool* pool, const uint8_t* data, uint32_t n) noexcept nogil


cdef class Driver:
    cdef readonly PacketPool pool          # of the engine that the driver is attached to
    cdef readonly uint32_t caps            # CAP_* of iip.net.types
    cdef readonly str medium               # "ethernet" or "ip"
    cdef readonly int mtu
    cdef readonly object mac               # bytes of length 6, or None: any
    cdef public object error               # exception that ended the driver, raised by Engine.run
    # Called by the engine's run, without the GIL. `now` is the engine's time, ns.
    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil
    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil
    cdef int64_t poll_at(self, int64_t now) noexcept nogil


cdef class PythonDriver(Driver):
    cdef object _receive
    cdef object _transmit
    cdef bint _failed
    cdef int _rx(self, int64_t now, uint32_t* packets, int n) noexcept
    cdef int _tx(self, int64_t now, const uint32_t* packets, int n) noexcept
