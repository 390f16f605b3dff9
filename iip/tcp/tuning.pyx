"""Buffers that follow the path: see tuning.pxd."""
from libc.stdint cimport uint64_t
from iip.memory.pool cimport pool_low
from iip.tcp.tcb cimport *
from iip.wire.seq cimport seq_lt
from iip.wire.tcp cimport OPT_TS

cdef enum:
    FIRST_SEGMENTS = 10           # a usual initial window (RFC 6928)
    SPARE_SEGMENTS = 16
    NEVER = 0xFFFFFFFF

cdef int64_t TICK = 1000000       # ns of the timestamp clock


cdef void tuning_begin(Tcp* s, Tcb* t) noexcept nogil:
    """The connection is established."""
    t.rcv_rtt = t.srtt
    t.rcv_rtt_seq = t.rcv_adv
    t.rcv_rtt_at = t.tune_at = s.now
    t.tune_seq = t.rcv_nxt
    t.tune_space = FIRST_SEGMENTS * t.mss
    if s.conf.receive_buffer_max <= t.rcv_buf or t.modes & MD_RCV_FIXED:
        t.tune_space = NEVER


cdef int64_t _echoed(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """The round trip by the timestamp that the peer echoes, ns; 0: it does not say."""
    cdef uint32_t ms = s.ts_now + t.ts_offset - seg.ts_ecr
    if not t.flags & TF_TS or not seg.opts & OPT_TS or seg.ts_ecr == 0 or ms > 0x7FFFFFFF:
        return 0
    return max(<int64_t>ms, <int64_t>1) * TICK


cdef void _measure(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """A window's worth of bytes came: that took a round trip at least. The timestamp says more exactly."""
    cdef int64_t window = max(s.now - t.rcv_rtt_at, <int64_t>1), echoed = _echoed(s, t, seg)
    if t.rcv_rtt == 0:
        t.rcv_rtt = min(window, echoed) if echoed else window
    elif echoed:
        t.rcv_rtt += (min(window, echoed) - t.rcv_rtt) >> 3
    else:
        t.rcv_rtt = min(t.rcv_rtt, window)


cdef void tuning_full_segment(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """A segment as large as any before. Once in a window the round trip is measured."""
    if seg.len > t.rcv_mss:
        t.rcv_mss = min(seg.len, max(t.mss, t.rcv_mss))
    if seq_lt(seg.seq, t.rcv_rtt_seq):
        return
    _measure(s, t, seg)
    t.rcv_rtt_seq = t.rcv_adv
    t.rcv_rtt_at = s.now


cdef void tuning_taken(Tcp* s, Tcb* t, uint32_t taken) noexcept nogil:
    """The application took more than in the best round trip so far: is that since less than one?"""
    cdef int64_t passed = s.now - t.tune_at
    cdef uint64_t rate, wanted
    cdef uint64_t most = min(<uint64_t>s.conf.receive_buffer_max, <uint64_t>65535 << t.rcv_wscale)
    if t.rcv_rtt == 0 or passed < t.rcv_rtt:
        return
    rate = <uint64_t>(<double>taken * <double>t.rcv_rtt / <double>passed)
    if rate > t.tune_space:
        wanted = 2 * rate + SPARE_SEGMENTS * t.rcv_mss
        wanted += 2 * wanted * (rate - t.tune_space) // t.tune_space     # as the peer's window grows
        wanted = min(wanted, most)
        if wanted > t.rcv_buf and not pool_low(s.pool):
            t.rcv_buf = <uint32_t>wanted
        t.tune_space = <uint32_t>rate
    t.tune_seq += taken
    t.tune_at = s.now
