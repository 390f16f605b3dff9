"""Our addresses and groups: the table of what is for us, and the check that nobody else has an address."""
from libc.stdint cimport uint8_t, uint32_t
from iip.net.state cimport Net
from iip.net.types cimport Addr

cdef void address_table_build(Net* net) noexcept nogil
cdef void address_timers(Net* net) noexcept nogil
cdef void address_conflict(Net* net, uint32_t index, const uint8_t* mac) noexcept nogil
cdef void address_duplicate(Net* net, uint32_t index, const uint8_t* mac) noexcept nogil
cdef int net_join(Net* net, const Addr* group) noexcept nogil
cdef int net_leave(Net* net, const Addr* group) noexcept nogil
