"""One segment: its window, its options, its way down. See segment.pxd."""
from iip.memory.pool cimport NIL, Packet, pkt, pkt_alloc, pkt_data, pkt_push
from iip.net.state cimport net_tx_room
from iip.tcp.accecn cimport accecn_flags, accecn_option
from iip.tcp.reorder cimport block_last, packet_end
from iip.tcp.tcb cimport *
from iip.verdict cimport count, tx_no_buffer, tx_queue_full
from iip.wire.bytes cimport copy, likely, store16, store32, unlikely
from iip.wire.seq cimport seq_diff, seq_lt
from iip.wire.tcp cimport *


# -- the window we offer -----------------------------------------------------------------------------------

cdef inline uint32_t tcp_window(Tcp* s, Tcb* t) noexcept nogil:
    """The window field to send, scaled; moves `rcv_adv`. The right edge never moves back, and forward only by
    a worthwhile step (RFC 9293 §3.8.6.2.2). What scaling cuts off is rounded up as long as the buffer has room."""
    cdef uint32_t free_ = t.rcv_buf - t.rcv_buffered if t.rcv_buffered < t.rcv_buf else 0
    cdef uint32_t offered = t.rcv_adv - t.rcv_nxt if seq_lt(t.rcv_nxt, t.rcv_adv) else 0
    cdef uint32_t unit = <uint32_t>1 << t.rcv_wscale, field, edge
    if likely(free_ < offered + unit or free_ < offered + min(t.rcv_buf >> 1, t.mss)):
        field = (offered + unit - 1) >> t.rcv_wscale
        if unlikely(field << t.rcv_wscale > free_):
            field = free_ >> t.rcv_wscale
    else:
        field = free_ >> t.rcv_wscale
    if unlikely(field > 65535):
        field = 65535
    edge = t.rcv_nxt + (field << t.rcv_wscale)
    if likely(seq_lt(t.rcv_adv, edge)):
        t.rcv_adv = edge
    return field


# -- headers -----------------------------------------------------------------------------------------------

cdef inline int _rank(Tcb* t, SackBlock b) noexcept nogil:
    """How recently something of a block arrived: 0 is the latest, 4 is long ago."""
    cdef uint32_t i
    for i in range(t.n_recent):
        if seq_diff(t.ooo_recent[i], b.left) >= 0 and seq_lt(t.ooo_recent[i], b.right):
            return i
    return 4


cdef int _blocks_of_queue(Tcp* s, Tcb* t, SackBlock* blocks, int room) noexcept nogil:
    """The block of the latest arrival first, then those before it in the order of their arrival, then others from the
    left (RFC 2018 §4); how many. Forgets arrivals that say nothing of their own any more."""
    cdef uint32_t i = t.ooo_head, left = t.n_recent, known = 0, last
    cdef SackBlock b
    cdef SackBlock recent[4]
    cdef SackBlock other[4]
    cdef bint found[4]
    cdef int rank, n = 0, others = 0
    for rank in range(4):
        found[rank] = False
    while i != NIL and (left or others < room):
        last = block_last(s, i)
        b.left = pkt(s.pool, i).seq
        b.right = packet_end(pkt(s.pool, last))
        i = pkt(s.pool, last).qnext
        rank = _rank(t, b)
        if rank < 4:
            recent[rank] = b
            found[rank] = True
            left -= 1
        elif others < room:
            other[others] = b
            others += 1
    for rank in range(4):
        if found[rank]:
            t.ooo_recent[known] = recent[rank].right - 1
            known += 1
            if n < room:
                blocks[n] = recent[rank]
                n += 1
    t.n_recent = <uint8_t>known
    t.n_untold = 0
    for rank in range(min(others, room - n)):
        blocks[n] = other[rank]
        n += 1
    return n


cdef int _blocks_to_report(Tcp* s, Tcb* t, SackBlock* blocks) noexcept nogil:
    """The blocks to report, a duplicate arrival first (RFC 2883 §4); how many."""
    cdef int n = 0, room = 3 if t.flags & TF_TS else 4
    if t.dsack_len:
        blocks[0].left = t.dsack_left
        blocks[0].right = t.dsack_left + t.dsack_len
        n = 1
    if t.ooo_head != NIL:
        n += _blocks_of_queue(s, t, blocks + n, room - n)
    return n


cdef uint32_t _write_sack(uint8_t* p, uint32_t at, SackBlock* blocks, int n) noexcept nogil:
    """Write the SACK option behind `at` bytes of options, which end two bytes before a multiple of 4, or after two NOPs;
    bytes written in all, a multiple of 4."""
    cdef int i
    if at == 0:
        store16(p, (TCPOPT_NOP << 8) | TCPOPT_NOP)
        at = 2
    store16(p + at, (TCPOPT_SACK << 8) | <uint16_t>(2 + 8 * n))
    at += 2
    for i in range(n):
        store32(p + at, blocks[i].left)
        store32(p + at + 4, blocks[i].right)
        at += 8
    return at


cdef inline uint32_t _room(Tcb* t) noexcept nogil:
    """Bytes of payload and options in a packet of the path MTU."""
    return t.flow.mtu - TCP_HEADER - (20 if t.flow.version == 4 else 40)


cdef inline uint32_t _option_room(Tcb* t, uint32_t header, uint32_t payload) noexcept nogil:
    """Bytes of more options behind such a header; none in what the device cuts into segments."""
    cdef uint32_t used = header - TCP_HEADER + payload, room = _room(t)
    return min(room - used, 60 - header) if used < room else 0


cdef uint32_t _more_options(Tcp* s, Tcb* t, uint8_t* p, uint32_t room, uint32_t* owed) noexcept nogil:
    """What few segments carry: counters of accurate ECN, SACK blocks. Bytes written, not more than `room`; `owed` what
    is still to be told."""
    cdef SackBlock blocks[4]
    cdef int n = _blocks_to_report(s, t, blocks) if t.flags & TF_SACK else 0
    cdef uint32_t used = 0
    if n and 4 + 8 * <uint32_t>n > room:
        n = 0                     # a full segment has no room for blocks: an ACK of its own brings them
        owed[0] = t.flags & (TF_ACK_NOW | TF_ACK_LATER)
    if t.ecn & ECN_OPTION:
        used = accecn_option(s, t, p, room, &n)
    if n:
        t.dsack_len = 0
        used = _write_sack(p, used, blocks, n)
    return used


cdef bint send_segment(Tcp* s, Tcb* t, uint32_t p, uint32_t seq, uint16_t flags) noexcept nogil:
    """Put the TCP header in front of packet `p`, which holds the payload, and send it."""
    cdef Packet* k = pkt(s.pool, p)
    cdef uint8_t options[40]
    cdef uint32_t header = TCP_HEADER + 12, more = 0, owed = 0
    cdef uint32_t wnd = tcp_window(s, t)
    cdef uint8_t* h
    if unlikely(not t.flags & TF_TS):
        header = TCP_HEADER
    if unlikely(t.ooo_head != NIL or t.dsack_len or t.ecn & ECN_OPTION):
        more = _more_options(s, t, options, _option_room(t, header, k.total_len), &owed)
    if unlikely(t.ecn & (ECN_ECHO | ECN_ACCURATE)):
        flags |= TH_ECE if t.ecn & ECN_ECHO else accecn_flags(s, t, k.total_len == 0 and flags == TH_ACK)
    pkt_push(k, header + more)
    h = pkt_data(k)
    tcp_write_header(h, t.lport, t.rport, seq, t.rcv_nxt, header + more, flags, wnd)
    if likely(t.flags & TF_TS):
        tcp_write_timestamps(h + TCP_HEADER, s.ts_now + t.ts_offset, t.ts_recent)
    if unlikely(more != 0):
        copy(h + header, options, more)
    hand_down(s, t, p)
    t.flags |= owed
    return True


cdef bint send_control(Tcp* s, Tcb* t, uint32_t seq, uint16_t flags) noexcept nogil:
    """A segment without payload. False when the pool or the transmit queue has no room."""
    cdef uint32_t p
    if net_tx_room(s.net) == 0:
        count(s.counters, tx_queue_full)
        return False
    p = pkt_alloc(s.pool)
    if p == NIL:
        count(s.counters, tx_no_buffer)
        return False
    return send_segment(s, t, p, seq, flags)
