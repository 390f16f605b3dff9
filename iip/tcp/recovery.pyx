"""Acknowledgements and loss: see recovery.pxd.

Every segment in flight is a record in a queue ordered by sequence number. ACKs take records off the front;
SACK blocks and duplicate ACKs mark them; the output phase sends again what is marked lost.
"""
from libc.stdint cimport int32_t, int64_t
from iip.memory.pool cimport (
    NIL, REC_EVER_RETRANS, REC_FIN, REC_LOST, REC_RETRANS, REC_SACKED, Packet, pkt, pkt_free, pkt_trim_head)
from iip.net.output cimport net_confirm
from iip.tcp.conn cimport mark_dirty, mark_ready
from iip.tcp.rtt cimport rto_backed_off, rtt_sample
from iip.tcp.tcb cimport *
from iip.tcp.wheel cimport wheel_update
from iip.verdict cimport count, tcp_duplicate_acks, tcp_fast_retransmits, tcp_rto_expired
from iip.wire.bytes cimport likely, unlikely
from iip.wire.seq cimport seq_diff, seq_geq, seq_gt, seq_leq, seq_lt, seq_max
from iip.wire.tcp cimport OPT_SACK, OPT_TS, SackBlock

cdef enum:
    DUP_THRESH = 3                # RFC 5681 §3.2, RFC 6675 §2


# -- marks -------------------------------------------------------------------------------------------------

cdef inline void _mark_lost(Tcp* s, Tcb* t, uint32_t i, Packet* k) noexcept nogil:
    if k.flags & (REC_LOST | REC_SACKED):
        return
    k.flags = (k.flags | REC_LOST) & ~<uint32_t>REC_RETRANS
    t.lost += rec_space(k)
    if t.rtx_hint == NIL or seq_lt(k.seq, pkt(s.pool, t.rtx_hint).seq):
        t.rtx_hint = i


cdef inline void _forget_marks(Tcb* t, Packet* k, uint32_t n) noexcept nogil:
    """`n` bytes of the record were acknowledged: take them out of what is counted as marked."""
    if unlikely(k.flags & (REC_SACKED | REC_LOST)):
        if k.flags & REC_SACKED:
            t.sacked -= n
        else:
            t.lost -= n


cdef void _enter_recovery(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 5681 §3.2 step 2, without what limited transmit let out beyond the window; RFC 6675 §5 step 4."""
    count(s.counters, tcp_fast_retransmits)
    t.flags |= TF_RECOVERY | TF_RTX_NOW
    t.recover = t.snd_nxt
    t.ssthresh = t.cc.on_loss(s, t, min(t.snd_nxt - t.snd_una, t.cwnd))
    t.cwnd = t.ssthresh


cdef void _leave_recovery(Tcb* t) noexcept nogil:
    """RFC 6582 §3.2 step 3, full acknowledgement."""
    if t.flags & TF_RECOVERY:
        t.cwnd = t.ssthresh
    t.flags &= ~<uint32_t>(TF_RECOVERY | TF_LOSS | TF_RTX_NOW)
    t.dup_acks = 0
    if not t.flags & TF_SACK:
        t.sacked = 0


# -- new acknowledgements ----------------------------------------------------------------------------------

cdef int64_t _take_acknowledged(Tcp* s, Tcb* t, uint32_t ack, int64_t* resent_at) noexcept nogil:
    """Free the records below `ack`. The send time of the newest of them, or -1 if that says nothing about the
    round trip (Karn: RFC 6298 §3); `resent_at` is then the latest time at which one of them was sent."""
    cdef uint32_t i = t.rtx_head, n, following
    cdef Packet* k
    cdef int64_t sent_at = -1
    cdef bint ambiguous = False
    while i != NIL:
        k = pkt(s.pool, i)
        n = rec_space(k)
        if unlikely(seq_gt(k.seq + n, ack)):
            if seq_lt(k.seq, ack):
                n = ack - k.seq
                _forget_marks(t, k, n)
                pkt_trim_head(s.pool, i, n)
                k.seq = ack
            break
        _forget_marks(t, k, n)
        if unlikely(k.flags & (REC_EVER_RETRANS | REC_SACKED)):
            ambiguous = True      # sent twice, or arrived before what this ACK waited for
            resent_at[0] = max(resent_at[0], k.sent_at)
        sent_at = k.sent_at
        if unlikely(k.flags & REC_FIN):
            t.flags |= TF_FIN_ACKED
        following = k.qnext
        if t.rtx_hint == i:
            t.rtx_hint = following
        pkt_free(s.pool, i)
        i = following
    t.rtx_head = i
    if i == NIL:
        t.rtx_tail = NIL
        t.rtx_hint = NIL
    else:
        pkt(s.pool, i).qprev = NIL
        t.stalled_since = pkt(s.pool, i).first_sent_at
    return -1 if ambiguous else sent_at


cdef inline void _measure(Tcp* s, Tcb* t, Segment* seg, int64_t sent_at, int64_t resent_at) noexcept nogil:
    """A round-trip sample: from the clock when it is unambiguous (Karn), else from the timestamp (RFC 7323 §4).

    The timestamp of an earlier transmission, whose ACK was lost, would measure our own waiting: no sample then,
    and the RTO falls back to what it was. Without timestamps it stays backed off until there is a sample
    (RFC 6298 §5)."""
    cdef int32_t ms
    if sent_at >= 0:
        rtt_sample(s, t, s.now - sent_at)
    elif not t.flags & TF_TS:
        t.rto = rto_backed_off(s, t)
    elif seg.opts & OPT_TS and seg.ts_ecr:
        ms = seq_diff(s.ts_now + t.ts_offset, seg.ts_ecr)
        if ms >= 0 and s.now - <int64_t>ms * 1000000 > resent_at - 2000000:   # two ticks of the clock
            rtt_sample(s, t, <int64_t>ms * 1000000)


cdef void _partial_ack_without_sack(Tcp* s, Tcb* t, uint32_t acked) noexcept nogil:
    """RFC 6582 §3.2 step 3, partial acknowledgement: the next hole is at the front."""
    t.sacked -= min(t.sacked, acked - min(acked, t.mss))
    if t.rtx_head != NIL:
        pkt(s.pool, t.rtx_head).flags &= ~<uint32_t>REC_RETRANS
        _mark_lost(s, t, t.rtx_head, pkt(s.pool, t.rtx_head))
        t.flags |= TF_RTX_NOW


cdef inline void _bound_sacked(Tcb* t) noexcept nogil:
    """Without SACK `sacked` counts duplicate ACKs: an estimate, which must not exceed what is in flight."""
    cdef uint32_t out = t.snd_nxt - t.snd_una
    if t.sacked + t.lost > out:
        t.sacked = out - t.lost


cdef void _ack_in_recovery(Tcp* s, Tcb* t, Segment* seg, uint32_t acked) noexcept nogil:
    if seq_geq(seg.ack, t.recover):
        _leave_recovery(t)
    elif not t.flags & TF_SACK and t.flags & TF_RECOVERY:
        _partial_ack_without_sack(s, t, acked)


cdef void ack_new(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """`seg.ack` acknowledges something new, and nothing that was not sent."""
    cdef uint32_t acked = seg.ack - t.snd_una
    cdef uint32_t in_flight = tcp_in_flight(t)
    cdef uint32_t data = acked
    cdef bint fin_before = t.flags & TF_FIN_ACKED
    cdef int64_t resent_at = 0
    cdef int64_t sent_at = _take_acknowledged(s, t, seg.ack, &resent_at)
    t.snd_una = seg.ack
    net_confirm(s.net, &t.flow)
    _measure(s, t, seg, sent_at, resent_at)
    t.backoff = 0
    t.probes = 0
    if unlikely(t.flags & TF_FIN_ACKED and not fin_before):
        data -= 1
    if data:
        t.acked += data
        t.bytes_acked += data
        mark_ready(s, t, EV_ACKED)
    if unlikely(seg.opts & OPT_SACK and t.flags & TF_SACK):
        _sack_update(s, t, seg)
    if likely(not t.flags & (TF_RECOVERY | TF_LOSS)):
        t.dup_acks = 0
        if not t.flags & TF_SACK:
            t.sacked = 0
        t.cc.on_ack(s, t, acked, in_flight)
    else:
        if t.flags & TF_LOSS and not t.flags & TF_RECOVERY:
            t.cc.on_ack(s, t, acked, in_flight + t.mss)
        _ack_in_recovery(s, t, seg, acked)
        if not t.flags & TF_SACK:
            _bound_sacked(t)
    t.flags &= ~<uint32_t>(TF_CWND_LIMITED | TF_PERSIST)
    if t.snd_una == t.snd_nxt:    # RFC 6298 §5.2, §5.3
        t.t_rto = TIMER_OFF
    else:
        t.t_rto = s.now + t.rto
        wheel_update(s, t, t.t_rto)
    if t.unsent or t.lost or t.flags & TF_FIN_WANTED:
        mark_dirty(s, t)


# -- duplicate acknowledgements and SACK -------------------------------------------------------------------

cdef bint _mark_sacked(Tcp* s, Tcb* t, SackBlock* b) noexcept nogil:
    """Mark the records that a block covers; True if any was new."""
    cdef uint32_t i
    cdef Packet* k
    cdef bint news = False
    if not (seq_lt(b.left, b.right) and seq_geq(b.left, t.snd_una) and seq_leq(b.right, t.snd_nxt)):
        return False              # old, D-SACK (RFC 2883) or nonsense
    i = t.rtx_head
    while i != NIL:
        k = pkt(s.pool, i)
        if seq_geq(k.seq, b.right):
            break
        if seq_geq(k.seq, b.left) and seq_leq(k.seq + rec_space(k), b.right) and not k.flags & REC_SACKED:
            if k.flags & REC_LOST:
                t.lost -= rec_space(k)
            k.flags = (k.flags | REC_SACKED) & ~<uint32_t>(REC_LOST | REC_RETRANS)
            t.sacked += rec_space(k)
            news = True
        i = k.qnext
    return news


cdef void _mark_below_sacked(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 6675 §4, IsLost: a record is lost when more than (DupThresh - 1) * SMSS bytes above it are SACKed."""
    cdef uint32_t i = t.rtx_tail, above = 0, edge
    cdef Packet* k
    while i != NIL and above <= (DUP_THRESH - 1) * t.mss:
        k = pkt(s.pool, i)
        if k.flags & REC_SACKED:
            above += rec_space(k)
        i = k.qprev
    if above <= (DUP_THRESH - 1) * t.mss or i == NIL:
        return
    edge = pkt(s.pool, i).seq + 1
    while i != NIL and seq_geq(pkt(s.pool, i).seq, t.lost_edge):
        k = pkt(s.pool, i)
        if not k.flags & REC_RETRANS:
            _mark_lost(s, t, i, k)
        i = k.qprev
    t.lost_edge = seq_max(edge, t.lost_edge)


cdef bint _sack_update(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """Take the blocks of a segment in; enters recovery when they show loss. True if anything was new."""
    cdef int i
    cdef bint news = False
    for i in range(seg.n_sack):
        if _mark_sacked(s, t, &seg.sack[i]):
            news = True
    if news:
        t.lost_edge = seq_max(t.lost_edge, t.snd_una)
        _mark_below_sacked(s, t)
        if t.lost and not t.flags & (TF_RECOVERY | TF_LOSS):
            _enter_recovery(s, t)
        mark_dirty(s, t)
    return news


cdef void _duplicate_without_sack(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 5681 §3.2, RFC 3042: each duplicate says that one segment has left the network."""
    cdef uint32_t out = t.snd_nxt - t.snd_una
    cdef Packet* k = pkt(s.pool, t.rtx_head)
    if t.sacked + t.lost + t.mss + rec_space(k) <= out:
        t.sacked += t.mss
    if t.dup_acks == DUP_THRESH and not t.flags & (TF_RECOVERY | TF_LOSS) and seq_gt(t.snd_una, t.recover):
        _enter_recovery(s, t)
        _mark_lost(s, t, t.rtx_head, k)
    mark_dirty(s, t)


cdef void ack_duplicate(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """An ACK that repeats `snd_una` while data is in flight."""
    if t.rtx_head == NIL:
        return
    count(s.counters, tcp_duplicate_acks)
    if t.dup_acks < 255:
        t.dup_acks += 1
    if t.flags & TF_SACK:
        if seg.opts & OPT_SACK:
            _sack_update(s, t, seg)
        return
    _duplicate_without_sack(s, t)


# -- timeout -----------------------------------------------------------------------------------------------

cdef void retransmission_timeout(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 5681 §3.1, RFC 6298 §5.4-5.6: everything not SACKed counts as lost, the window restarts at one
    segment. SACK information is dropped when it cannot be true (RFC 2018 §8)."""
    cdef uint32_t i = t.rtx_head
    cdef Packet* k
    cdef bint renege = i != NIL and pkt(s.pool, i).flags & REC_SACKED
    count(s.counters, tcp_rto_expired)
    if not t.flags & TF_LOSS or seq_geq(t.snd_una, t.recover):
        t.ssthresh = t.cc.on_loss(s, t, t.snd_nxt - t.snd_una)
    t.cc.on_timeout(s, t)
    t.flags = (t.flags | TF_LOSS | TF_RTX_NOW) & ~<uint32_t>TF_RECOVERY
    t.recover = t.snd_nxt
    t.lost_edge = t.snd_una
    t.cwnd = t.mss
    t.dup_acks = 0
    if not t.flags & TF_SACK:
        t.sacked = 0
    while i != NIL:
        k = pkt(s.pool, i)
        if renege and k.flags & REC_SACKED:
            t.sacked -= rec_space(k)
            k.flags &= ~<uint32_t>REC_SACKED
        _mark_lost(s, t, i, k)
        i = k.qnext
    mark_dirty(s, t)


cdef void mark_oversized_lost(Tcp* s, Tcb* t) noexcept nogil:
    """The path MTU shrank: records larger than the new MSS are sent again in pieces (RFC 1191 §6.4)."""
    cdef uint32_t i = t.rtx_head
    cdef Packet* k
    while i != NIL:
        k = pkt(s.pool, i)
        if k.total_len > t.mss:
            _mark_lost(s, t, i, k)
        i = k.qnext
    if not t.flags & TF_SACK:
        _bound_sacked(t)
    t.flags |= TF_RTX_NOW
    mark_dirty(s, t)
