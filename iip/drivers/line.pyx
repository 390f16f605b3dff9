"""One direction of a bad wire, in any time: packets go in with `line_admit` and come out with `line_pop`.

A packet is lost, duplicated or hit by chance, waits for its turn at the line's rate in a bounded queue, and then
travels. What the queue would have done in the meantime is made up for at the next call with the times at which it
would have done it, so how often anybody looks makes no difference.
"""
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from iip.drivers.heap cimport Held, heap_pop, heap_push
from iip.drivers.queue cimport packet_copy
from iip.memory.order cimport AHEAD
from iip.memory.pool cimport (NIL, PKT_INDIRECT, PKT_RX_IP_CSUM_OK, PKT_RX_L4_CSUM_OK, Packet, pkt, pkt_data, pkt_free)
from iip.memory.sizes cimport power_of_two
from iip.wire.bytes cimport load16_be, prefetch, store16_be
from iip.wire.checksum cimport csum_update16
from iip.wire.ethernet cimport ETH_HLEN, ETH_IPV4, ETH_IPV6, eth_type
from iip.wire.rng cimport rng_next, rng_seed

from iip.drivers.impairments import CoDel, DropTail, GilbertElliott

cdef enum:
    ECN_MASK = 3
    ECN_CE = 3
    CODEL_RESUME = 16             # intervals after which the drop rate starts afresh (RFC 8289 §4.2)
    CODEL_SMALL = 1500            # a queue of one packet is no queue, bytes


# -- set-up --------------------------------------------------------------------------------------------------

cdef uint64_t _chance(object p):
    return <uint64_t>(p * 4294967296.0)


cdef int _line_queue(Line* line, object queue) except -1:
    if isinstance(queue, int):
        queue = DropTail(bytes=queue)
    line.max_bytes = queue.bytes
    line.max_packets = queue.packets or 0xFFFFFFFF
    if isinstance(queue, CoDel):
        line.codel.on = True
        line.codel.target = <int64_t>(queue.target * 1e9)
        line.codel.interval = <int64_t>(queue.interval * 1e9)
        line.ecn = queue.ecn
    else:
        line.mark = queue.mark
    line.mask = power_of_two(line.limit) - 1
    line.fifo = <Waiting*>calloc(line.mask + 1, sizeof(Waiting))
    return 0


cdef int line_init(Line* line, object s, uint64_t seed, str medium) except -1:
    """`s`: `Impairments`; `medium`: ``"ethernet"`` or ``"ip"``. The pool is set by the caller."""
    line.limit = s.limit
    line.heap = <Held*>calloc(line.limit, sizeof(Held))
    line.road_mask = power_of_two(line.limit) - 1
    line.road = <Held*>calloc(line.road_mask + 1, sizeof(Held))
    line.ns_per_byte = 8e9 / s.rate if s.rate else 0.0
    if s.rate:
        _line_queue(line, s.queue)
    if line.heap == NULL or line.road == NULL or (s.rate and line.fifo == NULL):
        raise MemoryError("no memory for the packets on the wire")
    if isinstance(s.loss, GilbertElliott):
        line.loss, line.loss_bad = _chance(s.loss.good), _chance(s.loss.bad)
        line.to_bad, line.to_good = _chance(s.loss.p), _chance(s.loss.r)
    else:
        line.loss = line.loss_bad = _chance(s.loss)
    line.duplicate = _chance(s.duplicate)
    line.reorder = _chance(s.reorder)
    line.corrupt = _chance(s.corrupt)
    line.delay = <int64_t>(s.delay * 1e9)
    line.jitter = s.jitter * 1e9
    line.reorder_delay = <int64_t>(s.reorder_delay * 1e9)
    line.link = ETH_HLEN if medium == "ethernet" else 0
    rng_seed(&line.rng, seed)
    return 0


cdef void line_dispose(Line* line) noexcept:
    """Free the memory of the line, not its packets."""
    free(line.heap)
    free(line.road)
    free(line.fifo)
    line.heap = line.road = NULL
    line.fifo = NULL


cdef inline uint32_t _leave(Line* line) noexcept nogil:
    """Take the next one off the road."""
    cdef Held* first = line_first(line)
    if first == &line.heap[0]:
        return heap_pop(line.heap, &line.n).item
    line.road_head += 1
    prefetch(pkt(line.pool, line.road[(line.road_head + AHEAD) & line.road_mask].item))     # no cache holds a long road
    return first.item


cdef void line_clear(Line* line) noexcept nogil:
    """Give the packets on the line back to the pool."""
    while line_first(line) != NULL:
        pkt_free(line.pool, _leave(line))
    while line.head != line.tail:
        pkt_free(line.pool, line.fifo[line.head & line.mask].packet)
        line.head += 1
    line.waiting = 0


cdef object line_stats(const Line* line, str prefix):
    """What happened on the line so far. `held`: packets on it now, `waiting`: bytes of those that wait."""
    return {f"{prefix}packets": line.packets, f"{prefix}bytes": line.octets, f"{prefix}lost": line.lost,
            f"{prefix}duplicated": line.duplicated, f"{prefix}reordered": line.reordered,
            f"{prefix}corrupted": line.corrupted, f"{prefix}queue_full": line.queue_full,
            f"{prefix}codel_dropped": line.codel_dropped, f"{prefix}marked": line.marked,
            f"{prefix}no_buffer": line.no_buffer, f"{prefix}held": line_held(line), f"{prefix}waiting": line.waiting}


# -- what happens to one packet --------------------------------------------------------------------------------

cdef uint32_t _hit(Line* line, uint32_t packet, uint64_t dice) noexcept nogil:
    """Flip one bit, in a copy, since others may see these bytes too. NIL if there is no room for a copy."""
    cdef uint32_t hit = packet_copy(line.pool, packet, line.pool)
    cdef Packet* k
    cdef uint64_t bit
    pkt_free(line.pool, packet)
    if hit == NIL:
        line.no_buffer += 1
        return NIL
    k = pkt(line.pool, hit)
    k.flags &= ~<uint32_t>(PKT_RX_IP_CSUM_OK | PKT_RX_L4_CSUM_OK)
    if k.total_len:
        bit = ((dice >> 32) * (<uint64_t>k.total_len * 8)) >> 32
        while (bit >> 3) >= k.len:
            bit -= <uint64_t>k.len * 8
            k = pkt(line.pool, k.next)
        pkt_data(k)[bit >> 3] ^= <uint8_t>(1 << (bit & 7))
        line.corrupted += 1
    return hit


cdef int _ip_offset(Line* line, Packet* k) noexcept nogil:
    """Where the IP header is, -1 if there is none."""
    cdef uint32_t etype
    if k.len < line.link + 20:
        return -1
    if line.link:
        etype = eth_type(pkt_data(k))
        if etype != ETH_IPV4 and etype != ETH_IPV6:
            return -1
    return <int>line.link


cdef bint _set_ce(Line* line, uint32_t* packet) noexcept nogil:
    """Mark a packet of an ECN-capable transport as having met congestion (RFC 3168 §5). False if it is not of one.
    A packet whose bytes others see is replaced by a copy."""
    cdef Packet* k = pkt(line.pool, packet[0])
    cdef int at = _ip_offset(line, k)
    cdef uint8_t* p
    cdef uint16_t old
    cdef uint32_t copy, ecn
    if at < 0:
        return False
    p = pkt_data(k) + at
    ecn = (p[1] if p[0] >> 4 == 4 else p[1] >> 4) & ECN_MASK
    if ecn == 0:
        return False
    if ecn != ECN_CE:
        if k.flags & PKT_INDIRECT or k.refs > 1:
            copy = packet_copy(line.pool, packet[0], line.pool)
            if copy == NIL:
                line.no_buffer += 1
                return False
            pkt_free(line.pool, packet[0])
            packet[0] = copy
            p = pkt_data(pkt(line.pool, copy)) + at
        if p[0] >> 4 == 4:
            old = load16_be(p)
            p[1] |= ECN_CE
            store16_be(p + 10, csum_update16(load16_be(p + 10), old, load16_be(p)))
        else:
            p[1] |= ECN_CE << 4
    line.marked += 1
    return True


# -- the queue -------------------------------------------------------------------------------------------------

cdef inline Waiting _take(Line* line) noexcept nogil:
    cdef Waiting w = line.fifo[line.head & line.mask]
    line.head += 1
    line.waiting -= w.size
    return w


cdef bint _codel_take(Line* line, int64_t now, Waiting* w) noexcept nogil:
    """RFC 8289 §5.3, dodequeue: the next packet; whether it may be dropped. `w.packet` is NIL if there is none."""
    cdef CoDelState* c = &line.codel
    if line.head == line.tail:
        w.packet = NIL
        c.first_above = 0
        return False
    w[0] = _take(line)
    if now - w.since < c.target or line.waiting <= CODEL_SMALL:
        c.first_above = 0
    elif c.first_above == 0:
        c.first_above = now + c.interval
    else:
        return now >= c.first_above
    return False


cdef inline int64_t _control_law(CoDelState* c, int64_t t) noexcept nogil:
    return t + <int64_t>(c.interval / sqrt(<double>c.count))


cdef bint _codel_punish(Line* line, Waiting* w) noexcept nogil:
    """Mark or drop. True if the packet was marked and so goes on its way."""
    if line.ecn and _set_ce(line, &w.packet):
        return True
    line.codel_dropped += 1
    pkt_free(line.pool, w.packet)
    return False


cdef uint32_t _codel_next(Line* line, int64_t now) noexcept nogil:
    """RFC 8289 §5.4, deque: the packet to transmit now, NIL if none is left."""
    cdef CoDelState* c = &line.codel
    cdef Waiting w
    cdef bint may_drop = _codel_take(line, now, &w)
    cdef uint32_t delta
    if w.packet == NIL:
        c.dropping = False
        return NIL
    if c.dropping:
        if not may_drop:
            c.dropping = False
        while c.dropping and now >= c.drop_next:
            c.count += 1
            if _codel_punish(line, &w):
                c.drop_next = _control_law(c, c.drop_next)
                return w.packet
            if _codel_take(line, now, &w):
                c.drop_next = _control_law(c, c.drop_next)
            else:
                c.dropping = False
    elif may_drop:
        if not _codel_punish(line, &w):
            _codel_take(line, now, &w)
        c.dropping = True
        delta = c.count - c.last_count
        c.count = 1
        if delta > 1 and now - c.drop_next < CODEL_RESUME * c.interval:
            c.count = delta
        c.drop_next = _control_law(c, now)
        c.last_count = c.count
    return w.packet


cdef void _travel(Line* line, uint32_t packet, int64_t start) noexcept nogil:
    """From `start` on the packet is on its way."""
    cdef Held item
    cdef uint64_t dice = rng_next(&line.rng)
    line.order += 1
    item.item = packet
    item.order = line.order
    item.at = start + line.delay + <int64_t>(<double><uint32_t>dice / 4294967296.0 * line.jitter)
    if (dice >> 32) < line.reorder:
        line.reordered += 1
        item.at += line.reorder_delay
        heap_push(line.heap, &line.n, item)
    else:
        item.at = max(item.at, line.last_at)
        line.last_at = item.at
        line.road[line.road_tail & line.road_mask] = item
        line.road_tail += 1


cdef void _advance(Line* line, int64_t now) noexcept nogil:
    """All transmissions that begin by `now`."""
    cdef uint32_t packet
    while line.head != line.tail and line.busy_until <= now:
        if line.codel.on:
            packet = _codel_next(line, line.busy_until)
            if packet == NIL:
                return
        else:
            packet = _take(line).packet
        line.busy_until += <int64_t>(line.ns_per_byte * pkt(line.pool, packet).total_len)
        _travel(line, packet, line.busy_until)


cdef void _enqueue(Line* line, uint32_t packet, int64_t now) noexcept nogil:
    cdef Waiting* w
    cdef uint32_t size = pkt(line.pool, packet).total_len
    if line_held(line) >= line.limit:
        line.queue_full += 1
        pkt_free(line.pool, packet)
        return
    if line.ns_per_byte == 0:
        _travel(line, packet, now)
        return
    if line.head == line.tail and line.busy_until <= now:
        line.busy_until = now     # idle: it need not wait, however small the queue
    elif line.waiting + size > line.max_bytes or line.tail - line.head >= line.max_packets:
        line.queue_full += 1
        pkt_free(line.pool, packet)
        return
    elif line.mark and line.waiting + size > line.mark:
        _set_ce(line, &packet)
    w = &line.fifo[line.tail & line.mask]
    w.packet, w.since, w.size = packet, now, size
    line.tail += 1
    line.waiting += size
    _advance(line, now)


# -- in and out ------------------------------------------------------------------------------------------------

cdef void line_admit(Line* line, uint32_t packet, int64_t now) noexcept nogil:
    """A packet enters the line. The dice are thrown in the same number for each, whatever the settings."""
    cdef uint64_t a, b, c
    cdef uint32_t copy = NIL
    _advance(line, now)           # whose dice come first
    a, b, c = rng_next(&line.rng), rng_next(&line.rng), rng_next(&line.rng)
    line.packets += 1
    line.octets += pkt(line.pool, packet).total_len
    line.bad = (<uint32_t>c >= line.to_good) if line.bad else (<uint32_t>c < line.to_bad)
    if (a >> 32) < (line.loss_bad if line.bad else line.loss):
        line.lost += 1
        pkt_free(line.pool, packet)
        return
    if (b >> 32) < line.duplicate:
        copy = packet_copy(line.pool, packet, line.pool)
        if copy == NIL:
            line.no_buffer += 1
        else:
            line.duplicated += 1
    if <uint32_t>a < line.corrupt:
        packet = _hit(line, packet, c)
    if packet != NIL:
        _enqueue(line, packet, now)
    if copy != NIL:
        _enqueue(line, copy, now)


cdef uint32_t line_pop(Line* line, int64_t now) noexcept nogil:
    """The next packet that has arrived by `now`, NIL if there is none."""
    cdef Held* first
    _advance(line, now)
    first = line_first(line)
    return _leave(line) if first != NULL and first.at <= now else NIL


cdef void line_return(Line* line, uint32_t packet, int64_t now) noexcept nogil:
    """Put a popped packet back, in front of all others: nobody could take it. Several: the last one first."""
    cdef Held* first = line_first(line)
    cdef Held item
    item.item = packet
    item.at = now if first == NULL else min(now, first.at)
    item.order = 0
    if first != NULL and first.at == item.at and first.order == 0:
        item.at -= 1
    heap_push(line.heap, &line.n, item)
