"""IPv4 input (RFC 791, RFC 1122 §3.2): whatever is not the plain case, which `net_input` does itself."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.memory.pool cimport (NIL, PKT_RX_BROADCAST, PKT_RX_IP_CSUM_OK, PKT_RX_MULTICAST, Packet, pkt, pkt_data,
                              pkt_trim_tail)
from iip.net.icmp cimport icmp4_input, net_icmp_error
from iip.net.link cimport net_pullup
from iip.net.mld cimport igmp_input
from iip.net.reassembly cimport reassembly_add
from iip.net.state cimport AK_OWN, AddrSlot, PKT_LOOPED, addr_find
from iip.net.types cimport PROTO_ICMP, PROTO_TCP, PROTO_UDP, addr_from4
from iip.verdict cimport (ip_bad_checksum, ip_bad_header_length, ip_bad_options, ip_bad_source, ip_bad_total_length,
                          ip_bad_version, ip_not_ours, ip_source_route, ip_unknown_protocol, ok, tx_no_buffer)
from iip.wire.bytes cimport load16
from iip.wire.checksum cimport csum_fold, csum_small
from iip.wire.icmp cimport ICMP4_PROTO_UNREACHABLE, ICMP4_UNREACHABLE
from iip.wire.ipv4 cimport (IP4_HLEN, IP4_HLEN_MAX, IP4_MF, IP4_OFFSET, IP4OPT_END, IP4OPT_LSRR, IP4OPT_NOP,
                            IP4OPT_SSRR, ip4_frag, ip4_hlen, ip4_total_len, ip_version)

cdef enum:
    PROTO_IGMP = 2
    L4_HEADER = 60                # bytes of a transport header at most: they are made contiguous


cdef int ipv4_input(Net* net, IpRx* rx) noexcept nogil:
    """`rx.pkt` begins at the IP header. Verdicts as `net_input`."""
    cdef uint32_t hlen, total, i = net_pullup(net, rx.pkt, IP4_HLEN_MAX)
    cdef uint16_t frag
    cdef const uint8_t* p
    cdef Packet* k
    cdef int verdict
    if i == NIL:
        return tx_no_buffer
    rx.pkt = i
    k = pkt(net.pool, i)
    p = pkt_data(k)
    if k.len < IP4_HLEN:
        return ip_bad_total_length
    if ip_version(p) != 4:
        return ip_bad_version
    hlen = ip4_hlen(p)
    if hlen < IP4_HLEN or hlen > k.len:
        return ip_bad_header_length
    total = ip4_total_len(p)
    if total < hlen or total > k.total_len:
        return ip_bad_total_length
    if not k.flags & PKT_RX_IP_CSUM_OK and csum_fold(csum_small(p, hlen)) != 0:
        return ip_bad_checksum
    pkt_trim_tail(net.pool, i, k.total_len - total)
    verdict = _addresses(net, rx, k, p)
    if verdict == ok and hlen > IP4_HLEN:
        verdict = _options(p, hlen)
    if verdict != ok:
        return verdict
    rx.version = 4
    rx.proto = p[9]
    rx.ttl = p[8]
    rx.tos = p[1]
    rx.l4_off = hlen
    rx.l4_len = total - hlen
    frag = ip4_frag(p)
    if frag & (IP4_MF | IP4_OFFSET):
        verdict = reassembly_add(net, rx, load16(p + 4), (frag & IP4_OFFSET) << 3, (frag & IP4_MF) != 0)
        if verdict != ok:
            return verdict
    return _deliver(net, rx)


cdef int _addresses(Net* net, IpRx* rx, Packet* k, const uint8_t* p) noexcept nogil:
    """Is it for us, and can it come from where it says (RFC 1122 §3.2.1.3)?"""
    cdef AddrSlot* slot
    cdef bint looped = (k.flags & PKT_LOOPED) != 0
    addr_from4(&rx.src, p + 12)
    addr_from4(&rx.dst, p + 16)
    slot = addr_find(net, &rx.dst)
    if slot == NULL and (not net.accept_any or p[16] == 0 or p[16] == 127 or p[16] >= 224):
        return ip_not_ours
    rx.multicast = (slot != NULL and slot.kind != AK_OWN) or k.flags & (PKT_RX_BROADCAST | PKT_RX_MULTICAST)
    slot = addr_find(net, &rx.src)
    if p[12] == 0 or p[12] == 127 or p[12] >= 224 or (slot != NULL and not (looped and slot.kind == AK_OWN)):
        return ip_bad_source
    return ok


cdef int _options(const uint8_t* p, uint32_t hlen) noexcept nogil:
    """RFC 1122 §3.2.1.8: what we do not use is ignored, if it is well formed; source routes are refused
    (RFC 7126 §4.3, §4.4)."""
    cdef uint32_t at = IP4_HLEN, n
    while at < hlen:
        if p[at] == IP4OPT_END:
            return ok
        if p[at] == IP4OPT_NOP:
            at += 1
            continue
        if at + 1 >= hlen:
            return ip_bad_options
        n = p[at + 1]
        if n < 2 or at + n > hlen:
            return ip_bad_options
        if p[at] == IP4OPT_LSRR or p[at] == IP4OPT_SSRR:
            return ip_source_route
        at += n
    return ok


cdef int _deliver(Net* net, IpRx* rx) noexcept nogil:
    cdef uint32_t i
    if rx.proto == PROTO_ICMP:
        return icmp4_input(net, rx)
    if rx.proto != PROTO_TCP and rx.proto != PROTO_UDP and rx.proto != PROTO_IGMP:
        net_icmp_error(net, rx, rx.pkt, ICMP4_UNREACHABLE, ICMP4_PROTO_UNREACHABLE, 0)
        return ip_unknown_protocol
    i = net_pullup(net, rx.pkt, rx.l4_off + min(rx.l4_len, <uint32_t>L4_HEADER))
    if i == NIL:
        return tx_no_buffer
    rx.pkt = i
    return igmp_input(net, rx) if rx.proto == PROTO_IGMP else ok
