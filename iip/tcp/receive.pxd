"""Payload: in order to the application, out of order into a bounded queue."""
from libc.stdint cimport uint32_t
from iip.memory.pool cimport NIL, Packet, pkt, pkt_free
from iip.tcp.acks cimport acks_note_arrival
from iip.tcp.conn cimport mark_ready
from iip.tcp.tcb cimport EV_PAYLOAD, TF_ACK_LATER, Tcb, Tcp
from iip.tcp.tuning cimport tuning_full_segment
from iip.wire.bytes cimport unlikely
from iip.wire.tcp cimport Segment


cdef inline void receive_run(Tcp* s, Tcb* t, uint32_t first, uint32_t last, uint32_t n) noexcept nogil:
    """Queue packets, linked from `first` to `last`, of `n` payload bytes that begin at `rcv_nxt` for the application."""
    pkt(s.pool, last).qnext = NIL
    if t.rx_head == NIL:
        t.rx_head = first
    else:
        pkt(s.pool, t.rx_tail).qnext = first
    t.rx_tail = last
    t.rcv_nxt += n
    t.rcv_buffered += n
    t.bytes_received += n
    acks_note_arrival(s, t)
    mark_ready(s, t, EV_PAYLOAD)


cdef inline void receive_in_order(Tcp* s, Tcb* t, uint32_t packet, uint32_t n) noexcept nogil:
    """The same with one packet."""
    receive_run(s, t, packet, packet, n)


cdef inline uint32_t without_headers(Tcp* s, uint32_t packet) noexcept nogil:
    """A packet with payload, from its first byte on. A piece that held nothing but headers goes back while its cell is in the
    cache; nobody needs it as long as the payload waits."""
    cdef Packet* k = pkt(s.pool, packet)
    cdef uint32_t following
    while unlikely(k.len == 0) and k.next != NIL:
        following = k.next
        pkt(s.pool, following).total_len = k.total_len
        k.next = NIL
        pkt_free(s.pool, packet)
        packet = following
        k = pkt(s.pool, packet)
    return packet


cdef inline uint32_t receive_data(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """Note that a segment with data came. The packet, without its headers."""
    t.flags |= TF_ACK_LATER
    t.data_segs_in += 1
    if seg.len >= t.rcv_mss:
        tuning_full_segment(s, t, seg)
    return without_headers(s, seg.pkt)


cdef int receive_text(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef int receive_behind_gap(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef void receive_fin(Tcp* s, Tcb* t) noexcept nogil
cdef void receive_note_duplicate(Tcp* s, Tcb* t, uint32_t seq, uint32_t n) noexcept nogil
