"""IPv4 input (RFC 791, RFC 1122 §3.2)."""
from iip.net.state cimport Net
from iip.net.types cimport IpRx

cdef int ipv4_input(Net* net, IpRx* rx) noexcept nogil
