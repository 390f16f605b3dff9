"""Reassembly of IPv4 (RFC 791 §3.2, RFC 815) and IPv6 fragments (RFC 8200 §4.5), without copying.

The fragments of a datagram wait in order, and in the end are one chain that begins with the headers of the
first. Memory is bounded in datagrams, in pool cells they hold, and in fragments per datagram; when it is used
up the oldest datagram makes room. Overlapping or contradictory fragments condemn their datagram, and what is
still to come of it (RFC 5722, here for both versions).
"""
from libc.stdint cimport uint64_t
from iip.memory.pool cimport NIL, PKT_RX_L4_CSUM_OK, Packet, pkt, pkt_chain_len, pkt_free, pool_low
from iip.net.link cimport chain_after
from iip.net.state cimport AK_OWN, AddrSlot, Datagram, addr_find
from iip.net.types cimport PROTO_TCP, addr_eq
from iip.verdict cimport (count, ip_fragment_bad, ip_fragment_duplicate, ip_fragment_no_room, ip_fragment_overlap,
                          ip_fragment_queued, ip_fragment_timeout, ip_reassembled, ok)
from iip.wire.rng cimport siphash_words

cdef enum:
    MAX_PIECES = 128              # a full datagram in fragments of 576 bytes is 119
    TCP_HLEN = 20
    ECN_CE = 3


cdef inline uint32_t _bucket(Net* net, IpRx* rx, uint32_t ident, uint8_t proto) noexcept nogil:
    cdef uint64_t w[5]
    w[0], w[1], w[2], w[3] = rx.src.hi, rx.src.lo, rx.dst.hi, rx.dst.lo
    w[4] = <uint64_t>ident << 16 | <uint64_t>proto << 8 | rx.version
    return <uint32_t>siphash_words(w, 5, net.key0, net.key1) & net.datagram_hash_mask


cdef inline uint32_t _bucket_of(Net* net, Datagram* d) noexcept nogil:
    cdef IpRx rx
    rx.src = d.src
    rx.dst = d.dst
    rx.version = d.version
    return _bucket(net, &rx, d.ident, d.proto if d.version == 4 else 0)


# -- datagrams ------------------------------------------------------------------------------------------
cdef void _clear(Net* net, Datagram* d) noexcept nogil:
    """Free what a datagram holds."""
    cdef uint32_t i = d.first, nxt
    while i != NIL:
        nxt = pkt(net.pool, i).qnext
        pkt_free(net.pool, i)
        i = nxt
    d.first = d.last = NIL
    net.reassembly_held -= d.held
    d.held = 0


cdef void _release(Net* net, uint32_t n) noexcept nogil:
    """The datagram, which holds nothing any more, goes back to the free ones."""
    cdef Datagram* d = &net.datagrams[n]
    cdef uint32_t* at = &net.datagram_hash[_bucket_of(net, d)]
    while at[0] != n:
        at = &net.datagrams[at[0]].hash_next
    at[0] = d.hash_next
    if d.older == NIL:
        net.datagram_oldest = d.newer
    else:
        net.datagrams[d.older].newer = d.newer
    if d.newer == NIL:
        net.datagram_newest = d.older
    else:
        net.datagrams[d.newer].older = d.older
    d.hash_next = net.datagram_free
    net.datagram_free = n


cdef void _evict_oldest(Net* net) noexcept nogil:
    cdef uint32_t n = net.datagram_oldest
    if not net.datagrams[n].dead:
        count(net.counters, ip_fragment_no_room)
    _clear(net, &net.datagrams[n])
    _release(net, n)


cdef uint32_t _datagram(Net* net, IpRx* rx, uint32_t ident) noexcept nogil:
    """The one this fragment belongs to, made if it is the first to arrive."""
    cdef uint8_t proto = rx.proto if rx.version == 4 else 0
    cdef uint32_t b = _bucket(net, rx, ident, proto), n = net.datagram_hash[b]
    cdef Datagram* d
    while n != NIL:
        d = &net.datagrams[n]
        if d.ident == ident and d.version == rx.version and addr_eq(&d.src, &rx.src) and addr_eq(&d.dst, &rx.dst) \
                and (d.version == 6 or d.proto == proto):
            return n
        n = d.hash_next
    if net.datagram_free == NIL:
        _evict_oldest(net)
    n = net.datagram_free
    d = &net.datagrams[n]
    net.datagram_free = d.hash_next
    d.src = rx.src
    d.dst = rx.dst
    d.ident = ident
    d.version = rx.version
    d.proto = proto
    d.dead = d.ecn_ce = 0
    d.total = d.have = d.held = d.pieces = d.l4_off = 0
    d.first = d.last = NIL
    d.expires = net.now + net.reassembly_timeout
    d.hash_next = net.datagram_hash[b]
    net.datagram_hash[b] = n
    d.newer = NIL
    d.older = net.datagram_newest
    if d.older == NIL:
        net.datagram_oldest = n
    else:
        net.datagrams[d.older].newer = n
    net.datagram_newest = n
    return n


cdef int _condemn(Net* net, Datagram* d, int verdict) noexcept nogil:
    _clear(net, d)
    d.dead = True
    return verdict


# -- fragments ------------------------------------------------------------------------------------------
cdef int reassembly_add(Net* net, IpRx* rx, uint32_t ident, uint32_t at, bint more) noexcept nogil:
    """A fragment: `rx.l4_off`, `rx.l4_len` say where its part of the payload lies, `at` where that belongs.
    Returns ip_fragment_queued (the packet is kept, `rx.pkt` NIL), ok (`rx` is the whole datagram, which
    begins at the headers of its first fragment), or why the fragment is dropped."""
    cdef uint32_t n = rx.l4_len, d_i
    cdef Datagram* d
    cdef int verdict
    if n == 0 or (more and n & 7) or at + n > 65535 - (rx.l4_off if rx.version == 4 else 0):
        return ip_fragment_bad
    # a TCP header that is cut short, or overwritten by a second fragment (RFC 1858, RFC 3128)
    if rx.proto == PROTO_TCP and ((at == 0 and n < TCP_HLEN) or at == 8):
        return ip_fragment_bad
    if net.max_datagrams == 0:
        return ip_fragment_no_room
    d_i = _datagram(net, rx, ident)
    d = &net.datagrams[d_i]
    if d.dead:
        return ip_fragment_overlap
    if not more:
        if (d.total and d.total != at + n) or (
                d.last != NIL and pkt(net.pool, d.last).seq + pkt(net.pool, d.last).aux > at + n):
            return _condemn(net, d, ip_fragment_bad)
    elif d.total and at + n >= d.total:
        return _condemn(net, d, ip_fragment_bad)
    if d.pieces == MAX_PIECES:
        return _condemn(net, d, ip_fragment_bad)
    verdict = _insert(net, rx, d_i, at)
    if verdict != ok:
        return verdict
    if not more:
        d.total = at + n
    if (rx.tos & 3) == ECN_CE:
        d.ecn_ce = True
    rx.pkt = NIL
    if d.total == 0 or d.have < d.total:
        return ip_fragment_queued
    _complete(net, rx, d)
    _release(net, d_i)
    count(net.counters, ip_reassembled)
    return ok


cdef bint _make_room(Net* net, uint32_t d_i, uint32_t cost) noexcept nogil:
    """Within the bound on memory, at the cost of older datagrams; and never the last of the pool."""
    if pool_low(net.pool):
        return False
    while net.reassembly_held + cost > net.reassembly_max:
        if net.datagram_oldest == d_i:
            return False
        _evict_oldest(net)
    return True


cdef int _insert(Net* net, IpRx* rx, uint32_t d_i, uint32_t at) noexcept nogil:
    """Put the fragment where it belongs in the order, from the end, where it mostly does."""
    cdef Datagram* d = &net.datagrams[d_i]
    cdef uint32_t n = rx.l4_len, before = NIL, after = d.first, i, cost
    cdef Packet* k
    if d.last != NIL and pkt(net.pool, d.last).seq <= at:
        before = d.last
        after = NIL
    else:
        while after != NIL and pkt(net.pool, after).seq <= at:
            before = after
            after = pkt(net.pool, after).qnext
    if before != NIL:
        k = pkt(net.pool, before)
        if k.seq == at and k.aux == n:
            return ip_fragment_duplicate
        if k.seq + k.aux > at:
            return _condemn(net, d, ip_fragment_overlap)
    if after != NIL and pkt(net.pool, after).seq < at + n:
        return _condemn(net, d, ip_fragment_overlap)
    cost = pkt_chain_len(net.pool, rx.pkt) * net.pool.cell_size
    if not _make_room(net, d_i, cost):
        return ip_fragment_no_room
    i = rx.pkt
    if at == 0:
        d.l4_off = rx.l4_off
        if d.version == 6:
            d.proto = rx.proto
    else:
        i = chain_after(net, i, rx.l4_off)
    k = pkt(net.pool, i)
    k.seq = at
    k.aux = n
    k.qnext = after
    if before == NIL:
        d.first = i
    else:
        pkt(net.pool, before).qnext = i
    if after == NIL:
        d.last = i
    d.have += n
    d.held += cost
    d.pieces += 1
    net.reassembly_held += cost
    return ok


cdef void _complete(Net* net, IpRx* rx, Datagram* d) noexcept nogil:
    """Make one chain of the fragments."""
    cdef uint32_t i = d.first, nxt
    cdef Packet* head = pkt(net.pool, i)
    cdef Packet* k = head
    while i != NIL:
        nxt = k.qnext
        k.qnext = NIL
        while k.next != NIL:
            k = pkt(net.pool, k.next)
        k.next = nxt
        i = nxt
        if i != NIL:
            k = pkt(net.pool, i)
    rx.pkt = d.first
    rx.l4_off = d.l4_off
    rx.l4_len = d.total
    if d.version == 6:
        rx.proto = d.proto
    head.total_len = d.l4_off + d.total
    head.flags &= ~<uint32_t>PKT_RX_L4_CSUM_OK
    if d.ecn_ce:
        rx.tos |= ECN_CE          # RFC 3168 §5.3
    d.first = d.last = NIL
    net.reassembly_held -= d.held
    d.held = 0


cdef bint reassembly_expire(Net* net, IpRx* rx) noexcept nogil:
    """Give up the oldest datagram if its time is over; True: there may be more. `rx` is then its first
    fragment, for an error message and for the caller to free, if that came; else `rx.pkt` is NIL."""
    cdef uint32_t n = net.datagram_oldest, i
    cdef Datagram* d
    cdef AddrSlot* slot
    if n == NIL or net.now < net.datagrams[n].expires:
        return False
    d = &net.datagrams[n]
    rx.pkt = NIL
    if not d.dead:
        count(net.counters, ip_fragment_timeout)
    i = d.first
    if i != NIL and pkt(net.pool, i).seq == 0:
        d.first = pkt(net.pool, i).qnext
        rx.pkt = i
        rx.src = d.src
        rx.dst = d.dst
        rx.version = d.version
        rx.proto = d.proto
        rx.l4_off = d.l4_off
        rx.l4_len = pkt(net.pool, i).aux
        rx.ttl = rx.tos = 0
        slot = addr_find(net, &d.dst)
        rx.multicast = slot != NULL and slot.kind != AK_OWN
    _clear(net, d)
    _release(net, n)
    return True


cdef void reassembly_drop_all(Net* net) noexcept nogil:
    while net.datagram_oldest != NIL:
        _clear(net, &net.datagrams[net.datagram_oldest])
        _release(net, net.datagram_oldest)
