"""How many connections a peer has to us, and a port of ours: for limits that somebody set."""
from libc.stdint cimport uint16_t, uint32_t
from iip.net.types cimport Addr
from iip.tcp.tcb cimport Tcb, Tcp


cdef bint tally_peer_full(Tcp* s, const Addr* peer) noexcept nogil
cdef bint tally_half_open_full(Tcp* s, const Addr* peer, uint16_t port) noexcept nogil
cdef void tally_add(Tcp* s, Tcb* t) noexcept nogil
cdef void tally_opened(Tcp* s, Tcb* t) noexcept nogil
cdef void tally_remove(Tcp* s, Tcb* t) noexcept nogil
