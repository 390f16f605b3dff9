"""NewReno (RFC 5681, with appropriate byte counting after RFC 3465)."""
from iip.errors import ConfigError

cdef CongestionOps newreno


cdef uint32_t initial_window(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 6928 §2, the bound in bytes left to the setting."""
    return s.conf.initial_window * t.mss


cdef void _newreno_init(Tcp* s, Tcb* t) noexcept nogil:
    t.cwnd = initial_window(s, t)


cdef void _newreno_on_ack(Tcp* s, Tcb* t, uint32_t acked, uint32_t in_flight) noexcept nogil:
    """RFC 5681 §3.1; a window that the sender does not fill does not grow (RFC 7661 §4.3)."""
    cdef uint64_t credit
    if t.cwnd < t.ssthresh:
        if 2 * in_flight < t.cwnd:
            return
        credit = min(<uint64_t>acked, <uint64_t>t.ssthresh - t.cwnd)
        t.cwnd += <uint32_t>credit
        acked -= <uint32_t>credit
    if acked == 0 or in_flight + t.mss < t.cwnd:
        return
    t.cc_state[0] += acked
    if t.cc_state[0] >= t.cwnd:
        t.cc_state[0] -= t.cwnd
        t.cwnd += t.mss
    if t.cwnd > 0x3FFFFFFF:
        t.cwnd = 0x3FFFFFFF


cdef uint32_t _newreno_on_loss(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil:
    """RFC 5681 §3.1, equation (4)."""
    t.cc_state[0] = 0
    return max(in_flight // 2, 2 * t.mss)


cdef void _newreno_on_timeout(Tcp* s, Tcb* t) noexcept nogil:
    t.cc_state[0] = 0


newreno.name = b"newreno"
newreno.init = _newreno_init
newreno.on_ack = _newreno_on_ack
newreno.on_loss = _newreno_on_loss
newreno.on_timeout = _newreno_on_timeout


cdef const CongestionOps* congestion_find(object name) except NULL:
    if name == "newreno":
        return &newreno
    raise ConfigError(f"congestion={name!r}: unknown algorithm; choose 'newreno'")
