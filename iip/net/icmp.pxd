"""ICMP for IPv4 (RFC 792, RFC 1122 §3.2.2) and IPv6 (RFC 4443)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.net.state cimport Net
from iip.net.types cimport Flow, IpRx

cdef int icmp4_input(Net* net, IpRx* rx) noexcept nogil
cdef int icmp6_input(Net* net, IpRx* rx) noexcept nogil
cdef void net_icmp_error(Net* net, IpRx* rx, uint32_t packet, uint8_t type, uint8_t code,
                         uint32_t param) noexcept nogil
cdef int net_ping(Net* net, Flow* f, uint16_t ident, uint16_t seq, const uint8_t* data, uint32_t n) noexcept nogil
