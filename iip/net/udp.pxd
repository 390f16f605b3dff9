"""UDP (RFC 768, RFC 8085)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.net.state cimport Net
from iip.net.types cimport Flow, IpRx

cdef int udp_input(Net* net, IpRx* rx) noexcept nogil
cdef int udp_send(Net* net, Flow* f, uint16_t sport, uint16_t dport, const uint8_t* data, uint32_t n) noexcept nogil
cdef void udp_bind(Net* net, uint16_t port) noexcept nogil
cdef void udp_unbind(Net* net, uint16_t port) noexcept nogil
