"""Routes, the choice of a source address, and the path MTU cache."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.net.state cimport Net
from iip.net.types cimport Addr, Flow

cdef int net_route(Net* net, Flow* f) noexcept nogil
cdef uint16_t pmtu_lookup(Net* net, const Addr* dst) noexcept nogil
cdef void pmtu_timers(Net* net) noexcept nogil
cdef bint net_pmtu_update(Net* net, const Addr* dst, uint32_t mtu) noexcept nogil
cdef bint prefix_match(const Addr* a, const Addr* b, uint32_t bits) noexcept nogil
