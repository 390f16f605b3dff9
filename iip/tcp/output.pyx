"""What leaves: see output.pxd."""
from libc.stdint cimport int32_t, int64_t, uint64_t
from iip.memory.pool cimport (
    NIL, PKT_EXTERNAL, PKT_INDIRECT, REC_EVER_RETRANS, REC_FIN, REC_LOST, REC_PUSH, REC_RETRANS, Packet, pkt,
    pkt_alloc, pkt_clone, pkt_copy_out, pkt_data, pkt_free, pkt_pull, pkt_push, pkt_slice, pkt_tailroom)
from iip.net.checksum cimport net_l4_checksum
from iip.net.output cimport net_output
from iip.net.route cimport net_route
from iip.net.state cimport net_tx_room
from iip.net.types cimport CAP_SG, PROTO_TCP, Flow
from iip.tcp.conn cimport conn_close, conn_release, mark_dirty
from iip.tcp.rtt cimport rto_backed_off
from iip.tcp.tcb cimport *
from iip.tcp.wheel cimport wheel_update
from iip.verdict cimport (
    count, count_n, neighbour_table_full, ok, tcp_delayed_acks, tcp_out_data, tcp_out_segments, tcp_retransmits, tcp_rst_out,
    tx_no_buffer, tx_queue_full)
from iip.wire.bytes cimport likely, store16, store32, unlikely
from iip.wire.seq cimport seq_diff, seq_lt
from iip.wire.tcp cimport *

cdef enum:
    MAX_HEADERS = 114             # Ethernet, IPv6, TCP with all options
    SHORT_COPY = 256              # up to here a copy is cheaper than a second piece
    MAX_DUP_OWED = 8


# -- the window we offer -----------------------------------------------------------------------------------

cdef uint32_t tcp_window(Tcp* s, Tcb* t) noexcept nogil:
    """The window field to send, scaled; moves `rcv_adv`. The right edge never moves back, and forward only by
    a worthwhile step (RFC 9293 §3.8.6.2.2). What scaling cuts off is rounded up as long as the buffer has room."""
    cdef uint32_t free_ = t.rcv_buf - t.rcv_buffered if t.rcv_buffered < t.rcv_buf else 0
    cdef int32_t offered = seq_diff(t.rcv_adv, t.rcv_nxt)
    cdef uint32_t field, edge
    if offered < 0:
        offered = 0
    if free_ >= <uint32_t>offered + max(min(t.rcv_buf // 2, t.mss), <uint32_t>1 << t.rcv_wscale):
        field = free_ >> t.rcv_wscale
    else:
        field = (<uint32_t>offered + (<uint32_t>1 << t.rcv_wscale) - 1) >> t.rcv_wscale
        if unlikely(field << t.rcv_wscale > free_):
            field = free_ >> t.rcv_wscale
    if field > 65535:
        field = 65535
    edge = t.rcv_nxt + (field << t.rcv_wscale)
    if likely(seq_lt(t.rcv_adv, edge)):
        t.rcv_adv = edge
    return field


# -- headers -----------------------------------------------------------------------------------------------

cdef int _blocks_of_queue(Tcp* s, Tcb* t, SackBlock* blocks, int room) noexcept nogil:
    """The block of the latest arrival first, then others from the left (RFC 2018 §4); how many."""
    cdef uint32_t i = t.ooo_head
    cdef SackBlock b
    cdef int n = 1                # blocks[0] is kept for the latest
    cdef bint found = False
    while i != NIL and (n < room or not found):
        b.left = pkt(s.pool, i).seq
        b.right = b.left
        while i != NIL and pkt(s.pool, i).seq == b.right:
            b.right += pkt(s.pool, i).total_len
            i = pkt(s.pool, i).qnext
        if not found and seq_diff(t.ooo_recent, b.left) >= 0 and seq_lt(t.ooo_recent, b.right):
            blocks[0] = b
            found = True
        elif n < room:
            blocks[n] = b
            n += 1
    if not found:                 # it was delivered meanwhile
        blocks[0] = blocks[n - 1]
        n -= 1
    return n


cdef int _sack_option(Tcp* s, Tcb* t, uint8_t* p) noexcept nogil:
    """Write the SACK option after two NOPs; bytes written, a multiple of 4."""
    cdef SackBlock blocks[4]
    cdef int n = _blocks_of_queue(s, t, blocks, 3 if t.flags & TF_TS else 4), i
    if n == 0:
        return 0
    store32(p, 0x01010000u | (<uint32_t>TCPOPT_SACK << 8) | <uint32_t>(2 + 8 * n))
    for i in range(n):
        store32(p + 4 + 8 * i, blocks[i].left)
        store32(p + 8 + 8 * i, blocks[i].right)
    return 4 + 8 * n


cdef inline uint32_t _room(Tcb* t) noexcept nogil:
    """Bytes of payload and options in a packet of the path MTU."""
    return t.flow.mtu - TCP_HEADER - (20 if t.flow.version == 4 else 40)


cdef bint _send(Tcp* s, Tcb* t, uint32_t p, uint32_t seq, uint8_t flags) noexcept nogil:
    """Put the TCP header in front of packet `p`, which holds the payload, and send it."""
    cdef Packet* k = pkt(s.pool, p)
    cdef uint8_t options[40]
    cdef uint32_t header = TCP_HEADER, sack = 0, owed = 0
    cdef uint32_t wnd = tcp_window(s, t)
    cdef uint8_t* h
    if t.flags & TF_TS:
        header += 12
    if unlikely(t.ooo_head != NIL) and t.flags & TF_SACK:
        sack = _sack_option(s, t, options)
        if k.total_len + header - TCP_HEADER + sack > _room(t):
            sack = 0              # a full segment has no room for blocks: an ACK of its own brings them
            owed = t.flags & (TF_ACK_NOW | TF_ACK_LATER)
    pkt_push(k, header + sack)
    h = pkt_data(k)
    tcp_write_header(h, t.lport, t.rport, seq, t.rcv_nxt, header + sack, flags, wnd)
    if t.flags & TF_TS:
        tcp_write_timestamps(h + TCP_HEADER, s.ts_now + t.ts_offset, t.ts_recent)
    if unlikely(sack != 0):
        _copy(h + header, options, sack)
    _hand_down(s, t, p)
    t.flags |= owed
    return True


cdef void _copy(uint8_t* dst, const uint8_t* src, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        dst[i] = src[i]


cdef bint _hand_down(Tcp* s, Tcb* t, uint32_t p) noexcept nogil:
    """Checksum, network layer, and the notes that an ACK has left."""
    cdef int verdict
    net_l4_checksum(s.net, &t.flow, p, TCP_CSUM_OFF, PROTO_TCP)
    verdict = net_output(s.net, &t.flow, p, PROTO_TCP)
    count(s.counters, tcp_out_segments)
    if unlikely(verdict != ok):
        count(s.counters, verdict)
    t.last_ack_sent = t.rcv_nxt
    t.flags &= ~<uint32_t>(TF_ACK_NOW | TF_ACK_LATER)
    t.t_ack = TIMER_OFF
    t.last_tx = s.now
    return True


cdef bint _send_control(Tcp* s, Tcb* t, uint32_t seq, uint8_t flags) noexcept nogil:
    """A segment without payload. False when the pool or the transmit queue has no room."""
    cdef uint32_t p
    if net_tx_room(s.net) == 0:
        count(s.counters, tx_queue_full)
        return False
    p = pkt_alloc(s.pool)
    if p == NIL:
        count(s.counters, tx_no_buffer)
        return False
    return _send(s, t, p, seq, flags)


# -- SYN and RST -------------------------------------------------------------------------------------------

cdef uint32_t _syn_options(Tcp* s, Tcb* t, uint8_t* p, bint answer) noexcept nogil:
    """MSS, SACK permitted, timestamps, window scale: what we want and, in an answer, the peer offered."""
    cdef uint32_t n = 4
    cdef uint32_t mss = t.flow.mtu - TCP_HEADER - (20 if t.flow.version == 4 else 40)
    cdef bint ts = s.conf.timestamps and (not answer or t.flags & TF_TS)
    cdef bint sack = s.conf.sack and (not answer or t.flags & TF_SACK)
    cdef bint scale = s.conf.window_scale and (not answer or t.flags & TF_WSCALE)
    if s.conf.mss:
        mss = min(mss, s.conf.mss)
    store32(p, (<uint32_t>TCPOPT_MSS << 24) | (<uint32_t>4 << 16) | mss)
    if ts:
        store16(p + n, (TCPOPT_SACK_OK << 8) | 2 if sack else (TCPOPT_NOP << 8) | TCPOPT_NOP)
        store16(p + n + 2, (TCPOPT_TIMESTAMP << 8) | 10)
        store32(p + n + 4, s.ts_now + t.ts_offset)
        store32(p + n + 8, t.ts_recent if answer else 0)
        n += 12
    elif sack:
        store32(p + n, (<uint32_t>TCPOPT_NOP << 24) | (<uint32_t>TCPOPT_NOP << 16) | (TCPOPT_SACK_OK << 8) | 2)
        n += 4
    if scale:
        store32(p + n, (<uint32_t>TCPOPT_NOP << 24) | (<uint32_t>TCPOPT_WSCALE << 16) | (3 << 8) | t.rcv_wscale)
        n += 4
    return n


cdef bint _send_syn(Tcp* s, Tcb* t) noexcept nogil:
    """SYN, or SYN and ACK in SYN-RECEIVED. Starts the retransmission timer."""
    cdef bint answer = t.state == SYN_RCVD
    cdef uint32_t p, n, wnd
    cdef uint8_t options[40]
    cdef Packet* k
    if net_tx_room(s.net) == 0:
        return False
    p = pkt_alloc(s.pool)
    if p == NIL:
        count(s.counters, tx_no_buffer)
        return False
    if t.backoff == 0:
        t.syn_sent_at = s.now
    k = pkt(s.pool, p)
    n = _syn_options(s, t, options, answer)
    pkt_push(k, TCP_HEADER + n)
    wnd = min(t.rcv_buf, <uint32_t>65535)
    tcp_write_header(pkt_data(k), t.lport, t.rport, t.iss, t.rcv_nxt if answer else 0, TCP_HEADER + n,
                     TH_SYN | TH_ACK if answer else TH_SYN, wnd)
    _copy(pkt_data(k) + TCP_HEADER, options, n)
    t.snd_nxt = t.iss + 1
    t.rcv_adv = t.rcv_nxt + wnd
    t.flags &= ~<uint32_t>TF_SEND_SYN
    t.t_rto = s.now + rto_backed_off(s, t)
    wheel_update(s, t, t.t_rto)
    return _hand_down(s, t, p)


cdef bint _send_rst(Tcp* s, Tcb* t) noexcept nogil:
    cdef uint32_t p
    cdef Packet* k
    if net_tx_room(s.net) == 0:
        return False
    p = pkt_alloc(s.pool)
    if p == NIL:
        return False
    k = pkt(s.pool, p)
    pkt_push(k, TCP_HEADER)
    tcp_write_header(pkt_data(k), t.lport, t.rport, t.snd_nxt, t.rcv_nxt, TCP_HEADER, TH_RST | TH_ACK, 0)
    t.flags &= ~<uint32_t>TF_SEND_RST
    count(s.counters, tcp_rst_out)
    return _hand_down(s, t, p)


cdef void tcp_send_rst_for(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil:
    """RST for a segment that belongs to no connection (RFC 9293 §3.10.7.1)."""
    cdef Flow flow
    cdef uint32_t p, space
    cdef Packet* k
    if seg.flags & TH_RST or net_tx_room(s.net) == 0:
        return
    flow.src = rx.dst
    flow.dst = rx.src
    flow.tos = 0
    flow.ttl = 0
    flow.df = 1
    flow.route_gen = 0
    if net_route(s.net, &flow) != ok:
        return
    p = pkt_alloc(s.pool)
    if p == NIL:
        count(s.counters, tx_no_buffer)
        return
    k = pkt(s.pool, p)
    pkt_push(k, TCP_HEADER)
    if seg.flags & TH_ACK:
        tcp_write_header(pkt_data(k), seg.dport, seg.sport, seg.ack, 0, TCP_HEADER, TH_RST, 0)
    else:
        space = seg.len + (1 if seg.flags & TH_SYN else 0) + (1 if seg.flags & TH_FIN else 0)
        tcp_write_header(pkt_data(k), seg.dport, seg.sport, 0, seg.seq + space, TCP_HEADER, TH_RST | TH_ACK, 0)
    count(s.counters, tcp_rst_out)
    net_l4_checksum(s.net, &flow, p, TCP_CSUM_OFF, PROTO_TCP)
    if net_output(s.net, &flow, p, PROTO_TCP) == ok:
        count(s.counters, tcp_out_segments)


# -- records: what a segment is made of --------------------------------------------------------------------

cdef uint32_t _pop_unsent(Tcp* s, Tcb* t) noexcept nogil:
    cdef uint32_t i = t.unsent_head
    t.unsent_head = pkt(s.pool, i).qnext
    if t.unsent_head == NIL:
        t.unsent_tail = NIL
    return i


cdef uint32_t _split_unsent(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """The first `n` bytes of the first slice, which is longer. NIL when no view is left."""
    cdef Packet* k = pkt(s.pool, t.unsent_head)
    cdef uint32_t i = pkt_slice(s.pool, t.unsent_head, k.off, n)
    if i != NIL:
        pkt_pull(k, n)
    return i


cdef uint32_t _gather_copy(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """`n` bytes from several slices in one cell. NIL when the pool is empty."""
    cdef Packet* k = pkt(s.pool, t.unsent_head)
    cdef Packet* src
    cdef uint32_t i, take
    if not k.flags & (PKT_INDIRECT | PKT_EXTERNAL) and k.refs == 1 and k.len + pkt_tailroom(k) >= n:
        i = _pop_unsent(s, t)
    else:
        i = pkt_alloc(s.pool)
        if i == NIL:
            return NIL
        k = pkt(s.pool, i)
    while k.len < n:
        src = pkt(s.pool, t.unsent_head)
        take = min(n - k.len, src.len)
        pkt_copy_out(s.pool, t.unsent_head, 0, pkt_data(k) + k.len, take)
        k.len += take
        if take == src.len:
            pkt_free(s.pool, _pop_unsent(s, t))
        else:
            pkt_pull(src, take)
    k.total_len = n
    return i


cdef uint32_t _gather_chain(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """`n` bytes from several slices as a chain. NIL, nothing lost, when no view is left."""
    cdef uint32_t head = NIL, last = NIL, i, have = 0
    cdef Packet* k
    while have < n:
        k = pkt(s.pool, t.unsent_head)
        if k.len <= n - have:
            i = _pop_unsent(s, t)
        else:
            i = _split_unsent(s, t, n - have)
            if i == NIL:
                break
        k = pkt(s.pool, i)
        have += k.len
        if head == NIL:
            head = i
        else:
            pkt(s.pool, last).next = i
        last = i
    if head != NIL:
        pkt(s.pool, head).total_len = have
    return head


cdef uint32_t _cut(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """A record of the next `n` unsent bytes (a chain may come out shorter). NIL when there is no memory."""
    cdef Packet* k
    if n == 0:                    # a FIN of its own
        return pkt_alloc(s.pool)
    k = pkt(s.pool, t.unsent_head)
    if likely(k.len == n):
        return _pop_unsent(s, t)
    if k.len > n:
        return _split_unsent(s, t, n)
    if n <= s.pool.cell_size - s.pool.headroom:
        return _gather_copy(s, t, n)
    return _gather_chain(s, t, n)


cdef uint32_t _frame(Tcp* s, uint32_t rec) noexcept nogil:
    """A packet to send record `rec` in, with room for headers: in front of the data where it lies if nobody
    else looks at that cell, else as a second piece, or as a copy. NIL when there is no memory."""
    cdef Packet* k = pkt(s.pool, rec)
    cdef Packet* h
    cdef uint32_t i, c
    if likely(k.refs == 1 and k.off >= MAX_HEADERS and k.next == NIL
              and not k.flags & (PKT_INDIRECT | PKT_EXTERNAL)):
        return pkt_slice(s.pool, rec, k.off, k.len)
    i = pkt_alloc(s.pool)
    if i == NIL:
        return NIL
    h = pkt(s.pool, i)
    if k.total_len > SHORT_COPY and s.net.caps & CAP_SG:
        c = pkt_clone(s.pool, rec)
        if c == NIL:
            pkt_free(s.pool, i)
            return NIL
        h.next = c
    else:
        h.len = pkt_copy_out(s.pool, rec, 0, pkt_data(h), k.total_len)
    h.total_len = k.total_len
    return i


cdef bint _transmit(Tcp* s, Tcb* t, uint32_t rec) noexcept nogil:
    """Send a record, for the first or another time."""
    cdef Packet* k = pkt(s.pool, rec)
    cdef uint8_t flags = TH_ACK
    cdef uint32_t p = _frame(s, rec)
    if unlikely(p == NIL):
        count(s.counters, tx_no_buffer)
        return False
    if k.flags & REC_PUSH:
        flags |= TH_PSH
    if unlikely(k.flags & REC_FIN):
        flags |= TH_FIN
    k.sent_at = s.now
    k.n_sent += 1
    return _send(s, t, p, k.seq, flags)


# -- retransmission ----------------------------------------------------------------------------------------

cdef bint _resegment(Tcp* s, Tcb* t, uint32_t rec) noexcept nogil:
    """The MSS has become smaller than the record: split it in two, both marked as it was."""
    cdef Packet* k = pkt(s.pool, rec)
    cdef Packet* r
    cdef uint32_t i, rest
    if k.next != NIL:
        return True               # chains go to devices that send them whole
    rest = k.total_len - t.mss
    i = pkt_slice(s.pool, rec, k.off + t.mss, rest)
    if i == NIL:
        return False
    r = pkt(s.pool, i)
    r.seq = k.seq + t.mss
    r.flags |= k.flags & ~<uint32_t>(PKT_INDIRECT | PKT_EXTERNAL)
    r.sent_at = k.sent_at
    r.first_sent_at = k.first_sent_at
    r.n_sent = k.n_sent
    k.len = k.total_len = t.mss
    k.flags &= ~<uint32_t>(REC_FIN | REC_PUSH)
    r.qnext = k.qnext
    r.qprev = rec
    k.qnext = i
    if r.qnext != NIL:
        pkt(s.pool, r.qnext).qprev = i
    else:
        t.rtx_tail = i
    return True


cdef bint _retransmit_lost(Tcp* s, Tcb* t) noexcept nogil:
    """Send what is marked lost, oldest first, as far as the congestion window allows."""
    cdef uint32_t i = t.rtx_hint
    cdef Packet* k
    while t.lost and i != NIL:
        k = pkt(s.pool, i)
        if not k.flags & REC_LOST:
            i = k.qnext
            t.rtx_hint = i
            continue
        if tcp_in_flight(t) + min(k.total_len, t.mss) > t.cwnd and not t.flags & TF_RTX_NOW and tcp_in_flight(t):
            t.flags |= TF_CWND_LIMITED
            return True
        if net_tx_room(s.net) == 0:
            count(s.counters, tx_queue_full)
            return False
        if k.total_len > t.mss and not _resegment(s, t, i):
            return False
        if not _transmit(s, t, i):
            return False
        t.flags &= ~<uint32_t>TF_RTX_NOW
        t.lost -= rec_space(k)
        k.flags = (k.flags & ~<uint32_t>REC_LOST) | REC_RETRANS | REC_EVER_RETRANS
        count(s.counters, tcp_retransmits)
        t.n_retransmits += 1
        _start_rto(s, t)
        i = k.qnext
        t.rtx_hint = i
    return True


# -- new data ----------------------------------------------------------------------------------------------

cdef inline void _start_rto(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 6298 §5.1: the timer runs while anything is unacknowledged."""
    if t.t_rto == TIMER_OFF or t.flags & TF_PERSIST:
        t.flags &= ~<uint32_t>TF_PERSIST
        t.t_rto = s.now + rto_backed_off(s, t)
        wheel_update(s, t, t.t_rto)


cdef inline uint32_t _sendable(Tcp* s, Tcb* t) noexcept nogil:
    """How many bytes the next segment takes: 0 when the window, the congestion window, Nagle (RFC 9293
    §3.7.4) or silly-window avoidance (§3.8.6.2.1) say wait."""
    cdef int32_t room = seq_diff(t.snd_una + t.snd_wnd, t.snd_nxt)
    cdef uint32_t n = min(t.unsent, t.mss), in_flight
    if room <= 0:
        return 0
    if <uint32_t>room < n:
        n = <uint32_t>room
    in_flight = tcp_in_flight(t)
    if unlikely(in_flight + n > t.cwnd) and in_flight:
        t.flags |= TF_CWND_LIMITED
        return 0
    if n < t.mss:
        if n == t.unsent:
            if t.flags & TF_FIN_WANTED:
                return n
            if t.flags & TF_CORK or (not t.flags & TF_NODELAY and t.snd_nxt != t.snd_una):
                return 0
        elif n < t.max_wnd // 2 and not t.flags & TF_PROBE:
            return 0
    return n


cdef inline void _append_record(Tcp* s, Tcb* t, uint32_t rec, Packet* k) noexcept nogil:
    k.seq = t.snd_nxt
    k.n_sent = 0
    k.qnext = NIL
    k.qprev = t.rtx_tail
    k.first_sent_at = s.now
    if t.rtx_tail == NIL:
        t.rtx_head = rec
        t.stalled_since = s.now
    else:
        pkt(s.pool, t.rtx_tail).qnext = rec
    t.rtx_tail = rec
    t.snd_nxt += rec_space(k)


cdef bint _send_new(Tcp* s, Tcb* t) noexcept nogil:
    """New data and the FIN. False when memory or the transmit queue ended before the windows did."""
    cdef uint32_t n, rec
    cdef Packet* k
    cdef bint fin
    while t.unsent or (t.flags & (TF_FIN_WANTED | TF_FIN_SENT)) == TF_FIN_WANTED:
        n = _sendable(s, t) if t.unsent else 0
        if n == 0 and (t.unsent or seq_diff(t.snd_una + t.snd_wnd, t.snd_nxt) < 0):
            return True
        if net_tx_room(s.net) == 0:
            count(s.counters, tx_queue_full)
            return False
        rec = _cut(s, t, n)
        if rec == NIL:
            count(s.counters, tx_no_buffer)
            return False
        k = pkt(s.pool, rec)
        t.unsent -= k.total_len
        k.flags &= 0xFFFF
        if t.unsent == 0:
            k.flags |= REC_PUSH
            if unlikely(t.flags & TF_FIN_WANTED):
                k.flags |= REC_FIN
                _fin_leaves(t)
        _append_record(s, t, rec, k)
        count(s.counters, tcp_out_data)
        _start_rto(s, t)
        if not _transmit(s, t, rec):
            # it has its place in the queue: the retransmission path sends it as soon as there is room
            k.flags |= REC_LOST
            t.lost += rec_space(k)
            if t.rtx_hint == NIL:
                t.rtx_hint = rec
            return False
    return True


cdef void _fin_leaves(Tcb* t) noexcept nogil:
    t.flags |= TF_FIN_SENT
    if t.state == ESTABLISHED:
        t.state = FIN_WAIT_1
    elif t.state == CLOSE_WAIT:
        t.state = LAST_ACK


cdef void _start_persist(Tcp* s, Tcb* t) noexcept nogil:
    """Data waits, the window is shut and nothing is in flight: probe it (RFC 9293 §3.8.6.1)."""
    if t.snd_nxt != t.snd_una or t.t_rto != TIMER_OFF:
        return
    if not t.unsent and (t.flags & (TF_FIN_WANTED | TF_FIN_SENT)) != TF_FIN_WANTED:
        return
    if t.flags & TF_CORK and t.snd_wnd >= t.unsent and t.snd_wnd >= t.mss:
        return
    t.flags |= TF_PERSIST
    t.t_rto = s.now + rto_backed_off(s, t)
    wheel_update(s, t, t.t_rto)


# -- acknowledgements --------------------------------------------------------------------------------------

cdef bint _owed_ack(Tcp* s, Tcb* t) noexcept nogil:
    """Send the ACK that is owed now, or leave it to the timer (RFC 9293 §3.8.6.3: every second full
    segment, and never later than the timer). One ACK answers everything that came in this run."""
    if not t.flags & (TF_ACK_NOW | TF_ACK_LATER):
        return True
    if not t.flags & TF_ACK_NOW and s.conf.delayed_ack and not t.quick_acks:
        if t.rcv_nxt - t.last_ack_sent < 2 * t.mss:
            if t.t_ack == TIMER_OFF:
                t.t_ack = s.now + s.conf.delayed_ack
                wheel_update(s, t, t.t_ack)
            return True
    if t.quick_acks:
        t.quick_acks -= 1
    while t.dup_owed > 1:
        if not _send_control(s, t, t.snd_nxt, TH_ACK):
            return False
        t.dup_owed -= 1
    t.dup_owed = 0
    return _send_control(s, t, t.snd_nxt, TH_ACK)


# -- the output phase --------------------------------------------------------------------------------------

cdef void _restart_after_idle(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 5681 §4.1: after a pause longer than the RTO the window starts anew."""
    cdef uint32_t restart = s.conf.initial_window * t.mss
    if t.cwnd > restart and t.snd_nxt == t.snd_una and s.now - t.last_tx > t.rto:
        t.cwnd = restart


cdef bint _flush_open(Tcp* s, Tcb* t) noexcept nogil:
    """A connection in a synchronized state. False when it has to come back."""
    if t.lost and not _retransmit_lost(s, t):
        return False
    if t.unsent or t.flags & TF_FIN_WANTED:
        _restart_after_idle(s, t)
        if not _send_new(s, t):
            return False
        _start_persist(s, t)
    if unlikely(t.flags & TF_PROBE):
        # what the override of silly-window avoidance (§3.8.6.2.1) let out is a probe, too
        if t.snd_nxt == t.snd_una and not _send_control(s, t, t.snd_una - 1, TH_ACK):
            return False
        t.flags &= ~<uint32_t>TF_PROBE
    return _owed_ack(s, t)


cdef void _flush_one(Tcp* s, Tcb* t) noexcept nogil:
    cdef bint done = True
    cdef int verdict
    if unlikely(t.flow.route_gen != s.net.route_gen) and t.state != CLOSED:
        verdict = net_route(s.net, &t.flow)
        if verdict == neighbour_table_full:       # for the moment
            mark_dirty(s, t)
            return
        if verdict != ok:
            conn_close(s, t, CLOSE_UNREACHABLE)
            return
    if likely(t.state >= ESTABLISHED):
        done = _flush_open(s, t)
    elif t.state == CLOSED:
        if t.flags & TF_SEND_RST:
            done = _send_rst(s, t)
        elif t.flags & TF_ACK_NOW:     # of a FIN whose TIME-WAIT is over in the same run
            done = _send_control(s, t, t.snd_nxt, TH_ACK)
        if done and not t.flags & TF_READY:
            conn_release(s, t)
            return
        done = False
    elif t.flags & TF_SEND_SYN:
        done = _send_syn(s, t)
    elif t.flags & TF_ACK_NOW:
        done = _send_control(s, t, t.snd_nxt, TH_ACK)
    if not done:
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
