"""Sizes of tables that are indexed by a mask."""
from libc.stdint cimport uint32_t


cdef inline uint32_t power_of_two(uint32_t n) noexcept nogil:
    """The one that is not below `n`, which is at most 2**31."""
    cdef uint32_t size = 1
    while size < n:
        size *= 2
    return size
