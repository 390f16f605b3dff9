"""What stands between hosts."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from iip.memory.pool cimport Packet
from iip.net.types cimport Addr
from iip.sim.network cimport Node

cdef enum:
    CACHE = 256                   # destinations and stations remembered; a power of two


cdef struct Route:
    Addr prefix
    Addr mask
    uint32_t length               # of the prefix, bits of the 128
    uint32_t port


cdef struct Known:
    Addr address
    uint32_t port
    bint valid


cdef class Router(Node):
    cdef readonly str address              # source of its ICMP messages
    cdef readonly str address6
    cdef Addr own4
    cdef Addr own6
    cdef Route* routes                     # the longest prefix first
    cdef uint32_t n_routes
    cdef uint32_t room
    cdef Known cache[CACHE]
    cdef uint32_t ident                    # of its own IPv4 packets
    cdef readonly uint64_t forwarded
    cdef readonly uint64_t malformed
    cdef readonly uint64_t no_route
    cdef readonly uint64_t ttl_expired
    cdef readonly uint64_t too_big
    cdef readonly uint64_t fragmented
    cdef readonly uint64_t no_buffer
    cdef readonly uint64_t icmp_sent
    cdef int _lookup(self, const Addr* destination) noexcept nogil
    cdef void _forward4(self, uint32_t packet, int64_t now) noexcept nogil
    cdef void _forward6(self, uint32_t packet, int64_t now) noexcept nogil
    cdef void _fragment(self, uint32_t packet, int port, int64_t now) noexcept nogil
    cdef void _error4(self, uint32_t packet, uint8_t type, uint8_t code, uint32_t rest, int64_t now) noexcept nogil
    cdef void _error6(self, uint32_t packet, uint8_t type, uint8_t code, uint32_t rest, int64_t now) noexcept nogil
    cdef void _answer(self, uint32_t answer, const Addr* destination, int64_t now) noexcept nogil


cdef struct Station:
    uint8_t mac[6]
    bint valid
    uint32_t port


cdef class Switch(Node):
    cdef Station stations[CACHE]
    cdef readonly uint64_t forwarded
    cdef readonly uint64_t flooded
    cdef readonly uint64_t malformed
    cdef Station* _station(self, const uint8_t* mac) noexcept nogil
