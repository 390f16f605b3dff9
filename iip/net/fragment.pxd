"""IP packets to the link: fragmentation on send (RFC 791, RFC 8200 §4.5) and identifications."""
from libc.stdint cimport uint8_t, uint32_t
from iip.net.state cimport Net
from iip.net.types cimport Addr

cdef uint32_t ip_ident(Net* net, const Addr* src, const Addr* dst, uint8_t proto) noexcept nogil
cdef int ip_transmit(Net* net, const uint8_t* hdr, uint32_t i, uint32_t mtu) noexcept nogil
