"""A bad wire in front of any driver."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.drivers.base cimport Driver
from iip.wire.rng cimport Rng


cdef struct Held:
    int64_t at                    # when it leaves, ns
    uint64_t order                # which of two that leave at the same time came first
    uint32_t packet


cdef struct Line:
    # one direction
    Held* heap                    # the next one to leave on top
    uint32_t n
    uint32_t limit
    uint64_t order
    uint64_t loss                 # probabilities, in units of 2**-32
    uint64_t duplicate
    uint64_t reorder
    uint64_t corrupt
    double jitter                 # ns
    int64_t delay
    int64_t reorder_delay
    int64_t queue                 # ns of transmission that may wait
    double ns_per_byte
    int64_t busy_until            # the wire is occupied until then
    int64_t blocked_until         # the driver took nothing: offer it again then
    int64_t last_at               # when the last packet in order leaves
    Rng rng
    uint64_t packets
    uint64_t lost
    uint64_t duplicated
    uint64_t reordered
    uint64_t corrupted
    uint64_t queue_full
    uint64_t no_buffer            # the pool had no packet for a copy


cdef class Impair(Driver):
    cdef readonly Driver inner
    cdef Line rx_line
    cdef Line tx_line
    cdef void _admit(self, Line* line, uint32_t packet, int64_t now) noexcept nogil
    cdef void _schedule(self, Line* line, uint32_t packet, int64_t now) noexcept nogil
    cdef uint32_t _hit(self, Line* line, uint32_t packet, uint64_t dice) noexcept nogil
    cdef void _flush(self, int64_t now) noexcept nogil
