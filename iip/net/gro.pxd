"""Joining received segments in software (GRO), before the engine looks at them."""
from libc.stdint cimport uint32_t
from iip.net.state cimport Net


cdef int gro_burst(Net* net, uint32_t* packets, int n) noexcept nogil
