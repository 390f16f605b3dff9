"""Pacing: segments leave at `pacing_rate` instead of in bursts, with CC_PACED.

What was sent is paid for by time. Sending may be ahead by a quantum, about 1 ms worth and two segments at least, so that
a fast connection does not need a run for each segment.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.tcp.tcb cimport Tcb, Tcp


cdef inline bint pacing_open(Tcp* s, Tcb* t) noexcept nogil:
    return t.pace_at - s.now < t.pace_burst or t.pacing_rate == 0


cdef inline uint32_t pacing_quantum(Tcb* t) noexcept nogil:
    """Bytes that may leave at once."""
    if t.pacing_rate == 0:
        return 0xFFFFFFFFu
    return <uint32_t>min((<uint64_t>t.pace_burst + 1) * t.pacing_rate // 1000000000, <uint64_t>0xFFFFFFFFu)


cdef void pacing_wait(Tcp* s, Tcb* t) noexcept nogil
cdef void pacing_sent(Tcp* s, Tcb* t, uint32_t n) noexcept nogil
cdef void pacing_set(Tcp* s, Tcb* t, uint64_t rate) noexcept nogil
cdef void pacing_by_window(Tcp* s, Tcb* t) noexcept nogil
cdef void pacing_limit(Tcp* s, Tcb* t, uint64_t rate) noexcept nogil
