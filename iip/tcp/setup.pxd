"""Set-up and tear-down of the TCP part of a stack."""
from libc.stdint cimport uint64_t
from iip.memory.slab cimport Slab
from iip.net.state cimport Net
from iip.tcp.tcb cimport Tcp, TcpConf


cdef int tcp_configure(TcpConf* c, object config) except -1
cdef int tcp_setup(Tcp* s, object config, Net* net, Slab* slab, uint64_t seed) except -1
cdef void tcp_teardown(Tcp* s)
cdef void tcp_clock(Tcp* s, long long now) noexcept nogil
