"""ARP and neighbour discovery for each of several drivers that share a device."""
from libc.stdint cimport uint8_t, uint32_t
from iip.drivers.packet_ring cimport Mapped
from iip.memory.pool cimport Pool
from iip.wire.ethernet cimport ETH_ARP, ETH_HLEN, ETH_IPV6, eth_type


cdef inline bint is_discovery(const uint8_t* p, uint32_t n) noexcept nogil:
    """Whether the frame is ARP, or a router or neighbour message of IPv6 (RFC 4861 §4)."""
    cdef int kind
    if n < ETH_HLEN:
        return False
    kind = eth_type(p)
    return kind == ETH_ARP or (kind == ETH_IPV6 and n > 54 and p[20] == 58 and 133 <= p[54] <= 137)


cdef class Discovery:
    cdef Mapped ring
    cdef object parts             # what keeps its memory
    cdef object poller
    cdef bint outgoing
    cdef int receive(self, Pool* pool, uint32_t* packets, int n) noexcept nogil
