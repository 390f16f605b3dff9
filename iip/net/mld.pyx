"""Group membership: IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), as a host that takes every source.

A query, general or for one group, is answered with the state of all groups after a random part of the time it
allows. Joining and leaving is reported twice. Older versions of the protocols are not fallen back to: routers
of today understand both, and switches that only snoop do too.
"""
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset
from iip.memory.pool cimport NIL, Packet, pkt, pkt_alloc, pkt_data, pkt_tailroom
from iip.net.checksum cimport chain_sum, pseudo_sum
from iip.net.link cimport link_send
from iip.net.state cimport ADDR_DUPLICATE, ADDR_PROBING, Group, addr_is_link_local, net_count
from iip.net.types cimport MEDIUM_ETHERNET, PROTO_ICMP6, Addr
from iip.verdict cimport (count, icmp_bad_checksum, icmp_ignored, icmp_malformed, mld_in, mld_out, ok, tx_no_buffer)
from iip.wire.bytes cimport load16, store16, store16_be, store32
from iip.wire.checksum cimport csum_fold, csum_partial
from iip.wire.ethernet cimport ETH_IPV4, ETH_IPV6, eth_group4, eth_group6
from iip.wire.icmp cimport (GROUP_IS_EXCLUDE, GROUP_TO_EXCLUDE, GROUP_TO_INCLUDE, ICMP6_MLD_QUERY, ICMP6_MLD_REPORT2,
                            IGMP_QUERY, IGMP_REPORT3)
from iip.wire.ipv4 cimport ip4_build
from iip.wire.ipv6 cimport IP6_HLEN, IP6_HOP_BY_HOP, ip6_build
from iip.wire.rng cimport rng_below

cdef enum:
    PROTO_IGMP = 2
    IGMP_IP_HLEN = 24             # with the router alert option

cdef int64_t SECOND = 1000000000
cdef int64_t MILLISECOND = 1000000


# -- input ----------------------------------------------------------------------------------------------
cdef int64_t _answer_at(Net* net, int64_t planned, uint32_t max_ms) noexcept nogil:
    """A random time in what the query allows, unless an earlier report is planned already."""
    return min(planned, net.now + rng_below(&net.rng, max(max_ms, <uint32_t>1)) * MILLISECOND)


cdef inline uint32_t _float8(uint8_t code) noexcept nogil:
    """RFC 3376 §4.1.1: values from 128 are floating-point."""
    return code if code < 128 else <uint32_t>((code & 15) | 16) << (((code >> 4) & 7) + 3)


cdef inline uint32_t _float16(uint16_t code) noexcept nogil:
    """RFC 3810 §5.1.3."""
    return code if code < 32768 else <uint32_t>((code & 0xFFF) | 0x1000) << (((code >> 12) & 7) + 3)


cdef int igmp_input(Net* net, IpRx* rx) noexcept nogil:
    """The first bytes of the message are in the first piece."""
    cdef const uint8_t* p = pkt_data(pkt(net.pool, rx.pkt)) + rx.l4_off
    if rx.l4_len < 8:
        return icmp_malformed
    if csum_fold(chain_sum(net.pool, rx.pkt, rx.l4_off, rx.l4_len, 0)) != 0:
        return icmp_bad_checksum
    if p[0] == IGMP_QUERY and net.medium == MEDIUM_ETHERNET:
        # tenths of a second; 0 is version 1 and means ten seconds
        net.igmp_timer = _answer_at(net, net.igmp_timer, 100 * (_float8(p[1]) if p[1] else 100))
    return mld_in


cdef int mld_input(Net* net, IpRx* rx) noexcept nogil:
    """A message whose checksum is right (RFC 3810 §6.2: one hop, from a link-local address)."""
    cdef const uint8_t* p = pkt_data(pkt(net.pool, rx.pkt)) + rx.l4_off
    if net.medium != MEDIUM_ETHERNET:
        return icmp_ignored
    if rx.ttl != 1 or not addr_is_link_local(&rx.src) or rx.l4_len < 24:
        return icmp_malformed
    if p[0] == ICMP6_MLD_QUERY:
        net.mld_timer = _answer_at(net, net.mld_timer, _float16(load16(p + 4)))
    return mld_in


# -- output ---------------------------------------------------------------------------------------------
cdef void membership_timers(Net* net) noexcept nogil:
    if net.now >= net.igmp_timer:
        net.igmp_timer = INT64_MAX
        _report(net, 4, False)
    if net.now >= net.mld_timer:
        net.mld_timer = INT64_MAX
        _report(net, 6, False)
    if net.now >= net.change_timer:
        _changes(net)


cdef void _changes(Net* net) noexcept nogil:
    cdef uint32_t i, kept = 0
    cdef Group* g
    cdef bint more = False
    _report(net, 4, True)
    _report(net, 6, True)
    for i in range(net.n_groups):
        g = &net.groups[i]
        if g.reports:
            g.reports -= 1
            more = more or g.reports
    net.change_timer = net.now + SECOND if more else INT64_MAX
    if not more:
        # forget what was left; the address table knows groups by their presence only
        for i in range(net.n_groups):
            if net.groups[i].refs:
                net.groups[kept] = net.groups[i]
                kept += 1
        net.n_groups = kept


cdef bint _in_report(Group* g, uint8_t version, bint changes) noexcept nogil:
    if g.version != version or g.silent:
        return False
    return g.reports if changes else g.refs != 0


cdef void _report(Net* net, uint8_t version, bint changes) noexcept nogil:
    """Reports of the groups that changed, or of all: as many messages as it takes."""
    cdef uint32_t at = 0, size = 8 if version == 4 else 20, room, n, j
    cdef uint8_t* p
    cdef Packet* k
    while True:
        while at < net.n_groups and not _in_report(&net.groups[at], version, changes):
            at += 1
        if at == net.n_groups:
            return
        j = pkt_alloc(net.pool)
        if j == NIL:
            net_count(net, tx_no_buffer)
            return
        k = pkt(net.pool, j)
        k.off += IGMP_IP_HLEN if version == 4 else IP6_HLEN + 8
        p = pkt_data(k)
        room = min(pkt_tailroom(k), net.mtu - 48)
        memset(p, 0, 8)
        p[0] = IGMP_REPORT3 if version == 4 else ICMP6_MLD_REPORT2
        k.len = k.total_len = 8
        n = 0
        while at < net.n_groups and k.len + size <= room:
            if _in_report(&net.groups[at], version, changes):
                _record(p + k.len, &net.groups[at], changes)
                k.len += size
                n += 1
            at += 1
        k.total_len = k.len
        store16(p + 6, n)
        net_count(net, _send4(net, j) if version == 4 else _send6(net, j))


cdef void _record(uint8_t* p, Group* g, bint changes) noexcept nogil:
    """RFC 3376 §4.2.4, RFC 3810 §5.2.5: type, no auxiliary data, no sources, the group."""
    store32(p, 0)
    p[0] = GROUP_IS_EXCLUDE
    if changes:
        p[0] = GROUP_TO_EXCLUDE if g.refs else GROUP_TO_INCLUDE
    if g.version == 4:
        memcpy(p + 4, <uint8_t*>&g.addr + 12, 4)
    else:
        memcpy(p + 4, &g.addr, 16)


cdef int _send4(Net* net, uint32_t i) noexcept nogil:
    """To 224.0.0.22 with TTL 1 and router alert (RFC 3376 §4)."""
    cdef Packet* k = pkt(net.pool, i)
    cdef uint8_t* p = pkt_data(k)
    cdef uint8_t src[4]
    cdef uint8_t dst[4]
    cdef uint8_t mac[6]
    cdef uint32_t a, n = k.len
    cdef int verdict
    memset(src, 0, 4)
    store32(dst, 0xE0000016u)
    for a in range(net.n_addrs):
        if net.addrs[a].version == 4:
            memcpy(src, <uint8_t*>&net.addrs[a].addr + 12, 4)
            break
    store16_be(p + 2, csum_fold(csum_partial(p, n, 0)))
    k.off -= IGMP_IP_HLEN
    k.len = k.total_len = n + IGMP_IP_HLEN
    p = pkt_data(k)
    ip4_build(p, 0xC0, <uint16_t>k.len, 0, 0x4000, 1, PROTO_IGMP, src, dst)
    p[0] = 0x46
    store32(p + 20, 0x94040000u)
    store16_be(p + 10, csum_fold(csum_partial(p, IGMP_IP_HLEN, 0)))
    eth_group4(mac, dst)
    verdict = link_send(net, mac, ETH_IPV4, i)
    if verdict == ok:
        count(net.counters, mld_out)
    return verdict


cdef int _send6(Net* net, uint32_t i) noexcept nogil:
    """To ff02::16 with one hop and router alert (RFC 3810 §5), from the link-local address once that has been
    checked, before from the unspecified one (RFC 3590)."""
    cdef Packet* k = pkt(net.pool, i)
    cdef uint8_t* p = pkt_data(k)
    cdef Addr src
    cdef Addr dst
    cdef uint8_t mac[6]
    cdef uint32_t a, n = k.len
    cdef int verdict
    src.hi = src.lo = dst.hi = dst.lo = 0
    (<uint8_t*>&dst)[0] = 0xFF
    (<uint8_t*>&dst)[1] = 0x02
    (<uint8_t*>&dst)[15] = 0x16
    for a in range(net.n_addrs):
        if addr_is_link_local(&net.addrs[a].addr) and net.addrs[a].state != ADDR_DUPLICATE \
                and net.addrs[a].state != ADDR_PROBING:
            src = net.addrs[a].addr
            break
    store16_be(p + 2, csum_fold(csum_partial(p, n, pseudo_sum(&src, &dst, 6, PROTO_ICMP6, n))))
    k.off -= IP6_HLEN + 8
    k.len = k.total_len = n + IP6_HLEN + 8
    p = pkt_data(k)
    ip6_build(p, 0, 0, <uint16_t>(n + 8), IP6_HOP_BY_HOP, 1, &src, &dst)
    store32(p + IP6_HLEN, 0x3A000502u)       # next ICMPv6, 8 bytes; router alert,
    store32(p + IP6_HLEN + 4, 0x00000100u)   # of MLD; PadN
    eth_group6(mac, <uint8_t*>&dst)
    verdict = link_send(net, mac, ETH_IPV6, i)
    if verdict == ok:
        count(net.counters, mld_out)
    return verdict
