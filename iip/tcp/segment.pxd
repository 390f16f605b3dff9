"""One segment: the window it offers, its header and options, and its way to the network layer."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.tcp.tcb cimport Tcb, Tcp


cdef uint32_t tcp_window(Tcp* s, Tcb* t) noexcept nogil
cdef bint send_segment(Tcp* s, Tcb* t, uint32_t p, uint32_t seq, uint16_t flags) noexcept nogil
cdef bint send_control(Tcp* s, Tcb* t, uint32_t seq, uint16_t flags) noexcept nogil
cdef bint hand_down(Tcp* s, Tcb* t, uint32_t p) noexcept nogil
cdef void copy_bytes(uint8_t* dst, const uint8_t* src, uint32_t n) noexcept nogil
