"""Joining received segments: see gro.pxd.

Segments of one flow that follow each other in a burst without a gap become one packet, a chain, so that everything
behind costs once for all of them. Only what a sender could have sent as one is joined: the headers agree in
everything but the sequence number, the IPv4 identification and PSH, checksums are right, and only the last may be shorter
than the first.
"""
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy
from iip.memory.pool cimport (
    NIL, PKT_EXTERNAL, PKT_INDIRECT, PKT_RX_IP_CSUM_OK, PKT_RX_L4_CSUM_OK, Packet, pkt, pkt_alloc, pkt_data, pkt_pull)
from iip.net.checksum cimport chain_sum
from iip.net.types cimport PROTO_TCP
from iip.verdict cimport count, tcp_coalesced
from iip.wire.bytes cimport load16, load32, load32_be, store16, unlikely
from iip.wire.checksum cimport csum_fold, csum_pseudo4, csum_pseudo6
from iip.wire.ethernet cimport ETH_IPV4, ETH_IPV6, eth_type
from iip.wire.ipv4 cimport IP4_HLEN, IP4_MF, IP4_OFFSET, ip4_frag, ip4_sum20, ip_version
from iip.wire.ipv6 cimport IP6_HLEN
from iip.wire.tcp cimport ECN_FIELD, ECN_MARK, TCP_HEADER, TH_ACK, TH_CWR, TH_FIN, TH_PSH, TH_RST, TH_SYN, TH_URG

cdef enum:
    FLOWS = 8                     # that are joined at the same time
    MOST = 65535                  # bytes of an IP packet
    NEVER_JOINED = TH_FIN | TH_SYN | TH_RST | TH_URG | TH_CWR


cdef struct Joined:
    # a packet that may grow
    uint32_t packet
    uint32_t last                 # piece of its chain
    uint32_t next_seq
    uint32_t mss                  # payload of the first segment
    uint32_t size                 # IP packet, bytes
    bint many                     # it is more than one already


cdef struct Look:
    # the segment at hand
    uint8_t* ip
    uint8_t* tcp
    uint32_t l4                   # bytes in front of the TCP header,
    uint32_t header               # and of the payload
    uint32_t payload
    bint v4


cdef inline bint _tcp(Net* net, Packet* k, Look* s) noexcept nogil:
    """Whether this is TCP in a plain IP packet, whose headers lie together."""
    cdef uint32_t link = net.link_len, hlen
    cdef uint8_t* p = pkt_data(k)
    if k.len < link + IP4_HLEN + TCP_HEADER:
        return False
    s.ip = p + link
    s.v4 = ip_version(s.ip) == 4
    if s.v4:
        if s.ip[0] != 0x45 or s.ip[9] != PROTO_TCP or ip4_frag(s.ip) & (IP4_MF | IP4_OFFSET):
            return False
        hlen = IP4_HLEN
    else:
        if ip_version(s.ip) != 6 or s.ip[6] != PROTO_TCP or k.len < link + IP6_HLEN + TCP_HEADER:
            return False
        hlen = IP6_HLEN
    if link and eth_type(p) != (ETH_IPV4 if s.v4 else ETH_IPV6):
        return False
    s.l4 = link + hlen
    s.tcp = p + s.l4
    s.header = s.l4 + (s.tcp[12] >> 4) * 4
    return s.header >= s.l4 + TCP_HEADER and s.header <= k.len


cdef inline bint _same_flow(Net* net, Look* s, Packet* h) noexcept nogil:
    cdef uint8_t* ip = pkt_data(h) + net.link_len
    if ip[0] >> 4 != s.ip[0] >> 4:
        return False
    if s.v4:                      # addresses and ports lie together
        return (load32_be(s.ip + 20) == load32_be(ip + 20) and load32_be(s.ip + 12) == load32_be(ip + 12)
                and load32_be(s.ip + 16) == load32_be(ip + 16))
    return memcmp(s.ip + 8, ip + 8, 36) == 0


cdef bint _checked(Net* net, uint32_t i, Packet* k, Look* s) noexcept nogil:
    """Are its checksums right? They are of no use once it is part of another packet."""
    cdef uint32_t n = k.total_len - s.l4, sum
    if s.v4 and not k.flags & PKT_RX_IP_CSUM_OK and ip4_sum20(s.ip) != 0:
        return False
    if k.flags & PKT_RX_L4_CSUM_OK:
        return True
    if s.v4:
        sum = csum_pseudo4(s.ip + 12, s.ip + 16, PROTO_TCP, n)
    else:
        sum = csum_pseudo6(s.ip + 8, s.ip + 24, PROTO_TCP, n)
    if csum_fold(chain_sum(net.pool, i, s.l4, n, sum)) != 0:
        return False
    k.flags |= PKT_RX_L4_CSUM_OK
    return True


cdef inline bint _joinable(Net* net, uint32_t i, Packet* k, Look* s) noexcept nogil:
    """Data, nothing special, of the length that IP says. Marks of congestion are counted by packets (RFC 9768 §3.2.2)."""
    cdef uint32_t size = load16(s.ip + 2) if s.v4 else load16(s.ip + 4) + IP6_HLEN
    s.payload = k.total_len - s.header
    if unlikely((s.ip[1] if s.v4 else s.ip[1] >> 4) & ECN_FIELD == ECN_MARK):
        return False
    return (s.payload != 0 and size + net.link_len == k.total_len
            and (s.tcp[13] & (NEVER_JOINED | TH_ACK)) == TH_ACK and _checked(net, i, k, s))


cdef bint _continues(Net* net, Joined* j, Packet* h, Look* s) noexcept nogil:
    """Whether the segment is what follows, with headers that agree."""
    cdef uint8_t* p = pkt_data(h)
    cdef uint8_t* ip = p + net.link_len
    cdef uint8_t* tcp = p + s.l4
    cdef uint32_t options = s.header - s.l4 - TCP_HEADER
    if (load32(s.tcp + 4) != j.next_seq or s.payload > j.mss or j.size + s.payload > MOST
            or load32_be(s.tcp + 8) != load32_be(tcp + 8) or s.tcp[12] != tcp[12] or (s.tcp[13] ^ tcp[13]) & ~TH_PSH
            or load16(s.tcp + 14) != load16(tcp + 14) or memcmp(s.tcp + TCP_HEADER, tcp + TCP_HEADER, options) != 0
            or memcmp(pkt_data(h), s.ip - net.link_len, net.link_len) != 0):
        return False
    if s.v4:
        return s.ip[1] == ip[1] and load16(s.ip + 6) == load16(ip + 6) and s.ip[8] == ip[8]
    return load32_be(s.ip) == load32_be(ip) and s.ip[7] == ip[7]


cdef bint _own_header(Net* net, Joined* j, Look* s, uint32_t* place) noexcept nogil:
    """The header of the joined packet will change: it must be ours alone, or be a copy. False: no memory."""
    cdef Packet* k = pkt(net.pool, j.packet)
    cdef Packet* c
    cdef uint32_t i
    if not k.flags & (PKT_INDIRECT | PKT_EXTERNAL) and k.refs == 1:
        return True
    i = pkt_alloc(net.pool)
    if i == NIL:
        return False
    c = pkt(net.pool, i)
    memcpy(pkt_data(c), pkt_data(k), s.header)
    c.flags |= k.flags & ~<uint32_t>(PKT_INDIRECT | PKT_EXTERNAL)
    c.len = s.header
    c.total_len = k.total_len
    pkt_pull(k, s.header)
    c.next = j.packet
    j.packet = i
    place[0] = i
    return True


cdef bint _join(Net* net, Joined* j, uint32_t i, Packet* k, Look* s, uint32_t* place) noexcept nogil:
    """Append the payload. False, nothing changed, when there is no memory."""
    cdef Packet* h
    cdef uint8_t* ip
    cdef uint8_t push = s.tcp[13] & TH_PSH
    if not j.many and not _own_header(net, j, s, place):
        return False
    h = pkt(net.pool, j.packet)
    ip = pkt_data(h) + net.link_len
    j.many = True
    j.size += s.payload
    j.next_seq += s.payload
    pkt_pull(k, s.header)
    pkt(net.pool, j.last).next = i
    while k.next != NIL:
        i = k.next
        k = pkt(net.pool, i)
    j.last = i
    h.total_len += s.payload
    pkt_data(h)[s.l4 + 13] |= push
    if s.v4:
        store16(ip + 2, j.size)
    else:
        store16(ip + 4, j.size - IP6_HLEN)
    h.flags |= PKT_RX_IP_CSUM_OK  # it was, before the length changed
    count(net.counters, tcp_coalesced)
    return True


cdef void _open(Net* net, Joined* j, uint32_t i, Packet* k, Look* s) noexcept nogil:
    j.packet = j.last = i
    while pkt(net.pool, j.last).next != NIL:
        j.last = pkt(net.pool, j.last).next
    j.next_seq = load32(s.tcp + 4) + s.payload
    j.mss = s.payload
    j.size = k.total_len - net.link_len
    j.many = False


cdef int gro_burst(Net* net, uint32_t* packets, int n) noexcept nogil:
    """Join what belongs together of the `n` packets of a burst, in place; how many are left."""
    cdef Joined joined[FLOWS]
    cdef int at[FLOWS]            # where the packet is in the burst; -1: a free entry
    cdef int left = 0, i, f, turn = 0
    cdef Look s
    cdef Packet* k
    cdef bint good
    for f in range(FLOWS):
        at[f] = -1
    for i in range(n):
        k = pkt(net.pool, packets[i])
        packets[left] = packets[i]
        left += 1
        if unlikely(not _tcp(net, k, &s)):
            continue
        good = _joinable(net, packets[i], k, &s)
        f = 0
        while f < FLOWS and (at[f] < 0 or not _same_flow(net, &s, pkt(net.pool, joined[f].packet))):
            f += 1
        if f < FLOWS:
            if good and _continues(net, &joined[f], pkt(net.pool, joined[f].packet), &s) and _join(
                    net, &joined[f], packets[i], k, &s, &packets[at[f]]):
                left -= 1
                if s.payload < joined[f].mss or s.tcp[13] & TH_PSH:
                    at[f] = -1
                continue
            at[f] = -1            # nothing may overtake this one
        if good and not s.tcp[13] & TH_PSH:
            if f == FLOWS:
                f = turn
                turn = (turn + 1) % FLOWS
            _open(net, &joined[f], packets[i], k, &s)
            at[f] = left - 1
    return left
