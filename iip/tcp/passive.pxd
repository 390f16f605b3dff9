"""Passive opens: SYNs for ports that listen, and the ACKs of SYN cookies."""
from libc.stdint cimport uint16_t
from iip.net.types cimport IpRx
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.tcp cimport Segment


cdef inline bint listening(Tcp* s, uint16_t port) noexcept nogil:
    return (s.listening[port >> 6] >> (port & 63)) & 1 or s.listening[0] & 1


cdef int passive_syn(Tcp* s, IpRx* rx, Segment* seg, Tcb* old) noexcept nogil
cdef Tcb* passive_cookie(Tcp* s, IpRx* rx, Segment* seg, int* verdict) noexcept nogil
