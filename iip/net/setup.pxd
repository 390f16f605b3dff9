"""Set-up and end of a network layer."""
from libc.stdint cimport uint32_t, uint64_t
from iip.memory.pool cimport Pool
from iip.net.state cimport Net
from iip.net.types cimport Addr

cdef int net_setup(Net* net, object config, Pool* pool, uint64_t* counters, uint64_t seed, uint32_t caps) except -1
cdef int net_readdress(Net* net, object config) except -1
cdef void net_teardown(Net* net) noexcept nogil
cdef int addr_of(Addr* a, object address) except -1
cdef object addr_object(const Addr* a)
