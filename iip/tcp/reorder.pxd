"""The queue of what arrived out of order: packets by sequence number, and the blocks that they form.

The first packet of a block names the last one, and the last the first (in `aux`; the others name nothing), and the first one
counts them (in `n_block`): so neither an ACK that tells of blocks, nor a packet that fills a gap, nor the application that
gets what waited behind it has to look at every packet of a large window.
"""
from libc.stdint cimport uint32_t
from iip.memory.pool cimport NIL, Packet, pkt
from iip.tcp.tcb cimport Tcp


cdef inline uint32_t packet_end(Packet* k) noexcept nogil:
    """The sequence number behind it."""
    return k.seq + k.total_len


cdef inline uint32_t block_last(Tcp* s, uint32_t first) noexcept nogil:
    return pkt(s.pool, first).aux


cdef inline uint32_t block_first(Tcp* s, uint32_t last) noexcept nogil:
    return pkt(s.pool, last).aux


cdef inline void block_is(Tcp* s, uint32_t first, uint32_t last, uint32_t n) noexcept nogil:
    """The `n` packets from `first` to `last` are one block."""
    pkt(s.pool, first).aux = last
    pkt(s.pool, last).aux = first
    pkt(s.pool, first).n_block = n


cdef inline void block_join(Tcp* s, uint32_t last, uint32_t following) noexcept nogil:
    """What begins with `following`, the next packet of the queue or NIL, belongs to the block that ends with `last`, if
    nothing is missing between them."""
    cdef uint32_t first
    if following != NIL and packet_end(pkt(s.pool, last)) == pkt(s.pool, following).seq:
        first = block_first(s, last)
        block_is(s, first, block_last(s, following), pkt(s.pool, first).n_block + pkt(s.pool, following).n_block)
