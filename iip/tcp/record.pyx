"""Records: see record.pxd."""
from iip.memory.pool cimport (
    NIL, PKT_EXTERNAL, PKT_INDIRECT, PKT_TX_TSO4, PKT_TX_TSO6, REC_FIN, REC_PUSH, REC_RETRANS, Packet, pkt, pkt_alloc,
    pkt_clone, pkt_copy_out, pkt_data, pkt_detail, pkt_free, pkt_headers, pkt_pull, pkt_slice, pkt_split, pkt_tailroom)
from iip.net.types cimport CAP_SG
from iip.tcp.scoreboard cimport again_insert_after
from iip.tcp.tcb cimport *
from iip.verdict cimport count_n, tcp_out_segments
from iip.wire.bytes cimport likely, unlikely
from iip.wire.tcp cimport *

cdef enum:
    SHORT_COPY = 256              # up to here a copy is cheaper than a second piece
    MAX_PIECES = 48               # of a record of many segments: devices bound the pieces of a frame


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
        i = pop_unsent(s, t)
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
            pkt_free(s.pool, pop_unsent(s, t))
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
            i = pop_unsent(s, t)
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


cdef uint32_t _within_pieces(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """As many of the next `n` bytes as MAX_PIECES slices have, in whole segments; one segment of any number."""
    cdef uint32_t i = t.unsent_head, have = 0
    cdef int _piece
    for _piece in range(MAX_PIECES):
        have += pkt(s.pool, i).len
        if have >= n:
            return n
        i = pkt(s.pool, i).qnext
    return max(have - have % t.mss, t.mss)


cdef uint32_t record_cut_slices(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """`record_cut` when the first slice is not as long as the record."""
    cdef Packet* k
    if n == 0:                    # a FIN of its own
        return pkt_alloc(s.pool)
    k = pkt(s.pool, t.unsent_head)
    if k.len > n:
        return _split_unsent(s, t, n)
    if unlikely(n > t.mss):
        n = _within_pieces(s, t, n)
    if n <= s.pool.cell_size - s.pool.headroom:
        return _gather_copy(s, t, n)
    return _gather_chain(s, t, n)


cdef uint32_t record_split(Tcp* s, Tcb* t, uint32_t rec, uint32_t n) noexcept nogil:
    """Split a record in flight behind its first `n` bytes: the rest is a record of its own, with the same times and
    marks. NIL, nothing changed, when no view is left."""
    cdef uint32_t i = pkt_split(s.pool, rec, n)
    cdef Packet* k = pkt(s.pool, rec)
    cdef Packet* r
    if i == NIL:
        return NIL
    r = pkt(s.pool, i)
    r.seq = k.seq + n
    r.flags = (r.flags & (PKT_INDIRECT | PKT_EXTERNAL)) | (k.flags & ~<uint32_t>(PKT_INDIRECT | PKT_EXTERNAL))
    k.flags &= ~<uint32_t>(REC_FIN | REC_PUSH)
    r.sent_at, r.n_sent = k.sent_at, k.n_sent
    pkt_detail(s.pool, r)[0] = pkt_detail(s.pool, k)[0]
    k.segs = <uint16_t>segments_of(t, n)
    r.segs = <uint16_t>segments_of(t, r.total_len)
    r.qnext = k.qnext
    k.qnext = i
    if r.qnext == NIL:
        t.rtx_tail = i
    if k.flags & REC_RETRANS:
        again_insert_after(s, t, rec, k, i, r)
    return i


cdef void record_cut_by_device(Tcp* s, Tcb* t, Packet* k, uint32_t frame) noexcept nogil:
    """Record `k` is longer than a segment: the device makes several of its frame."""
    cdef Packet* p = pkt(s.pool, frame)
    k.segs = <uint16_t>segments_of(t, k.total_len)
    p.gso_size = <uint16_t>t.mss
    p.flags |= PKT_TX_TSO4 if t.flow.version == 4 else PKT_TX_TSO6
    t.segs_out += k.segs - 1
    count_n(s.counters, tcp_out_segments, k.segs - 1)


cdef bint _copy(Tcp* s, uint32_t rec, uint32_t head) noexcept nogil:
    """The bytes of a record behind packet `head`, in more cells where one is too small (only records for devices that
    take chains are that long). False when the pool is empty."""
    cdef uint32_t n = pkt(s.pool, rec).total_len, done = 0, i = head
    cdef Packet* k
    while True:
        k = pkt(s.pool, i)
        k.len = pkt_copy_out(s.pool, rec, done, pkt_data(k), min(n - done, pkt_tailroom(k)))
        done += k.len
        if likely(done == n):
            return True
        k.next = pkt_alloc(s.pool)
        if k.next == NIL:
            return False
        i = k.next


cdef uint32_t _frame_of_pieces(Tcp* s, uint32_t rec) noexcept nogil:
    """A packet for headers, and behind it views of the record's data. NIL when there is none."""
    cdef Packet* k = pkt(s.pool, rec)
    cdef Packet* h
    cdef uint32_t c, i = pkt_headers(s.pool)
    if unlikely(i == NIL):
        i = pkt_alloc(s.pool)
        if i == NIL:
            return NIL
    c = pkt_slice(s.pool, rec, k.off, k.len) if likely(k.next == NIL) else pkt_clone(s.pool, rec)
    if unlikely(c == NIL):
        pkt_free(s.pool, i)
        return NIL
    h = pkt(s.pool, i)
    h.next = c
    h.total_len = k.total_len
    return i


cdef uint32_t record_frame_apart(Tcp* s, uint32_t rec) noexcept nogil:
    """`record_frame` when there is no room for headers in front of the data."""
    cdef Packet* k = pkt(s.pool, rec)
    cdef uint32_t i = NIL
    if likely(k.total_len > SHORT_COPY and s.net.caps & CAP_SG):
        i = _frame_of_pieces(s, rec)
    if unlikely(i == NIL):
        i = pkt_alloc(s.pool)
        if i != NIL and not _copy(s, rec, i):
            pkt_free(s.pool, i)
            return NIL
        if i != NIL:
            pkt(s.pool, i).total_len = k.total_len
    return i
