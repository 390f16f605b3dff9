"""CUBIC: see cubic.pxd. Windows are bytes, times of the cubic function units of 2**-10 s."""
from libc.stdint cimport int64_t, uint8_t
from iip.tcp.tcb cimport CC_PACED, AckInfo, Tcb, Tcp
from iip.tcp.window cimport MAX_CWND, NO_SSTHRESH, in_slow_start, slow_start, window_is_used
from iip.wire.seq cimport seq_gt

cdef enum:
    TENTHS = 10
    BETA = 7                      # RFC 9438 §4.6: what is left of the window, tenths
    UNIT = 976562                 # ns: 2**-10 s
    MAX_TIME = 1 << 17            # units: two minutes from the plateau; no window grows that long
    SCALE = 10                    # w_est has 10 bits behind the point
    ALPHA = 542                   # RFC 9438 §4.3: 3 (1 - beta) / (1 + beta), in 1024ths
    # HyStart++ (RFC 9406 §4.3)
    MIN_RTT_THRESH = 4000         # us
    MAX_RTT_THRESH = 16000
    MIN_RTT_DIVISOR = 8
    N_RTT_SAMPLE = 8
    CSS_GROWTH_DIVISOR = 4
    CSS_ROUNDS = 5
    LOW_WINDOW = 16               # segments: a train of fewer says nothing
    APPLICATION = 2               # round trips without an ACK that counts: §5.8, the application was what limited


cdef int64_t TRAIN_GAP = 2000000  # ns: a longer pause between two ACKs ends a train, on long paths one of RTT / 16


cdef struct Curve:
    # where the window comes from and goes to
    int64_t epoch                 # when congestion avoidance began, ns; 0: it has not
    uint64_t w_est                # what Reno would have, bytes << SCALE
    uint32_t w_max                # the plateau, bytes
    uint32_t cwnd_prior           # the window before the latest reduction
    uint32_t k                    # time from the epoch to the plateau, units


cdef struct Cubic:
    Curve c
    Curve before                  # the latest reduction, which may be taken back
    int64_t last_ack              # ns
    int64_t train_at              # since when ACKs come without a pause
    uint32_t credit               # growth that is less than a byte, times cwnd
    # HyStart++
    uint32_t last_min_rtt         # of the previous round, us; 0: not known
    uint32_t min_rtt              # of this one
    uint32_t css_baseline         # not 0: conservative slow start
    uint32_t window_end           # the round ends when this is acknowledged
    uint8_t samples               # round-trip times measured in this round
    uint8_t css_rounds


cdef inline Cubic* _state(Tcb* t) noexcept nogil:
    return <Cubic*>t.cc_state


cdef uint32_t cube_root(uint64_t a) noexcept nogil:
    """The largest integer whose cube is not larger, digit by digit."""
    cdef uint64_t root = 0, bit
    cdef int shift = 63
    while shift >= 0:
        root <<= 1
        bit = 3 * root * (root + 1) + 1
        if a >> shift >= bit:
            a -= bit << shift
            root += 1
        shift -= 3
    return <uint32_t>root


# -- slow start (RFC 9406) ---------------------------------------------------------------------------------

cdef void _new_round(Tcb* t, Cubic* q) noexcept nogil:
    q.last_min_rtt = q.min_rtt
    q.min_rtt = 0
    q.samples = 0
    q.window_end = t.snd_nxt
    if q.css_baseline:
        q.css_rounds += 1
        if q.css_rounds >= CSS_ROUNDS:
            t.ssthresh = t.cwnd


cdef void _watch_delay(Tcb* t, Cubic* q, int64_t rtt) noexcept nogil:
    """§4.2: a round trip that grows tells of a queue; one that shrinks again, that it was something else."""
    cdef uint32_t threshold, us
    if rtt < 0:
        return
    us = <uint32_t>max(rtt // 1000, <int64_t>1)
    if q.min_rtt == 0 or us < q.min_rtt:
        q.min_rtt = us
    if q.samples < N_RTT_SAMPLE:
        q.samples += 1
    if q.samples < N_RTT_SAMPLE or q.last_min_rtt == 0:
        return
    if q.css_baseline:
        if q.min_rtt < q.css_baseline:
            q.css_baseline = 0
        return
    threshold = min(max(q.last_min_rtt // MIN_RTT_DIVISOR, <uint32_t>MIN_RTT_THRESH), <uint32_t>MAX_RTT_THRESH)
    if q.min_rtt >= q.last_min_rtt + threshold:
        q.css_baseline = q.min_rtt
        q.css_rounds = 0


cdef void _watch_train(Tcp* s, Tcb* t, Cubic* q) noexcept nogil:
    """ACKs that come one after the other for half a round trip: twice as many packets, which they let out, fill the path (HyStart
    before it was ++). The delay would tell two round trips later, when the queue has to hold two windows. A sender that paces
    makes trains of half a round trip itself."""
    cdef int64_t enough = max(t.min_rtt * 3 // 4 if t.cc_mode & CC_PACED else t.min_rtt >> 1, TRAIN_GAP)
    if s.now - q.last_ack > max(TRAIN_GAP, t.min_rtt >> 4):
        q.train_at = s.now
    elif s.now - q.train_at > enough and t.cwnd >= LOW_WINDOW * t.mss:
        t.ssthresh = t.cwnd


cdef uint32_t _slow_start(Tcp* s, Tcb* t, Cubic* q, AckInfo* ack) noexcept nogil:
    """What is left of the acknowledged bytes for congestion avoidance."""
    if t.ssthresh == NO_SSTHRESH:
        _watch_delay(t, q, ack.rtt)
        if seq_gt(t.snd_una, q.window_end):
            _new_round(t, q)
        _watch_train(s, t, q)
        if not in_slow_start(t):
            return 0
        if q.css_baseline:
            slow_start(t, ack.acked // CSS_GROWTH_DIVISOR)
            return 0
    return slow_start(t, ack.acked)


# -- congestion avoidance (RFC 9438 §4) ----------------------------------------------------------------------

cdef void _begin_epoch(Tcp* s, Tcb* t, Cubic* q) noexcept nogil:
    """§4.2, §4.8: from here to the plateau, or from the plateau on."""
    q.c.epoch = s.now
    q.c.w_est = <uint64_t>t.cwnd << SCALE
    q.c.k = 0
    q.credit = 0
    if t.cwnd < q.c.w_max:        # C is 0.4 segments per cubic second
        q.c.k = cube_root((<uint64_t>(q.c.w_max - t.cwnd) << 30) * 5 // (2 * t.mss))
    else:
        q.c.w_max = t.cwnd


cdef int64_t _curve(Tcb* t, Cubic* q, int64_t elapsed) noexcept nogil:
    """W_cubic, `elapsed` ns after the epoch: C (t - K)**3 + W_max."""
    cdef int64_t d = elapsed // UNIT - q.c.k, growth
    d = max(min(d, <int64_t>MAX_TIME), -<int64_t>MAX_TIME)
    growth = ((d * d * d >> 10) * 2 // 5 >> 10) * <int64_t>t.mss >> 10
    return min(q.c.w_max + growth, <int64_t>MAX_CWND)


cdef void _avoid_congestion(Tcp* s, Tcb* t, Cubic* q, uint32_t acked) noexcept nogil:
    cdef uint32_t alpha = ALPHA, reno
    cdef int64_t target, elapsed
    cdef uint64_t credit
    if q.c.epoch == 0:
        _begin_epoch(s, t, q)
    elapsed = s.now - q.c.epoch
    if q.c.w_est >> SCALE >= q.c.cwnd_prior:
        alpha = 1 << SCALE        # §4.3: Reno has caught up, now as fast as Reno
    q.c.w_est += <uint64_t>alpha * acked * t.mss // t.cwnd
    reno = <uint32_t>min(q.c.w_est >> SCALE, <uint64_t>MAX_CWND)
    if _curve(t, q, elapsed) < reno:
        t.cwnd = max(t.cwnd, reno)
        return
    target = min(_curve(t, q, elapsed + t.srtt), <int64_t>t.cwnd + t.cwnd // 2)
    if target > t.cwnd:           # §4.4, §4.5: in one round trip there
        credit = q.credit + <uint64_t>(target - t.cwnd) * acked
        t.cwnd += <uint32_t>(credit // t.cwnd)
        q.credit = <uint32_t>(credit % t.cwnd)


cdef void _on_ack(Tcp* s, Tcb* t, AckInfo* ack) noexcept nogil:
    cdef Cubic* q = _state(t)
    cdef uint32_t acked = ack.acked
    if ack.recovery or not window_is_used(t):
        return
    if q.c.epoch and s.now - q.last_ack > APPLICATION * t.srtt:
        q.c.epoch += s.now - q.last_ack
    if in_slow_start(t):
        acked = _slow_start(s, t, q, ack)
    q.last_ack = s.now
    if acked:
        _avoid_congestion(s, t, q, acked)


# -- reductions ----------------------------------------------------------------------------------------------

cdef uint32_t _on_loss(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil:
    """§4.6, and §4.7: who loses before the old plateau makes room for others (fast convergence)."""
    cdef Cubic* q = _state(t)
    q.before = q.c
    if t.cwnd < q.c.w_max:
        q.c.w_max = <uint32_t>(<uint64_t>t.cwnd * (TENTHS + BETA) // (2 * TENTHS))
    else:
        q.c.w_max = t.cwnd
    q.c.cwnd_prior = t.cwnd
    q.c.epoch = 0
    return max(<uint32_t>(<uint64_t>in_flight * BETA // TENTHS), 2 * t.mss)


cdef void _on_timeout(Tcp* s, Tcb* t) noexcept nogil:
    """§4.8: the plateau is where congestion avoidance begins."""
    _state(t).c.w_max = 0
    _state(t).c.epoch = 0


cdef void _on_undo(Tcp* s, Tcb* t) noexcept nogil:
    """§4.9.1"""
    _state(t).c = _state(t).before
    _state(t).last_ack = s.now
    _state(t).train_at = s.now


cdef void _on_idle(Tcp* s, Tcb* t, int64_t idle) noexcept nogil:
    pass                          # the next ACK that counts finds out


cdef void _init(Tcp* s, Tcb* t) noexcept nogil:
    _state(t).window_end = t.snd_nxt


cdef void _release(Tcp* s, Tcb* t) noexcept nogil:
    pass


cubic.name = b"cubic"
cubic.init = _init
cubic.on_ack = _on_ack
cubic.on_loss = cubic.on_ecn = _on_loss
cubic.on_timeout = _on_timeout
cubic.on_undo = _on_undo
cubic.on_idle = _on_idle
cubic.release = _release
