"""Loss detection by time: see rack.pxd."""
from libc.stdint cimport int64_t, uint32_t
from iip.memory.pool cimport NIL, REC_LOST, REC_RETRANS, REC_SACKED, Packet, pkt
from iip.tcp.rtt cimport rto_backed_off
from iip.tcp.scoreboard cimport expect_next, mark_lost, run_last
from iip.tcp.tcb cimport *
from iip.tcp.wheel cimport wheel_update
from iip.wire.seq cimport seq_geq

cdef enum:
    DUP_THRESH = 3

cdef int64_t PROBE_FLOOR = 2000000          # ns: the shortest wait for a loss probe
cdef int64_t PEER_ACK_DELAY = 200000000     # ns: RFC 8985 §7.2, TLP.max_ack_delay
cdef int64_t FIRST_PROBE = 1000000000       # without an estimate of the round trip


cdef int64_t _reordering_window(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 8985 §6.2 step 4: none until reordering was seen, if three segments were SACKed or loss is certain."""
    if not t.reo_seen and (t.flags & (TF_RECOVERY | TF_LOSS) or t.sacked >= DUP_THRESH * t.mss):
        return 0
    return min(t.reo_mult * (t.min_rtt >> 2), t.srtt)


cdef inline int64_t _left(Tcp* s, Tcb* t, Packet* k, int64_t window) noexcept nogil:
    """Time until a record counts as lost (it is, from 0 on); TIMER_OFF while nothing arrived that was sent later."""
    if k.sent_at > t.rack_xmit or (k.sent_at == t.rack_xmit and seq_geq(k.seq + rec_space(k), t.rack_end)):
        return TIMER_OFF
    return k.sent_at + t.rack_rtt + window - s.now


cdef int64_t _detect_sent_again(Tcp* s, Tcb* t, int64_t window) noexcept nogil:
    """Of what was retransmitted. How long the first that is not lost has left."""
    cdef uint32_t i = t.again_head
    cdef int64_t left
    cdef Packet* k
    while i != NIL:
        k = pkt(s.pool, i)
        left = _left(s, t, k, window)
        if left > 0:
            return left
        mark_lost(s, t, i, k)
        i = t.again_head
    return TIMER_OFF


cdef int64_t _detect_sent_once(Tcp* s, Tcb* t, int64_t window) noexcept nogil:
    """The same of everything else, in the order of the sequence numbers, which is that in which it was sent."""
    cdef uint32_t i = t.rtx_head if t.sent_head == NIL else t.sent_head
    cdef int64_t left
    cdef Packet* k
    while i != NIL:
        k = pkt(s.pool, i)
        t.sent_head = i
        if not k.flags & (REC_SACKED | REC_LOST | REC_RETRANS):
            left = _left(s, t, k, window)
            if left > 0:
                return left
            mark_lost(s, t, i, k)
        expect_next(s, t, k)
        i = pkt(s.pool, run_last(s, i, k)).qnext
    return TIMER_OFF


cdef bint rack_detect(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 8985 §6.2 step 5: mark what was sent before the latest arrival, by more than the reordering window, as
    lost; wait for what may only be late. True if anything was marked."""
    cdef int64_t window, left
    cdef uint32_t lost = t.lost
    if t.rack_xmit == 0:
        return False
    window = _reordering_window(s, t)
    left = min(_detect_sent_again(s, t, window), _detect_sent_once(s, t, window))
    if left != TIMER_OFF:
        t.timer = TM_REORDER
        t.t_rto = s.now + left
        wheel_update(s, t, t.t_rto)
    return t.lost != lost


cdef void rack_dsack(Tcb* t) noexcept nogil:
    """A D-SACK: something was sent again for nothing. A wider reordering window, once per round trip."""
    if not tcp_awaits(t, t.reo_round):
        t.reo_round = t.snd_nxt
        if t.reo_mult < 64:
            t.reo_mult += 1
        t.reo_persist = 16
    t.reo_seen = True


cdef inline bint _may_probe(Tcb* t) noexcept nogil:
    """RFC 8985 §7.2: with SACK, while nothing is known to be missing, and one probe at a time."""
    return (t.flags & TF_SACK and not t.flags & (TF_RECOVERY | TF_LOSS) and not t.sacked and not t.tlp_end
            and not t.backoff)


cdef inline int64_t _probe_wait(Tcb* t) noexcept nogil:
    if t.srtt == 0:
        return FIRST_PROBE
    return 2 * t.srtt + (PEER_ACK_DELAY if t.snd_nxt - t.snd_una <= t.mss else PROBE_FLOOR)


cdef void arm_timer(Tcp* s, Tcb* t) noexcept nogil:
    """After an acknowledgement: a loss probe, not later than the retransmission timer would expire (RFC 8985 §7.2), or
    that timer."""
    cdef int64_t wait = rto_backed_off(s, t)
    t.timer = TM_RTO
    if _may_probe(t):
        t.timer = TM_PROBE
        wait = min(wait, _probe_wait(t))
    t.t_rto = s.now + wait
    wheel_update(s, t, t.t_rto)


cdef void arm_after_sending(Tcp* s, Tcb* t) noexcept nogil:
    """After new data: the probe is for the new end. The retransmission timer goes on as it was (RFC 6298 §5.1)."""
    cdef int64_t at
    if t.timer == TM_REORDER or not _may_probe(t):
        return
    at = s.now + min(_probe_wait(t), rto_backed_off(s, t))
    if t.timer == TM_PROBE or at < t.t_rto:
        t.timer = TM_PROBE
        t.t_rto = at
        wheel_update(s, t, at)
