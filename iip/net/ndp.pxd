"""Neighbour discovery input (RFC 4861, RFC 4862)."""
from iip.net.state cimport Net
from iip.net.types cimport IpRx

cdef int nd_input(Net* net, IpRx* rx) noexcept nogil
