"""Explicit congestion notification, the receiver's side (RFC 3168 §6.1.3, RFC 8257 §3.2), and its negotiation. What the sender
does is in `recovery` (ECE) and `output` (ECT, CWR)."""
from libc.stdint cimport uint8_t
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.tcp cimport Segment


cdef uint8_t ecn_syn_flags(Tcp* s, Tcb* t, bint answer) noexcept nogil
cdef void ecn_take_syn(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef void ecn_input(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
