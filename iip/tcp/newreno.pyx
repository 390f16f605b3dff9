"""NewReno: see newreno.pxd. cc_state[0]: bytes acknowledged towards the next segment of the window."""
from libc.stdint cimport int64_t
from iip.tcp.window cimport MAX_CWND, in_slow_start, slow_start, window_is_used
from iip.wire.bytes cimport likely


cdef void _forget(Tcp* s, Tcb* t) noexcept nogil:
    t.cc_state[0] = 0


cdef void newreno_on_ack(Tcp* s, Tcb* t, AckInfo* ack) noexcept nogil:
    """RFC 5681 §3.1."""
    cdef uint32_t acked = ack.acked
    if ack.recovery or not window_is_used(t):
        return
    if in_slow_start(t):
        acked = slow_start(t, acked)
        if likely(acked == 0):
            return
    t.cc_state[0] += acked
    if t.cc_state[0] >= t.cwnd:
        t.cc_state[0] -= t.cwnd
        t.cwnd = min(t.cwnd + t.mss, <uint32_t>MAX_CWND)


cdef uint32_t newreno_on_loss(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil:
    """RFC 5681 §3.1, equation (4)."""
    t.cc_state[0] = 0
    return max(in_flight // 2, 2 * t.mss)


cdef void _on_idle(Tcp* s, Tcb* t, int64_t idle) noexcept nogil:
    pass


newreno.name = b"newreno"
newreno.init = newreno.on_timeout = newreno.on_undo = newreno.release = _forget
newreno.on_ack = newreno_on_ack
newreno.on_loss = newreno.on_ecn = newreno_on_loss
newreno.on_idle = _on_idle
