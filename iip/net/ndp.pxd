"""Neighbour discovery input (RFC 4861, RFC 4862)."""
from iip.net.state cimport Net
from iip.net.types cimport IpRx

cdef enum:
    NE_ROUTER = 7                 # an event, beside those of net/state.pxd: a router's advertisement, from its type on

cdef int nd_input(Net* net, IpRx* rx) noexcept nogil
cdef int nd_router(Net* net, IpRx* rx) noexcept nogil
