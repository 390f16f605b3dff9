"""The timer wheel: see wheel.pxd."""
from libc.stdint cimport uint64_t
from iip.memory.pool cimport NIL
from iip.tcp.tcb cimport TIMER_OFF, WHEEL_BITS, WHEEL_LEVELS, WHEEL_SLOTS, WHEEL_TICK_SHIFT, Wheel, tcb

cdef extern from *:
    """
    #define iip_ctz64(x) __builtin_ctzll(x)
    """
    int ctz64 "iip_ctz64"(uint64_t x) noexcept nogil

cdef enum:
    SLOT_MASK = 255               # WHEEL_SLOTS - 1
    WALK = 64                     # entries of a slot that are looked at for an exact deadline,
    COARSE = 65536                # ns: otherwise the slot is looked at so often


cdef void wheel_init(Tcp* s) noexcept nogil:
    cdef int i
    s.wheel.tick = 0
    s.next_timer = TIMER_OFF
    s.wheel.n = 0
    for i in range(WHEEL_LEVELS * WHEEL_SLOTS):
        s.wheel.slots[i] = NIL
    for i in range(WHEEL_LEVELS * WHEEL_SLOTS // 64):
        s.wheel.bitmap[i] = 0


cdef uint32_t _slot_of(Wheel* w, int64_t at) noexcept nogil:
    cdef uint64_t tick = <uint64_t>at >> WHEEL_TICK_SHIFT, delta
    cdef int level = 0
    if tick < w.tick:
        tick = w.tick
    delta = tick - w.tick
    while level < WHEEL_LEVELS - 1 and delta >= WHEEL_SLOTS:
        delta >>= WHEEL_BITS
        tick >>= WHEEL_BITS
        level += 1
    if delta >= WHEEL_SLOTS:      # beyond the last level: look again when its last slot comes round
        tick = (w.tick >> (WHEEL_BITS * level)) + SLOT_MASK
    return level * WHEEL_SLOTS + <uint32_t>(tick & SLOT_MASK)


cdef void wheel_file(Tcp* s, Tcb* t, int64_t at) noexcept nogil:
    """File the connection under `at`, wherever it was before."""
    cdef Wheel* w = &s.wheel
    cdef uint32_t slot
    wheel_remove(s, t)
    slot = _slot_of(w, at)
    t.wheel_at = at
    if at < s.next_timer:
        s.next_timer = at
    t.wheel_prev = NIL
    t.wheel_next = w.slots[slot]
    if t.wheel_next != NIL:
        tcb(s, t.wheel_next).wheel_prev = t.id
    w.slots[slot] = t.id
    w.bitmap[slot >> 6] |= <uint64_t>1 << (slot & 63)
    t.wheel_slot = slot
    t.flags |= TF_IN_WHEEL
    w.n += 1


cdef void wheel_remove(Tcp* s, Tcb* t) noexcept nogil:
    cdef Wheel* w = &s.wheel
    if not t.flags & TF_IN_WHEEL:
        return
    if t.wheel_next != NIL:
        tcb(s, t.wheel_next).wheel_prev = t.wheel_prev
    if t.wheel_prev != NIL:
        tcb(s, t.wheel_prev).wheel_next = t.wheel_next
    else:
        w.slots[t.wheel_slot] = t.wheel_next
        if t.wheel_next == NIL:
            w.bitmap[t.wheel_slot >> 6] &= ~(<uint64_t>1 << (t.wheel_slot & 63))
    t.wheel_at = TIMER_OFF
    t.flags &= ~<uint32_t>TF_IN_WHEEL
    w.n -= 1


cdef void _cascade(Tcp* s, int level) noexcept nogil:
    """The wheel entered a new slot of `level`: file its entries again, closer."""
    cdef Wheel* w = &s.wheel
    cdef uint32_t slot = level * WHEEL_SLOTS + <uint32_t>((w.tick >> (WHEEL_BITS * level)) & SLOT_MASK)
    cdef uint32_t i = w.slots[slot], following
    cdef Tcb* t
    while i != NIL:
        t = tcb(s, i)
        following = t.wheel_next
        wheel_file(s, t, t.wheel_at)
        i = following


cdef int _next_bit(Wheel* w, int level, int start) noexcept nogil:
    """The first slot of `level` from `start` on, in circular order, that is not empty: its distance, or -1."""
    cdef int distance = 0, word, bit
    cdef uint64_t bits
    while distance < WHEEL_SLOTS:
        word = ((start + distance) & SLOT_MASK) >> 6
        bit = (start + distance) & 63
        bits = w.bitmap[level * (WHEEL_SLOTS // 64) + word] >> bit
        if bits:
            distance += ctz64(bits)
            return distance if distance < WHEEL_SLOTS else -1
        distance += 64 - bit
    return -1


cdef inline bint _in_use(Wheel* w, int level) noexcept nogil:
    cdef const uint64_t* b = &w.bitmap[level * (WHEEL_SLOTS // 64)]
    return (b[0] | b[1] | b[2] | b[3]) != 0


cdef bint _advance(Tcp* s, uint64_t target) noexcept nogil:
    """Move towards `target`, to the next tick that has entries; False when the wheel has arrived."""
    cdef Wheel* w = &s.wheel
    cdef uint64_t block_end
    cdef int distance
    if w.tick >= target:
        return False
    if w.n == 0:
        w.tick = target
        return False
    block_end = (w.tick | SLOT_MASK) + 1
    distance = _next_bit(w, 0, <int>((w.tick + 1) & SLOT_MASK))
    if distance >= 0 and w.tick + 1 + distance < block_end:
        w.tick = min(target, w.tick + 1 + distance)
        return True
    if block_end > target:
        w.tick = target
        return True
    w.tick = block_end
    if not _in_use(w, 0) and not _in_use(w, 1):   # nothing before the next slot of the last level
        w.tick = min(target, ((w.tick - 1) | <uint64_t>0xFFFF) + 1)
        if w.tick & SLOT_MASK:
            return True
    if (w.tick >> WHEEL_BITS) & SLOT_MASK == 0:
        _cascade(s, 2)
    _cascade(s, 1)
    return True


cdef uint32_t wheel_pop(Tcp* s) noexcept nogil:
    """A connection whose entry is due at `s.now`, taken out of the wheel; NIL when there is none."""
    cdef Wheel* w = &s.wheel
    cdef uint64_t target = <uint64_t>s.now >> WHEEL_TICK_SHIFT
    cdef uint32_t i
    cdef Tcb* t
    while True:
        i = w.slots[w.tick & SLOT_MASK]
        while i != NIL:
            t = tcb(s, i)
            if t.wheel_at <= s.now:
                wheel_remove(s, t)
                return i
            i = t.wheel_next
        if not _advance(s, target):
            return NIL


cdef int64_t _earliest(Tcp* s, int level, int64_t best) noexcept nogil:
    """The earliest deadline of the first slot of `level` in use; if it holds too many, its beginning, or a little later than
    now when it has begun."""
    cdef Wheel* w = &s.wheel
    cdef uint64_t here = w.tick >> (WHEEL_BITS * level)
    cdef int distance = _next_bit(w, level, <int>((here + (level > 0)) & SLOT_MASK)), n = 0
    cdef uint64_t start
    cdef uint32_t i
    if distance < 0:
        return best
    here += distance + (level > 0)
    start = here << (WHEEL_BITS * level)
    i = w.slots[level * WHEEL_SLOTS + <uint32_t>(here & SLOT_MASK)]
    while i != NIL and n < WALK:
        best = min(best, tcb(s, i).wheel_at)
        i = tcb(s, i).wheel_next
        n += 1
    if i != NIL:
        best = min(best, max(<int64_t>(start << WHEEL_TICK_SHIFT), s.now + COARSE))
    return best


cdef int64_t wheel_next(Tcp* s) noexcept nogil:
    """When the wheel has to be looked at again; TIMER_OFF when it is empty."""
    cdef int64_t best = TIMER_OFF
    cdef int level
    if s.wheel.n == 0:
        return TIMER_OFF
    for level in range(WHEEL_LEVELS):
        best = _earliest(s, level, best)
    return best
