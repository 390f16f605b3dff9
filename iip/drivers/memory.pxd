"""Two engines in one thread, back to back."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.drivers.base cimport Driver
from iip.drivers.queue cimport PacketQueue


cdef class MemoryDriver(Driver):
    cdef PacketQueue inbox        # packets of our pool on their way to our engine
    cdef MemoryDriver peer
    cdef uint32_t rest            # of a frame that is being cut into segments, or NIL
    cdef bint whole               # what leaves arrives as it is: the other end takes large frames and unfinished checksums
    cdef bint shared              # both ends use one pool: packets pass by reference
    cdef bint closed
    cdef object ready             # called when packets wait for our engine, or None
    cdef uint64_t tx_packets
    cdef uint64_t tx_bytes
    cdef uint64_t tx_dropped      # nobody at the other end
    cdef uint64_t rx_packets
    cdef int _tx(self, const uint32_t* packets, int n) noexcept nogil
    cdef void _tell(self) noexcept
    cdef int _tx_copy(self, const uint32_t* packets, int n) noexcept nogil
    cdef int _tx_finished(self, const uint32_t* packets, int n) noexcept nogil
    cdef bint _deliver(self, uint32_t packet) noexcept nogil
    cdef bint _cut(self) noexcept nogil
    cdef int _tx_drop(self, const uint32_t* packets, int n) noexcept nogil


cdef class MemoryLink:
    cdef readonly MemoryDriver a
    cdef readonly MemoryDriver b
