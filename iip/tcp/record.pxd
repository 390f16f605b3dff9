"""Records: what a segment is made of, cut from the unsent stream, and the packet it travels in.

With segmentation in the device (TSO) a record may be many segments.
"""
from libc.stdint cimport uint32_t
from iip.memory.pool cimport NIL, PKT_EXTERNAL, PKT_INDIRECT, Packet, pkt, pkt_slice
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.bytes cimport likely


cdef inline uint32_t segments_of(Tcb* t, uint32_t n) noexcept nogil:
    """Segments that `n` bytes take."""
    return 1 if likely(n <= t.mss) else (n + t.mss - 1) // t.mss


cdef enum:
    MAX_HEADERS = 114             # Ethernet, IPv6, TCP with all options


cdef inline uint32_t pop_unsent(Tcp* s, Tcb* t) noexcept nogil:
    cdef uint32_t i = t.unsent_head
    t.unsent_head = pkt(s.pool, i).qnext
    if t.unsent_head == NIL:
        t.unsent_tail = NIL
    return i


cdef inline uint32_t record_cut(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """A record of the next `n` unsent bytes (a chain may come out shorter). NIL when there is no memory."""
    if likely(n != 0 and pkt(s.pool, t.unsent_head).len == n):
        return pop_unsent(s, t)
    return record_cut_slices(s, t, n)


cdef inline uint32_t record_frame(Tcp* s, uint32_t rec) noexcept nogil:
    """A packet to send record `rec` in, with room for headers: in front of the data where it lies if nobody
    else looks at that cell, else as a second piece, or as a copy. NIL when there is no memory."""
    cdef Packet* k = pkt(s.pool, rec)
    if likely(k.refs == 1 and k.off >= MAX_HEADERS and k.next == NIL
              and not k.flags & (PKT_INDIRECT | PKT_EXTERNAL)):
        return pkt_slice(s.pool, rec, k.off, k.len)
    return record_frame_apart(s, rec)


cdef uint32_t record_cut_slices(Tcp* s, Tcb* t, uint32_t n) noexcept nogil
cdef uint32_t record_frame_apart(Tcp* s, uint32_t rec) noexcept nogil
cdef uint32_t record_split(Tcp* s, Tcb* t, uint32_t rec, uint32_t n) noexcept nogil
cdef void record_cut_by_device(Tcp* s, Tcb* t, Packet* k, uint32_t frame) noexcept nogil
