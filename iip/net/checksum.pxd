"""Transport checksums over packets, in software or left to the device."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.memory.pool cimport Pool
from iip.net.state cimport Net
from iip.net.types cimport Addr, Flow, IpRx

cdef uint32_t chain_sum(Pool* pool, uint32_t i, uint32_t skip, uint32_t n, uint32_t sum) noexcept nogil
cdef uint32_t pseudo_sum(const Addr* src, const Addr* dst, uint8_t version, uint8_t proto,
                         uint32_t length) noexcept nogil
cdef void net_l4_checksum(Net* net, Flow* f, uint32_t i, uint16_t csum_off, uint8_t proto) noexcept nogil
cdef bint net_rx_l4_checksum_ok(Net* net, IpRx* rx) noexcept nogil
