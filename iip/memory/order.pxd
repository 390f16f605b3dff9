"""The order in which packets left, or came to wait. Of thousands that are taken in that order later no cache holds the next
one; here is where it lies."""
from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from iip.memory.pool cimport Packet

cdef enum:
    ORDERED = 65536               # as many as a packet's `l3` counts
    AHEAD = 24                    # packets before their turn


cdef struct Order:
    uint32_t* slots               # a ring; it may have gone round
    uint32_t n


cdef inline bint order_init(Order* o) noexcept:
    o.slots = <uint32_t*>calloc(ORDERED, sizeof(uint32_t))
    return o.slots != NULL


cdef inline void order_fini(Order* o) noexcept:
    free(o.slots)
    o.slots = NULL


cdef inline void order_note(Order* o, uint32_t i, Packet* k) noexcept nogil:
    """Packet `i` is the next one. Its headers are of no use to anybody as long as it is in the order."""
    k.l3 = <uint16_t>o.n
    o.slots[k.l3] = i
    o.n += 1


cdef inline uint32_t order_ahead(const Order* o, const Packet* k) noexcept nogil:
    """A packet whose turn comes soon after this one's, by all appearances."""
    return o.slots[<uint16_t>(k.l3 + AHEAD)]
