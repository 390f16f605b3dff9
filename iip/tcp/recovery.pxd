"""Acknowledgements and what they say about loss (RFC 5681, 6582, 6675)."""
from libc.stdint cimport uint32_t
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.tcp cimport Segment


cdef void ack_new(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef void ack_duplicate(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef void retransmission_timeout(Tcp* s, Tcb* t) noexcept nogil
cdef void reordering_timeout(Tcp* s, Tcb* t) noexcept nogil
cdef void probe_timeout(Tcp* s, Tcb* t) noexcept nogil
cdef void path_changed(Tcp* s, Tcb* t) noexcept nogil
