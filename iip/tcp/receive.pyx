"""Payload: see receive.pxd."""
from libc.string cimport memcpy
from iip.memory.order cimport order_note
from iip.memory.pool cimport (
    NIL, PKT_EXTERNAL, PKT_HELD, PKT_INDIRECT, Packet, pkt, pkt_data, pkt_free, pkt_tailroom, pkt_trim_head, pkt_trim_tail,
    pool_low)
from iip.net.link cimport chain_slice
from iip.tcp.acks cimport acks_quick
from iip.tcp.conn cimport (
    conn_drop_out_of_order, conn_gap_closed, conn_gap_opened, conn_time_wait, mark_dirty, mark_ready)
from iip.tcp.reorder cimport block_first, block_is, block_join, block_last, packet_end
from iip.tcp.segment cimport send_control
from iip.tcp.tcb cimport *
from iip.tcp.tuning cimport tuning_restart
from iip.verdict cimport (
    count, count_n, tcp_fin_in, tcp_in_segments, tcp_old_duplicate, tcp_ooo_full, tcp_ooo_pruned, tcp_out_of_order,
    tcp_rx_window_exceeded)
from iip.wire.bytes cimport likely, unlikely
from iip.wire.seq cimport seq_geq, seq_gt, seq_leq, seq_lt
from iip.wire.tcp cimport TH_ACK, TH_FIN

cdef enum:
    MAX_DUP_OWED = 16
    CRUMB = 256                   # bytes: so short a packet is copied rather than given a cell


cdef void receive_note_duplicate(Tcp* s, Tcb* t, uint32_t seq, uint32_t n) noexcept nogil:
    """Payload that was there already: the next ACK reports it (RFC 2883 §4), up to what is acknowledged if it reaches
    beyond."""
    if not t.flags & TF_SACK or not s.conf.dsack:
        return
    if seq_lt(seq, t.rcv_nxt) and seq_gt(seq + n, t.rcv_nxt):
        n = t.rcv_nxt - seq
    t.dsack_left = seq
    t.dsack_len = n


cdef void receive_fin(Tcp* s, Tcb* t) noexcept nogil:
    """The peer's FIN is next in order (RFC 9293 §3.10.7.4, eighth)."""
    count(s.counters, tcp_fin_in)
    t.rcv_nxt += 1
    t.flags = (t.flags | TF_FIN_RCVD | TF_ACK_NOW) & ~<uint32_t>TF_FIN_KNOWN
    mark_dirty(s, t)
    mark_ready(s, t, EV_SHUTDOWN)
    if t.state == ESTABLISHED:
        t.state = CLOSE_WAIT
    elif t.state == FIN_WAIT_1:
        if t.flags & TF_FIN_ACKED:
            conn_time_wait(s, t)
        else:
            t.state = CLOSING
    elif t.state == FIN_WAIT_2:
        conn_time_wait(s, t)


cdef void _deliver_following(Tcp* s, Tcb* t) noexcept nogil:
    """`rcv_nxt` moved: the block that waited behind the gap may be in order now."""
    cdef uint32_t first = t.ooo_head, last, n
    cdef Packet* k
    if first == NIL:
        return
    k = pkt(s.pool, first)
    if k.seq == t.rcv_nxt:
        last = block_last(s, first)
        n = k.n_block
        t.ooo_head = pkt(s.pool, last).qnext
        t.n_ooo -= n
        s.n_ooo -= n
        receive_run(s, t, first, last, packet_end(pkt(s.pool, last)) - t.rcv_nxt)
        if t.ooo_head == NIL:
            t.ooo_tail = NIL
            tuning_restart(s, t)
            conn_gap_closed(s, t)
    # a gap was filled, wholly or in part: tell the peer at once (RFC 5681 §4.2)
    t.flags |= TF_ACK_NOW


cdef inline void _note_held(Tcp* s, Tcb* t, uint32_t packet, Packet* k) noexcept nogil:
    k.flags |= PKT_HELD
    order_note(&s.held, packet, k)
    t.n_ooo += 1
    s.n_ooo += 1


cdef inline void _append(Tcp* s, Tcb* t, uint32_t packet, Packet* k) noexcept nogil:
    """It continues the last block."""
    cdef uint32_t first = block_first(s, t.ooo_tail)
    k.qnext = NIL
    pkt(s.pool, t.ooo_tail).qnext = packet
    t.ooo_tail = packet
    block_is(s, first, packet, pkt(s.pool, first).n_block + 1)
    _note_held(s, t, packet, k)


cdef void _insert_after(Tcp* s, Tcb* t, uint32_t before, uint32_t packet, bint whole) noexcept nogil:
    """`before`: the last packet of a block, or NIL; `whole`: no other piece of the packet belongs behind what follows."""
    cdef Packet* k = pkt(s.pool, packet)
    if t.ooo_head == NIL:
        conn_gap_opened(s, t)
    if before == NIL:
        k.qnext = t.ooo_head
        t.ooo_head = packet
    else:
        k.qnext = pkt(s.pool, before).qnext
        pkt(s.pool, before).qnext = packet
    if k.qnext == NIL:
        t.ooo_tail = packet
    block_is(s, packet, packet, 1)
    if whole:
        _absorb_next(s, t, packet)
    block_join(s, packet, k.qnext)
    if before != NIL:
        block_join(s, before, packet)
    _note_held(s, t, packet, k)


cdef bint _absorb(Tcp* s, uint32_t first, uint32_t second) noexcept nogil:
    """Copy a short packet that follows another one behind it in its cell, if that has room and nobody else looks at
    it: crumbs do not take a cell each."""
    cdef Packet* f = pkt(s.pool, first)
    cdef Packet* k = pkt(s.pool, second)
    cdef uint32_t n = k.total_len
    if n > CRUMB or packet_end(f) != k.seq or k.next != NIL or f.next != NIL:
        return False
    if f.flags & (PKT_INDIRECT | PKT_EXTERNAL) or f.refs != 1 or pkt_tailroom(f) < n:
        return False
    memcpy(pkt_data(f) + f.len, pkt_data(k), n)
    f.len += n
    f.total_len += n
    return True


cdef void _absorb_next(Tcp* s, Tcb* t, uint32_t i) noexcept nogil:
    """The same with what follows packet `i` in the queue, which is the last of its block."""
    cdef uint32_t following = pkt(s.pool, i).qnext
    cdef Packet* k
    if following == NIL or not _absorb(s, i, following):
        return
    k = pkt(s.pool, following)
    pkt(s.pool, i).qnext = k.qnext
    if k.n_block > 1:             # the rest of its block is one of its own, for as long as nobody joins it
        block_is(s, k.qnext, k.aux, k.n_block - 1)
    if t.ooo_tail == following:
        t.ooo_tail = i
    t.n_ooo -= 1
    s.n_ooo -= 1
    pkt_free(s.pool, following)


cdef inline bint _has_room(Tcp* s, Tcb* t) noexcept nogil:
    return t.n_ooo < s.conf.max_ooo and s.n_ooo < s.max_ooo and not pool_low(s.pool)


cdef bint _room_behind_gap(Tcp* s, Tcb* t) noexcept nogil:
    """May one more packet wait? When gaps hold a quarter of the pool, or little is left of it, the oldest gap of
    another connection gives way: an honest one closes within a few round trips (RFC 2018 §8 allows it)."""
    cdef Tcb* oldest
    if _has_room(s, t):
        return True
    if t.n_ooo >= s.conf.max_ooo or s.ooo_head == NIL or s.ooo_head == t.id:
        return False
    oldest = tcb(s, s.ooo_head)
    count_n(s.counters, tcp_ooo_pruned, oldest.n_ooo)
    conn_drop_out_of_order(s, oldest)
    return s.n_ooo < s.max_ooo and not pool_low(s.pool)


cdef uint32_t _place(Tcp* s, Tcb* t, uint32_t seq) noexcept nogil:
    """The last packet of the last block that begins at `seq` or before; NIL: none."""
    cdef uint32_t before = NIL, i = t.ooo_head
    if t.ooo_tail != NIL and seq_geq(seq, pkt(s.pool, t.ooo_tail).seq):
        return t.ooo_tail         # the usual place
    while i != NIL and seq_leq(pkt(s.pool, i).seq, seq):
        before = block_last(s, i)
        i = pkt(s.pool, before).qnext
    return before


cdef uint32_t _beyond(Tcp* s, uint32_t packet, uint32_t edge) noexcept nogil:
    """A view of what a packet holds from sequence number `edge` on; NIL: nothing (or no view is left: the peer will
    send it again)."""
    cdef Packet* k = pkt(s.pool, packet)
    cdef uint32_t i, skip = edge - k.seq
    if skip >= k.total_len:
        return NIL
    i = chain_slice(s.net, packet, skip, k.total_len - skip)
    if i != NIL:
        pkt(s.pool, i).seq = edge
    return i


cdef inline bint _follows_latest(Tcb* t, uint32_t seq) noexcept nogil:
    return t.n_recent and seq == t.ooo_recent[0] + 1


cdef inline void _note_recent(Tcb* t, uint32_t seq, uint32_t n) noexcept nogil:
    """The latest arrival, before those that came earlier and are not of its block."""
    cdef uint32_t i
    if _follows_latest(t, seq):
        t.ooo_recent[0] += n
        t.n_untold = max(t.n_untold, <uint8_t>1)
        return
    t.n_untold += 1
    t.n_recent = <uint8_t>min(t.n_recent + 1, 4)
    for i in range(t.n_recent - 1, 0, -1):
        t.ooo_recent[i] = t.ooo_recent[i - 1]
    t.ooo_recent[0] = seq + n - 1


cdef inline void _tell_blocks(Tcp* s, Tcb* t, uint32_t seq) noexcept nogil:
    """What comes now is of another block, and the ACK has no room for one more: it leaves. When many packets come in one run,
    the one at its end does not tell of all, and the peer sends again what is here."""
    cdef uint32_t room = 3 - (t.dsack_len != 0) - (t.ecn & ECN_OPTION != 0)
    if t.ooo_head == NIL:
        t.n_untold = 0
    elif t.n_untold >= room and not _follows_latest(t, seq):
        send_control(s, t, t.snd_nxt, TH_ACK)
        t.n_untold = 0


cdef inline bint _continues(Tcp* s, Tcb* t, Packet* k) noexcept nogil:
    """The usual case: a packet that follows the latest and last one that waits, and may wait, too."""
    return (t.ooo_tail != NIL and _follows_latest(t, k.seq) and packet_end(pkt(s.pool, t.ooo_tail)) == k.seq
            and k.total_len > CRUMB and _has_room(s, t))


cdef int _queue_out_of_order(Tcp* s, Tcb* t, uint32_t packet, uint32_t seq) noexcept nogil:
    """File a packet behind a gap. Bytes that are already there win over later copies of them, so that nobody
    can change what was received: only what is new of the packet goes in, in as many pieces as it has. Takes
    the packet."""
    cdef uint32_t before = _place(s, t, seq), following, after, rest, end
    cdef Packet* k
    cdef Packet* f
    cdef int verdict = tcp_old_duplicate
    while packet != NIL:
        k = pkt(s.pool, packet)
        if before != NIL:
            end = packet_end(pkt(s.pool, before))
            if seq_geq(end, packet_end(k)):
                if verdict == tcp_old_duplicate:
                    receive_note_duplicate(s, t, k.seq, k.total_len)
                    _note_recent(t, k.seq, k.total_len)     # its block is told first all the same (RFC 2018 §4)
                pkt_free(s.pool, packet)
                return verdict
            if seq_gt(end, k.seq):
                pkt_trim_head(s.pool, packet, end - k.seq)
                k.seq = end
        after = following = t.ooo_head if before == NIL else pkt(s.pool, before).qnext
        rest = NIL
        if following != NIL:
            f = pkt(s.pool, following)
            after = block_last(s, following)
            end = packet_end(k)
            if seq_lt(f.seq, end):
                rest = _beyond(s, packet, packet_end(pkt(s.pool, after)))
                pkt_trim_tail(s.pool, packet, end - f.seq)
        if k.total_len == 0:
            pkt_free(s.pool, packet)
        elif before != NIL and _absorb(s, before, packet):
            _note_recent(t, k.seq, k.total_len)
            pkt_free(s.pool, packet)
            if rest == NIL:
                _absorb_next(s, t, before)
            block_join(s, before, pkt(s.pool, before).qnext)
            verdict = tcp_out_of_order
        elif not _room_behind_gap(s, t):
            pkt_free(s.pool, packet)
            pkt_free(s.pool, rest)
            return tcp_ooo_full
        else:
            _note_recent(t, k.seq, k.total_len)
            _insert_after(s, t, before, packet, rest == NIL)
            verdict = tcp_out_of_order
        packet = rest
        before = after
    return verdict


cdef void _receive_around(Tcp* s, Tcb* t, uint32_t packet, uint32_t seq) noexcept nogil:
    """A packet that begins at `rcv_nxt` and reaches into what waits behind the gap, which stays as it is: the
    pieces between are delivered."""
    cdef Packet* k = pkt(s.pool, packet)
    cdef Packet* f
    cdef uint32_t rest
    k.seq = seq
    while packet != NIL:
        k = pkt(s.pool, packet)
        rest = NIL
        if seq_geq(t.rcv_nxt, packet_end(k)):
            pkt_free(s.pool, packet)
            return
        if t.rcv_nxt != k.seq:
            pkt_trim_head(s.pool, packet, t.rcv_nxt - k.seq)
            k.seq = t.rcv_nxt
        if t.ooo_head != NIL:
            f = pkt(s.pool, t.ooo_head)
            if seq_lt(f.seq, packet_end(k)):
                rest = _beyond(s, packet, packet_end(f))
                pkt_trim_tail(s.pool, packet, packet_end(k) - f.seq)
        receive_in_order(s, t, packet, k.total_len)
        _deliver_following(s, t)
        packet = rest


cdef void _note_fin(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """A FIN whose sequence number is known but may not be next."""
    cdef uint32_t at = seg.seq + seg.len
    if t.flags & TF_FIN_RCVD:
        return
    if t.flags & TF_FIN_KNOWN and t.fin_seq != at:
        return                    # a FIN does not move
    t.flags |= TF_FIN_KNOWN
    t.fin_seq = at


cdef inline int _behind_gap(Tcp* s, Tcb* t, uint32_t packet, uint32_t seq) noexcept nogil:
    cdef Packet* k = pkt(s.pool, packet)
    t.n_ooo_in += 1
    t.flags |= TF_ACK_NOW
    k.seq = seq
    if likely(t.flags & TF_SACK and _continues(s, t, k)):
        _note_recent(t, seq, k.total_len)
        _append(s, t, packet, k)
        return tcp_out_of_order
    if t.flags & TF_SACK:
        _tell_blocks(s, t, seq)
        t.dup_owed = 0
    else:
        t.dup_owed = min(t.dup_owed + 1, MAX_DUP_OWED)
    return _queue_out_of_order(s, t, packet, seq)


cdef int receive_behind_gap(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """`receive_text` when it is known that all of the text lies in the window, behind a gap, and that there is no FIN."""
    mark_dirty(s, t)
    return _behind_gap(s, t, receive_data(s, t, seg), seg.seq)


cdef int receive_text(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """Segment text and FIN (RFC 9293 §3.10.7.4, seventh and eighth). The packet's data is the payload and
    `seg.seq` its first byte; the segment was found acceptable. Takes the packet; returns the verdict."""
    cdef uint32_t packet = seg.pkt, old, edge
    cdef int verdict = tcp_in_segments
    cdef bint gap = t.ooo_head != NIL
    if seg.flags & TH_FIN and seq_geq(seg.seq + seg.len, t.rcv_nxt):
        _note_fin(s, t, seg)
    if seg.len:
        packet = receive_data(s, t, seg)
        if seq_lt(seg.seq, t.rcv_nxt):                      # the front is old
            old = t.rcv_nxt - seg.seq
            t.flags |= TF_ACK_NOW
            receive_note_duplicate(s, t, seg.seq, seg.len)
            if old >= seg.len:
                old = seg.len
                verdict = tcp_old_duplicate
                t.modes &= ~<uint32_t>MD_PINGPONG
                acks_quick(s, t)  # the peer may be in trouble
            pkt_trim_head(s.pool, packet, old)
            seg.seq += old
            seg.len -= old
        edge = t.rcv_adv
        if t.flags & TF_FIN_KNOWN and seq_lt(t.fin_seq, edge):
            edge = t.fin_seq                                # nothing comes after a FIN
        if seg.len and seq_gt(seg.seq + seg.len, edge):     # the end is beyond the window
            old = min(seg.len, seg.seq + seg.len - edge)
            pkt_trim_tail(s.pool, packet, old)
            seg.len -= old
            t.flags |= TF_ACK_NOW
            verdict = tcp_rx_window_exceeded
    if seg.len == 0:
        pkt_free(s.pool, packet)
    elif unlikely(gap) and seg.seq == t.rcv_nxt:
        _receive_around(s, t, packet, seg.seq)
    elif likely(seg.seq == t.rcv_nxt):
        receive_in_order(s, t, packet, seg.len)
    else:
        verdict = _behind_gap(s, t, packet, seg.seq)
    if unlikely(t.flags & TF_FIN_KNOWN):
        if t.fin_seq == t.rcv_nxt:
            receive_fin(s, t)
        elif seg.flags & TH_FIN:
            t.flags |= TF_ACK_NOW
    if t.flags & (TF_ACK_NOW | TF_ACK_LATER):
        mark_dirty(s, t)
    return verdict
