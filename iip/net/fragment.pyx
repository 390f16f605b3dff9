"""IP packets to the link: fragmentation on send (RFC 791, RFC 8200 §4.5) and identifications."""
from libc.stdint cimport uint16_t, uint64_t
from libc.string cimport memcpy
from iip.memory.pool cimport (NIL, PKT_TX_IP_CSUM, PKT_TX_TSO4, PKT_TX_TSO6, Packet, pkt, pkt_alloc, pkt_data, pkt_free,
                              pkt_push)
from iip.net.link cimport chain_slice, link_queue
from iip.net.state cimport IP_IDS, Net, net_tx_room
from iip.net.types cimport CAP_TX_IP_CSUM, Addr
from iip.verdict cimport count, ip_fragmented, ok, tx_no_buffer, tx_queue_full
from iip.wire.bytes cimport store16
from iip.wire.ethernet cimport ETH_HLEN
from iip.wire.ipv4 cimport IP4_HLEN, IP4_MF, ip4_store_sum, ip_version
from iip.wire.ipv6 cimport IP6_FRAGMENT, IP6_FRAG_HLEN, IP6_HLEN, ip6_frag_build
from iip.wire.rng cimport siphash_words


cdef uint32_t ip_ident(Net* net, const Addr* src, const Addr* dst, uint8_t proto) noexcept nogil:
    """The next identification between two addresses: counters chosen and offset by a keyed hash, so that one
    peer cannot tell how much we send to another (RFC 7739 §5.3)."""
    cdef uint64_t w[5]
    cdef uint64_t h
    cdef uint32_t* counter
    w[0], w[1], w[2], w[3], w[4] = src.hi, src.lo, dst.hi, dst.lo, proto
    h = siphash_words(w, 5, net.key0, net.key1)
    counter = &net.ip_ids[h & (IP_IDS - 1)]
    counter[0] += 1
    return counter[0] + <uint32_t>(h >> 32)


cdef int ip_transmit(Net* net, const uint8_t* hdr, uint32_t i, uint32_t mtu) noexcept nogil:
    """Send an IP packet behind the 14 bytes `hdr` (unused on a bare-IP medium), in fragments where it is
    larger than `mtu`. Always takes the packet."""
    cdef Packet* k = pkt(net.pool, i)
    if k.total_len > mtu and not k.flags & (PKT_TX_TSO4 | PKT_TX_TSO6):
        return _fragment(net, hdr, i, mtu)
    if net.link_len:
        pkt_push(k, ETH_HLEN)
        memcpy(pkt_data(k), hdr, ETH_HLEN)
    return link_queue(net, i)


cdef int _fragment(Net* net, const uint8_t* hdr, uint32_t i, uint32_t mtu) noexcept nogil:
    cdef Packet* k = pkt(net.pool, i)
    cdef const uint8_t* p = pkt_data(k)
    cdef bint v4 = ip_version(p) == 4
    cdef uint32_t hlen = IP4_HLEN if v4 else IP6_HLEN
    cdef uint32_t payload = k.total_len - hlen, at = 0, j, ident = 0
    cdef uint32_t step = (mtu - hlen - (0 if v4 else IP6_FRAG_HLEN)) & ~<uint32_t>7
    cdef uint32_t n = (payload + step - 1) // step
    cdef Addr src
    cdef Addr dst
    cdef int verdict = ok
    if n > net_tx_room(net):
        verdict = tx_queue_full
    elif n > net.pool.n_free_direct:
        verdict = tx_no_buffer
    elif not v4:
        memcpy(&src, p + 8, 16)
        memcpy(&dst, p + 24, 16)
        ident = ip_ident(net, &src, &dst, IP6_FRAGMENT)
    while verdict == ok and at < payload:
        j = _fragment_at(net, hdr, i, hlen, at, min(step, payload - at), at + step < payload, ident)
        verdict = tx_no_buffer if j == NIL else link_queue(net, j)
        at += step
    pkt_free(net.pool, i)
    if verdict == ok:
        count(net.counters, ip_fragmented)
    return verdict


cdef uint32_t _fragment_at(Net* net, const uint8_t* hdr, uint32_t i, uint32_t hlen, uint32_t at, uint32_t n,
                           bint more, uint32_t ident) noexcept nogil:
    """One fragment: headers in a cell of their own, the payload as a view. NIL: no buffer."""
    cdef const uint8_t* p = pkt_data(pkt(net.pool, i))
    cdef uint32_t j = pkt_alloc(net.pool), data
    cdef Packet* c
    cdef uint8_t* q
    if j == NIL:
        return NIL
    data = chain_slice(net, i, hlen + at, n)
    if data == NIL:
        pkt_free(net.pool, j)
        return NIL
    c = pkt(net.pool, j)
    c.next = data
    c.total_len = n
    if hlen == IP6_HLEN:
        pkt_push(c, IP6_FRAG_HLEN)
        ip6_frag_build(pkt_data(c), p[6], at, more, ident)
    pkt_push(c, hlen)
    c.l3 = <uint16_t>c.off
    q = pkt_data(c)
    memcpy(q, p, hlen)
    if hlen == IP6_HLEN:
        store16(q + 4, n + IP6_FRAG_HLEN)
        q[6] = IP6_FRAGMENT
    else:
        store16(q + 2, n + IP4_HLEN)
        store16(q + 6, (at >> 3) | (IP4_MF if more else 0))
        store16(q + 10, 0)
        if net.caps & CAP_TX_IP_CSUM:
            c.flags |= PKT_TX_IP_CSUM
        else:
            ip4_store_sum(q)
    if net.link_len:
        pkt_push(c, ETH_HLEN)
        memcpy(pkt_data(c), hdr, ETH_HLEN)
    return j
