"""Explicit congestion notification, the receiver's side (RFC 3168 §6.1.3, RFC 8257 §3.2, RFC 9768 §3.2), and its negotiation.
What the sender does is in `recovery` (ECE), `output` (ECT, CWR) and `accecn`."""
from libc.stdint cimport uint16_t
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.tcp cimport Segment


cdef uint16_t ecn_syn_flags(Tcp* s, Tcb* t, bint answer) noexcept nogil
cdef bint ecn_syn_option(Tcp* s, Tcb* t) noexcept nogil
cdef void ecn_take_syn(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef void ecn_repeated_syn(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef void ecn_input(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
