"""Pacing: see pacing.pxd."""
from iip.tcp.tcb cimport CC_MODEL, CC_PACED
from iip.tcp.wheel cimport wheel_update

cdef enum:
    QUANTUM_SHIFT = 10            # about a thousandth of a second's worth,
    MAX_QUANTUM = 65536           # bytes, at most,
    MIN_SEGMENTS = 2              # and at least so many,
    RTT_SHIFT = 35                # nanoseconds to seconds, and a 34th
    LATE_QUANTA = 4               # that a late timer may make up for,
    LATE_SHIFT = 3                # up to an eighth of the round trip
    SLOW = 150000                 # bytes per second below which it is one (1.2 Mbit/s)

cdef int64_t SHORT_RTT = 32000000           # ns: on shorter paths a 34th of the round trip, at least a quarter of that
cdef int64_t QUANTUM = 1000000              # ns
cdef uint64_t SECOND = 1000000000
cdef uint64_t MAX_BURST = 4 * SECOND


cdef void pacing_wait(Tcp* s, Tcb* t) noexcept nogil:
    """Sending is ahead of its time: the timer wheel says when to go on."""
    t.t_pace = t.pace_at
    wheel_update(s, t, t.t_pace)


cdef int64_t _made_up(Tcb* t) noexcept nogil:
    """How late a timer may come and cost nothing, ns. With a model of the path, and a short queue or none: as much as the queue
    takes, by the window; what is more would be lost."""
    cdef int64_t most = LATE_QUANTA * max(<int64_t>t.pace_burst, QUANTUM)
    if t.cc_mode & CC_MODEL and 2 * t.srtt < 3 * t.min_rtt and t.pacing_rate:
        return max(min(most, <int64_t>(t.cwnd * SECOND // t.pacing_rate) - t.min_rtt), <int64_t>0)
    return max(min(most, t.srtt >> LATE_SHIFT), <int64_t>t.pace_burst)


cdef void pacing_sent(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """`n` bytes of payload left: rates are of payload, as delivery rates are. A timer that comes late, as on a busy machine,
    loses nothing within some quanta; a pause earns no more than that."""
    cdef int64_t late = s.now - t.pace_at
    if late > t.pace_burst:
        t.pace_at += max(late - _made_up(t), <int64_t>0)
    if t.pacing_rate:
        t.pace_at += <int64_t>(n * SECOND // t.pacing_rate)


cdef void pacing_set(Tcp* s, Tcb* t, uint64_t rate) noexcept nogil:
    """A new rate, bytes per second, within the limit."""
    cdef uint64_t quantum
    if t.max_pacing_rate and (rate == 0 or rate > t.max_pacing_rate):
        rate = t.max_pacing_rate
    t.pacing_rate = rate
    if rate == 0:
        return
    quantum = rate >> QUANTUM_SHIFT
    if 0 < t.min_rtt < SHORT_RTT:
        quantum = max(rate * <uint64_t>t.min_rtt >> RTT_SHIFT, quantum >> 2)
    quantum = min(quantum, <uint64_t>MAX_QUANTUM)
    quantum = max(quantum, <uint64_t>t.mss * (MIN_SEGMENTS if rate >= SLOW else 1))
    t.pace_burst = <uint32_t>min(quantum * SECOND // rate, MAX_BURST)


cdef void pacing_by_window(Tcp* s, Tcb* t) noexcept nogil:
    """For algorithms that have a window and no rate: a window in a round trip, with a margin so that the window stays what
    limits: twice as fast in slow start, which doubles it, and 1.2 times as fast near the old one."""
    cdef uint64_t rate
    if t.cc_mode & CC_MODEL:
        return
    if t.srtt == 0:
        pacing_set(s, t, 0)
        return
    rate = <uint64_t>t.cwnd * SECOND // <uint64_t>t.srtt
    pacing_set(s, t, 2 * rate if t.cwnd < t.ssthresh // 2 else rate + rate // 5)


cdef void pacing_limit(Tcp* s, Tcb* t, uint64_t rate) noexcept nogil:
    """Bytes per second that are never exceeded; 0: no limit. A limit switches pacing on."""
    t.max_pacing_rate = rate
    if rate:
        t.cc_mode |= CC_PACED
    if not t.cc_mode & CC_PACED:
        return
    if t.cc_mode & CC_MODEL:
        pacing_set(s, t, t.pacing_rate)
    else:
        pacing_by_window(s, t)
