"""ARP input (RFC 826, RFC 5227)."""
from iip.net.state cimport Net
from iip.net.types cimport Addr, IpRx

cdef int arp_input(Net* net, IpRx* rx) noexcept nogil
cdef int net_arp_request(Net* net, const Addr* a) noexcept nogil
