"""A bad wire in front of any driver."""
from libc.stdint cimport int64_t, uint32_t
from iip.drivers.base cimport Driver
from iip.drivers.line cimport Line


cdef class Impair(Driver):
    cdef readonly Driver inner
    cdef Line rx_line
    cdef Line tx_line
    cdef int64_t blocked_until    # the driver took nothing: offer it again then
    cdef void _admit(self, Line* line, uint32_t packet, int64_t now) noexcept nogil
    cdef void _flush(self, int64_t now) noexcept nogil
