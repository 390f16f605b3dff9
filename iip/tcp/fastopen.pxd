"""TCP Fast Open (RFC 7413), both sides: data in the SYN, for those who show a cookie."""
from libc.stdint cimport uint32_t
from iip.tcp.syn cimport SynOptions
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.tcp cimport Segment


cdef bint fastopen_serve(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef void fastopen_reset(Tcp* s) noexcept nogil
cdef void fastopen_offer(Tcp* s, Tcb* t, SynOptions* o) noexcept nogil
cdef uint32_t fastopen_data(Tcp* s, Tcb* t, uint32_t options) noexcept nogil
cdef void fastopen_lost(Tcp* s, Tcb* t) noexcept nogil
cdef void fastopen_answered(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
