"""One segment: its window, its options, its way down. See segment.pxd."""
from libc.stdint cimport int32_t
from iip.memory.pool cimport NIL, Packet, pkt, pkt_alloc, pkt_data, pkt_push
from iip.net.checksum cimport net_l4_checksum
from iip.net.output cimport net_output
from iip.net.state cimport net_tx_room
from iip.net.types cimport PROTO_TCP
from iip.tcp.tcb cimport *
from iip.verdict cimport count, ok, tcp_out_segments, tx_no_buffer, tx_queue_full
from iip.wire.bytes cimport likely, store32, unlikely
from iip.wire.seq cimport seq_diff, seq_lt
from iip.wire.tcp cimport *


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


cdef bint send_segment(Tcp* s, Tcb* t, uint32_t p, uint32_t seq, uint8_t flags) noexcept nogil:
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
        copy_bytes(h + header, options, sack)
    hand_down(s, t, p)
    t.flags |= owed
    return True


cdef void copy_bytes(uint8_t* dst, const uint8_t* src, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        dst[i] = src[i]


cdef bint hand_down(Tcp* s, Tcb* t, uint32_t p) noexcept nogil:
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
    t.segs_out += 1
    return True


cdef bint send_control(Tcp* s, Tcb* t, uint32_t seq, uint8_t flags) noexcept nogil:
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
