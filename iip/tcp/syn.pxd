"""Segments that begin a connection, and those that end one at once."""
from iip.net.types cimport IpRx
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.tcp cimport Segment


cdef bint send_syn(Tcp* s, Tcb* t) noexcept nogil
cdef bint send_rst(Tcp* s, Tcb* t) noexcept nogil
cdef void tcp_send_rst_for(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil
