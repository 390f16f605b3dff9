"""Segmentation in software: see gso.pxd.

A frame that TCP made for a device with TSO becomes frames of one segment each. Headers are copied, payload is not
(unless it is short or the device takes no chains): every segment is a header and views of the frame's payload.
"""
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy
from iip.memory.pool cimport (
    NIL, PKT_EXTERNAL, PKT_INDIRECT, PKT_RX_L4_CSUM_OK, PKT_TX_IP_CSUM, PKT_TX_L4_CSUM, PKT_TX_TSO4, PKT_TX_TSO6, Packet,
    pkt, pkt_alloc, pkt_data, pkt_free, pkt_slice, pkt_split, pkt_tailroom)
from iip.net.checksum cimport chain_sum
from iip.net.types cimport CAP_SG, CAP_TX_IP_CSUM, CAP_TX_L4_CSUM, PROTO_TCP
from iip.wire.bytes cimport load16, load32, store16, store16_be, store32
from iip.wire.checksum cimport csum_fold, csum_fold_nocompl, csum_pseudo4, csum_pseudo6, csum_small
from iip.wire.ipv4 cimport ip_version
from iip.wire.ipv6 cimport IP6_HLEN
from iip.wire.tcp cimport TCP_CSUM_OFF, TH_CWR, TH_FIN, TH_PSH

cdef enum:
    SHORT_COPY = 256              # up to here a copy is cheaper than a view
    KIND = PKT_INDIRECT | PKT_EXTERNAL
    UDP_CSUM_OFF = 6


cdef struct Frame:
    # the frame being cut
    Pool* pool
    uint32_t head
    uint32_t link                 # bytes in front of the IP header,
    uint32_t l4                   # of the TCP header,
    uint32_t header               # and of the payload
    uint32_t mss
    uint32_t left                 # payload bytes not cut off yet
    uint32_t piece                # where they begin: a piece of the chain,
    uint32_t at                   # and an offset in it
    uint32_t number               # segments cut off
    uint32_t caps


cdef bint _open(Frame* f, Pool* pool, uint32_t i, uint32_t caps) noexcept nogil:
    """False if it is no TCP segment whose headers lie together."""
    cdef Packet* k = pkt(pool, i)
    cdef uint8_t* p = pkt_data(k)
    f.pool = pool
    f.head = f.piece = i
    f.caps = caps
    f.link = <uint32_t>k.l3 - k.off
    f.l4 = <uint32_t>k.l4 - k.off
    f.mss = k.gso_size
    f.number = 0
    if f.mss == 0 or f.link > k.len or f.l4 <= f.link or f.l4 + 20 > k.len:
        return False
    f.header = f.l4 + (p[f.l4 + 12] >> 4) * 4
    if f.header > k.len or f.header >= k.total_len:
        return False
    f.left = k.total_len - f.header
    f.at = f.header
    return True


cdef void _advance(Frame* f, uint32_t n) noexcept nogil:
    f.left -= n
    f.at += n
    while f.piece != NIL and f.at >= pkt(f.pool, f.piece).len:
        f.at -= pkt(f.pool, f.piece).len
        f.piece = pkt(f.pool, f.piece).next


cdef bint _copy_payload(Frame* f, Packet* c, uint32_t n) noexcept nogil:
    """The next `n` bytes behind the header in its cell. False if they do not fit."""
    cdef Packet* k
    cdef uint32_t take
    if n > pkt_tailroom(c):
        return False
    while n:
        k = pkt(f.pool, f.piece)
        take = min(k.len - f.at, n)
        memcpy(pkt_data(c) + c.len, pkt_data(k) + f.at, take)
        c.len += take
        n -= take
        _advance(f, take)
    return True


cdef bint _view_payload(Frame* f, Packet* c, uint32_t n) noexcept nogil:
    """Views of the next `n` bytes behind the header. False, the place unchanged, when none is left."""
    cdef uint32_t left = f.left, piece = f.piece, at = f.at, i, take
    cdef Packet* last = c
    cdef Packet* k
    while n:
        k = pkt(f.pool, f.piece)
        take = min(k.len - f.at, n)
        i = pkt_slice(f.pool, f.piece, k.off + f.at, take)
        if i == NIL:
            f.left, f.piece, f.at = left, piece, at
            return False
        last.next = i
        last = pkt(f.pool, i)
        n -= take
        _advance(f, take)
    return True


cdef void _headers(Frame* f, Packet* c, uint32_t number, bint last) noexcept nogil:
    """The headers, copied from the frame, made true for segment `number`: lengths, identification, sequence number,
    flags; FIN and PSH belong to the last segment, CWR to the first (RFC 3168 §6.1.2)."""
    cdef uint8_t* p = pkt_data(c)
    cdef uint8_t* ip = p + f.link
    cdef uint8_t* tcp = p + f.l4
    if ip_version(ip) == 4:
        store16(ip + 2, c.total_len - f.link)
        store16(ip + 4, <uint16_t>(load16(ip + 4) + number))
    else:
        store16(ip + 4, c.total_len - f.link - IP6_HLEN)
    store32(tcp + 4, load32(tcp + 4) + number * f.mss)
    if not last:
        tcp[13] &= ~<uint8_t>(TH_FIN | TH_PSH)
    if number:
        tcp[13] &= ~<uint8_t>TH_CWR


cdef void _ip_checksum(Frame* f, Packet* c) noexcept nogil:
    cdef uint8_t* ip = pkt_data(c) + f.link
    store16(ip + 10, 0)
    if c.flags & PKT_TX_IP_CSUM and f.caps & CAP_TX_IP_CSUM:
        return
    c.flags &= ~<uint32_t>PKT_TX_IP_CSUM
    store16_be(ip + 10, csum_fold(csum_small(ip, f.l4 - f.link)))


cdef void _tcp_checksum(Frame* f, uint32_t i, Packet* c) noexcept nogil:
    """The device's to finish, computed, or neither: received segments that are known to be right stay so."""
    cdef uint8_t* ip = pkt_data(c) + f.link
    cdef uint32_t n = c.total_len - f.l4, sum
    if c.flags & PKT_RX_L4_CSUM_OK:
        return
    if ip_version(ip) == 4:
        sum = csum_pseudo4(ip + 12, ip + 16, PROTO_TCP, n)
    else:
        sum = csum_pseudo6(ip + 8, ip + 24, PROTO_TCP, n)
    if c.flags & PKT_TX_L4_CSUM and f.caps & CAP_TX_L4_CSUM:
        store16_be(pkt_data(c) + f.l4 + TCP_CSUM_OFF, csum_fold_nocompl(sum))
        return
    c.flags &= ~<uint32_t>PKT_TX_L4_CSUM
    store16(pkt_data(c) + f.l4 + TCP_CSUM_OFF, 0)
    store16_be(pkt_data(c) + f.l4 + TCP_CSUM_OFF, csum_fold(chain_sum(f.pool, i, f.l4, n, sum)))


cdef uint32_t _header_cell(Frame* f) noexcept nogil:
    """A packet with a copy of the frame's headers and marks; NIL when the pool is empty."""
    cdef Packet* k = pkt(f.pool, f.head)
    cdef uint32_t i = pkt_alloc(f.pool)
    cdef Packet* c
    if i == NIL:
        return NIL
    c = pkt(f.pool, i)
    memcpy(pkt_data(c), pkt_data(k), f.header)
    c.len = f.header
    c.flags |= k.flags & ~<uint32_t>KIND
    c.l3 = <uint16_t>(c.off + f.link)
    c.l4 = <uint16_t>(c.off + f.l4)
    c.csum_off = TCP_CSUM_OFF
    return i


cdef uint32_t _next(Frame* f) noexcept nogil:
    """The next segment; NIL, nothing changed, when there is no memory."""
    cdef uint32_t n = min(f.left, f.mss), number = f.number, i = _header_cell(f)
    cdef bint last = n == f.left
    cdef Packet* c
    if i == NIL:
        return NIL
    c = pkt(f.pool, i)
    c.flags &= ~<uint32_t>(PKT_TX_TSO4 | PKT_TX_TSO6)
    c.total_len = f.header + n
    if not ((n <= SHORT_COPY or not f.caps & CAP_SG) and _copy_payload(f, c, n)) and not _view_payload(f, c, n):
        pkt_free(f.pool, i)
        return NIL
    _headers(f, c, number, last)
    if ip_version(pkt_data(c) + f.link) == 4:
        _ip_checksum(f, c)
    _tcp_checksum(f, i, c)
    f.number += 1
    return i


cdef uint32_t _rest(Frame* f) noexcept nogil:
    """What has not been cut off, as a frame of its own; NIL when there is no memory."""
    cdef uint32_t i = _header_cell(f), data
    cdef Packet* c
    if i == NIL:
        return NIL
    c = pkt(f.pool, i)
    data = pkt_split(f.pool, f.head, pkt(f.pool, f.head).total_len - f.left)
    if data == NIL:
        pkt_free(f.pool, i)
        return NIL
    c.next = data
    c.total_len = f.header + f.left
    c.gso_size = <uint16_t>f.mss
    _headers(f, c, f.number, True)
    if ip_version(pkt_data(c) + f.link) == 4 and not c.flags & PKT_TX_IP_CSUM:
        _ip_checksum(f, c)
    return i


cdef int gso_segment(Pool* pool, uint32_t* packet, uint32_t* out, int room, uint32_t caps) noexcept nogil:
    """Cut up to `room` segments of `gso_size` payload bytes off the front of frame `packet[0]`, in `out`; how many.
    `packet[0]` is what is left then, NIL when that is nothing; it is fewer than `room` when the pool has no more.

    `caps`: what the device that will get them does (CAP_TX_IP_CSUM, CAP_TX_L4_CSUM, CAP_SG); the rest is done here.
    A frame that is no TCP segment is freed, and 0 returned."""
    cdef Frame f
    cdef int n = 0
    cdef uint32_t rest
    if not _open(&f, pool, packet[0], caps):
        pkt_free(pool, packet[0])
        packet[0] = NIL
        return 0
    # a cell and a view are kept back for what is left over
    while f.left and n < room and pool.n_free_direct >= 2 and pool.n_free_indirect >= 2:
        out[n] = _next(&f)
        if out[n] == NIL:
            break
        n += 1
    if n == 0:
        return 0
    rest = _rest(&f) if f.left else NIL
    if f.left and rest == NIL:    # not even for that: as if the network had lost it
        f.left = 0
    pkt_free(pool, packet[0])
    packet[0] = rest
    return n


cdef void finish_checksum(Pool* pool, uint32_t i, uint32_t caps) noexcept nogil:
    """Compute what packet `i` left to the device and that cannot do (`caps`): the checksums of the IPv4 header and of the
    transport."""
    cdef Packet* k = pkt(pool, i)
    cdef uint8_t* ip = k.buf + k.l3
    cdef uint32_t l4 = <uint32_t>k.l4 - k.off
    cdef uint16_t check
    if k.flags & PKT_TX_IP_CSUM and not caps & CAP_TX_IP_CSUM:
        k.flags &= ~<uint32_t>PKT_TX_IP_CSUM
        store16_be(ip + 10, 0)
        store16_be(ip + 10, csum_fold(csum_small(ip, (ip[0] & 15) * 4)))
    if k.flags & PKT_TX_L4_CSUM and not caps & CAP_TX_L4_CSUM:      # the field has the pseudo-header's sum
        check = csum_fold(chain_sum(pool, i, l4, k.total_len - l4, 0))
        if check == 0 and k.csum_off == UDP_CSUM_OFF:
            check = 0xFFFF        # RFC 768: zero would mean that there is none
        store16_be(k.buf + k.l4 + k.csum_off, check)
        k.flags &= ~<uint32_t>PKT_TX_L4_CSUM
