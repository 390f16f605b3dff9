"""IPv6 input (RFC 8200)."""
from iip.net.state cimport Net
from iip.net.types cimport IpRx

cdef int ipv6_input(Net* net, IpRx* rx) noexcept nogil
