"""What algorithms that control a window have in common."""
from libc.stdint cimport uint32_t
from iip.tcp.tcb cimport Tcb
from iip.wire.seq cimport seq_geq

cdef enum:
    MAX_CWND = 0x3FFFFFFF         # bytes
    NO_SSTHRESH = 0x7FFFFFFF


cdef inline bint in_slow_start(Tcb* t) noexcept nogil:
    return t.cwnd < t.ssthresh


cdef inline bint window_is_used(Tcb* t) noexcept nogil:
    """Only a window that limits the sender may grow (RFC 7661 §4.3): in slow start one that was used to more than a half,
    since a flight that follows a smaller window's ACKs fills it that far only."""
    if t.cwnd_limited:
        return True
    return in_slow_start(t) and t.cwnd < 2 * t.usage


cdef inline uint32_t slow_start(Tcb* t, uint32_t acked) noexcept nogil:
    """RFC 5681 §3.1 with RFC 3465: grow by what was acknowledged, up to ssthresh. What is left of it."""
    cdef uint32_t credit = min(acked, t.ssthresh - t.cwnd)
    t.cwnd = min(t.cwnd + credit, <uint32_t>MAX_CWND)
    return acked - credit
