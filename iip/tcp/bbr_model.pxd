"""BBR's state and what it says about the path (draft-ietf-ccwg-bbr §5.5). Bandwidths are bytes per second, volumes bytes,
times ns, gains hundredths; names are the draft's."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from iip.tcp.tcb cimport Tcb, Tcp, tcb_extra

cdef enum:
    STARTUP = 0
    DRAIN
    PROBE_BW_DOWN
    PROBE_BW_CRUISE
    PROBE_BW_REFILL
    PROBE_BW_UP
    PROBE_RTT

cdef enum:
    # which packets the ACKs at hand are of
    ACKS_INIT = 0
    ACKS_REFILLING
    ACKS_PROBE_STARTING
    ACKS_PROBE_FEEDBACK
    ACKS_PROBE_STOPPING

cdef enum:
    STARTUP_PACING_GAIN = 277
    DRAIN_PACING_GAIN = 50
    DOWN_PACING_GAIN = 90
    UP_PACING_GAIN = 125
    CWND_GAIN = 200
    UP_CWND_GAIN = 225
    PROBE_RTT_CWND_GAIN = 50
    PACING_MARGIN = 1             # percent below the bandwidth
    LOSS_THRESH = 20              # thousandths of a flight,
    LOSS_NOISE_SEGMENTS = 3       # and what chance may add: so many segments,
    LOSS_NOISE_SHIFT = 5          # or this part of a short flight
    LOSS_OF_PATH_MAX = 50         # thousandths that are lost although there is no queue
    NO_QUEUE_SHIFT = 4            # srtt within a sixteenth of min_rtt,
    NEAR_SHIFT = 5                # a round trip within a thirty-second of the shortest: there is next to no queue
    SHORT_QUEUE_SHIFT = 1         # or a half, as UP makes it
    BETA = 70
    HEADROOM = 15
    MIN_PIPE_SEGMENTS = 4
    STARTUP_FULL_LOSS_COUNT = 6
    DRAIN_ROUNDS = 3              # at most
    PATH_MEMORY = 8 << 20         # bytes after which what was lost without a queue counts half,
    PATH_PRIOR = 1 << 16          # and with which it begins
    RTT_SHIFT = 10
    INFINITE = 0x7FFFFFFF         # bytes


cdef struct Bbr:
    uint8_t state
    uint8_t ack_phase
    uint8_t undo_state
    uint8_t round_start
    uint8_t loss_round_start
    uint8_t loss_in_round
    uint8_t mark_in_round         # ECN
    uint8_t full_bw_reached
    uint8_t full_bw_now
    uint8_t full_bw_count
    uint8_t idle_restart
    uint8_t probe_rtt_round_done
    uint8_t probe_rtt_expired
    uint8_t bw_probe_samples
    uint8_t bw_probe_up_rounds
    uint8_t rounds_since_bw_probe
    uint8_t recovering
    uint8_t loss_events           # in this round
    uint8_t extra_acked_rounds
    uint16_t pacing_gain
    uint16_t cwnd_gain
    uint32_t next_round_delivered
    uint32_t loss_round_delivered
    uint64_t max_bw_filter[2]     # of the previous and of this cycle of probing
    uint64_t max_bw
    uint64_t bw_shortterm         # 0: no bound
    uint64_t bw
    uint64_t bw_latest
    uint64_t full_bw
    uint64_t undo_bw_shortterm
    uint32_t inflight_latest
    uint32_t inflight_longterm
    uint32_t inflight_shortterm
    uint32_t undo_inflight_longterm
    uint32_t undo_inflight_shortterm
    uint32_t prior_cwnd
    uint32_t bw_probe_up_cnt
    uint32_t bw_probe_up_acks
    uint32_t extra_acked[2]       # of the last rounds, and of those before
    uint32_t extra_acked_delivered
    uint32_t path_lost            # bytes that were lost without a queue,
    uint32_t path_delivered       # and that arrived meanwhile
    uint32_t bw_probe_wait        # ms
    int64_t cycle_stamp
    int64_t extra_acked_since
    int64_t min_rtt
    int64_t min_rtt_stamp
    int64_t probe_rtt_min_delay
    int64_t probe_rtt_min_stamp
    int64_t probe_rtt_done_stamp
    int64_t near_min_stamp        # when a round trip was nearly as short last
    uint32_t round_rtt            # the shortest of this round, units of 1024 ns,
    uint32_t last_rtt             # and of the one before


cdef inline Bbr* bbr_state(Tcp* s, Tcb* t) noexcept nogil:
    return <Bbr*>tcb_extra(s, t)


cdef inline bint in_probe_bw(Bbr* b) noexcept nogil:
    return PROBE_BW_DOWN <= b.state <= PROBE_BW_UP


cdef inline uint32_t min_pipe(Tcb* t) noexcept nogil:
    return MIN_PIPE_SEGMENTS * t.mss


cdef inline uint32_t bounded(uint64_t volume) noexcept nogil:
    return <uint32_t>min(volume, <uint64_t>INFINITE)


cdef inline bint _queue_within(Bbr* b, int shift) noexcept nogil:
    """The shortest round trip of a round tells of the queue: a process that runs late, ours or the peer's, makes the others
    longer."""
    return <int64_t>b.last_rtt << RTT_SHIFT <= b.min_rtt + (b.min_rtt >> shift)


cdef inline bint no_queue(Tcb* t, Bbr* b) noexcept nogil:
    return t.srtt <= b.min_rtt + (b.min_rtt >> NO_QUEUE_SHIFT)


cdef inline bint short_queue(Bbr* b) noexcept nogil:
    """Not longer than a probe of our own makes it."""
    return _queue_within(b, SHORT_QUEUE_SHIFT)


cdef inline uint32_t loss_thresh(Bbr* b) noexcept nogil:
    """Thousandths: LossThresh, and what the path loses for other reasons than congestion."""
    cdef uint64_t lost
    if not short_queue(b):
        return LOSS_THRESH
    lost = <uint64_t>b.path_lost * 1000 // (<uint64_t>b.path_lost + b.path_delivered + PATH_PRIOR)
    return LOSS_THRESH + <uint32_t>min(lost, <uint64_t>LOSS_OF_PATH_MAX)


cdef inline uint32_t loss_noise(Tcb* t, Bbr* b, uint32_t flight) noexcept nogil:
    if not short_queue(b):
        return 0
    return min(LOSS_NOISE_SEGMENTS * t.mss, flight >> LOSS_NOISE_SHIFT)


cdef inline uint32_t bdp(Tcp* s, Tcb* t, Bbr* b, uint64_t bw, uint32_t gain) noexcept nogil:
    """BBRBDPMultiple: before the first round trip was measured, the initial window."""
    if b.min_rtt == 0:
        return bounded(<uint64_t>s.conf.initial_window * t.mss * gain // 100)
    return bounded(<uint64_t>(<double>bw * b.min_rtt / 1e9) * gain // 100)


cdef inline uint32_t quantized(Tcp* s, Tcb* t, Bbr* b, uint32_t inflight) noexcept nogil:
    """BBRQuantizationBudget: enough that pacing by quanta does not starve."""
    cdef uint64_t quantum = <uint64_t>(<double>t.pace_burst * t.pacing_rate / 1e9)
    inflight = max(inflight, max(bounded(3 * quantum), min_pipe(t)))
    if b.state == PROBE_BW_UP:
        inflight += 2 * t.mss
    return inflight


cdef inline uint32_t inflight_of(Tcp* s, Tcb* t, Bbr* b, uint64_t bw, uint32_t gain) noexcept nogil:
    """BBRInflight."""
    return quantized(s, t, b, bdp(s, t, b, bw, gain))


cdef inline uint32_t with_headroom(Tcp* s, Tcb* t, Bbr* b) noexcept nogil:
    """BBRInflightWithHeadroom: leave room for others, but as long as there is no queue a BDP is not too much."""
    cdef uint32_t head, needed
    if b.inflight_longterm == INFINITE:
        return INFINITE
    head = max(t.mss, <uint32_t>(<uint64_t>b.inflight_longterm * HEADROOM // 100))
    needed = min(bdp(s, t, b, b.bw, 100), b.inflight_longterm) if _queue_within(b, NEAR_SHIFT) else 0
    return max(max(b.inflight_longterm - min(head, b.inflight_longterm), needed), min_pipe(t))


cdef inline uint32_t target_inflight(Tcp* s, Tcb* t, Bbr* b) noexcept nogil:
    return min(bdp(s, t, b, b.bw, 100), t.cwnd)
