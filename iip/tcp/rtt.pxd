"""Round-trip time and retransmission timeout (RFC 6298)."""
from libc.stdint cimport int64_t
from iip.tcp.tcb cimport Tcb, Tcp


cdef inline void rtt_sample(Tcp* s, Tcb* t, int64_t rtt) noexcept nogil:
    """RFC 6298 §2, with the lower bound on the variance term rather than on the sum, so that a long path keeps
    its margin: RTO = SRTT + max(G, 4 * RTTVAR), G = rto_min."""
    cdef int64_t delta
    if rtt < 0:
        return
    if t.srtt == 0:
        t.srtt = max(rtt, <int64_t>1)
        t.rttvar = rtt >> 1
    else:
        delta = t.srtt - rtt
        if delta < 0:
            delta = -delta
        t.rttvar += (delta - t.rttvar) >> 2
        t.srtt = max(<int64_t>1, t.srtt + ((rtt - t.srtt) >> 3))
    t.rto = min(s.conf.rto_max, t.srtt + max(s.conf.rto_min, 4 * t.rttvar))


cdef inline int64_t rto_backed_off(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 6298 §5.5: doubled for each retransmission, up to the limit."""
    cdef int64_t rto = t.rto << min(<int>t.backoff, 20)
    return rto if 0 < rto < s.conf.rto_max else s.conf.rto_max
