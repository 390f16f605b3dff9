"""Records: what a segment is made of, cut from the unsent stream, and the packet it travels in.

With segmentation in the device (TSO) a record may be many segments.
"""
from libc.stdint cimport uint32_t
from iip.memory.pool cimport Packet
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.bytes cimport likely


cdef inline uint32_t segments_of(Tcb* t, uint32_t n) noexcept nogil:
    """Segments that `n` bytes take."""
    return 1 if likely(n <= t.mss) else (n + t.mss - 1) // t.mss


cdef uint32_t record_cut(Tcp* s, Tcb* t, uint32_t n) noexcept nogil
cdef uint32_t record_split(Tcp* s, Tcb* t, uint32_t rec, uint32_t n) noexcept nogil
cdef void record_cut_by_device(Tcp* s, Tcb* t, Packet* k, uint32_t frame) noexcept nogil
cdef uint32_t record_frame(Tcp* s, uint32_t rec) noexcept nogil
