"""What arrives: see input.pxd. Every function returns the verdict on the segment."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from iip.memory.pool cimport NIL, Packet, pkt, pkt_data, pkt_free, pkt_pull
from iip.net.checksum cimport net_rx_l4_checksum_ok
from iip.net.link cimport net_pullup
from iip.net.route cimport net_pmtu_update, net_route
from iip.net.types cimport IcmpError, IpRx, addr_eq
from iip.tcp.acks cimport acks_quick
from iip.tcp.conn cimport (
    conn_close, conn_established, conn_time_wait, mark_dirty)
from iip.tcp.demux cimport demux_lookup
from iip.tcp.fastopen cimport fastopen_answered, fastopen_reset
from iip.tcp.limits cimport rate_allows
from iip.tcp.lookahead cimport note_meeting
from iip.tcp.passive cimport listening, passive_cookie, passive_syn
from iip.tcp.rack cimport arm_timer
from iip.tcp.syn cimport take_syn, tcp_send_rst_for
from iip.tcp.ecn cimport ecn_input, ecn_repeated_syn
from iip.tcp.receive cimport receive_behind_gap, receive_data, receive_in_order, receive_note_duplicate, receive_text
from iip.tcp.recovery cimport ack_duplicate, ack_new, path_changed
from iip.tcp.rtt cimport rtt_sample
from iip.tcp.tcb cimport *
from iip.tcp.wheel cimport wheel_update
from iip.verdict cimport *
from iip.wire.bytes cimport likely, unlikely
from iip.wire.seq cimport seq_diff, seq_geq, seq_gt, seq_leq, seq_lt
from iip.wire.tcp cimport *

cdef enum:
    FAST_FLAGS = TH_FIN | TH_SYN | TH_RST | TH_ACK | TH_URG

cdef int64_t PAWS_AGE = 24 * 86400 * <int64_t>1000000000      # RFC 7323 §5.5
cdef int64_t CHALLENGE_INTERVAL = 1000000                     # one per connection and ms, RFC 5961 §7


# -- parsing -----------------------------------------------------------------------------------------------

cdef int _pull_up(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil:
    """The header is spread over pieces, or claims more than there is: bring it together and parse again."""
    cdef uint32_t have = min(rx.l4_len, 60), i = net_pullup(s.net, rx.pkt, rx.l4_off + have)
    if i == NIL:
        return tcp_rx_no_buffer
    rx.pkt = i
    if (pkt_data(pkt(s.pool, i))[rx.l4_off + 12] >> 4) * 4 > have:
        return tcp_bad_header
    return _parse(s, rx, seg)


cdef inline int _parse(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil:
    """Header and options, bounds and checksum. Afterwards the packet's data is the payload."""
    cdef Packet* k = pkt(s.pool, rx.pkt)
    cdef const uint8_t* p
    cdef int found
    if unlikely(rx.l4_len < TCP_HEADER):
        return tcp_bad_header
    if unlikely(k.len < rx.l4_off + TCP_HEADER or k.len < rx.l4_off + (pkt_data(k)[rx.l4_off + 12] >> 4) * 4):
        return _pull_up(s, rx, seg)
    p = pkt_data(k) + rx.l4_off
    tcp_parse_header(p, seg)
    if unlikely(seg.header < TCP_HEADER or seg.header > rx.l4_len):
        return tcp_bad_header
    if unlikely(not net_rx_l4_checksum_ok(s.net, rx)):
        return tcp_bad_checksum
    seg.pkt = rx.pkt
    seg.len = rx.l4_len - seg.header
    seg.ecn = rx.tos & ECN_FIELD
    if likely(seg.header == 32 and tcp_timestamps_only(p, seg)):
        pass
    elif seg.header > TCP_HEADER:
        found = tcp_parse_options(p, seg)
        if unlikely(found < 0):
            return tcp_signed if found == SIGNED else tcp_bad_options
    if unlikely(rx.multicast or seg.sport == 0 or seg.dport == 0):
        return tcp_bad_address
    if unlikely(seg.sport == seg.dport and addr_eq(&rx.src, &rx.dst)):
        return tcp_bad_address    # a "land" packet
    pkt_pull(k, rx.l4_off + seg.header)
    return ok


# -- helpers -----------------------------------------------------------------------------------------------

cdef int _drop(Tcp* s, Segment* seg, int verdict) noexcept nogil:
    pkt_free(s.pool, seg.pkt)
    return verdict


cdef void _owe_ack(Tcp* s, Tcb* t) noexcept nogil:
    t.flags |= TF_ACK_NOW
    mark_dirty(s, t)


cdef inline bint _may_challenge(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 5961 §7: limits for the connection, so that no storm builds up, and for all of them together."""
    if t.challenge_at >= 0 and s.now - t.challenge_at < CHALLENGE_INTERVAL:
        return False
    t.challenge_at = s.now
    return rate_allows(&s.challenges, &s.rng, s.now, s.conf.challenge_rate)


cdef int _challenge(Tcp* s, Tcb* t, Segment* seg, int verdict) noexcept nogil:
    """RFC 5961: answer with an ACK, not more often than the limit, and drop."""
    if _may_challenge(s, t):
        count(s.counters, tcp_challenge_ack)
        _owe_ack(s, t)
    else:
        count(s.counters, tcp_challenge_limited)
    return _drop(s, seg, verdict)


cdef inline uint32_t _window(Tcb* t, Segment* seg) noexcept nogil:
    return seg.wnd << t.snd_wscale


cdef inline void _update_window(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """RFC 9293 §3.10.7.4, fifth: only from segments that are newer than the last update."""
    cdef uint32_t wnd = _window(t, seg)
    if seq_lt(t.snd_wl1, seg.seq) or (t.snd_wl1 == seg.seq and seq_leq(t.snd_wl2, seg.ack)):
        if unlikely(wnd != t.snd_wnd):
            if wnd > t.snd_wnd and (t.unsent or t.flags & TF_PERSIST):
                mark_dirty(s, t)
                if t.flags & TF_PERSIST:
                    t.flags &= ~<uint32_t>TF_PERSIST
                    t.t_rto = TIMER_OFF
                    t.backoff = 0
            t.snd_wnd = wnd
            if wnd > t.max_wnd:
                t.max_wnd = wnd
        t.snd_wl1 = seg.seq
        t.snd_wl2 = seg.ack


# -- no connection: CLOSED and LISTEN (§3.10.7.1, §3.10.7.2) -------------------------------------------------

cdef int _input_no_connection(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil:
    cdef Tcb* t
    cdef int verdict
    if seg.flags & TH_RST:
        return _drop(s, seg, tcp_no_connection)
    if listening(s, seg.dport):
        if seg.flags & (TH_SYN | TH_ACK | TH_FIN) == TH_SYN:
            return passive_syn(s, rx, seg, NULL)
        if not seg.flags & TH_ACK:
            return _drop(s, seg, tcp_bad_flags)
        if not seg.flags & TH_SYN and s.now < s.cookies_until:
            t = passive_cookie(s, rx, seg, &verdict)
            return _input_synchronized(s, t, rx, seg) if t != NULL else _drop(s, seg, verdict)
    tcp_send_rst_for(s, rx, seg)
    return _drop(s, seg, tcp_no_connection)


# -- SYN-SENT (§3.10.7.3) ----------------------------------------------------------------------------------

cdef int _input_syn_sent(Tcp* s, Tcb* t, IpRx* rx, Segment* seg) noexcept nogil:
    cdef bint acceptable = False
    cdef uint32_t offered = t.rcv_adv - t.rcv_nxt         # by our SYN
    if seg.flags & TH_ACK:
        if seq_leq(seg.ack, t.iss) or seq_gt(seg.ack, t.snd_nxt):
            tcp_send_rst_for(s, rx, seg)
            return _drop(s, seg, tcp_bad_ack)
        acceptable = True
    if seg.flags & TH_RST:
        if acceptable:
            count(s.counters, tcp_reset_received)
            conn_close(s, t, CLOSE_REFUSED)
        return _drop(s, seg, tcp_rst_in)
    if not seg.flags & TH_SYN:
        return _drop(s, seg, tcp_bad_flags)
    take_syn(s, t, seg)
    if not acceptable:            # simultaneous open
        t.state = SYN_RCVD
        t.backoff = 0
        t.flags |= TF_SEND_SYN
        mark_dirty(s, t)
        return _drop(s, seg, tcp_in_segments)
    if t.backoff == 0:
        rtt_sample(s, t, s.now - t.syn_sent_at)
    t.last_rx = s.now
    t.snd_una = t.iss + 1
    t.rcv_adv = t.rcv_nxt + offered
    conn_established(s, t)
    if unlikely(seg.ack != t.snd_una):            # data that went with our SYN
        ack_new(s, t, seg)
    if unlikely(t.fastopen):
        fastopen_answered(s, t, seg)
    _owe_ack(s, t)
    if seg.len or seg.flags & TH_FIN:
        seg.seq += 1
        return receive_text(s, t, seg)
    return _drop(s, seg, tcp_in_segments)


# -- TIME-WAIT ---------------------------------------------------------------------------------------------

cdef int _input_time_wait(Tcp* s, Tcb* t, IpRx* rx, Segment* seg) noexcept nogil:
    """RFC 9293 §3.10.7.4 with RFC 1337 (RST ignored) and RFC 6191 (a new SYN may reuse the connection)."""
    cdef bint newer
    if seg.flags & TH_RST:
        return _drop(s, seg, tcp_rst_in)
    if seg.flags & (TH_SYN | TH_ACK) == TH_SYN and listening(s, seg.dport):
        if t.flags & TF_TS and seg.opts & OPT_TS:
            newer = seq_gt(seg.ts_val, t.ts_recent) or (seg.ts_val == t.ts_recent and seq_gt(seg.seq, t.rcv_nxt))
        else:
            newer = seq_gt(seg.seq, t.rcv_nxt)
        if newer:
            count(s.counters, tcp_time_wait_reused)
            return passive_syn(s, rx, seg, t)
    if seg.flags & TH_FIN:
        t.t_idle = s.now + s.conf.time_wait
    elif seg.len == 0 and seg.seq == t.rcv_nxt and not seg.flags & TH_SYN:
        return _drop(s, seg, tcp_old_duplicate)   # a bare ACK: two of us would answer each other for ever
    _owe_ack(s, t)
    return _drop(s, seg, tcp_old_duplicate)


# -- synchronized states (§3.10.7.4) -----------------------------------------------------------------------

cdef bint _paws_rejects(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """RFC 7323 §5.3, R1: an old timestamp, unless what we remember is older than 24 days."""
    return (t.flags & TF_TS and seg.opts & OPT_TS and not seg.flags & TH_RST
            and seq_lt(seg.ts_val, t.ts_recent) and s.now - t.ts_recent_at < PAWS_AGE)


cdef bint _acceptable(Tcb* t, Segment* seg) noexcept nogil:
    """The four cases of RFC 9293 §3.10.7.4, first."""
    cdef int32_t wnd = seq_diff(t.rcv_adv, t.rcv_nxt)
    cdef uint32_t space = seg.len + ((seg.flags & TH_SYN) >> 1) + (seg.flags & TH_FIN)
    if wnd <= 0:
        return seg.seq == t.rcv_nxt               # also with text: its ACK is still good
    if space == 0:
        return seq_geq(seg.seq, t.rcv_nxt) and seq_leq(seg.seq, t.rcv_adv)
    return seq_lt(seg.seq, t.rcv_adv) and seq_gt(seg.seq + space, t.rcv_nxt)


cdef int _repeated_syn(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """The SYN that opened this connection, again: so is the answer, if the application has given one."""
    if unlikely(t.ecn & ECN_ACCURATE):
        ecn_repeated_syn(s, t, seg)
    if t.flags & TF_ASKED or not t.flags & TF_PASSIVE:
        t.flags |= TF_SEND_SYN
        mark_dirty(s, t)
    return _drop(s, seg, tcp_old_duplicate)


cdef int _unacceptable(Tcp* s, Tcb* t, Segment* seg, int verdict) noexcept nogil:
    """Answer with an ACK and drop; a repeated SYN of a connection that is opening gets our SYN again."""
    if seg.flags & TH_RST:
        return _drop(s, seg, tcp_out_of_window)
    if t.state == SYN_RCVD and seg.flags & TH_SYN and seg.seq == t.irs:
        return _repeated_syn(s, t, seg)
    if unlikely(t.ecn & ECN_ACCURATE) and seg.flags & TH_SYN and seg.seq == t.irs:
        ecn_repeated_syn(s, t, seg)
    if seg.len == 0 and not seg.flags & (TH_SYN | TH_FIN):
        if t.challenge_at >= 0 and s.now - t.challenge_at < CHALLENGE_INTERVAL:
            count(s.counters, tcp_challenge_limited)
            return _drop(s, seg, verdict)     # the two ends would answer each other for ever
        t.challenge_at = s.now
    _owe_ack(s, t)
    if seg.len:
        if seq_lt(seg.seq, t.rcv_nxt):
            receive_note_duplicate(s, t, seg.seq, seg.len)
        t.modes &= ~<uint32_t>MD_PINGPONG
        acks_quick(s, t)
    if t.ooo_head != NIL and not t.flags & TF_SACK:
        t.dup_owed = 1
    return _drop(s, seg, verdict)


cdef int _input_rst(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """RFC 5961 §3.2: only the exact sequence number resets."""
    cdef int reason = CLOSE_RESET
    if seg.seq != t.rcv_nxt:
        return _challenge(s, t, seg, tcp_rst_challenged)
    count(s.counters, tcp_reset_received)
    if unlikely(t.fastopen & FO_OPEN):
        fastopen_reset(s)
    if t.state == SYN_RCVD and not t.flags & TF_PASSIVE:
        reason = CLOSE_REFUSED
    conn_close(s, t, reason)
    return _drop(s, seg, tcp_rst_in)


cdef int _ack_of_syn(Tcp* s, Tcb* t, IpRx* rx, Segment* seg) noexcept nogil:
    """SYN-RECEIVED: the ACK that completes the handshake."""
    if seq_leq(seg.ack, t.snd_una) or seq_gt(seg.ack, t.snd_nxt) or t.snd_nxt == t.iss:
        tcp_send_rst_for(s, rx, seg)
        return _drop(s, seg, tcp_bad_ack)
    if t.backoff == 0:
        rtt_sample(s, t, s.now - t.syn_sent_at)
    t.snd_una = t.iss + 1
    t.snd_wnd = _window(t, seg)
    t.max_wnd = max(t.max_wnd, t.snd_wnd)
    t.snd_wl1 = seg.seq
    t.snd_wl2 = seg.ack
    conn_established(s, t)
    if unlikely(t.rtx_head != NIL):               # data of Fast Open, in flight since before
        arm_timer(s, t)
    mark_dirty(s, t)
    return ok


cdef bint _is_duplicate(Tcb* t, Segment* seg) noexcept nogil:
    """RFC 5681 §2: a duplicate acknowledgement; with SACK, any that carries blocks."""
    if seg.ack != t.snd_una or (t.snd_una == t.snd_nxt and not t.undo) or seg.flags & (TH_SYN | TH_FIN):
        return False
    if seg.opts & OPT_SACK and t.flags & TF_SACK:
        return True
    return seg.len == 0 and _window(t, seg) == t.snd_wnd


cdef int _input_ack(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """Fifth: the ACK field, with the validity range of RFC 5961 §5.2."""
    if seq_gt(seg.ack, t.snd_nxt):
        return _challenge(s, t, seg, tcp_bad_ack)
    if seq_lt(seg.ack, t.snd_una):
        if seq_lt(seg.ack, t.snd_una - t.max_wnd):
            return _challenge(s, t, seg, tcp_bad_ack)
        return ok                 # old, but its text may be new
    if seg.ack != t.snd_una:
        ack_new(s, t, seg)
    elif _is_duplicate(t, seg):
        ack_duplicate(s, t, seg)
    elif t.flags & TF_PERSIST or t.probes:
        t.probes = 0              # a probe was answered
    _update_window(s, t, seg)
    return ok


cdef bint _after_our_fin(Tcp* s, Tcb* t) noexcept nogil:
    """State changes that the acknowledgement of our FIN brings. True when the connection is over."""
    if not t.flags & TF_FIN_ACKED:
        return False
    if t.state == FIN_WAIT_1:
        t.state = FIN_WAIT_2
        if t.flags & TF_ORPHAN:
            t.t_idle = s.now + s.conf.fin_wait2
            wheel_update(s, t, t.t_idle)
    elif t.state == CLOSING:
        conn_time_wait(s, t)
    elif t.state == LAST_ACK:
        conn_close(s, t, CLOSE_NORMAL)
        return True
    return False


cdef inline bint _is_crossed_syn(Tcb* t, Segment* seg) noexcept nogil:
    """Simultaneous open: the SYN-ACK of a peer whose SYN we have."""
    return (not t.flags & TF_PASSIVE and seg.flags & (TH_SYN | TH_ACK | TH_RST) == TH_SYN | TH_ACK
            and seg.seq == t.irs and seg.ack == t.snd_nxt)


cdef int _input_synchronized(Tcp* s, Tcb* t, IpRx* rx, Segment* seg) noexcept nogil:
    cdef int verdict
    if unlikely(t.state == SYN_RCVD) and _is_crossed_syn(t, seg):
        seg.flags &= ~<uint8_t>TH_SYN
        seg.seq += 1
        seg.wnd >>= t.snd_wscale  # never scaled in a SYN (RFC 7323 §2.2)
    if unlikely(_paws_rejects(s, t, seg)):
        return _unacceptable(s, t, seg, tcp_paws)
    if unlikely(t.state == SYN_RCVD and seg.flags & (TH_SYN | TH_ACK) == TH_SYN and seg.seq == t.irs):
        return _repeated_syn(s, t, seg)
    if unlikely(t.flags & TF_TS and not seg.opts & OPT_TS) and s.conf.strict_timestamps and not seg.flags & TH_RST:
        return _drop(s, seg, tcp_no_timestamp)    # RFC 7323 §3.2
    if unlikely(not _acceptable(t, seg)):
        return _unacceptable(s, t, seg, tcp_out_of_window)
    if unlikely(seg.flags & TH_RST):
        return _input_rst(s, t, seg)
    if unlikely(seg.flags & TH_SYN):
        if t.state == SYN_RCVD and t.flags & TF_PASSIVE:
            conn_close(s, t, CLOSE_RESET)         # back to LISTEN
            return _drop(s, seg, tcp_syn_in_window)
        return _challenge(s, t, seg, tcp_syn_in_window)
    if unlikely(not seg.flags & TH_ACK):
        return _drop(s, seg, tcp_bad_flags)
    if unlikely(t.ecn):
        ecn_input(s, t, seg)
    if t.flags & TF_TS and seg.opts & OPT_TS and seq_leq(seg.seq, t.last_ack_sent):
        if seq_geq(seg.ts_val, t.ts_recent) or s.now - t.ts_recent_at >= PAWS_AGE:
            t.ts_recent = seg.ts_val
            t.ts_recent_at = s.now
    if unlikely(t.state == SYN_RCVD):
        verdict = _ack_of_syn(s, t, rx, seg)
        if verdict != ok:
            return verdict
    verdict = _input_ack(s, t, seg)
    if verdict != ok:
        return verdict
    t.last_rx = s.now
    if _after_our_fin(s, t):
        return _drop(s, seg, tcp_in_segments)
    if seg.len == 0 and not seg.flags & TH_FIN:
        return _drop(s, seg, tcp_in_segments)
    if unlikely(t.flags & TF_FIN_RCVD):          # nothing comes after the peer's FIN
        _owe_ack(s, t)
        return _drop(s, seg, tcp_old_duplicate)
    if unlikely(t.flags & TF_ORPHAN) and seg.len and seq_gt(seg.seq + seg.len, t.rcv_nxt):
        return _text_after_close(s, t, rx, seg)
    return receive_text(s, t, seg)


cdef int _text_after_close(Tcp* s, Tcb* t, IpRx* rx, Segment* seg) noexcept nogil:
    """Nobody will read this: say so (RFC 9293 §3.6.1, MUST-17 of RFC 1122 §4.2.2.13)."""
    tcp_send_rst_for(s, rx, seg)
    conn_close(s, t, CLOSE_ABORTED)
    return _drop(s, seg, tcp_after_close)


# -- header prediction -------------------------------------------------------------------------------------

cdef inline bint _predicted(Tcb* t, Segment* seg) noexcept nogil:
    """The two common cases of an established connection: the next data, or an ACK and nothing else."""
    return (t.state == ESTABLISHED and (seg.flags & FAST_FLAGS) == TH_ACK and seg.seq == t.rcv_nxt
            and not t.flags & (TF_ORPHAN | TF_FIN_KNOWN | TF_RECOVERY | TF_LOSS) and t.ooo_head == NIL
            and seg.ack - t.snd_una <= t.snd_nxt - t.snd_una
            and seg.len <= t.rcv_adv - t.rcv_nxt
            and not seg.opts & OPT_SACK
            and (not t.flags & TF_TS or (seg.opts & OPT_TS and seq_geq(seg.ts_val, t.ts_recent))))


cdef int _input_predicted(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    t.last_rx = s.now
    if unlikely(t.ecn):
        ecn_input(s, t, seg)
    if t.flags & TF_TS and seq_leq(seg.seq, t.last_ack_sent):
        t.ts_recent = seg.ts_val
        t.ts_recent_at = s.now
    if seg.ack != t.snd_una:
        ack_new(s, t, seg)
    elif seg.len == 0 and _is_duplicate(t, seg):
        ack_duplicate(s, t, seg)
    elif t.probes:
        t.probes = 0
    _update_window(s, t, seg)
    if seg.len == 0:
        return _drop(s, seg, tcp_in_acks)
    receive_in_order(s, t, receive_data(s, t, seg), seg.len)
    mark_dirty(s, t)
    return tcp_in_order


cdef inline bint _predicted_behind_gap(Tcb* t, Segment* seg) noexcept nogil:
    """The third case, while something is missing: data that may wait, and tells nothing else that is new."""
    cdef uint32_t ahead = seg.seq - t.rcv_nxt, window = t.rcv_adv - t.rcv_nxt
    return (t.state == ESTABLISHED and (seg.flags & FAST_FLAGS) == TH_ACK and seg.len and seg.ack == t.snd_una
            and ahead != 0 and ahead <= window and ahead + seg.len <= window
            and not t.flags & (TF_ORPHAN | TF_FIN_KNOWN) and not t.ecn and not seg.opts & OPT_SACK
            and (not t.flags & TF_TS or (seg.opts & OPT_TS and seq_geq(seg.ts_val, t.ts_recent))))


cdef int _input_behind_gap(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    t.last_rx = s.now
    t.probes = 0
    _update_window(s, t, seg)
    return receive_behind_gap(s, t, seg)


cdef int tcp_input(Tcp* s, IpRx* rx) noexcept nogil:
    """One segment. Takes the packet; returns the verdict."""
    cdef Segment seg
    cdef Tcb* t
    cdef int verdict = _parse(s, rx, &seg)
    if unlikely(verdict != ok):
        pkt_free(s.pool, rx.pkt)
        return verdict
    t = demux_lookup(s, &rx.dst, &rx.src, seg.dport, seg.sport)
    if unlikely(t == NULL):
        return _input_no_connection(s, rx, &seg)
    t.segs_in += 1
    note_meeting(s, t)
    if likely(_predicted(t, &seg)):
        return _input_predicted(s, t, &seg)
    if t.ooo_head != NIL and _predicted_behind_gap(t, &seg):
        return _input_behind_gap(s, t, &seg)
    if t.state == SYN_SENT:
        return _input_syn_sent(s, t, rx, &seg)
    if t.state == TIME_WAIT:
        return _input_time_wait(s, t, rx, &seg)
    return _input_synchronized(s, t, rx, &seg)


# -- ICMP --------------------------------------------------------------------------------------------------

cdef void _path_mtu(Tcp* s, Tcb* t, uint32_t mtu) noexcept nogil:
    """Note the new path MTU and take it over (RFC 1191 §6, RFC 8201 §5)."""
    net_pmtu_update(s.net, &t.flow.dst, mtu)
    net_route(s.net, &t.flow)
    path_changed(s, t)


cdef bint _is_hard(IcmpError* e) noexcept nogil:
    """Protocol or port unreachable (RFC 1122 §4.2.3.9), administratively prohibited."""
    if e.version == 4:
        return e.type == 3 and e.code in (2, 3, 9, 10, 13)
    return e.type == 1 and e.code in (1, 4)


cdef bint _no_way(IcmpError* e) noexcept nogil:
    """Unreachable, time exceeded or a bad header: soft errors for a connection that is open, but one that is being opened
    fails at once, so that the application can try another address (RFC 5461 §4.1)."""
    if e.version == 4:
        return e.type in (3, 11, 12)
    return e.type in (1, 3, 4)


cdef void tcp_icmp(Tcp* s, IcmpError* e) noexcept nogil:
    """An ICMP error about a segment of ours (RFC 5927: it must quote a sequence number in flight; it ends
    only connections that are opening)."""
    cdef Tcb* t = demux_lookup(s, &e.src, &e.dst, e.src_port, e.dst_port)
    if t == NULL or t.state == TIME_WAIT:
        count(s.counters, icmp_error_not_ours)
        return
    if e.quoted < 8 or seq_lt(e.seq, t.snd_una) or seq_geq(e.seq, t.snd_nxt):
        count(s.counters, tcp_icmp_out_of_window)
        return
    if e.mtu or (e.version == 4 and e.type == 3 and e.code == 4) or (e.version == 6 and e.type == 2):
        _path_mtu(s, t, e.mtu)
    elif (t.state == SYN_SENT and _no_way(e)) or (t.state == SYN_RCVD and _is_hard(e)):
        count(s.counters, tcp_icmp_hard_error)
        conn_close(s, t, CLOSE_UNREACHABLE)
    else:
        count(s.counters, tcp_icmp_soft_error)
