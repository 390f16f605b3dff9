"""BBR: see bbr.pxd. Functions are the draft's (draft-ietf-ccwg-bbr §5), in its order."""
from libc.string cimport memset
from iip.memory.pool cimport REC_APP_LIMITED, Detail, Packet, pkt_detail
from iip.tcp.bbr_model cimport *
from iip.tcp.pacing cimport pacing_set
from iip.tcp.tcb cimport (
    CC_LOST, CC_MODEL, CC_PACED, CC_RATE, EXTRA_LIMITS, TF_LOSS, TF_RECOVERY, AckInfo, rec_space, tcp_in_flight)
from iip.wire.rng cimport rng_next
from iip.wire.seq cimport seq_geq

cdef int64_t MS = 1000000
cdef int64_t SECOND = 1000000000
cdef int64_t MIN_RTT_FILTER = 10 * SECOND
cdef int64_t PROBE_RTT_INTERVAL = 5 * SECOND
cdef int64_t PROBE_RTT_DURATION = 200 * MS

if sizeof(Bbr) > EXTRA_LIMITS:
    raise SystemError(f"BBR's state takes {sizeof(Bbr)} bytes, more than EXTRA_LIMITS")


# -- rounds and states ---------------------------------------------------------------------------------------

cdef inline void _start_round(Tcb* t, Bbr* b) noexcept nogil:
    b.next_round_delivered = t.delivered


cdef inline void _reset_full_bw(Bbr* b, uint64_t bw) noexcept nogil:
    b.full_bw = bw
    b.full_bw_count = b.full_bw_now = 0


cdef inline void _reset_congestion_signals(Bbr* b) noexcept nogil:
    b.loss_in_round = b.mark_in_round = False
    b.bw_latest = 0
    b.inflight_latest = 0


cdef inline void _reset_short_term(Bbr* b) noexcept nogil:
    b.bw_shortterm = 0
    b.inflight_shortterm = INFINITE


cdef inline void _enter(Bbr* b, uint8_t state, uint16_t pacing_gain, uint16_t cwnd_gain) noexcept nogil:
    b.state, b.pacing_gain, b.cwnd_gain = state, pacing_gain, cwnd_gain


cdef void _start_down(Tcp* s, Tcb* t, Bbr* b) noexcept nogil:
    """§5.3.3.6: until the next probe some rounds and two or three seconds pass, at random, so that flows do not march
    in step."""
    cdef uint64_t dice = rng_next(&s.net.rng)
    _reset_congestion_signals(b)
    b.bw_probe_up_cnt = INFINITE
    b.rounds_since_bw_probe = dice & 1
    b.bw_probe_wait = 2000 + <uint32_t>((dice >> 1) % 1000)
    b.cycle_stamp = s.now
    b.ack_phase = ACKS_PROBE_STOPPING
    _start_round(t, b)
    _enter(b, PROBE_BW_DOWN, DOWN_PACING_GAIN, CWND_GAIN)


cdef void _start_refill(Tcb* t, Bbr* b) noexcept nogil:
    _reset_short_term(b)
    b.bw_probe_up_rounds = 0
    b.bw_probe_up_acks = 0
    b.ack_phase = ACKS_REFILLING
    _start_round(t, b)
    _enter(b, PROBE_BW_REFILL, 100, CWND_GAIN)


cdef void _raise_slope(Tcb* t, Bbr* b) noexcept nogil:
    """BBRRaiseInflightLongtermSlope: growth doubles every round."""
    cdef uint64_t growth = <uint64_t>t.mss << b.bw_probe_up_rounds
    b.bw_probe_up_rounds = min(b.bw_probe_up_rounds + 1, 30)
    b.bw_probe_up_cnt = max(bounded(<uint64_t>t.cwnd * t.mss // growth), t.mss)


cdef void _start_up(Tcp* s, Tcb* t, Bbr* b, uint64_t rate) noexcept nogil:
    b.ack_phase = ACKS_PROBE_STARTING
    _start_round(t, b)
    _reset_full_bw(b, rate)
    b.cycle_stamp = s.now
    _enter(b, PROBE_BW_UP, UP_PACING_GAIN, UP_CWND_GAIN)
    _raise_slope(t, b)


# -- the model: bandwidth, loss, bounds (§5.5) ---------------------------------------------------------------

cdef void _update_round(Tcb* t, Bbr* b, AckInfo* ack) noexcept nogil:
    b.round_start = seq_geq(ack.prior_delivered, b.next_round_delivered)
    if b.round_start:
        _start_round(t, b)
        if b.rounds_since_bw_probe < 255:
            b.rounds_since_bw_probe += 1
        if b.extra_acked_rounds < 255:
            b.extra_acked_rounds += 1


cdef inline void _update_round_rtt(Bbr* b, AckInfo* ack) noexcept nogil:
    if b.round_start and b.round_rtt:
        b.last_rtt = b.round_rtt
        b.round_rtt = 0
    if ack.rtt >= 0 and (b.round_rtt == 0 or ack.rtt >> RTT_SHIFT < b.round_rtt):
        b.round_rtt = <uint32_t>min(max(ack.rtt >> RTT_SHIFT, <int64_t>1), <int64_t>INFINITE)


cdef void _update_max_bw(Bbr* b, AckInfo* ack, uint64_t rate) noexcept nogil:
    if rate >= b.max_bw or not ack.app_limited:
        b.max_bw_filter[1] = max(b.max_bw_filter[1], rate)
        b.max_bw = max(b.max_bw_filter[0], b.max_bw_filter[1])


cdef void _advance_max_bw(Bbr* b) noexcept nogil:
    """A cycle of probing is over: the one before it is forgotten."""
    if b.max_bw_filter[1] == 0:
        return
    b.max_bw_filter[0] = b.max_bw_filter[1]
    b.max_bw_filter[1] = 0
    b.max_bw = b.max_bw_filter[0]


cdef inline bint _calm(Tcb* t, Bbr* b) noexcept nogil:
    """What is lost now is not lost for our sending: no queue, and what is acknowledged left no faster than the bandwidth,
    or before there was an estimate of it."""
    return b.ack_phase <= ACKS_REFILLING and no_queue(t, b)


cdef void _note_delivery(Tcb* t, Bbr* b, AckInfo* ack) noexcept nogil:
    if not _calm(t, b):
        return
    b.path_delivered += ack.delivered
    if b.path_delivered > PATH_MEMORY:
        b.path_delivered >>= 1
        b.path_lost >>= 1


cdef inline bint _too_high(Tcb* t, Bbr* b, uint32_t lost, uint32_t flight) noexcept nogil:
    """IsInflightTooHigh, with what the path loses anyway."""
    if lost == 0:
        return False
    return lost > <uint64_t>flight * loss_thresh(b) // 1000 + loss_noise(t, b, flight)


cdef inline bint _after_probe_rtt(Tcp* s, Bbr* b, AckInfo* ack) noexcept nogil:
    """The pipe is not full again: what it delivers says nothing."""
    return ack.app_limited and s.now - b.probe_rtt_min_stamp < 3 * b.min_rtt


cdef void _adapt_lower_bounds(Tcp* s, Tcb* t, Bbr* b, AckInfo* ack) noexcept nogil:
    """§5.5.10.3: a round with loss, or marks, while we were not probing: others need room. Any loss in the draft; here
    more than LossThresh, as in a probe (docs/congestion.md)."""
    if not b.loss_in_round or b.state in (STARTUP, PROBE_BW_REFILL, PROBE_BW_UP):
        return
    if not b.mark_in_round and not _too_high(t, b, ack.sample_lost, ack.sent_in_flight):
        return
    if _after_probe_rtt(s, b, ack):
        return
    if b.bw_shortterm == 0:
        b.bw_shortterm = b.max_bw
    if b.inflight_shortterm == INFINITE:
        b.inflight_shortterm = t.cwnd
    b.bw_shortterm = max(b.bw_latest, b.bw_shortterm * BETA // 100)
    b.inflight_shortterm = max(b.inflight_latest, <uint32_t>(<uint64_t>b.inflight_shortterm * BETA // 100))


cdef void _handle_too_high(Tcp* s, Tcb* t, Bbr* b, uint32_t inflight, bint app_limited) noexcept nogil:
    b.bw_probe_samples = False    # one reaction to a probe
    if not app_limited:
        b.inflight_longterm = max(inflight, <uint32_t>(<uint64_t>target_inflight(s, t, b) * BETA // 100))
    if b.state == PROBE_BW_UP:
        _start_down(s, t, b)


cdef void _note_loss(Tcb* t, Bbr* b) noexcept nogil:
    if not b.loss_in_round:
        b.loss_round_delivered = t.delivered
    b.loss_in_round = True


cdef void _on_lost(Tcp* s, Tcb* t, Packet* k) noexcept nogil:
    """BBRHandleLostPacket: how much was in flight when the loss rate went over the threshold?"""
    cdef Bbr* b = bbr_state(s, t)
    cdef Detail* d = pkt_detail(s.pool, k)
    cdef uint32_t size = rec_space(k), lost
    cdef int64_t before, prefix, thresh = loss_thresh(b)
    _note_loss(t, b)
    if _calm(t, b):
        b.path_lost += size
    if b.loss_events < 255:
        b.loss_events += 1
    if not b.bw_probe_samples or d.delivered_at == 0:
        return
    lost = t.lost_total - d.lost
    if not _too_high(t, b, lost, d.in_flight):
        return
    before = <int64_t>d.in_flight - size
    prefix = (thresh * before + 1000 * (<int64_t>loss_noise(t, b, d.in_flight) + size - lost)) // (1000 - thresh)
    _handle_too_high(s, t, b, <uint32_t>max(before + max(prefix, <int64_t>0), <int64_t>0),
                     k.flags & REC_APP_LIMITED != 0)


cdef void _probe_upward(Tcb* t, Bbr* b, AckInfo* ack) noexcept nogil:
    """BBRProbeInflightLongtermUpward: raise the bound while it is what limits."""
    cdef uint32_t delta
    if not t.cwnd_limited or t.cwnd < b.inflight_longterm:
        return
    b.bw_probe_up_acks += ack.delivered
    if b.bw_probe_up_acks >= b.bw_probe_up_cnt:
        delta = b.bw_probe_up_acks // b.bw_probe_up_cnt
        b.bw_probe_up_acks -= delta * b.bw_probe_up_cnt
        b.inflight_longterm = bounded(<uint64_t>b.inflight_longterm + <uint64_t>delta * t.mss)
    if b.round_start:
        _raise_slope(t, b)


cdef void _adapt_long_term(Tcb* t, Bbr* b, AckInfo* ack) noexcept nogil:
    if b.ack_phase == ACKS_PROBE_STARTING and b.round_start:
        b.ack_phase = ACKS_PROBE_FEEDBACK
    if b.ack_phase == ACKS_PROBE_STOPPING and b.round_start:
        b.bw_probe_samples = False
        b.ack_phase = ACKS_INIT
        if in_probe_bw(b) and not ack.app_limited:
            _advance_max_bw(b)
    if _too_high(t, b, ack.sample_lost, ack.sent_in_flight) or b.inflight_longterm == INFINITE:
        return
    b.inflight_longterm = max(b.inflight_longterm, ack.sent_in_flight)
    if b.state == PROBE_BW_UP:
        _probe_upward(t, b, ack)


cdef void _update_ack_aggregation(Tcp* s, Tcb* t, Bbr* b, AckInfo* ack) noexcept nogil:
    """§5.5.9: how much more than the bandwidth explains comes at once? The largest of five to ten rounds."""
    cdef uint64_t expected = <uint64_t>(<double>b.bw * (s.now - b.extra_acked_since) / 1e9)
    if b.extra_acked_rounds >= (5 if b.full_bw_reached else 1):
        b.extra_acked[1] = b.extra_acked[0]
        b.extra_acked[0] = 0
        b.extra_acked_rounds = 0
    if b.extra_acked_delivered <= expected:
        b.extra_acked_delivered = 0
        b.extra_acked_since = s.now
        expected = 0
    b.extra_acked_delivered += ack.delivered
    b.extra_acked[0] = max(b.extra_acked[0], min(b.extra_acked_delivered - <uint32_t>expected, t.cwnd))


# -- startup and drain (§5.3.1, §5.3.2) ----------------------------------------------------------------------

cdef void _check_full_bw(Bbr* b, AckInfo* ack, uint64_t rate) noexcept nogil:
    """Three rounds in which the bandwidth grew by less than a quarter."""
    if b.full_bw_now or not b.round_start or ack.app_limited:
        return
    if rate * 4 >= b.full_bw * 5:
        _reset_full_bw(b, rate)
        return
    b.full_bw_count += 1
    b.full_bw_now = b.full_bw_count >= 3
    if b.full_bw_now:
        b.full_bw_reached = True


cdef void _check_startup_loss(Tcp* s, Tcb* t, Bbr* b, AckInfo* ack) noexcept nogil:
    """A round of recovery with many losses, a high rate of them, and no more bandwidth than before: the pipe is full."""
    if b.state == STARTUP and b.loss_round_start and b.full_bw_count and not b.full_bw_reached and t.flags & TF_RECOVERY and (
            b.loss_events >= STARTUP_FULL_LOSS_COUNT and _too_high(t, b, ack.sample_lost, ack.sent_in_flight)):
        b.full_bw_reached = True
        b.inflight_longterm = max(bdp(s, t, b, b.max_bw, 100), b.inflight_latest)
    if b.loss_round_start:
        b.loss_events = 0


cdef void _check_startup_and_drain(Tcp* s, Tcb* t, Bbr* b, AckInfo* ack, uint64_t rate) noexcept nogil:
    _check_full_bw(b, ack, rate)
    _check_startup_loss(s, t, b, ack)
    if b.state == STARTUP and b.full_bw_reached:
        _enter(b, DRAIN, DRAIN_PACING_GAIN, CWND_GAIN)
        b.rounds_since_bw_probe = 0
    if b.state == DRAIN and (b.rounds_since_bw_probe > DRAIN_ROUNDS
                             or tcp_in_flight(t) <= inflight_of(s, t, b, b.max_bw, 100)):
        _start_down(s, t, b)


# -- probing for bandwidth (§5.3.3) ----------------------------------------------------------------------------

cdef bint _time_to_probe(Tcp* s, Tcb* t, Bbr* b) noexcept nogil:
    """The wait is over, or a Reno flow would have had time to grow by a round trip's worth."""
    cdef uint32_t reno = min(target_inflight(s, t, b) // t.mss, <uint32_t>63)
    if s.now - b.cycle_stamp <= b.bw_probe_wait * MS and b.rounds_since_bw_probe < reno:
        return False
    _start_refill(t, b)
    return True


cdef bint _time_to_cruise(Tcp* s, Tcb* t, Bbr* b) noexcept nogil:
    cdef uint32_t in_flight = tcp_in_flight(t)
    return in_flight <= with_headroom(s, t, b) and in_flight <= inflight_of(s, t, b, b.max_bw, 100)


cdef bint _time_to_go_down(Tcb* t, Bbr* b, uint64_t rate) noexcept nogil:
    if t.cwnd_limited and t.cwnd >= b.inflight_longterm:
        _reset_full_bw(b, rate)   # the bound limits, not the bandwidth
        return False
    return b.full_bw_now


cdef void _update_cycle(Tcp* s, Tcb* t, Bbr* b, AckInfo* ack, uint64_t rate) noexcept nogil:
    if not b.full_bw_reached:
        return
    _adapt_long_term(t, b, ack)
    if b.state == PROBE_BW_DOWN:
        if not _time_to_probe(s, t, b) and _time_to_cruise(s, t, b):
            _enter(b, PROBE_BW_CRUISE, 100, CWND_GAIN)
    elif b.state == PROBE_BW_CRUISE:
        _time_to_probe(s, t, b)
    elif b.state == PROBE_BW_REFILL:
        if b.round_start:
            b.bw_probe_samples = True
            _start_up(s, t, b, rate)
    elif b.state == PROBE_BW_UP and _time_to_go_down(t, b, rate):
        _start_down(s, t, b)


# -- the round-trip time (§5.3.4) ------------------------------------------------------------------------------

cdef void _update_min_rtt(Tcp* s, Bbr* b, AckInfo* ack) noexcept nogil:
    """A round trip nearly as short as the shortest says that this is still true: no need to look before another five seconds
    are over, but then (docs/congestion.md)."""
    cdef int64_t known = min(max(b.probe_rtt_min_stamp, b.near_min_stamp), b.probe_rtt_min_stamp + PROBE_RTT_INTERVAL)
    b.probe_rtt_expired = s.now > known + PROBE_RTT_INTERVAL
    if 0 <= ack.rtt <= b.probe_rtt_min_delay + (b.probe_rtt_min_delay >> NEAR_SHIFT):
        b.near_min_stamp = s.now
    if ack.rtt >= 0 and (ack.rtt < b.probe_rtt_min_delay or b.probe_rtt_expired or b.probe_rtt_min_delay == 0):
        b.probe_rtt_min_delay = max(ack.rtt, <int64_t>1)
        b.probe_rtt_min_stamp = s.now
    if b.probe_rtt_min_delay and (b.min_rtt == 0 or b.probe_rtt_min_delay < b.min_rtt
                                  or s.now > b.min_rtt_stamp + MIN_RTT_FILTER):
        b.min_rtt = b.probe_rtt_min_delay
        b.min_rtt_stamp = b.probe_rtt_min_stamp


cdef inline void _save_cwnd(Tcb* t, Bbr* b) noexcept nogil:
    if not b.recovering and b.state != PROBE_RTT:
        b.prior_cwnd = t.cwnd
    else:
        b.prior_cwnd = max(b.prior_cwnd, t.cwnd)


cdef inline void _restore_cwnd(Tcb* t, Bbr* b) noexcept nogil:
    t.cwnd = max(t.cwnd, b.prior_cwnd)


cdef void _check_probe_rtt_done(Tcp* s, Tcb* t, Bbr* b) noexcept nogil:
    if b.probe_rtt_done_stamp == 0 or s.now <= b.probe_rtt_done_stamp:
        return
    b.probe_rtt_min_stamp = s.now
    _restore_cwnd(t, b)
    _reset_short_term(b)
    if b.full_bw_reached:
        _start_down(s, t, b)
        _enter(b, PROBE_BW_CRUISE, 100, CWND_GAIN)
    else:
        _enter(b, STARTUP, STARTUP_PACING_GAIN, CWND_GAIN)


cdef uint32_t _probe_rtt_cwnd(Tcp* s, Tcb* t, Bbr* b) noexcept nogil:
    return max(bdp(s, t, b, b.bw, PROBE_RTT_CWND_GAIN), min_pipe(t))


cdef void _check_probe_rtt(Tcp* s, Tcb* t, Bbr* b) noexcept nogil:
    """§5.3.4.3: every five seconds without a shorter round trip half a window, for 200 ms and a round."""
    if b.state != PROBE_RTT and b.probe_rtt_expired and not b.idle_restart:
        _save_cwnd(t, b)
        _enter(b, PROBE_RTT, 100, PROBE_RTT_CWND_GAIN)
        b.probe_rtt_done_stamp = 0
        b.ack_phase = ACKS_PROBE_STOPPING
        _start_round(t, b)
    if b.state == PROBE_RTT:
        t.app_limited = max(t.delivered + tcp_in_flight(t), <uint32_t>1)
        if b.probe_rtt_done_stamp == 0:
            if tcp_in_flight(t) <= _probe_rtt_cwnd(s, t, b):
                b.probe_rtt_done_stamp = s.now + PROBE_RTT_DURATION
                b.probe_rtt_round_done = False
                _start_round(t, b)
        else:
            b.probe_rtt_round_done |= b.round_start
            if b.probe_rtt_round_done:
                _check_probe_rtt_done(s, t, b)
    b.idle_restart = False


# -- control: rate and window (§5.6) ---------------------------------------------------------------------------

cdef void _set_pacing_rate(Tcp* s, Tcb* t, Bbr* b, uint32_t gain) noexcept nogil:
    cdef uint64_t rate = b.bw * gain // 100 * (100 - PACING_MARGIN) // 100
    if rate and (b.full_bw_reached or rate > t.pacing_rate):
        pacing_set(s, t, rate)


cdef void _bound_cwnd(Tcp* s, Tcb* t, Bbr* b) noexcept nogil:
    """BBRBoundCwndForProbeRTT, BBRBoundCwndForModel."""
    cdef uint32_t cap = INFINITE
    if b.state == PROBE_RTT:
        t.cwnd = min(t.cwnd, _probe_rtt_cwnd(s, t, b))
    if in_probe_bw(b) and b.state != PROBE_BW_CRUISE:
        cap = b.inflight_longterm
    elif b.state == PROBE_RTT or b.state == PROBE_BW_CRUISE:
        cap = with_headroom(s, t, b)
    t.cwnd = min(t.cwnd, max(min(cap, b.inflight_shortterm), min_pipe(t)))


cdef void _set_cwnd(Tcp* s, Tcb* t, Bbr* b, AckInfo* ack) noexcept nogil:
    cdef uint32_t most = bounded(<uint64_t>bdp(s, t, b, b.bw, b.cwnd_gain) + max(b.extra_acked[0], b.extra_acked[1]))
    most = quantized(s, t, b, most)
    if ack.lost:                  # no more than what leaves the network, as in earlier drafts: fewer are lost
        t.cwnd = max(t.cwnd - min(t.cwnd, ack.lost), t.mss)
    if b.full_bw_reached:
        t.cwnd = min(bounded(<uint64_t>t.cwnd + ack.delivered), most)
    elif t.cwnd < most or t.delivered < s.conf.initial_window * t.mss:
        t.cwnd = bounded(<uint64_t>t.cwnd + ack.delivered)
    t.cwnd = max(t.cwnd, min_pipe(t))
    _bound_cwnd(s, t, b)


# -- the table ---------------------------------------------------------------------------------------------------

cdef void _on_ack(Tcp* s, Tcb* t, AckInfo* ack) noexcept nogil:
    """BBRUpdateOnACK."""
    cdef Bbr* b = bbr_state(s, t)
    cdef uint64_t rate = 0
    if ack.prior_at == 0:         # nothing arrived
        return
    if ack.interval:
        rate = <uint64_t>(<double>ack.sampled * 1e9 / ack.interval)
    if b.recovering and not t.flags & (TF_RECOVERY | TF_LOSS):
        b.recovering = False
        _restore_cwnd(t, b)
    b.loss_round_start = seq_geq(ack.prior_delivered, b.loss_round_delivered)
    if b.loss_round_start:
        b.loss_round_delivered = t.delivered
    b.bw_latest = max(b.bw_latest, rate)
    b.inflight_latest = max(b.inflight_latest, ack.sampled)
    _update_round(t, b, ack)
    _update_round_rtt(b, ack)
    _update_max_bw(b, ack, rate)
    _note_delivery(t, b, ack)
    if b.loss_round_start:
        _adapt_lower_bounds(s, t, b, ack)
        b.loss_in_round = b.mark_in_round = False
    _update_ack_aggregation(s, t, b, ack)
    _check_startup_and_drain(s, t, b, ack, rate)
    _update_cycle(s, t, b, ack, rate)
    _update_min_rtt(s, b, ack)
    _check_probe_rtt(s, t, b)
    if b.loss_round_start:
        b.bw_latest = rate
        b.inflight_latest = ack.sampled
    b.bw = min(b.max_bw, b.bw_shortterm) if b.bw_shortterm else b.max_bw
    _set_pacing_rate(s, t, b, b.pacing_gain)
    _set_cwnd(s, t, b, ack)


cdef uint32_t _on_loss(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil:
    """An episode begins: remember what may have to be taken back."""
    cdef Bbr* b = bbr_state(s, t)
    _save_cwnd(t, b)
    b.recovering = True
    b.undo_state = b.state
    b.undo_bw_shortterm = b.bw_shortterm
    b.undo_inflight_shortterm = b.inflight_shortterm
    b.undo_inflight_longterm = b.inflight_longterm
    return t.ssthresh


cdef void _on_timeout(Tcp* s, Tcb* t) noexcept nogil:
    """BBROnEnterRTO"""
    cdef Bbr* b = bbr_state(s, t)
    _save_cwnd(t, b)
    b.recovering = True
    t.cwnd = tcp_in_flight(t) + t.mss


cdef void _on_undo(Tcp* s, Tcb* t) noexcept nogil:
    """BBRHandleSpuriousLossDetection"""
    cdef Bbr* b = bbr_state(s, t)
    b.loss_in_round = b.mark_in_round = False
    b.recovering = False
    _restore_cwnd(t, b)
    _reset_full_bw(b, 0)
    if b.bw_shortterm:
        b.bw_shortterm = max(b.bw_shortterm, b.undo_bw_shortterm) if b.undo_bw_shortterm else 0
    b.inflight_shortterm = max(b.inflight_shortterm, b.undo_inflight_shortterm)
    b.inflight_longterm = max(b.inflight_longterm, b.undo_inflight_longterm)
    if b.state == PROBE_RTT or b.state == b.undo_state:
        return
    if b.undo_state == STARTUP:
        b.full_bw_reached = False
        _enter(b, STARTUP, STARTUP_PACING_GAIN, CWND_GAIN)
    elif b.undo_state == PROBE_BW_UP:
        _start_refill(t, b)


cdef uint32_t _on_ecn(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil:
    """A mark (RFC 3168) counts as a round with loss, and ends a probe."""
    cdef Bbr* b = bbr_state(s, t)
    _note_loss(t, b)
    b.mark_in_round = True
    if b.bw_probe_samples:
        _handle_too_high(s, t, b, in_flight, t.app_limited != 0)
    if b.state == STARTUP and not b.full_bw_reached:
        b.full_bw_reached = True
        b.inflight_longterm = max(bdp(s, t, b, b.max_bw, 100), b.inflight_latest)
    return t.ssthresh


cdef void _on_idle(Tcp* s, Tcb* t, int64_t idle) noexcept nogil:
    """BBRHandleRestartFromIdle"""
    cdef Bbr* b = bbr_state(s, t)
    if not t.app_limited:
        return
    b.idle_restart = True
    b.extra_acked_since = s.now
    if in_probe_bw(b):
        _set_pacing_rate(s, t, b, 100)
    elif b.state == PROBE_RTT:
        _check_probe_rtt_done(s, t, b)


cdef void _init(Tcp* s, Tcb* t) noexcept nogil:
    """BBROnInit"""
    cdef Bbr* b = bbr_state(s, t)
    memset(b, 0, sizeof(Bbr))
    b.inflight_longterm = INFINITE
    _reset_short_term(b)
    b.probe_rtt_min_delay = b.min_rtt = t.srtt
    b.probe_rtt_min_stamp = b.min_rtt_stamp = b.extra_acked_since = s.now
    b.prior_cwnd = t.cwnd
    b.next_round_delivered = b.loss_round_delivered = t.delivered
    b.bw_probe_up_cnt = INFINITE
    t.ssthresh = INFINITE
    _enter(b, STARTUP, STARTUP_PACING_GAIN, CWND_GAIN)
    pacing_set(s, t, <uint64_t>t.cwnd * STARTUP_PACING_GAIN // 100 * SECOND // (t.srtt if t.srtt else MS))


cdef void _release(Tcp* s, Tcb* t) noexcept nogil:
    pass


bbr.name = b"bbr"
bbr.mode = CC_RATE | CC_PACED | CC_MODEL | CC_LOST
bbr.init = _init
bbr.on_ack = _on_ack
bbr.on_loss = _on_loss
bbr.on_timeout = _on_timeout
bbr.on_undo = _on_undo
bbr.on_ecn = _on_ecn
bbr.on_idle = _on_idle
bbr.on_lost = _on_lost
bbr.release = _release
