"""Marks on the records in flight, and the list of those that were sent again and whose fate is open, in the order of that.

What was sent once lies in the queue of all records in the order it was sent: of it no list is kept.
"""
from libc.stdint cimport int64_t, uint32_t
from iip.memory.order cimport order_ahead
from iip.memory.pool cimport NIL, REC_EVER_RETRANS, REC_LOST, REC_RETRANS, REC_RUN, REC_SACKED, Detail, Packet, pkt, pkt_detail
from iip.tcp.tcb cimport CC_LOST, CC_RATE, AckInfo, Tcb, Tcp, rec_space, tcp_awaits
from iip.wire.bytes cimport likely, prefetch, unlikely
from iip.wire.seq cimport seq_lt


cdef inline void expect_next(Tcp* s, Tcb* t, Packet* k) noexcept nogil:
    """Ask for the record that left a few after this one: most are acknowledged in the order they left, whatever their
    connection."""
    cdef Packet* ahead = pkt(s.pool, order_ahead(&s.flight, k))
    prefetch(ahead)
    if unlikely(t.cc_mode & CC_RATE):
        prefetch(pkt_detail(s.pool, ahead))


cdef inline void again_append(Tcp* s, Tcb* t, uint32_t i, Packet* k) noexcept nogil:
    """It was sent again, later than all others."""
    cdef Detail* d = pkt_detail(s.pool, k)
    k.flags |= REC_RETRANS
    d.tnext = NIL
    d.tprev = t.again_tail
    if t.again_tail == NIL:
        t.again_head = i
    else:
        pkt_detail(s.pool, pkt(s.pool, t.again_tail)).tnext = i
    t.again_tail = i


cdef inline void again_remove(Tcp* s, Tcb* t, Packet* k) noexcept nogil:
    cdef Detail* d = pkt_detail(s.pool, k)
    k.flags &= ~<uint32_t>REC_RETRANS
    if d.tprev == NIL:
        t.again_head = d.tnext
    else:
        pkt_detail(s.pool, pkt(s.pool, d.tprev)).tnext = d.tnext
    if d.tnext == NIL:
        t.again_tail = d.tprev
    else:
        pkt_detail(s.pool, pkt(s.pool, d.tnext)).tprev = d.tprev


cdef inline void again_insert_after(Tcp* s, Tcb* t, uint32_t i, Packet* k, uint32_t j, Packet* r) noexcept nogil:
    """`r`, at `j`, was sent again together with `k`, at `i`."""
    cdef Detail* d = pkt_detail(s.pool, k)
    cdef Detail* e = pkt_detail(s.pool, r)
    e.tprev = i
    e.tnext = d.tnext
    d.tnext = j
    if e.tnext == NIL:
        t.again_tail = j
    else:
        pkt_detail(s.pool, pkt(s.pool, e.tnext)).tprev = j


cdef inline int64_t first_sent(Tcp* s, Packet* k) noexcept nogil:
    """When a record was transmitted for the first time."""
    return k.sent_at if likely(k.n_sent <= 1) else pkt_detail(s.pool, k).first_sent_at


cdef inline void mark_unsent(Tcp* s, Tcb* t, uint32_t i, Packet* k) noexcept nogil:
    """It has to be sent, as if it were lost."""
    if k.flags & (REC_LOST | REC_SACKED):
        return
    if k.flags & REC_RETRANS:
        again_remove(s, t, k)
    k.flags |= REC_LOST
    if t.lost == 0 or (t.rtx_hint != NIL and seq_lt(k.seq, pkt(s.pool, t.rtx_hint).seq)):
        t.rtx_hint = i
    t.lost += rec_space(k)


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
    elif unlikely(k.flags & REC_RETRANS):
        again_remove(s, t, k)
    k.flags = (k.flags | REC_SACKED) & ~<uint32_t>REC_LOST
    t.sacked += rec_space(k)


cdef inline uint32_t run_last(Tcp* s, uint32_t i, Packet* k) noexcept nogil:
    """The last record known to be SACKed with all between it and `i`; `i`, if nothing is known."""
    return pkt_detail(s.pool, k).tnext if k.flags & REC_RUN else i


cdef inline void run_note(Tcp* s, uint32_t first, uint32_t last) noexcept nogil:
    """All records from `first` to `last` are SACKed: who comes by need not look at them again."""
    cdef Packet* k = pkt(s.pool, first)
    k.flags |= REC_RUN
    pkt_detail(s.pool, k).tnext = last


cdef inline void renew_fack(Tcb* t) noexcept nogil:
    """Below `snd_una` it says nothing any more."""
    if not tcp_awaits(t, t.fack):
        t.fack = t.snd_una


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
        if k.flags & REC_EVER_RETRANS:
            again_append(s, t, i, k)
