"""What leaves: see output.pxd."""
from libc.stdint cimport int32_t
from libc.string cimport memset
from iip.memory.order cimport order_note
from iip.memory.pool cimport (
    NIL, REC_EVER_RETRANS, REC_FIN, REC_LOST, REC_PUSH, REC_RETRANS, REC_SACKED, Packet, pkt, pkt_detail, pool_low,
    pool_very_low, pool_views_low)
from iip.net.route cimport net_route
from iip.net.state cimport net_tx_room
from iip.tcp.acks cimport acks_wait
from iip.tcp.conn cimport conn_close, conn_release, mark_dirty, mark_ready
from iip.tcp.mtu cimport mtu_probe_size
from iip.tcp.options cimport options_cork_over
from iip.tcp.congestion cimport congestion_after_idle, congestion_sent
from iip.tcp.pacing cimport pacing_open, pacing_quantum, pacing_wait
from iip.tcp.rack cimport arm_after_sending, arm_timer
from iip.tcp.rate cimport rate_app_limited
from iip.tcp.record cimport record_cut, record_cut_by_device, record_frame, record_split, segments_of
from iip.tcp.recovery cimport path_changed
from iip.tcp.rtt cimport rto_backed_off
from iip.tcp.scoreboard cimport again_append, again_remove, expect_next, mark_unsent, run_last
from iip.tcp.segment cimport send_control, send_segment
from iip.tcp.syn cimport send_rst, send_syn
from iip.tcp.tcb cimport *
from iip.tcp.wheel cimport wheel_update
from iip.verdict cimport (
    count, count_n, neighbour_table_full, ok, tcp_loss_probes, tcp_mtu_probes, tcp_out_data, tcp_retransmits, tx_no_buffer,
    tx_queue_full)
from iip.wire.bytes cimport likely, unlikely
from iip.wire.seq cimport seq_diff, seq_geq, seq_gt
from iip.wire.tcp cimport *

cdef enum:
    MANY_VIEWS = 64               # a frame of many segments takes as many at most


cdef inline bint _is_mtu_probe(Tcb* t, Packet* k) noexcept nogil:
    """Whether the record is a probe that leaves for the first time: one packet, and larger than the others."""
    return t.mtu_probe != 0 and k.seq == t.mtu_probe_seq and k.n_sent == 1


cdef inline bint _must_wait(Tcp* s, Tcb* t) noexcept nogil:
    """Pacing: not yet."""
    if likely(not t.cc_mode & CC_PACED) or pacing_open(s, t):
        return False
    pacing_wait(s, t)
    return True


cdef inline bint _transmit(Tcp* s, Tcb* t, uint32_t rec) noexcept nogil:
    """Send a record, for the first or another time."""
    cdef Packet* k = pkt(s.pool, rec)
    cdef uint8_t flags = TH_ACK
    cdef uint32_t p = record_frame(s, rec)
    if unlikely(p == NIL):
        count(s.counters, tx_no_buffer)
        return False
    if k.flags & REC_PUSH:
        flags |= TH_PSH
    if k.flags & REC_FIN:
        flags |= TH_FIN
    k.sent_at = s.now
    k.n_sent += 1
    k.segs = 1
    if unlikely(k.total_len > t.mss) and not _is_mtu_probe(t, k):
        record_cut_by_device(s, t, k, p)
    t.data_segs_out += k.segs
    if unlikely(t.cc_mode):
        congestion_sent(s, t, k)
    if unlikely(t.ecn & ECN_SHAKE and t.state >= ESTABLISHED):
        send_control(s, t, k.seq, TH_ACK)     # RFC 9768 §3.2.2.1: a pure ACK before data tells of the SYN-ACK
    elif unlikely(t.ecn & ECN_OK) and k.n_sent == 1 and k.total_len:
        return _send_capable(s, t, p, k.seq, flags)
    return send_segment(s, t, p, k.seq, flags)


cdef bint _send_capable(Tcp* s, Tcb* t, uint32_t p, uint32_t seq, uint8_t flags) noexcept nogil:
    """New data, and nothing else, is ECN-capable (RFC 3168 §6.1.4, §6.1.5); it brings CWR (§6.1.2)."""
    cdef bint sent
    if t.ecn & ECN_CWR:
        t.ecn &= ~<uint8_t>ECN_CWR
        flags |= TH_CWR
    t.flow.tos |= ECT_0
    sent = send_segment(s, t, p, seq, flags)
    t.flow.tos &= ~<uint8_t>ECN_FIELD
    return sent


# -- retransmission ----------------------------------------------------------------------------------------

cdef inline bint _may_be_large(Tcp* s, Tcb* t) noexcept nogil:
    """Whether the device cuts segments, and there are pieces enough for a frame of many. CWR is for one segment, and not
    every device knows: it leaves alone."""
    return t.tso > t.mss and not t.ecn & ECN_CWR and not pool_low(s.pool) and not pool_views_low(s.pool, MANY_VIEWS)


cdef inline uint32_t _at_once(Tcb* t) noexcept nogil:
    """Bytes that the device and pacing take at once."""
    return min(t.tso, pacing_quantum(t)) if unlikely(t.cc_mode & CC_PACED) else t.tso


cdef bint _resegment(Tcp* s, Tcb* t, uint32_t rec) noexcept nogil:
    """A lost record is longer than a segment: only as much of it leaves as the congestion window and the device
    take at once. False when no view is left."""
    cdef uint32_t n = t.mss, in_flight = tcp_in_flight(t)
    if _may_be_large(s, t) and in_flight + t.mss < t.cwnd:
        n = max(min(_at_once(t), t.cwnd - in_flight), t.mss)
        n -= n % t.mss
    return pkt(s.pool, rec).total_len <= n or record_split(s, t, rec, n) != NIL


cdef bint _transmit_again(Tcp* s, Tcb* t, uint32_t rec, Packet* k) noexcept nogil:
    if k.n_sent == 1:
        pkt_detail(s.pool, k).first_sent_at = k.sent_at
    return _transmit(s, t, rec)


cdef void _note_retransmission(Tcp* s, Tcb* t, Packet* k) noexcept nogil:
    """For the counters, and for finding out later whether it was needed."""
    k.flags |= REC_EVER_RETRANS
    count_n(s.counters, tcp_retransmits, k.segs)
    t.n_retransmits += k.segs
    t.bytes_retrans += k.total_len
    t.mtu_probe = 0               # if it was that: it tells nothing any more
    if not tcp_awaits(t, t.retrans_high) or seq_gt(k.seq + rec_space(k), t.retrans_high):
        t.retrans_high = k.seq + rec_space(k)
    if t.undo:
        t.undo_retrans += k.segs
        if t.retrans_stamp == 0:
            t.retrans_stamp = s.ts_now + t.ts_offset
    if t.flags & TF_RECOVERY:
        t.prr_out += k.total_len
    _start_rto(s, t)


cdef bint _retransmit_lost(Tcp* s, Tcb* t) noexcept nogil:
    """Send what is marked lost, oldest first, as far as the congestion window allows."""
    cdef uint32_t i = t.rtx_head if t.rtx_hint == NIL else t.rtx_hint
    cdef Packet* k
    while t.lost and i != NIL:
        k = pkt(s.pool, i)
        if not k.flags & REC_LOST:
            expect_next(s, t, k)
            i = pkt(s.pool, run_last(s, i, k)).qnext
            t.rtx_hint = i
            continue
        if tcp_in_flight(t) + min(k.total_len, t.mss) > t.cwnd and not t.flags & TF_RTX_NOW and tcp_in_flight(t):
            t.cwnd_limited |= CWND_IS_LIMITED
            return True
        if _must_wait(s, t):
            return True
        if net_tx_room(s.net) == 0:
            count(s.counters, tx_queue_full)
            return False
        if k.total_len > t.mss and not _resegment(s, t, i):
            return False
        if not _transmit_again(s, t, i, k):
            return False
        t.flags &= ~<uint32_t>TF_RTX_NOW
        t.lost -= rec_space(k)
        k.flags &= ~<uint32_t>REC_LOST
        again_append(s, t, i, k)
        _note_retransmission(s, t, k)
        i = k.qnext
        t.rtx_hint = i
    return True


# -- new data ----------------------------------------------------------------------------------------------

cdef inline bint _start_rto(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 6298 §5.1: the timer runs while anything is unacknowledged. False when it did already."""
    if t.t_rto == TIMER_OFF or t.flags & TF_PERSIST:
        t.flags &= ~<uint32_t>TF_PERSIST
        arm_timer(s, t)
        return True
    return False


cdef inline void _timer_for_new(Tcp* s, Tcb* t) noexcept nogil:
    """New data left."""
    if not _start_rto(s, t):
        arm_after_sending(s, t)


cdef void _limited(Tcp* s, Tcb* t, int by) noexcept nogil:
    """For `Connection.info`: what keeps us from sending, and since when."""
    if t.limited_by:
        return
    if not t.modes & MD_LIMITED:
        t.modes |= MD_LIMITED
        memset(limits(s, t), 0, sizeof(Limits))
    limits(s, t).at = s.now
    t.limited_by = <uint8_t>by


cdef void _not_limited(Tcp* s, Tcb* t) noexcept nogil:
    """Something was sent. The window may have closed again behind it."""
    cdef Limits* limit = limits(s, t)
    if limit.at == s.now:
        return
    if t.limited_by == LIM_WINDOW:
        limit.rwnd += s.now - limit.at
    else:
        limit.sndbuf += s.now - limit.at
    t.limited_by = 0
    if t.unsent and seq_diff(t.snd_una + t.snd_wnd, t.snd_nxt) <= 0:
        _limited(s, t, LIM_WINDOW)


cdef inline bint _short_in_flight(Tcb* t) noexcept nogil:
    """Minshall's modification of Nagle's algorithm: only a short segment makes the next short one wait, so that the
    end of a long write does not."""
    return seq_gt(t.snd_sml, t.snd_una) and seq_diff(t.snd_nxt, t.snd_sml) >= 0


cdef uint32_t _sendable_at_once(Tcp* s, Tcb* t, uint32_t room) noexcept nogil:
    """How many bytes the next frame takes that the device cuts: whole segments, as many as the windows allow, and what
    is short behind them if it need not wait. 0: what can leave is one segment at most."""
    cdef uint32_t n = min(min(t.unsent, _at_once(t)), room), in_flight = tcp_in_flight(t)
    n = min(n, t.cwnd - in_flight if in_flight < t.cwnd else 0)
    if n <= t.mss or not _may_be_large(s, t):
        return 0
    if n == t.unsent and (t.flags & TF_FIN_WANTED or (
            not t.flags & TF_CORK and (t.flags & TF_NODELAY or not _short_in_flight(t)))):
        return n
    return n - n % t.mss


cdef inline uint32_t _sendable(Tcp* s, Tcb* t) noexcept nogil:
    """How many bytes the next segment takes: 0 when the window, the congestion window, Nagle (RFC 9293
    §3.7.4) or silly-window avoidance (§3.8.6.2.1) say wait."""
    cdef int32_t room = seq_diff(t.snd_una + t.snd_wnd, t.snd_nxt)
    cdef uint32_t n = min(t.unsent, t.mss), in_flight
    if unlikely(room <= 0):
        _limited(s, t, LIM_WINDOW)
        return 0
    if unlikely(t.unsent > t.mss) and t.tso > t.mss:
        n = _sendable_at_once(s, t, <uint32_t>room)
        if n:
            return n
        n = t.mss
    if <uint32_t>room < n:
        n = <uint32_t>room
    in_flight = tcp_in_flight(t)
    if unlikely(in_flight + n > t.cwnd) and in_flight:
        t.cwnd_limited |= CWND_IS_LIMITED
        return 0
    if n < t.mss:
        if n == t.unsent:
            if t.flags & TF_FIN_WANTED:
                return n
            if unlikely(t.flags & TF_CORK):
                return n if options_cork_over(s, t) else 0
            if not t.flags & TF_NODELAY and _short_in_flight(t):
                return 0
        elif n < t.max_wnd // 2 and not t.flags & TF_PROBE:
            return 0
    return n


cdef inline void _append_record(Tcp* s, Tcb* t, uint32_t rec, Packet* k) noexcept nogil:
    k.seq = t.snd_nxt
    k.n_sent = 0
    k.segs = 1
    k.qnext = NIL
    k.sent_at = s.now
    if t.rtx_tail == NIL:
        t.rtx_head = rec
        t.stalled_since = s.now
        if t.busy_at == 0:
            t.busy_at = s.now
    else:
        pkt(s.pool, t.rtx_tail).qnext = rec
    t.rtx_tail = rec
    order_note(&s.flight, rec, k)
    t.snd_nxt += rec_space(k)


cdef void _send_mtu_probe(Tcp* s, Tcb* t) noexcept nogil:
    """One segment that is larger than the others."""
    cdef uint32_t n = mtu_probe_size(s, t), rec
    cdef Packet* k
    if n == 0 or net_tx_room(s.net) == 0 or pool_very_low(s.pool):
        return
    rec = record_cut(s, t, n)
    if rec == NIL:
        return
    k = pkt(s.pool, rec)
    t.unsent -= k.total_len
    k.flags &= 0xFFFF
    _append_record(s, t, rec, k)
    count(s.counters, tcp_out_data)
    count(s.counters, tcp_mtu_probes)
    _start_rto(s, t)
    t.mtu_probe = <uint16_t>k.total_len
    t.mtu_probe_seq = k.seq
    if not _transmit(s, t, rec):
        mark_unsent(s, t, rec, k)


cdef bint _send_new(Tcp* s, Tcb* t) noexcept nogil:
    """New data and the FIN. False when memory or the transmit queue ended before the windows did."""
    cdef uint32_t n, rec, segments
    cdef Packet* k
    while t.unsent or (t.flags & (TF_FIN_WANTED | TF_FIN_SENT)) == TF_FIN_WANTED:
        n = _sendable(s, t) if t.unsent else 0
        if n == 0 and (t.unsent or seq_diff(t.snd_una + t.snd_wnd, t.snd_nxt) <= 0):
            return True
        if _must_wait(s, t):
            return True
        if net_tx_room(s.net) == 0:
            count(s.counters, tx_queue_full)
            return False
        rec = NIL if unlikely(pool_very_low(s.pool)) else record_cut(s, t, n)
        if rec == NIL:
            count(s.counters, tx_no_buffer)
            return False
        k = pkt(s.pool, rec)
        t.unsent -= k.total_len
        k.flags &= 0xFFFF
        if t.unsent == 0:
            if k.total_len:
                k.flags |= REC_PUSH
            if unlikely(t.flags & TF_FIN_WANTED) and seq_diff(t.snd_una + t.snd_wnd, t.snd_nxt + k.total_len) > 0:
                k.flags |= REC_FIN
                _fin_leaves(t)
        _append_record(s, t, rec, k)
        segments = segments_of(t, k.total_len)
        if k.total_len < segments * t.mss:
            t.snd_sml = t.snd_nxt
        count_n(s.counters, tcp_out_data, segments)
        if not _transmit(s, t, rec):
            # it has its place in the queue: the retransmission path sends it as soon as there is room
            mark_unsent(s, t, rec, k)
            return False
        if unlikely(t.flags & TF_RECOVERY):
            t.prr_out += k.total_len
    return True


cdef uint32_t _last_segment(Tcp* s, Tcb* t, uint32_t rec) noexcept nogil:
    """The last segment of a record as a record of its own; NIL when no view is left."""
    return record_split(s, t, rec, (pkt(s.pool, rec).total_len - 1) // t.mss * t.mss)


cdef bint _send_loss_probe(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 8985 §7.3: a new segment if the peer's window has room for one, else the last one once more."""
    cdef uint32_t i = t.rtx_tail, cwnd = t.cwnd
    cdef Packet* k
    t.flags &= ~<uint32_t>TF_LOSS_PROBE
    if i == NIL or t.tlp_end:
        return True
    count(s.counters, tcp_loss_probes)
    t.tlp_retrans = False
    if t.unsent and seq_diff(t.snd_una + t.snd_wnd, t.snd_nxt) >= <int32_t>min(t.unsent, t.mss):
        t.cwnd = tcp_in_flight(t) + min(t.unsent, t.mss)     # one more than the window allows
        if not _send_new(s, t):
            t.cwnd = cwnd
            return False
        t.cwnd = cwnd
    if t.rtx_tail == i:
        if pkt(s.pool, i).total_len > t.mss:
            i = _last_segment(s, t, i)
            if i == NIL:
                return False
        k = pkt(s.pool, i)
        if not _transmit_again(s, t, i, k):
            return False
        if k.flags & REC_RETRANS:
            again_remove(s, t, k)
        if not k.flags & (REC_SACKED | REC_LOST):
            again_append(s, t, i, k)
        _note_retransmission(s, t, k)
        t.tlp_retrans = True
    t.tlp_end = t.snd_nxt
    t.timer = TM_RTO
    t.t_rto = s.now + rto_backed_off(s, t)
    wheel_update(s, t, t.t_rto)
    return True


cdef void _fin_leaves(Tcb* t) noexcept nogil:
    t.flags |= TF_FIN_SENT
    if t.state == ESTABLISHED:
        t.state = FIN_WAIT_1
    elif t.state == CLOSE_WAIT:
        t.state = LAST_ACK


cdef void _start_persist(Tcp* s, Tcb* t) noexcept nogil:
    """Data waits, the window is shut and nothing is in flight: probe it (RFC 9293 §3.8.6.1)."""
    if t.snd_nxt != t.snd_una or t.t_rto != TIMER_OFF or t.t_pace != TIMER_OFF:
        return
    if not t.unsent and (t.flags & (TF_FIN_WANTED | TF_FIN_SENT)) != TF_FIN_WANTED:
        return
    if t.flags & TF_CORK and t.snd_wnd >= t.unsent and t.snd_wnd >= t.mss:
        return
    if not t.flags & TF_PERSIST:
        t.persist_since = s.now
    t.flags |= TF_PERSIST
    t.t_rto = s.now + rto_backed_off(s, t)
    wheel_update(s, t, t.t_rto)


# -- acknowledgements --------------------------------------------------------------------------------------

cdef bint _owed_ack(Tcp* s, Tcb* t) noexcept nogil:
    """Send the ACK that is owed now, or leave it to the timer (RFC 9293 §3.8.6.3). One ACK answers everything
    that came in this run."""
    if not t.flags & (TF_ACK_NOW | TF_ACK_LATER):
        return True
    if not t.flags & TF_ACK_NOW and acks_wait(s, t):
        return True
    if t.quick_acks:
        t.quick_acks -= 1
    while t.dup_owed > 1:
        if not send_control(s, t, t.snd_nxt, TH_ACK):
            return False
        t.dup_owed -= 1
    t.dup_owed = 0
    return send_control(s, t, t.snd_nxt, TH_ACK)


# -- the output phase --------------------------------------------------------------------------------------

cdef inline void _note_usage(Tcb* t) noexcept nogil:
    """New data left: how much of the window is used, for `window_is_used`."""
    cdef uint32_t out = t.snd_nxt - t.snd_una
    if (t.cwnd_limited & CWND_IS_LIMITED or seq_geq(t.snd_una, t.usage_end)
            or (not t.cwnd_limited and out > t.usage)):
        t.usage = out
        t.usage_end = t.snd_nxt
        t.cwnd_limited >>= 1      # what is becomes what was


cdef void _tell_of_room(Tcp* s, Tcb* t) noexcept nogil:
    """The application could not send all it had."""
    if t.modes & MD_HELD and t.unsent < t.lowat:
        t.modes &= ~<uint32_t>MD_HELD
        mark_ready(s, t, EV_ACKED)
    if t.modes & MD_SHORT:
        t.modes &= ~<uint32_t>MD_SHORT
        if t.unsent == 0 and t.rtx_head != NIL:
            _limited(s, t, LIM_BUFFER)


cdef bint _flush_open(Tcp* s, Tcb* t) noexcept nogil:
    """A connection in a synchronized state. False when it has to come back. An ACK that is owed leaves even when
    there is no memory for data: it lets the peer free some."""
    cdef uint32_t before
    cdef bint done = not unlikely(t.flags & TF_LOSS_PROBE) or _send_loss_probe(s, t)
    if likely(done) and t.lost and t.frto != 2:
        done = _retransmit_lost(s, t)
    if likely(done) and (t.unsent or t.flags & TF_FIN_WANTED):
        before = t.snd_nxt
        if unlikely(t.modes & MD_MTU_PROBING):
            _send_mtu_probe(s, t)
        if before == t.snd_una and unlikely(s.now - t.last_data > t.rto or t.cc_mode & CC_MODEL):
            congestion_after_idle(s, t)
        done = _send_new(s, t)
        if t.snd_nxt != before:
            t.last_data = s.now
            _note_usage(t)
            _timer_for_new(s, t)
            if unlikely(t.limited_by):
                _not_limited(s, t)
            if s.now - t.data_rx_at < t.ato:
                t.modes |= MD_PINGPONG
        if likely(done):
            _start_persist(s, t)
    if unlikely(t.cc_mode & CC_RATE) and t.unsent < t.mss and not t.lost and tcp_in_flight(t) < t.cwnd:
        rate_app_limited(t)
    if unlikely(t.flags & TF_STARVED) and not pool_low(s.pool) and not pool_views_low(s.pool, 2):
        t.flags &= ~<uint32_t>TF_STARVED
        mark_ready(s, t, EV_ACKED)
    if unlikely(t.modes & (MD_HELD | MD_SHORT)):
        _tell_of_room(s, t)
    if unlikely(t.flags & TF_PROBE):
        # what the override of silly-window avoidance (§3.8.6.2.1) let out is a probe, too
        if t.snd_nxt == t.snd_una and not send_control(s, t, t.snd_una - 1, TH_ACK):
            return False
        t.flags &= ~<uint32_t>TF_PROBE
    return _owed_ack(s, t) and done


cdef bint _send_early(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 7413 §4.2.2: the answer to what came with the SYN need not wait for the end of the handshake. A FIN does."""
    cdef uint32_t kept = t.flags & (TF_FIN_WANTED | TF_NODELAY)
    cdef bint done
    t.flags = (t.flags & ~<uint32_t>TF_FIN_WANTED) | TF_NODELAY
    done = _send_new(s, t)
    if t.rtx_head != NIL:
        _start_rto(s, t)
    t.flags = (t.flags & ~<uint32_t>TF_NODELAY) | kept
    return done


cdef bint _flush_opening(Tcp* s, Tcb* t) noexcept nogil:
    """A connection whose handshake is not over. False when it has to come back."""
    cdef bint done = True
    if t.flags & TF_SEND_SYN:
        done = send_syn(s, t)
    elif t.flags & TF_ACK_NOW:
        done = send_control(s, t, t.snd_nxt, TH_ACK)
    if unlikely(t.fastopen & FO_OPEN) and done and t.snd_nxt != t.iss:
        done = _send_early(s, t)
    return done


cdef void _flush_one(Tcp* s, Tcb* t) noexcept nogil:
    cdef bint done = True
    cdef int verdict
    cdef uint16_t mtu
    if unlikely(t.flow.route_gen != s.net.route_gen) and t.state != CLOSED:
        mtu = t.flow.mtu
        verdict = net_route(s.net, &t.flow)
        if verdict == neighbour_table_full:       # for the moment
            mark_dirty(s, t)
            return
        if verdict != ok:
            conn_close(s, t, CLOSE_UNREACHABLE)
            return
        if t.flow.mtu != mtu and t.state >= SYN_RCVD:
            path_changed(s, t)
    if likely(t.state >= ESTABLISHED):
        done = _flush_open(s, t)
    elif t.state == CLOSED:
        if t.flags & TF_SEND_RST:
            done = send_rst(s, t)
        elif t.flags & TF_ACK_NOW:     # of a FIN whose TIME-WAIT is over in the same run
            done = send_control(s, t, t.snd_nxt, TH_ACK)
        if done and not t.flags & TF_READY:
            conn_release(s, t)
            return
        done = False
    else:
        done = _flush_opening(s, t)
    if unlikely(not done or t.flags & TF_STARVED):
        mark_dirty(s, t)


cdef void _put_back(Tcp* s, uint32_t first, uint32_t last) noexcept nogil:
    """Connections that could not be flushed come first in the next run."""
    tcb(s, last).dirty_next = s.dirty_head
    if s.dirty_head == NIL:
        s.dirty_tail = last
    s.dirty_head = first


cdef void tcp_flush(Tcp* s) noexcept nogil:
    """Flush every dirty connection once. When the transmit queue is full the others wait for the next run,
    untouched: a run costs what it sends, however many want to."""
    cdef uint32_t i = s.dirty_head, last = s.dirty_tail
    cdef Tcb* t
    s.dirty_head = s.dirty_tail = NIL
    while i != NIL:
        if unlikely(net_tx_room(s.net) == 0):
            count(s.counters, tx_queue_full)
            _put_back(s, i, last)
            return
        t = tcb(s, i)
        i = t.dirty_next
        t.flags &= ~<uint32_t>TF_DIRTY
        _flush_one(s, t)
