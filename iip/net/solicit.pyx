"""ARP and neighbour discovery messages that we send."""
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset
from iip.memory.pool cimport NIL, Packet, pkt, pkt_alloc, pkt_data, pkt_push
from iip.net.checksum cimport pseudo_sum
from iip.net.link cimport link_send
from iip.net.state cimport ADDR_PROBING, AK_OWN, AddrSlot, Net, addr_find, addr_is_zero
from iip.net.types cimport PROTO_ICMP6, Addr
from iip.verdict cimport arp_out_replies, arp_out_requests, count, nd_out, ok, tx_no_buffer
from iip.wire.arp cimport ARP_LEN, ARP_REQUEST, arp_build
from iip.wire.bytes cimport store16_be
from iip.wire.checksum cimport csum_fold, csum_partial
from iip.wire.ethernet cimport ETH_ARP, ETH_IPV6, eth_group6
from iip.wire.icmp cimport (ICMP6_NEIGHBOUR_ADVERT, ICMP6_NEIGHBOUR_SOLICIT, ICMP6_ROUTER_SOLICIT, ICMP_HLEN,
                            ND_OPT_SOURCE_LLADDR, ND_OPT_TARGET_LLADDR, icmp_build, nd_build)
from iip.wire.ipv6 cimport IP6_HLEN, ip6_build


cdef int arp_send(Net* net, uint16_t op, const uint8_t* sender_ip, const uint8_t* dst_mac,
                  const uint8_t* target_ip) noexcept nogil:
    """`dst_mac` NULL: broadcast, the target hardware address unknown (zero)."""
    cdef uint32_t i = pkt_alloc(net.pool)
    cdef Packet* k
    cdef uint8_t broadcast[6]
    cdef uint8_t zero[6]
    cdef const uint8_t* target_mac = zero
    cdef int verdict
    if i == NIL:
        return tx_no_buffer
    memset(broadcast, 0xFF, 6)
    memset(zero, 0, 6)
    if dst_mac == NULL:
        dst_mac = broadcast
    else:
        target_mac = dst_mac
    k = pkt(net.pool, i)
    k.len = k.total_len = ARP_LEN
    arp_build(pkt_data(k), op, net.mac, sender_ip, target_mac, target_ip)
    verdict = link_send(net, dst_mac, ETH_ARP, i)
    if verdict == ok:
        count(net.counters, arp_out_requests if op == ARP_REQUEST else arp_out_replies)
    return verdict


cdef void solicited_node(Addr* group, const Addr* a) noexcept nogil:
    """The solicited-node group of an IPv6 address (RFC 4291 §2.7.1); both may be the same."""
    cdef uint8_t* p = <uint8_t*>group
    cdef uint8_t low[3]
    memcpy(low, <const uint8_t*>a + 13, 3)
    memset(p, 0, 16)
    p[0] = 0xFF
    p[1] = 0x02
    p[11] = 0x01
    p[12] = 0xFF
    memcpy(p + 13, low, 3)


cdef int nd_solicit(Net* net, const Addr* src, const Addr* target, const uint8_t* dst_mac) noexcept nogil:
    """A neighbour solicitation, to the solicited-node group if `dst_mac` is NULL, else to the neighbour
    itself. `src` unspecified: duplicate address detection. An address that is still being checked must not
    be entered in other caches (RFC 4429 §3.2), so it goes without our link-layer address."""
    cdef Addr dst = target[0]
    cdef uint8_t group[6]
    cdef AddrSlot* slot = addr_find(net, src)
    cdef bint tell = not addr_is_zero(src)
    if slot != NULL and slot.kind == AK_OWN and net.addrs[slot.index].state == ADDR_PROBING:
        tell = False
    if dst_mac == NULL:
        solicited_node(&dst, target)
        eth_group6(group, <const uint8_t*>&dst)
        dst_mac = group
    return _nd_send(net, src, &dst, dst_mac, ICMP6_NEIGHBOUR_SOLICIT, 0, target,
                    ND_OPT_SOURCE_LLADDR, tell)


cdef int nd_advertise(Net* net, const Addr* target, const Addr* dst, const uint8_t* dst_mac,
                      uint8_t flags) noexcept nogil:
    """An advertisement of our address `target`; `dst_mac` NULL: `dst` is a group."""
    cdef uint8_t group[6]
    if dst_mac == NULL:
        eth_group6(group, <const uint8_t*>dst)
        dst_mac = group
    return _nd_send(net, target, dst, dst_mac, ICMP6_NEIGHBOUR_ADVERT, flags, target,
                    ND_OPT_TARGET_LLADDR, True)


cdef int nd_solicit_routers(Net* net) noexcept nogil:
    """Ask all routers to advertise (RFC 4861 §4.1), from nobody, so that no address has to be checked before."""
    cdef uint32_t i = pkt_alloc(net.pool)
    cdef Addr nobody, dst
    cdef uint8_t group[6]
    cdef uint8_t* p
    if i == NIL:
        return tx_no_buffer
    nobody.hi = nobody.lo = dst.hi = dst.lo = 0
    p = <uint8_t*>&dst            # ff02::2
    p[0] = 0xFF
    p[1] = p[15] = 2
    eth_group6(group, p)
    icmp_build(pkt_data(pkt(net.pool, i)), ICMP6_ROUTER_SOLICIT, 0, 0)
    return _nd_finish(net, i, ICMP_HLEN, &nobody, &dst, group)


cdef int _nd_send(Net* net, const Addr* src, const Addr* dst, const uint8_t* dst_mac, uint8_t type, uint8_t flags,
                  const Addr* target, uint8_t option, bint tell) noexcept nogil:
    cdef uint32_t i = pkt_alloc(net.pool), n
    if i == NIL:
        return tx_no_buffer
    n = nd_build(pkt_data(pkt(net.pool, i)), type, flags, target, option, &net.mac[0] if tell else NULL)
    return _nd_finish(net, i, n, src, dst, dst_mac)


cdef int _nd_finish(Net* net, uint32_t i, uint32_t n, const Addr* src, const Addr* dst, const uint8_t* dst_mac) noexcept nogil:
    """Checksum and headers for a message of `n` bytes, which is sent."""
    cdef Packet* k = pkt(net.pool, i)
    cdef uint8_t* p = pkt_data(k)
    cdef int verdict
    k.len = k.total_len = n
    store16_be(p + 2, csum_fold(csum_partial(p, n, pseudo_sum(src, dst, 6, PROTO_ICMP6, n))))
    pkt_push(k, IP6_HLEN)
    ip6_build(pkt_data(k), 0, 0, n, PROTO_ICMP6, 255, src, dst)
    verdict = link_send(net, dst_mac, ETH_IPV6, i)
    if verdict == ok:
        count(net.counters, nd_out)
    return verdict
