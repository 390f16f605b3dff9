"""When an acknowledgement leaves: see acks.pxd."""
from libc.stdint cimport uint32_t
from iip.tcp.tcb cimport *
from iip.tcp.wheel cimport wheel_update

cdef enum:
    FIRST_MSS = 536               # until a larger segment came

cdef int64_t CLOSE_ENOUGH = 1000000         # ns that count as nothing
cdef int64_t LONGEST = 500000000            # RFC 9293 §3.8.6.3 (MUST-40)


cdef void _set_wait(Tcp* s, Tcb* t, int64_t ato) noexcept nogil:
    """How long an ACK may wait from now on, and which gaps between arrivals leave that as it is."""
    cdef int64_t shortest = s.conf.delayed_ack
    if ato < shortest + CLOSE_ENOUGH:
        ato = shortest
    t.ato = ato
    t.ato_calm = shortest >> 1 if ato == shortest else -1


cdef void acks_begin(Tcp* s, Tcb* t) noexcept nogil:
    """The connection is established."""
    t.rcv_mss = min(t.mss, <uint32_t>FIRST_MSS)
    t.ato_calm = -1


cdef void acks_quick(Tcp* s, Tcb* t) noexcept nogil:
    """Acknowledge the next segments at once: as many as make up half the window, up to the setting."""
    cdef uint32_t n = (t.rcv_adv - t.rcv_nxt) // (2 * max(t.rcv_mss, <uint32_t>1))
    n = min(max(n, <uint32_t>2), s.conf.quick_acks)
    if n > t.quick_acks:
        t.quick_acks = <uint16_t>n


cdef void acks_arrival(Tcp* s, Tcb* t) noexcept nogil:
    """The wait follows the gaps between arrivals; after one longer than the RTO the peer's window starts anew."""
    cdef int64_t gap = s.now - t.data_rx_at, shortest = s.conf.delayed_ack
    if t.ato == 0:
        acks_quick(s, t)
        _set_wait(s, t, shortest)
    elif gap <= shortest >> 1:
        _set_wait(s, t, (t.ato >> 1) + (shortest >> 1))
    elif gap < t.ato:
        _set_wait(s, t, min((t.ato >> 1) + gap, t.rto))
    elif gap > t.rto:
        acks_quick(s, t)


cdef int64_t _longest_wait(Tcp* s, Tcb* t) noexcept nogil:
    """Not longer than a round trip: the peer's timer must not notice."""
    cdef int64_t longest = s.conf.delayed_ack_max
    if t.ato > s.conf.delayed_ack:
        longest = min(longest if t.modes & MD_PINGPONG else LONGEST, s.conf.delayed_ack_max)
        if t.srtt:
            longest = min(longest, max(t.srtt, s.conf.delayed_ack))
    return min(t.ato, longest)


cdef bint acks_wait(Tcp* s, Tcb* t) noexcept nogil:
    """Whether the ACK that is owed may wait for the timer, which then runs. Two segments are acknowledged at once."""
    cdef int64_t wait
    if s.conf.delayed_ack == 0 or t.rcv_nxt - t.last_ack_sent > t.rcv_mss:
        return False
    if t.quick_acks and not t.modes & MD_PINGPONG:
        return False
    wait = _longest_wait(s, t)
    if t.t_ack == TIMER_OFF or s.now + wait < t.t_ack:
        t.t_ack = s.now + wait
        wheel_update(s, t, t.t_ack)
    elif t.t_ack <= s.now + (wait >> 2):
        return False              # it is nearly due
    return True


cdef void acks_late(Tcp* s, Tcb* t) noexcept nogil:
    """The timer ran out: nothing came to travel with. Where nobody answers, waiting longer saves more."""
    if t.modes & MD_PINGPONG:
        t.modes &= ~<uint32_t>MD_PINGPONG
        _set_wait(s, t, s.conf.delayed_ack)
    else:
        _set_wait(s, t, min(t.ato << 1, t.rto))
