"""SYN cookies (RFC 4987 §3.6): a handshake that keeps no state before its last segment."""
from iip.net.types cimport IpRx
from iip.tcp.tcb cimport Tcp
from iip.wire.tcp cimport Segment


cdef int cookie_answer(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil
cdef bint cookie_recover(Tcp* s, IpRx* rx, Segment* seg, Segment* syn) noexcept nogil
