"""The size of a full segment: what the link, the peer, routers (RFC 1191, RFC 8201) and the application allow, and what
probes of the path have confirmed (RFC 4821, RFC 8899).

With `mtu_probing` a search goes on between a size that arrives and the largest that is possible: now and then a
segment is larger than the others, half way between. Its acknowledgement raises the lower end, its loss lowers the
upper one and says nothing about congestion.
"""
from libc.stdint cimport uint32_t
from iip.tcp.tcb cimport Tcb, Tcp


cdef uint32_t mtu_mss(Tcp* s, Tcb* t) noexcept nogil
cdef void mtu_begin(Tcp* s, Tcb* t) noexcept nogil
cdef uint32_t mtu_probe_size(Tcp* s, Tcb* t) noexcept nogil
cdef void mtu_probe_arrived(Tcp* s, Tcb* t) noexcept nogil
cdef bint mtu_probe_lost(Tcp* s, Tcb* t) noexcept nogil
cdef bint mtu_black_hole(Tcp* s, Tcb* t) noexcept nogil
