"""Round-trip time and retransmission timeout (RFC 6298)."""
from libc.stdint cimport int64_t
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.bytes cimport likely

cdef extern from *:
    """
    #define IIP_MIN_RTT_WINDOW 300000000000LL
    """
    const int64_t MIN_RTT_WINDOW "IIP_MIN_RTT_WINDOW"   # ns that a minimum counts (RFC 8985 §5.2 leaves it open)


cdef inline void rtt_sample(Tcp* s, Tcb* t, int64_t rtt) noexcept nogil:
    """RFC 6298 §2, with the lower bound on the variance term rather than on the sum, so that a long path keeps
    its margin: RTO = SRTT + max(G, 4 * RTTVAR), G = rto_min."""
    cdef int64_t delta
    if rtt < 0:
        return
    if rtt <= t.min_rtt or t.min_rtt == 0 or s.now - t.min_rtt_at > MIN_RTT_WINDOW:
        t.min_rtt = max(rtt, <int64_t>1)
        t.min_rtt_at = s.now
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
    cdef int64_t rto
    if likely(t.backoff == 0):
        return t.rto
    rto = t.rto << min(<int>t.backoff, 20)
    return rto if 0 < rto < s.conf.rto_max else s.conf.rto_max
