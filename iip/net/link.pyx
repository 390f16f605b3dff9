"""Frames to the driver, and pieces of packets."""
from libc.string cimport memcpy
from iip.memory.pool cimport (NIL, PKT_EXTERNAL, PKT_INDIRECT, Packet, Pool, pkt, pkt_alloc, pkt_copy_out, pkt_data,
                              pkt_free, pkt_linearize, pkt_push, pkt_slice, pkt_tailroom, pkt_trim_head)
from iip.net.state cimport Net
from iip.net.types cimport CAP_SG
from iip.verdict cimport ok, tx_no_buffer, tx_queue_full
from iip.wire.ethernet cimport ETH_HLEN, eth_build


cdef int link_queue(Net* net, uint32_t i) noexcept nogil:
    """Append a finished frame to the output. Always takes it."""
    cdef uint32_t j = i
    if net.tx_len == net.tx_cap:
        pkt_free(net.pool, i)
        return tx_queue_full
    if pkt(net.pool, i).next != NIL and not net.caps & CAP_SG:
        j = pkt_linearize(net.pool, i)
        if j == NIL:
            pkt_free(net.pool, i)
            return tx_no_buffer
    net.txq[net.tx_len] = j
    net.tx_len += 1
    return ok


cdef int link_send(Net* net, const uint8_t* dst_mac, uint16_t ethertype, uint32_t i) noexcept nogil:
    """Put the link header in front of packet `i`, if the medium has one, and send it. Always takes it."""
    cdef Packet* k = pkt(net.pool, i)
    if net.link_len:
        pkt_push(k, ETH_HLEN)
        eth_build(pkt_data(k), dst_mac, net.mac, ethertype)
    return link_queue(net, i)


cdef uint32_t net_pullup(Net* net, uint32_t i, uint32_t need) noexcept nogil:
    """The chain with at least its first `need` bytes (or all, if it is shorter) in its first piece. What was
    received may be shared, so they are copied into a new cell. NIL, the chain untouched, if that fails."""
    cdef Pool* pool = net.pool
    cdef Packet* k = pkt(pool, i)
    cdef Packet* c
    cdef uint32_t n, total = k.total_len
    need = min(need, total)
    if k.len >= need:
        return i
    n = pkt_alloc(pool)
    if n == NIL:
        return NIL
    c = pkt(pool, n)
    if need > pkt_tailroom(c):
        pkt_free(pool, n)
        return NIL
    pkt_copy_out(pool, i, 0, pkt_data(c), need)
    c.flags |= k.flags & ~<uint32_t>(PKT_INDIRECT | PKT_EXTERNAL)
    c.len = need
    c.total_len = total
    c.next = chain_after(net, i, need)
    return n


cdef uint32_t chain_after(Net* net, uint32_t i, uint32_t n) noexcept nogil:
    """The chain without its first `n` bytes, and without the pieces that become empty; NIL if nothing is left."""
    cdef Pool* pool = net.pool
    cdef uint32_t rest, total
    total = pkt(pool, i).total_len
    total -= min(n, total)
    pkt_trim_head(pool, i, n)
    while i != NIL and pkt(pool, i).len == 0:
        rest = pkt(pool, i).next
        pkt(pool, i).next = NIL
        pkt_free(pool, i)
        i = rest
    if i != NIL:
        pkt(pool, i).total_len = total
    return i


cdef uint32_t packet_of(Net* net, uint32_t hlen, const uint8_t* data, uint32_t n) noexcept nogil:
    """A packet with room for a header of `hlen` bytes in front of a copy of `data`: one cell, or a chain of
    as many as it takes. NIL if there are too few."""
    cdef Pool* pool = net.pool
    cdef uint32_t head = pkt_alloc(pool), last, j, take
    cdef Packet* k
    if head == NIL:
        return NIL
    k = pkt(pool, head)
    take = min(n, pkt_tailroom(k) - hlen)
    memcpy(pkt_data(k) + hlen, data, take)
    k.len = hlen + take
    last = head
    pkt(pool, head).total_len = hlen + n
    data += take
    n -= take
    while n:
        j = pkt_alloc(pool)
        if j == NIL:
            pkt_free(pool, head)
            return NIL
        k = pkt(pool, j)
        k.off = 0
        take = min(n, k.buf_len)
        memcpy(pkt_data(k), data, take)
        k.len = take
        pkt(pool, last).next = j
        last = j
        data += take
        n -= take
    return head


cdef uint32_t chain_slice(Net* net, uint32_t i, uint32_t skip, uint32_t n) noexcept nogil:
    """Views of the `n` bytes from byte `skip` of a chain, as a chain of their own; NIL if descriptors ran out."""
    cdef Pool* pool = net.pool
    cdef uint32_t head = NIL, last = NIL, j, take, done = 0
    cdef Packet* k
    while i != NIL and done < n:
        k = pkt(pool, i)
        if skip >= k.len:
            skip -= k.len
        else:
            take = min(k.len - skip, n - done)
            j = pkt_slice(pool, i, k.off + skip, take)
            if j == NIL:
                pkt_free(pool, head)
                return NIL
            if head == NIL:
                head = j
            else:
                pkt(pool, last).next = j
            last = j
            done += take
            skip = 0
        i = k.next
    if head != NIL:
        pkt(pool, head).total_len = done
    return head
