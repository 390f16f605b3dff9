"""Frames to the driver, and pieces of packets."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.net.state cimport Net

cdef int link_queue(Net* net, uint32_t i) noexcept nogil
cdef int link_send(Net* net, const uint8_t* dst_mac, uint16_t ethertype, uint32_t i) noexcept nogil
cdef uint32_t net_pullup(Net* net, uint32_t i, uint32_t need) noexcept nogil
cdef uint32_t chain_slice(Net* net, uint32_t i, uint32_t skip, uint32_t n) noexcept nogil
cdef uint32_t chain_after(Net* net, uint32_t i, uint32_t n) noexcept nogil
cdef uint32_t packet_of(Net* net, uint32_t hlen, const uint8_t* data, uint32_t n) noexcept nogil
