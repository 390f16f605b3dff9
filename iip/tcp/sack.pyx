"""SACK blocks: see sack.pxd.

What an earlier ACK said is not looked at again, and a search begins where the last one ended, at the front of what
arrived or at the gap that was filled. A block that comes back longer, because a gap was filled, is passed in leaps from
one run of marked records to the next. So blocks as they come from an honest peer cost as many steps as there is news,
however large the window is; from any other the steps are bounded.
"""
from libc.stdint cimport int32_t, uint32_t
from iip.memory.pool cimport NIL, REC_EVER_RETRANS, REC_LOST, REC_RUN, REC_SACKED, Packet, pkt
from iip.tcp.rack cimport rack_delivered
from iip.tcp.rate cimport rate_delivered
from iip.tcp.record cimport record_split, segments_of
from iip.tcp.scoreboard cimport expect_next, mark_sacked, renew_fack, run_last, run_note
from iip.tcp.tcb cimport CC_RATE, rec_space
from iip.wire.bytes cimport likely
from iip.wire.seq cimport seq_geq, seq_gt, seq_leq, seq_lt
from iip.wire.tcp cimport SackBlock

cdef enum:
    MAX_STEPS = 2048              # records looked at for one ACK
    RUN = 8                       # and so many in a row are a run from then on


cdef inline uint32_t _later(Tcp* s, uint32_t i, uint32_t j, uint32_t seq) noexcept nogil:
    """Which of two records is the better one to begin with, on the way to `seq`? `j` may be NIL."""
    if j != NIL and seq_geq(seq, pkt(s.pool, j).seq) and seq_gt(pkt(s.pool, j).seq, pkt(s.pool, i).seq):
        return j
    return i


cdef uint32_t _from_within(Tcp* s, Tcb* t, uint32_t before, uint32_t i, uint32_t left) noexcept nogil:
    """A block may begin inside the record of many segments before `i`: split that where the first segment begins that
    the block has whole. The record to begin with."""
    cdef Packet* k = pkt(s.pool, before)
    cdef uint32_t n = left - k.seq + t.mss - 1, rest
    n -= n % t.mss
    if k.total_len <= t.mss or k.flags & REC_SACKED or n >= k.total_len:
        return i
    rest = record_split(s, t, before, n)
    return i if rest == NIL else rest


cdef uint32_t _find(Tcp* s, Tcb* t, uint32_t seq, int* steps) noexcept nogil:
    """The first record that does not begin before `seq`, or a part of the one before it that begins with the first segment
    that a block has whole; NIL: none, or too far away for now."""
    cdef uint32_t i = t.rtx_head, before = NIL, last
    if t.rtx_tail == NIL or seq_geq(seq, t.snd_nxt):
        return NIL
    i = _later(s, _later(s, i, t.sack_front, seq), t.sack_hint, seq)
    while i != NIL and seq_lt(pkt(s.pool, i).seq, seq):
        if steps[0] == 0:
            if before != NIL:
                t.sack_hint = i   # the next search goes on here
            return NIL
        steps[0] -= 1
        last = run_last(s, i, pkt(s.pool, i))
        before = last if seq_lt(pkt(s.pool, last).seq, seq) else i
        i = pkt(s.pool, before).qnext
    return i if likely(before == NIL or not t.tso) else _from_within(s, t, before, i, seq)


cdef bint _up_to(Tcp* s, Tcb* t, uint32_t i, uint32_t right) noexcept nogil:
    """A block ends inside record `i`: split that behind the last segment that the block has whole. False when there is
    none (or no view: the peer will say it again)."""
    cdef Packet* k = pkt(s.pool, i)
    cdef uint32_t n = right - k.seq
    if k.total_len <= t.mss or k.flags & REC_SACKED or seq_leq(right, k.seq):
        return False
    n -= n % t.mss
    return 0 < n < k.total_len and record_split(s, t, i, n) != NIL


cdef void _arrived(Tcp* s, Tcb* t, Packet* k, uint32_t n, AckInfo* info) noexcept nogil:
    """A record of `n` bytes that was sent again, or thought lost."""
    if not k.flags & REC_EVER_RETRANS:
        info.original = True
    rack_delivered(s, t, k)
    mark_sacked(s, t, k)
    info.delivered += n
    info.news = True


cdef uint32_t _mark(Tcp* s, Tcb* t, uint32_t left, uint32_t right, AckInfo* info, int* steps) noexcept nogil:
    """Mark the segments that lie in [left, right). How far the steps have lasted: `right`, or less."""
    cdef uint32_t i = _find(s, t, left, steps), first = i, last = NIL, end, fresh = 0, reached = right
    cdef int before = steps[0]
    cdef Packet* k
    cdef Packet* newest = NULL    # of what was sent once
    if i == NIL and steps[0] == 0:
        return left
    while i != NIL:
        k = pkt(s.pool, i)
        if steps[0] == 0:
            reached = k.seq
            break
        steps[0] -= 1
        if k.flags & REC_RUN:
            i = run_last(s, i, k)
            k = pkt(s.pool, i)
        expect_next(s, t, k)
        end = k.seq + rec_space(k)
        if seq_gt(end, right):
            if not _up_to(s, t, i, right):
                break
            end = k.seq + k.total_len
        if not k.flags & REC_SACKED:
            if k.flags & REC_EVER_RETRANS == 0 and seq_lt(end, t.fack):
                t.reo_seen = True     # RFC 8985 §6.2 step 3: it was overtaken
            if t.cc_mode & CC_RATE:
                rate_delivered(s, t, k, end - k.seq, info)
            if likely(not k.flags & (REC_LOST | REC_EVER_RETRANS)):
                k.flags |= REC_SACKED
                fresh += end - k.seq
                newest = k
            else:
                _arrived(s, t, k, end - k.seq, info)
            if t.sent_head == i and k.qnext != NIL:
                t.sent_head = k.qnext
        if seq_geq(end, t.fack):
            t.sack_front = i
        else:
            t.sack_hint = i
        last = i
        i = k.qnext
    if before - steps[0] >= RUN and last != NIL:
        run_note(s, first, last)
    if newest != NULL:
        rack_delivered(s, t, newest)
        t.sacked += fresh
        info.delivered += fresh
        info.original = info.news = True
    return reached


cdef void _news_of(Tcp* s, Tcb* t, SackBlock* b, AckInfo* info, int* steps) noexcept nogil:
    """The part of a block that the previous ACK did not report. Of a block at whose end the steps did not last only what was
    marked counts as reported."""
    cdef uint32_t left = b.left, right = b.right, reached
    cdef int i
    for i in range(4):
        if t.sack_cache[i].left == t.sack_cache[i].right:
            continue
        if seq_leq(t.sack_cache[i].left, left) and seq_gt(t.sack_cache[i].right, left):
            left = t.sack_cache[i].right
        elif seq_lt(t.sack_cache[i].left, right) and seq_geq(t.sack_cache[i].right, right):
            right = t.sack_cache[i].left
    if seq_lt(left, right):
        reached = _mark(s, t, left, right, info, steps)
        if right == b.right and seq_lt(reached, right):
            b.right = reached


cdef inline void _insert(SackBlock** ascending, int n, SackBlock* b) noexcept nogil:
    """The peer names the newest block first. By sequence number, a search begins where the one before ended."""
    while n and seq_lt(b.left, ascending[n - 1].left):
        ascending[n] = ascending[n - 1]
        n -= 1
    ascending[n] = b


cdef bint _is_dsack(Segment* seg) noexcept nogil:
    """RFC 2883 §4: the first block reports what had arrived before."""
    cdef SackBlock* a = &seg.sack[0]
    if seq_leq(a.right, seg.ack):
        return True
    return seg.n_sack > 1 and seq_geq(a.left, seg.sack[1].left) and seq_leq(a.right, seg.sack[1].right)


cdef void sack_update(Tcp* s, Tcb* t, Segment* seg, AckInfo* info) noexcept nogil:
    """Take the blocks of a segment in, after its acknowledgement number."""
    cdef int i, n = 0, steps = MAX_STEPS, first = 0
    cdef SackBlock* b
    cdef SackBlock* ascending[4]
    if seg.n_sack and _is_dsack(seg):
        first = 1
        info.dsack = True
        t.n_dsack += 1
        if (t.undo and t.undo_retrans > 0 and seq_geq(seg.sack[0].right, t.undo_marker)
                and seq_lt(seg.sack[0].left, t.retrans_high)):
            t.undo_retrans -= min(t.undo_retrans, <int32_t>segments_of(t, seg.sack[0].right - seg.sack[0].left))
    renew_fack(t)
    for i in range(first, seg.n_sack):
        b = &seg.sack[i]
        if not (seq_lt(b.left, b.right) and seq_gt(b.right, t.snd_una) and seq_leq(b.right, t.snd_nxt)):
            b.right = b.left          # old, or nonsense
            continue
        _insert(ascending, n, b)
        n += 1
    for i in range(n):
        _news_of(s, t, ascending[i], info, &steps)
    for i in range(4):
        if first <= i < seg.n_sack:
            if seq_gt(seg.sack[i].right, t.fack):
                t.fack = seg.sack[i].right
            t.sack_cache[i] = seg.sack[i]
        else:
            t.sack_cache[i].left = t.sack_cache[i].right = 0
