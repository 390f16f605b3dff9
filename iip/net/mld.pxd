"""Group membership: IGMPv3 (RFC 3376) and MLDv2 (RFC 3810)."""
from iip.net.state cimport Net
from iip.net.types cimport IpRx

cdef int igmp_input(Net* net, IpRx* rx) noexcept nogil
cdef int mld_input(Net* net, IpRx* rx) noexcept nogil
cdef void membership_timers(Net* net) noexcept nogil
