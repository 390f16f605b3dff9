"""CUBIC (RFC 9438), the default, with HyStart++ (RFC 9406) to leave the first slow start before it overflows a queue."""
from libc.stdint cimport uint32_t, uint64_t
from iip.tcp.tcb cimport CongestionOps

cdef CongestionOps cubic

cdef uint32_t cube_root(uint64_t a) noexcept nogil
