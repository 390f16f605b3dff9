"""Acknowledgements and loss: see recovery.pxd.

Every segment in flight is a record in a queue ordered by sequence number. ACKs take records off the front;
SACK blocks and duplicate ACKs mark them; the output phase sends again what is marked lost.
"""
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset
from iip.memory.pool cimport (
    NIL, REC_EVER_RETRANS, REC_FIN, REC_RETRANS, REC_RUN, REC_SACKED, Packet, pkt, pkt_free, pkt_trim_head)
from iip.net.output cimport net_confirm
from iip.tcp.accecn cimport accecn_feedback, accecn_records
from iip.tcp.conn cimport conn_route_options, mark_dirty, mark_ready
from iip.tcp.mtu cimport mtu_black_hole, mtu_probe_arrived, mtu_probe_lost
from iip.tcp.pacing cimport pacing_by_window
from iip.tcp.rack cimport arm_timer, rack_delivered, rack_detect, rack_dsack
from iip.tcp.rate cimport rate_delivered, rate_sample
from iip.tcp.record cimport record_split, segments_of
from iip.tcp.rtt cimport rto_backed_off, rtt_sample
from iip.tcp.sack cimport sack_update
from iip.tcp.scoreboard cimport (
    again_remove, expect_next, first_sent, forget_marks, mark_lost, mark_not_lost, mark_unsent, renew_fack)
from iip.tcp.tcb cimport *
from iip.tcp.window cimport window_is_used
from iip.verdict cimport (
    count, tcp_duplicate_acks, tcp_ecn_reductions, tcp_fast_retransmits, tcp_loss_probe_repairs, tcp_pmtu_reduced,
    tcp_rto_expired, tcp_undone)
from iip.wire.bytes cimport likely, unlikely
from iip.wire.seq cimport seq_diff, seq_geq, seq_gt, seq_lt
from iip.wire.tcp cimport OPT_SACK, OPT_TS, TH_ECE

cdef enum:
    DUP_THRESH = 3                # RFC 5681 §3.2
    BLACK_HOLE_TIMEOUTS = 3       # in a row, before segments become smaller


# -- episodes: recovery, loss, and taking them back --------------------------------------------------------

cdef void _keep_for_undo(Tcb* t) noexcept nogil:
    """The window before an episode that may turn out to be spurious."""
    t.undo = 1
    t.prior_cwnd = t.cwnd
    t.prior_ssthresh = t.ssthresh
    t.undo_marker = t.snd_una
    renew_fack(t)
    if not tcp_awaits(t, t.retrans_high):     # ACKs of an earlier episode's retransmissions say nothing about this one
        t.undo_retrans = 0
        t.retrans_stamp = 0


cdef void _enter_recovery(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 5681 §3.2 step 2, without what limited transmit let out beyond the window; RFC 6675 §5 step 4; RFC 6937
    §3 for the count of what may be sent."""
    count(s.counters, tcp_fast_retransmits)
    _keep_for_undo(t)
    t.flags |= TF_RECOVERY | TF_RTX_NOW
    t.recover = t.snd_nxt
    t.recover_fs = min(t.snd_nxt - t.snd_una, t.cwnd)
    t.prr_delivered = t.prr_out = 0
    _reduce(t, t.cc.on_loss(s, t, t.recover_fs))
    t.tlp_end = 0


cdef void _lost_some(Tcp* s, Tcb* t) noexcept nogil:
    """Records were marked lost outside of any episode."""
    if not mtu_probe_lost(s, t):
        _enter_recovery(s, t)


cdef inline void _reduce(Tcb* t, uint32_t window) noexcept nogil:
    """What the algorithm answered to loss or a mark. One that has a model of the path sets its window itself."""
    t.ssthresh = window
    if not t.cc_mode & CC_MODEL:
        t.cwnd = window


cdef void _leave_recovery(Tcb* t) noexcept nogil:
    """RFC 6582 §3.2 step 3, full acknowledgement."""
    if t.flags & TF_RECOVERY:
        if not t.cc_mode & CC_MODEL:
            t.cwnd = t.ssthresh
        if t.reo_persist:         # RFC 8985 §6.2 step 4: the wide window lasts for 16 recoveries
            t.reo_persist -= 1
            if t.reo_persist == 0:
                t.reo_mult = 1
    t.flags &= ~<uint32_t>(TF_RECOVERY | TF_LOSS | TF_RTX_NOW)
    t.dup_acks = 0
    t.frto = 0
    if not t.flags & TF_SACK:
        t.sacked = 0
        t.undo = 0


cdef void _undo(Tcp* s, Tcb* t) noexcept nogil:
    """Nothing was lost: back to the window before, and what was marked lost is in flight as it was (RFC 4015)."""
    cdef uint32_t i = t.rtx_head
    cdef Packet* k
    count(s.counters, tcp_undone)
    while i != NIL and t.lost:
        k = pkt(s.pool, i)
        mark_not_lost(s, t, i, k)
        i = k.qnext
    t.rtx_hint = t.sent_head = NIL
    if seq_lt(t.undo_marker, t.fack):
        t.reo_seen = True         # it came after what was sent later: the rest of what is missing may, too
    if not t.cc_mode & CC_MODEL:
        t.cwnd = max(t.cwnd, t.prior_cwnd)
        t.ssthresh = max(t.ssthresh, t.prior_ssthresh)
    t.cc.on_undo(s, t)
    t.flags &= ~<uint32_t>(TF_RECOVERY | TF_LOSS | TF_RTX_NOW)
    t.undo = t.frto = 0
    t.dup_acks = 0


cdef bint _was_spurious(Tcb* t, Segment* seg, AckInfo* info, bint advanced) noexcept nogil:
    """Everything that was thought lost arrived before any of it was sent again, as when ACKs come many at once; or the ACK
    answers a segment sent before our first retransmission (Eifel, RFC 3522), or every retransmission was reported as
    superfluous (RFC 3708)."""
    if not t.undo:
        return False
    if t.retrans_stamp == 0:
        return t.lost == 0
    if info.dsack and t.undo_retrans == 0:
        return True
    return advanced and t.flags & TF_TS and seg.opts & OPT_TS and seg.ts_ecr and seq_lt(seg.ts_ecr, t.retrans_stamp)


# -- the congestion window while recovering (RFC 6937) -----------------------------------------------------

cdef void _proportional(Tcb* t, uint32_t delivered, bint safe) noexcept nogil:
    """Proportional rate reduction: sending follows delivery, down to ssthresh, and not below it."""
    cdef uint32_t pipe = tcp_in_flight(t), limit
    cdef uint64_t due
    cdef int64_t send
    if t.cc_mode & CC_MODEL:
        return
    t.prr_delivered += delivered
    if pipe > t.ssthresh:
        due = (<uint64_t>t.prr_delivered * t.ssthresh + t.recover_fs - 1) // max(t.recover_fs, <uint32_t>1)
        send = <int64_t>due - t.prr_out
    else:
        limit = max(t.prr_delivered - t.prr_out if t.prr_delivered > t.prr_out else 0, delivered)
        if safe:
            limit += t.mss
        send = min(t.ssthresh - pipe, limit)
    if t.prr_out == 0 and send < t.mss:
        send = t.mss              # the fast retransmission
    t.cwnd = pipe + <uint32_t>max(send, <int64_t>0)


# -- new acknowledgements ----------------------------------------------------------------------------------

cdef inline void _forget(Tcp* s, Tcb* t, uint32_t i, Packet* k, uint32_t n, AckInfo* info) noexcept nogil:
    """A record, or its first `n` bytes, is acknowledged: what it says, and its marks."""
    if unlikely(k.flags & (REC_EVER_RETRANS | REC_SACKED)):
        info.sent_at = -2         # sent twice, or arrived before what this ACK waited for
        info.resent_at = max(info.resent_at, k.sent_at)
    elif info.sent_at > -2:
        info.sent_at = k.sent_at
    if likely(not k.flags & REC_SACKED):
        info.delivered += n
        if likely(not k.flags & REC_EVER_RETRANS):
            info.original = True
            if unlikely(t.sacked) and seq_lt(k.seq, t.fack):
                t.reo_seen = True
        rack_delivered(s, t, k)
        if unlikely(t.cc_mode & CC_RATE):
            rate_delivered(s, t, k, n, info)
    forget_marks(t, k, n)


cdef uint32_t _take_acknowledged(Tcp* s, Tcb* t, uint32_t ack, AckInfo* info) noexcept nogil:
    """Free the records below `ack`. The sequence numbers that were no data: 1 for our FIN."""
    cdef uint32_t i = t.rtx_head, n, following, no_data = 0
    cdef Packet* k
    while i != NIL:
        k = pkt(s.pool, i)
        following = k.qnext
        expect_next(s, t, k)
        n = rec_space(k)
        if unlikely(seq_gt(k.seq + n, ack)):
            if seq_lt(k.seq, ack):
                n = ack - k.seq
                _forget(s, t, i, k, n, info)
                if likely(k.segs <= 1):
                    info.sent_at = -2
                pkt_trim_head(s.pool, i, n)
                k.segs = <uint16_t>segments_of(t, k.total_len)
                k.seq = ack
            break
        _forget(s, t, i, k, n, info)
        if unlikely(k.flags & REC_RETRANS):
            again_remove(s, t, k)
        if unlikely(k.flags & REC_FIN):
            t.flags |= TF_FIN_ACKED
            no_data = 1
        if unlikely(t.rtx_hint == i):
            t.rtx_hint = NIL      # from the first one on
        if unlikely(t.sent_head == i):
            t.sent_head = NIL
        if unlikely(t.sack_hint == i):
            t.sack_hint = NIL
        if unlikely(t.sack_front == i):
            t.sack_front = NIL
        pkt_free(s.pool, i)
        i = following
    t.rtx_head = i
    if i == NIL:
        t.rtx_tail = NIL
    else:
        t.stalled_since = first_sent(s, pkt(s.pool, i))
    return no_data


cdef inline void _measure(Tcp* s, Tcb* t, Segment* seg, AckInfo* info) noexcept nogil:
    """A round-trip sample: from the clock when it is unambiguous (Karn), else from the timestamp (RFC 7323 §4).

    The timestamp of an earlier transmission, whose ACK was lost, would measure our own waiting: no sample then,
    and the RTO falls back to what it was. Without timestamps it stays backed off until there is a sample
    (RFC 6298 §5)."""
    cdef int32_t ms
    info.rtt = -1
    if likely(info.sent_at >= 0):
        info.rtt = s.now - info.sent_at
        rtt_sample(s, t, info.rtt)
    elif not t.flags & TF_TS:
        t.rto = rto_backed_off(s, t)
    elif seg.opts & OPT_TS and seg.ts_ecr:
        ms = seq_diff(s.ts_now + t.ts_offset, seg.ts_ecr)
        if ms >= 0 and s.now - <int64_t>ms * 1000000 > info.resent_at - 2000000:   # two ticks of the clock
            rtt_sample(s, t, <int64_t>ms * 1000000)


cdef void _head_is_lost(Tcp* s, Tcb* t) noexcept nogil:
    """The first segment in flight; of a record of many only that one, if there is a view for the others."""
    cdef Packet* k = pkt(s.pool, t.rtx_head)
    if k.total_len > t.mss and t.tso and not (t.mtu_probe and k.seq == t.mtu_probe_seq):
        record_split(s, t, t.rtx_head, t.mss)
    mark_lost(s, t, t.rtx_head, pkt(s.pool, t.rtx_head))


cdef void _partial_ack_without_sack(Tcp* s, Tcb* t, uint32_t acked) noexcept nogil:
    """RFC 6582 §3.2 step 3, partial acknowledgement: the next hole is at the front."""
    t.sacked -= min(t.sacked, acked - min(acked, t.mss))
    if t.rtx_head != NIL:
        _head_is_lost(s, t)
        t.flags |= TF_RTX_NOW


cdef inline void _bound_sacked(Tcb* t) noexcept nogil:
    """Without SACK `sacked` counts duplicate ACKs: an estimate, which must not exceed what is in flight."""
    cdef uint32_t out = t.snd_nxt - t.snd_una
    if t.sacked + t.lost > out:
        t.sacked = out - t.lost


cdef void _end_probe(Tcp* s, Tcb* t, Segment* seg, AckInfo* info) noexcept nogil:
    """RFC 8985 §7.4.2: an ACK that covers the loss probe. A retransmission that was needed was a loss."""
    if seq_lt(seg.ack, t.tlp_end):
        return
    if t.tlp_retrans and not info.dsack and seq_gt(seg.ack, t.tlp_end):
        count(s.counters, tcp_loss_probe_repairs)
        _reduce(t, t.cc.on_loss(s, t, t.cwnd))
        t.undo = 0
    t.tlp_end = 0


cdef void _after_timeout(Tcp* s, Tcb* t, AckInfo* info, bint advanced) noexcept nogil:
    """F-RTO (RFC 5682 §3): what arrived of the first transmission says that the timeout was spurious."""
    if not t.frto:
        return
    if info.original and t.undo:
        _undo(s, t)
    elif t.frto == 1 and advanced and t.unsent:
        t.frto = 2                # new data next, instead of retransmissions
    else:
        t.frto = 0


cdef void _episodes(Tcp* s, Tcb* t, Segment* seg, AckInfo* info, bint advanced) noexcept nogil:
    """What this ACK means for an episode of recovery or loss, and whether one begins."""
    cdef bint lost
    if info.dsack:
        rack_dsack(t)
        if t.undo and t.undo_retrans == 0 and not t.flags & (TF_RECOVERY | TF_LOSS):
            _undo(s, t)           # the last D-SACK of an episode comes when it is over
    if t.tlp_end:
        _end_probe(s, t, seg, info)
    if t.flags & (TF_RECOVERY | TF_LOSS):
        if _was_spurious(t, seg, info, advanced):
            _undo(s, t)
        elif t.flags & TF_LOSS:
            _after_timeout(s, t, info, advanced)
    if t.flags & (TF_RECOVERY | TF_LOSS):
        if seq_geq(seg.ack, t.recover):
            _leave_recovery(t)
    if t.flags & TF_SACK:
        lost = (t.sacked or t.flags & (TF_RECOVERY | TF_LOSS)) and rack_detect(s, t)
        if lost and not t.flags & (TF_RECOVERY | TF_LOSS):
            _lost_some(s, t)
        if t.flags & TF_RECOVERY:
            _proportional(t, info.delivered, advanced and not lost)
        if lost or info.news:
            mark_dirty(s, t)


# -- what congestion control is told --------------------------------------------------------------------------

cdef void _echo(Tcp* s, Tcb* t, AckInfo* info) noexcept nogil:
    """RFC 3168 §6.1.2: the peer saw a mark. The window is reduced once in a window of data, and not on top of a
    reduction for loss; CWR tells the peer."""
    if t.flags & (TF_RECOVERY | TF_LOSS) or tcp_awaits(t, t.ecn_end):
        return
    count(s.counters, tcp_ecn_reductions)
    if t.ecn & ECN_OK:
        t.ecn |= ECN_CWR
    t.ecn_end = t.snd_nxt
    _reduce(t, t.cc.on_ecn(s, t, min(info.in_flight, t.cwnd)))
    t.undo = 0


cdef void _congestion_extras(Tcp* s, Tcb* t, AckInfo* info) noexcept nogil:
    """`on_ack` for connections with delivery rates, pacing or ECN."""
    if t.cc_mode & CC_RATE:
        rate_sample(s, t, info)
    if t.ecn & ECN_ACCURATE:
        if info.acked or info.delivered:
            accecn_feedback(s, t, info)
    elif t.ecn & ECN_OK and info.seg.flags & TH_ECE:
        info.ece = True
        info.marked = info.acked
        accecn(s, t).delivered += (info.acked + t.mss - 1) // t.mss
    t.cc.on_ack(s, t, info)
    if info.ece:
        _echo(s, t, info)
    if t.cc_mode & CC_PACED:
        pacing_by_window(s, t)


cdef inline void _congestion(Tcp* s, Tcb* t, AckInfo* info) noexcept nogil:
    if unlikely(t.cc_mode | t.ecn):
        _congestion_extras(s, t, info)
    elif window_is_used(t):
        t.cc.on_ack(s, t, info)


# -- acknowledgements ----------------------------------------------------------------------------------------

cdef void ack_new(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """`seg.ack` acknowledges something new, and nothing that was not sent."""
    cdef uint32_t data = seg.ack - t.snd_una
    cdef AckInfo info
    info.acked = data
    info.in_flight = tcp_in_flight(t)
    info.delivered = info.lost = 0
    info.prior_at = 0
    info.seg = seg
    info.ece = False
    info.sent_at = -1
    info.resent_at = 0
    info.original = info.dsack = info.news = info.recovery = False
    if unlikely(t.ecn):
        info.marked = 0
        info.packets = accecn_records(s, t, seg.ack)
    data -= _take_acknowledged(s, t, seg.ack, &info)
    t.snd_una = seg.ack
    net_confirm(s.net, &t.flow)
    if unlikely(t.mtu_probe) and seq_geq(seg.ack, t.mtu_probe_seq + t.mtu_probe):
        mtu_probe_arrived(s, t)
    _measure(s, t, seg, &info)
    t.backoff = 0
    t.probes = 0
    if data:
        t.acked += data
        t.bytes_acked += data
        mark_ready(s, t, EV_ACKED)
    t.flags &= ~<uint32_t>TF_PERSIST
    if t.snd_una == t.snd_nxt:    # RFC 6298 §5.2, §5.3
        t.t_rto = TIMER_OFF
        t.timer = TM_RTO
        if t.unsent == 0:
            t.busy += s.now - t.busy_at
            t.busy_at = 0
    else:
        arm_timer(s, t)
    if likely(not t.flags & (TF_RECOVERY | TF_LOSS) and not t.sacked and not t.tlp_end and not seg.opts & OPT_SACK):
        t.dup_acks = 0
        _congestion(s, t, &info)
    else:
        _ack_with_news(s, t, seg, &info)
    if t.unsent or t.lost or t.flags & TF_FIN_WANTED:
        mark_dirty(s, t)


cdef inline void _measure_by_sack(Tcb* t, AckInfo* info) noexcept nogil:
    """For congestion control, whose samples would be few when much is reordered."""
    if info.rtt < 0 and info.news and info.original and t.rack_xmit:
        info.rtt = t.rack_rtt


cdef void _ack_with_news(Tcp* s, Tcb* t, Segment* seg, AckInfo* info) noexcept nogil:
    """An ACK during an episode, or one that carries SACK blocks."""
    cdef bint open = not t.flags & (TF_RECOVERY | TF_LOSS)
    cdef bint slow_start = t.flags & TF_LOSS
    cdef uint32_t lost = t.lost_total
    if seg.opts & OPT_SACK and t.flags & TF_SACK:
        sack_update(s, t, seg, info)
        _measure_by_sack(t, info)
    if open:
        t.dup_acks = 0
        if not t.flags & TF_SACK:
            t.sacked = 0
    _episodes(s, t, seg, info, True)
    if t.flags & TF_RECOVERY and not t.flags & TF_SACK:
        _partial_ack_without_sack(s, t, info.acked)
    info.lost = t.lost_total - lost
    info.recovery = t.flags & TF_RECOVERY or not (open or slow_start)
    _congestion(s, t, info)
    if not t.flags & TF_SACK:
        _bound_sacked(t)


# -- duplicate acknowledgements ----------------------------------------------------------------------------

cdef void _duplicate_without_sack(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 5681 §3.2, RFC 3042: each duplicate says that one segment has left the network."""
    cdef uint32_t out = t.snd_nxt - t.snd_una
    cdef Packet* k = pkt(s.pool, t.rtx_head)
    if t.sacked + t.lost + t.mss + min(rec_space(k), t.mss) <= out:
        t.sacked += t.mss
    if (t.dup_acks == DUP_THRESH and not t.flags & (TF_RECOVERY | TF_LOSS) and not tcp_awaits(t, t.recover)
            and t.snd_una != t.recover):
        _head_is_lost(s, t)
        _lost_some(s, t)
    mark_dirty(s, t)


cdef void ack_duplicate(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """An ACK that repeats `snd_una` while data is in flight, or may report the last duplicate of a recovery."""
    cdef AckInfo info
    cdef uint32_t lost = t.lost_total
    if t.rtx_head == NIL and not seg.opts & OPT_SACK:
        return
    count(s.counters, tcp_duplicate_acks)
    if t.dup_acks < 255:
        t.dup_acks += 1
    memset(&info, 0, sizeof(AckInfo))
    info.in_flight = tcp_in_flight(t)
    info.rtt = -1
    info.seg = seg
    if not t.flags & TF_SACK:
        _duplicate_without_sack(s, t)
    elif seg.opts & OPT_SACK:
        sack_update(s, t, seg, &info)
        _measure_by_sack(t, &info)
        if info.news and t.timer == TM_PROBE:
            arm_timer(s, t)       # something arrived out of order: detection is RACK's now
        _episodes(s, t, seg, &info, False)
    info.lost = t.lost_total - lost
    info.recovery = t.flags & TF_RECOVERY
    _congestion(s, t, &info)


# -- timers ------------------------------------------------------------------------------------------------

cdef void reordering_timeout(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 8985 §6.3: what was only late has not come."""
    arm_timer(s, t)
    t.timer = TM_RTO
    if rack_detect(s, t):
        if not t.flags & (TF_RECOVERY | TF_LOSS):
            _lost_some(s, t)
        if t.flags & TF_RECOVERY:
            _proportional(t, 0, False)
        mark_dirty(s, t)


cdef void probe_timeout(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 8985 §7.3: the end of what was sent may be lost, and no later segment tells. Send one more."""
    t.flags |= TF_LOSS_PROBE
    t.timer = TM_RTO
    t.t_rto = s.now + rto_backed_off(s, t)
    mark_dirty(s, t)


cdef void retransmission_timeout(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 5681 §3.1, RFC 6298 §5.4-5.6: everything not SACKed counts as lost, the window restarts at one
    segment. SACK information is dropped when it cannot be true (RFC 2018 §8)."""
    cdef uint32_t i = t.rtx_head
    cdef Packet* k
    cdef bint renege = i != NIL and pkt(s.pool, i).flags & REC_SACKED
    count(s.counters, tcp_rto_expired)
    if t.backoff >= BLACK_HOLE_TIMEOUTS:
        mtu_black_hole(s, t)
    if not t.flags & TF_LOSS or seq_geq(t.snd_una, t.recover):
        if not t.flags & TF_RECOVERY:
            _keep_for_undo(t)
        t.ssthresh = t.cc.on_loss(s, t, t.snd_nxt - t.snd_una)
        t.frto = 1
    else:
        t.frto = 0
    t.flags = (t.flags | TF_LOSS | TF_RTX_NOW) & ~<uint32_t>(TF_RECOVERY | TF_LOSS_PROBE)
    t.recover = t.snd_nxt
    t.dup_acks = 0
    t.tlp_end = 0
    t.timer = TM_RTO
    if not t.flags & TF_SACK:
        t.sacked = 0
    while i != NIL:
        k = pkt(s.pool, i)
        if renege and k.flags & REC_SACKED:
            t.sacked -= rec_space(k)
            k.flags &= ~<uint32_t>(REC_SACKED | REC_RUN)
        mark_lost(s, t, i, k)
        i = k.qnext
    if not t.cc_mode & CC_MODEL:
        t.cwnd = t.mss
    t.cc.on_timeout(s, t)
    if renege:
        memset(t.sack_cache, 0, sizeof(t.sack_cache))
        t.fack = t.snd_una
    mark_dirty(s, t)


cdef void _mark_oversized_lost(Tcp* s, Tcb* t) noexcept nogil:
    """The path MTU shrank: records larger than the new MSS are sent again in pieces (RFC 1191 §6.4)."""
    cdef uint32_t i = t.rtx_head
    cdef Packet* k
    while i != NIL:
        k = pkt(s.pool, i)
        if k.total_len > t.mss:
            mark_unsent(s, t, i, k)
        i = k.qnext
    if not t.flags & TF_SACK:
        _bound_sacked(t)
    t.flags |= TF_RTX_NOW
    mark_dirty(s, t)


cdef void path_changed(Tcp* s, Tcb* t) noexcept nogil:
    """The flow was routed anew, over a path of perhaps another MTU."""
    cdef uint32_t before = t.mss
    conn_route_options(s, t)
    if t.mss < before:
        count(s.counters, tcp_pmtu_reduced)
        _mark_oversized_lost(s, t)
