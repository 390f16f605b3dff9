"""What leaves: segments, built once per run for every connection that has something to say."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.net.types cimport IpRx
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.tcp cimport Segment


cdef void tcp_flush(Tcp* s) noexcept nogil
cdef void tcp_send_rst_for(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil
cdef uint32_t tcp_window(Tcp* s, Tcb* t) noexcept nogil
