"""Sequence number arithmetic modulo 2**32 (RFC 9293 §3.4)."""
from libc.stdint cimport int32_t, uint32_t


cdef inline int32_t seq_diff(uint32_t a, uint32_t b) noexcept nogil:
    """a - b as a signed distance."""
    return <int32_t>(a - b)


cdef inline bint seq_lt(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) < 0


cdef inline bint seq_leq(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) <= 0


cdef inline bint seq_gt(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) > 0


cdef inline bint seq_geq(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) >= 0


cdef inline uint32_t seq_max(uint32_t a, uint32_t b) noexcept nogil:
    return a if <int32_t>(a - b) > 0 else b


cdef inline uint32_t seq_min(uint32_t a, uint32_t b) noexcept nogil:
    return a if <int32_t>(a - b) < 0 else b
