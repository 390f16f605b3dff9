"""The life of a connection: see conn.pxd."""
from libc.string cimport memset
from iip.memory.pool cimport pkt, pkt_free
from iip.memory.slab cimport slab_alloc, slab_free
from iip.net.route cimport net_route
from iip.net.types cimport CAP_SG, CAP_TSO4, CAP_TSO6, CAP_TX_L4_CSUM
from iip.tcp.acks cimport acks_begin
from iip.tcp.congestion cimport congestion_release, congestion_start
from iip.tcp.demux cimport demux_insert, demux_remove
from iip.tcp.tally cimport tally_opened, tally_remove
from iip.tcp.mtu cimport mtu_begin, mtu_mss
from iip.tcp.tcb cimport *
from iip.tcp.tuning cimport tuning_begin
from iip.tcp.wheel cimport wheel_remove, wheel_update
from iip.verdict cimport count, ok, tcp_closed, tcp_established, tcp_table_full, tcp_time_wait_recycled
from iip.wire.rng cimport siphash_words
from iip.wire.tcp cimport TCP_MAX_WSCALE

cdef enum:
    DEFAULT_MSS4 = 536            # RFC 9293 §3.7.1, when the peer does not say
    DEFAULT_MSS6 = 1220
    HEADERS = 32                  # TCP with timestamps

cdef int64_t KEEPALIVE_IDLE = 7200 * <int64_t>1000000000       # RFC 9293 §3.8.4: two hours, if nothing is set
cdef int64_t RTO_AFTER_SYN = 3000000000     # ns, RFC 6298 §5.7: the SYN was lost and nothing measured yet


cdef uint32_t _keyed(const uint64_t* key, const Addr* local, const Addr* remote, uint16_t lport,
                     uint16_t rport) noexcept nogil:
    cdef uint64_t words[5]
    words[0] = local.hi
    words[1] = local.lo
    words[2] = remote.hi
    words[3] = remote.lo
    words[4] = (<uint64_t>lport << 16) | rport
    return <uint32_t>siphash_words(words, 5, key[0], key[1])


cdef uint32_t conn_isn(Tcp* s, Tcb* t) noexcept nogil:
    """Initial sequence number, RFC 6528 §3: a clock of 4 us plus a keyed hash of the connection."""
    return <uint32_t>(s.now // 4000) + _keyed(s.isn_key, &t.flow.src, &t.flow.dst, t.lport, t.rport)


cdef uint32_t conn_ts_offset(Tcp* s, const Addr* local, const Addr* remote, uint16_t lport, uint16_t rport) noexcept nogil:
    """What a connection adds to the timestamp clock, so that it tells nothing about others (RFC 7323 §5.4)."""
    return _keyed(s.ts_key, local, remote, lport, rport)


cdef uint8_t conn_window_scale(Tcp* s) noexcept nogil:
    """The shift to offer: for the largest receive buffer that may become of it."""
    cdef uint8_t shift = 0
    if s.conf.window_scale:
        while shift < TCP_MAX_WSCALE and s.conf.receive_buffer_max >> shift > 65535:
            shift += 1
    return shift


cdef void _take_settings(Tcp* s, Tcb* t) noexcept nogil:
    """What the application may change later."""
    if not s.conf.nagle:
        t.flags |= TF_NODELAY
    if s.conf.keepalive:
        t.flags |= TF_KEEPALIVE
    t.keep_idle = to_ms(s.conf.keepalive if s.conf.keepalive else KEEPALIVE_IDLE)
    t.keep_interval = to_ms(s.conf.keepalive_interval)
    t.keep_probes = <uint8_t>s.conf.keepalive_probes
    t.user_timeout = to_ms(s.conf.user_timeout)
    t.lowat = s.conf.lowat


cdef Tcb* conn_new(Tcp* s, const Addr* local, const Addr* remote, uint16_t lport, uint16_t rport,
                   int* error) noexcept nogil:
    """A connection in CLOSED with a route, in the table. NULL with a verdict (not counted) in `error` when every
    slot is taken (the oldest in TIME-WAIT gives way) or there is no route."""
    cdef int64_t i = slab_alloc(s.tcbs)
    cdef Tcb* t
    if i < 0 and s.tw_head != NIL:
        count(s.counters, tcp_time_wait_recycled)
        conn_release(s, tcb(s, s.tw_head))
        i = slab_alloc(s.tcbs)
    if i < 0:
        error[0] = tcp_table_full
        return NULL
    t = tcb(s, <uint32_t>i)
    memset(t, 0, sizeof(Tcb))
    t.id = <uint32_t>i
    t.gen = s.tcbs.gens[i]
    t.flow.src = local[0]
    t.flow.dst = remote[0]
    t.flow.df = 1
    t.lport = lport
    t.rport = rport
    t.unsent_head = t.unsent_tail = t.rtx_head = t.rtx_tail = t.rtx_hint = NIL
    t.sent_head = t.again_head = t.again_tail = t.sack_hint = t.sack_front = NIL
    t.reo_mult = 1
    t.rx_head = t.rx_tail = t.ooo_head = t.ooo_tail = NIL
    t.tw_next = t.tw_prev = t.ooo_next = t.ooo_prev = NIL
    t.t_rto = t.t_ack = t.t_idle = t.t_misc = t.t_pace = t.wheel_at = TIMER_OFF
    t.rto = s.conf.rto_initial
    t.rcv_buf = s.conf.receive_buffer
    t.snd_buf = s.conf.send_buffer
    t.last_rx = t.last_data = s.now
    t.cc = s.conf.cc
    t.challenge_at = -1           # never
    _take_settings(s, t)
    error[0] = net_route(s.net, &t.flow)
    if error[0] != ok:
        slab_free(s.tcbs, t.id)
        return NULL
    t.iss = conn_isn(s, t)
    t.ts_offset = conn_ts_offset(s, local, remote, lport, rport)
    t.snd_una = t.snd_nxt = t.iss
    t.recover = t.fack = t.reo_round = t.usage_end = t.ecn_end = t.retrans_high = t.snd_sml = t.iss
    t.mss = DEFAULT_MSS4 if t.flow.version == 4 else DEFAULT_MSS6
    t.ssthresh = 0x7FFFFFFF
    t.rcv_wscale = conn_window_scale(s)
    demux_insert(s, t)
    return t


cdef uint16_t _largest_record(Tcp* s, Tcb* t) noexcept nogil:
    """Payload bytes that the device takes at once: an IP packet has at most 65535. 0: it cuts no segments."""
    cdef uint32_t headers = (20 if t.flow.version == 4 else 40) + HEADERS
    if not s.net.caps & (CAP_TSO4 if t.flow.version == 4 else CAP_TSO6):
        return 0
    if t.ecn & ECN_ACCURATE:
        return 0                  # devices clear CWR in all but the first segment, and it is a bit of the counter
    if (s.net.caps & (CAP_SG | CAP_TX_L4_CSUM)) != (CAP_SG | CAP_TX_L4_CSUM):
        return 0                  # it would have to take it in pieces, and to make the checksums
    return <uint16_t>min(s.conf.tso, 65535 - headers)


cdef void conn_route_options(Tcp* s, Tcb* t) noexcept nogil:
    """The size of segments, once the options or the path are known."""
    if t.peer_mss == 0:
        t.peer_mss = DEFAULT_MSS4 if t.flow.version == 4 else DEFAULT_MSS6
    t.mss = mtu_mss(s, t)
    t.tso = _largest_record(s, t)


cdef void conn_half_open_done(Tcp* s, Tcb* t) noexcept nogil:
    if t.flags & TF_HALF_OPEN:
        t.flags &= ~<uint32_t>TF_HALF_OPEN
        s.n_half_open -= 1
        tally_opened(s, t)
        if t.fastopen & FO_OPEN:
            s.n_fastopen -= 1


cdef void conn_begin(Tcp* s, Tcb* t) noexcept nogil:
    """Data may flow: what paces and sizes it begins."""
    mtu_begin(s, t)
    congestion_start(s, t)
    acks_begin(s, t)
    tuning_begin(s, t)


cdef void conn_established(Tcp* s, Tcb* t) noexcept nogil:
    """Our SYN is acknowledged: enter ESTABLISHED. A connection that Fast Open opened has been in use since its SYN."""
    cdef bint early = (t.fastopen & FO_OPEN) != 0, waited = t.backoff > 0, lost = t.backoff > 1
    conn_half_open_done(s, t)
    count(s.counters, tcp_established)
    t.state = ESTABLISHED
    t.backoff = 0
    t.t_rto = TIMER_OFF
    if not early:
        conn_begin(s, t)
        if lost:
            t.cwnd = t.mss        # RFC 5681 §3.1; one lost SYN is forgiven (RFC 6928 §2)
    if waited and t.srtt == 0:
        t.rto = max(t.rto, min(RTO_AFTER_SYN, s.conf.rto_max))
    if t.flags & TF_KEEPALIVE:
        t.t_idle = s.now + from_ms(t.keep_idle)
        wheel_update(s, t, t.t_idle)
    if not t.flags & TF_ORPHAN and not early:
        mark_ready(s, t, EV_ACCEPTED if t.flags & TF_PASSIVE else EV_CONNECTED)


cdef void _drop_queue(Tcp* s, uint32_t head) noexcept nogil:
    cdef uint32_t following
    while head != NIL:
        following = pkt(s.pool, head).qnext
        pkt_free(s.pool, head)
        head = following


cdef void conn_drop_payload(Tcp* s, Tcb* t) noexcept nogil:
    """Payload that the application will not see any more."""
    _drop_queue(s, t.rx_head)
    t.rx_head = t.rx_tail = NIL


cdef void conn_drop_out_of_order(Tcp* s, Tcb* t) noexcept nogil:
    if t.ooo_head == NIL:
        return
    _drop_queue(s, t.ooo_head)
    t.ooo_head = t.ooo_tail = NIL
    s.n_ooo -= t.n_ooo
    t.n_ooo = 0
    conn_gap_closed(s, t)


# -- connections with a gap, the oldest first -------------------------------------------------------------------

cdef void conn_gap_opened(Tcp* s, Tcb* t) noexcept nogil:
    t.ooo_prev = s.ooo_tail
    t.ooo_next = NIL
    if s.ooo_tail != NIL:
        tcb(s, s.ooo_tail).ooo_next = t.id
    else:
        s.ooo_head = t.id
    s.ooo_tail = t.id


cdef void conn_gap_closed(Tcp* s, Tcb* t) noexcept nogil:
    if t.ooo_prev != NIL:
        tcb(s, t.ooo_prev).ooo_next = t.ooo_next
    else:
        s.ooo_head = t.ooo_next
    if t.ooo_next != NIL:
        tcb(s, t.ooo_next).ooo_prev = t.ooo_prev
    else:
        s.ooo_tail = t.ooo_prev
    t.ooo_next = t.ooo_prev = NIL


cdef void _drop_queues(Tcp* s, Tcb* t) noexcept nogil:
    _drop_queue(s, t.unsent_head)
    _drop_queue(s, t.rtx_head)
    t.unsent_head = t.unsent_tail = t.rtx_head = t.rtx_tail = t.rtx_hint = NIL
    t.unsent = t.sacked = t.lost = 0
    t.sent_head = t.again_head = t.again_tail = t.sack_hint = t.sack_front = NIL
    conn_drop_out_of_order(s, t)


cdef void _unlink_time_wait(Tcp* s, Tcb* t) noexcept nogil:
    if t.tw_prev != NIL:
        tcb(s, t.tw_prev).tw_next = t.tw_next
    elif s.tw_head == t.id:
        s.tw_head = t.tw_next
    if t.tw_next != NIL:
        tcb(s, t.tw_next).tw_prev = t.tw_prev
    elif s.tw_tail == t.id:
        s.tw_tail = t.tw_prev
    t.tw_next = t.tw_prev = NIL


cdef void _finish(Tcp* s, Tcb* t, int reason) noexcept nogil:
    """The application will hear that it is over, after the payload that still waits for it."""
    t.close_reason = <uint8_t>reason
    if t.flags & TF_USED or t.events & EV_ACCEPTED:
        mark_ready(s, t, EV_CLOSED)


cdef void conn_close(Tcp* s, Tcb* t, int reason) noexcept nogil:
    """Enter CLOSED: nothing is sent any more (but an RST that was asked for), the slot is released once the
    application was told."""
    if t.state == CLOSED:
        return
    if t.state == TIME_WAIT:
        conn_release(s, t)
        return
    conn_half_open_done(s, t)
    count(s.counters, tcp_closed)
    t.state = CLOSED
    t.flags &= ~<uint32_t>(TF_ACK_NOW | TF_ACK_LATER | TF_SEND_SYN | TF_PROBE)
    if reason != CLOSE_NORMAL:
        conn_drop_payload(s, t)
    _drop_queues(s, t)
    t.t_rto = t.t_ack = t.t_idle = t.t_misc = t.t_pace = TIMER_OFF
    wheel_remove(s, t)
    demux_remove(s, t)
    _finish(s, t, reason)
    if not t.flags & TF_USED and not t.events & EV_ACCEPTED:
        t.events = 0
    mark_dirty(s, t)              # the output phase sends the RST and releases the slot


cdef void conn_time_wait(Tcp* s, Tcb* t) noexcept nogil:
    """Enter TIME-WAIT: the application is told now, the slot stays for 2 MSL (RFC 9293 §3.10.7.4)."""
    t.state = TIME_WAIT
    count(s.counters, tcp_closed)
    _drop_queues(s, t)
    t.t_rto = t.t_pace = TIMER_OFF
    t.t_idle = s.now + s.conf.time_wait
    wheel_update(s, t, t.t_idle)
    t.tw_prev = s.tw_tail
    t.tw_next = NIL
    if s.tw_tail != NIL:
        tcb(s, s.tw_tail).tw_next = t.id
    else:
        s.tw_head = t.id
    s.tw_tail = t.id
    s.n_time_wait += 1
    _finish(s, t, CLOSE_NORMAL)


cdef void conn_release(Tcp* s, Tcb* t) noexcept nogil:
    """Give the slot back; its handle is void from now on. Only for connections on no list, or in TIME-WAIT."""
    if t.state == TIME_WAIT:
        _unlink_time_wait(s, t)
        s.n_time_wait -= 1
        t.state = CLOSED
        wheel_remove(s, t)
        demux_remove(s, t)
        if t.flags & (TF_DIRTY | TF_READY):
            mark_dirty(s, t)      # an ACK or a callback is still to come: the output phase releases it
            return
    wheel_remove(s, t)
    demux_remove(s, t)
    conn_drop_payload(s, t)
    _drop_queues(s, t)
    if t.flags & TF_PASSIVE:
        tally_remove(s, t)
    congestion_release(s, t)
    slab_free(s.tcbs, t.id)
