"""The queue of what arrived out of order: packets by sequence number, and the blocks that they form.

The first packet of a block names the last one, and the last the first (in `aux`; the others name nothing), so that neither
an ACK that tells of blocks nor a packet that fills a gap looks at every packet of a large window.
"""
from libc.stdint cimport uint32_t
from iip.memory.pool cimport NIL, Packet, pkt
from iip.tcp.tcb cimport Tcp


cdef inline uint32_t packet_end(Packet* k) noexcept nogil:
    """The sequence number behind it."""
    return k.seq + k.total_len


cdef inline uint32_t block_last(Tcp* s, uint32_t first) noexcept nogil:
    return pkt(s.pool, first).aux


cdef inline void block_is(Tcp* s, uint32_t first, uint32_t last) noexcept nogil:
    """The packets from `first` to `last` are one block."""
    pkt(s.pool, first).aux = last
    pkt(s.pool, last).aux = first


cdef inline void block_join(Tcp* s, uint32_t last, uint32_t following) noexcept nogil:
    """What begins with `following`, the next packet of the queue or NIL, belongs to the block that ends with `last`, if
    nothing is missing between them."""
    if following != NIL and packet_end(pkt(s.pool, last)) == pkt(s.pool, following).seq:
        block_is(s, pkt(s.pool, last).aux, pkt(s.pool, following).aux)
