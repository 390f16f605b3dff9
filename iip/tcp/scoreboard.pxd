"""Marks on the records in flight, and the list of those whose fate is open, in the order they were sent last.

A record is on that list unless it is SACKed or lost; a retransmission puts it at the end again.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from iip.memory.order cimport order_ahead
from iip.memory.pool cimport NIL, REC_LOST, REC_RETRANS, REC_SACKED, Packet, pkt
from iip.memory.raw cimport CACHE_LINE
from iip.tcp.tcb cimport CC_LOST, AckInfo, Tcb, Tcp, rec_space
from iip.wire.bytes cimport prefetch, unlikely
from iip.wire.seq cimport seq_lt


cdef inline void expect_record(Packet* k) noexcept nogil:
    """Ask for both lines of a record."""
    prefetch(k)
    prefetch(<const uint8_t*>k + CACHE_LINE)


cdef inline void expect_next(Tcp* s, Packet* k) noexcept nogil:
    """Ask for the record that left a few after this one: most are acknowledged in the order they left, whatever their
    connection."""
    expect_record(pkt(s.pool, order_ahead(&s.flight, k)))


cdef inline void sent_append(Tcp* s, Tcb* t, uint32_t i, Packet* k) noexcept nogil:
    k.tnext = NIL
    k.tprev = t.sent_tail
    if t.sent_tail == NIL:
        t.sent_head = i
    else:
        pkt(s.pool, t.sent_tail).tnext = i
    t.sent_tail = i


cdef inline void sent_remove(Tcp* s, Tcb* t, Packet* k) noexcept nogil:
    if k.tprev == NIL:
        t.sent_head = k.tnext
    else:
        pkt(s.pool, k.tprev).tnext = k.tnext
    if k.tnext == NIL:
        t.sent_tail = k.tprev
    else:
        pkt(s.pool, k.tnext).tprev = k.tprev


cdef inline void sent_insert_after(Tcp* s, Tcb* t, uint32_t i, Packet* k, uint32_t j, Packet* r) noexcept nogil:
    """`r`, at `j`, was sent together with `k`, at `i`."""
    r.tprev = i
    r.tnext = k.tnext
    k.tnext = j
    if r.tnext == NIL:
        t.sent_tail = j
    else:
        pkt(s.pool, r.tnext).tprev = j


cdef inline void mark_unsent(Tcp* s, Tcb* t, uint32_t i, Packet* k) noexcept nogil:
    """It has to be sent, as if it were lost."""
    if k.flags & (REC_LOST | REC_SACKED):
        return
    sent_remove(s, t, k)
    k.flags = (k.flags | REC_LOST) & ~<uint32_t>REC_RETRANS
    t.lost += rec_space(k)
    if t.rtx_hint == NIL or seq_lt(k.seq, pkt(s.pool, t.rtx_hint).seq):
        t.rtx_hint = i


cdef inline void mark_lost(Tcp* s, Tcb* t, uint32_t i, Packet* k) noexcept nogil:
    """The network lost it, as it seems."""
    if k.flags & (REC_LOST | REC_SACKED):
        return
    mark_unsent(s, t, i, k)
    t.lost_total += rec_space(k)
    if unlikely(t.cc_mode & CC_LOST):
        t.cc.on_lost(s, t, k)


cdef inline void mark_sacked(Tcp* s, Tcb* t, Packet* k) noexcept nogil:
    if k.flags & REC_LOST:
        t.lost -= rec_space(k)
    else:
        sent_remove(s, t, k)
    k.flags = (k.flags | REC_SACKED) & ~<uint32_t>(REC_LOST | REC_RETRANS)
    t.sacked += rec_space(k)


cdef inline void forget_marks(Tcb* t, Packet* k, uint32_t n) noexcept nogil:
    """`n` bytes of the record were acknowledged: take them out of what is counted as marked."""
    if unlikely(k.flags & (REC_SACKED | REC_LOST)):
        if k.flags & REC_SACKED:
            t.sacked -= n
        else:
            t.lost -= n


cdef inline void mark_not_lost(Tcp* s, Tcb* t, uint32_t i, Packet* k) noexcept nogil:
    """It was thought lost too early: it is in flight, as it was."""
    if k.flags & REC_LOST:
        k.flags &= ~<uint32_t>REC_LOST
        t.lost -= rec_space(k)
        sent_append(s, t, i, k)
