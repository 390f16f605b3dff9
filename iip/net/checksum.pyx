"""Transport checksums over packets, in software or left to the device."""
from iip.memory.pool cimport NIL, Packet, Pool, pkt, pkt_data
from iip.net.state cimport Net
from iip.net.types cimport PROTO_ICMP, PROTO_UDP, Addr, Flow, IpRx
from iip.wire.bytes cimport store16_be
from iip.wire.checksum cimport csum_block_add, csum_fold, csum_partial, csum_pseudo4, csum_pseudo6


cdef uint32_t chain_sum(Pool* pool, uint32_t i, uint32_t skip, uint32_t n, uint32_t sum) noexcept nogil:
    """`sum` and the sum of `n` bytes from byte `skip` of a chain."""
    cdef uint32_t take, done = 0
    cdef Packet* k
    while i != NIL and done < n:
        k = pkt(pool, i)
        if skip >= k.len:
            skip -= k.len
        else:
            take = min(k.len - skip, n - done)
            sum = csum_block_add(sum, csum_partial(pkt_data(k) + skip, take, 0), done)
            done += take
            skip = 0
        i = k.next
    return sum


cdef uint32_t pseudo_sum(const Addr* src, const Addr* dst, uint8_t version, uint8_t proto,
                         uint32_t length) noexcept nogil:
    if version == 4:
        return csum_pseudo4(<const uint8_t*>src + 12, <const uint8_t*>dst + 12, proto, length)
    return csum_pseudo6(<const uint8_t*>src, <const uint8_t*>dst, proto, length)


cdef void l4_checksum_software(Net* net, Flow* f, uint32_t i, uint16_t csum_off, uint8_t proto) noexcept nogil:
    """The checksum over the whole packet, into its field."""
    cdef Packet* k = pkt(net.pool, i)
    cdef uint8_t* p = pkt_data(k)
    cdef uint32_t n = k.total_len
    cdef uint32_t sum = 0 if proto == PROTO_ICMP else pseudo_sum(&f.src, &f.dst, f.version, proto, n)
    cdef uint16_t check
    if k.next == NIL:
        sum = csum_partial(p, n, sum)
    else:
        sum = chain_sum(net.pool, i, 0, n, sum)
    check = csum_fold(sum)
    if check == 0 and proto == PROTO_UDP:
        check = 0xFFFF            # RFC 768: zero would mean that there is none
    store16_be(p + csum_off, check)


cdef bint rx_l4_checksum_software(Net* net, IpRx* rx) noexcept nogil:
    cdef Packet* k = pkt(net.pool, rx.pkt)
    cdef uint32_t sum
    sum = 0 if rx.proto == PROTO_ICMP else pseudo_sum(&rx.src, &rx.dst, rx.version, rx.proto, rx.l4_len)
    if k.next == NIL:
        sum = csum_partial(pkt_data(k) + rx.l4_off, rx.l4_len, sum)
    else:
        sum = chain_sum(net.pool, rx.pkt, rx.l4_off, rx.l4_len, sum)
    return csum_fold(sum) == 0
