"""Records: what a segment is made of, cut from the unsent stream, and the packet it travels in."""
from libc.stdint cimport uint32_t
from iip.tcp.tcb cimport Tcb, Tcp


cdef uint32_t record_cut(Tcp* s, Tcb* t, uint32_t n) noexcept nogil
cdef uint32_t record_frame(Tcp* s, uint32_t rec) noexcept nogil
