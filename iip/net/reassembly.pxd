"""Reassembly of IPv4 (RFC 791 §3.2, RFC 815) and IPv6 fragments (RFC 8200 §4.5), without copying."""
from libc.stdint cimport uint8_t, uint32_t
from iip.net.state cimport Net
from iip.net.types cimport IpRx

cdef int reassembly_add(Net* net, IpRx* rx, uint32_t ident, uint32_t at, bint more) noexcept nogil
cdef bint reassembly_expire(Net* net, IpRx* rx) noexcept nogil
cdef void reassembly_drop_all(Net* net) noexcept nogil
