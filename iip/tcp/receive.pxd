"""Payload: in order to the application, out of order into a bounded queue."""
from libc.stdint cimport uint32_t
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.tcp cimport Segment


cdef void receive_in_order(Tcp* s, Tcb* t, uint32_t packet, uint32_t n) noexcept nogil
cdef int receive_text(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef void receive_fin(Tcp* s, Tcb* t) noexcept nogil
cdef void receive_note_duplicate(Tcp* s, Tcb* t, uint32_t seq, uint32_t n) noexcept nogil
