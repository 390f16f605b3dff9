"""The network layer's door: frames come in here, and time."""
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy
from iip.memory.pool cimport (NIL, PKT_RX_BROADCAST, PKT_RX_IP_CSUM_OK, PKT_RX_MULTICAST, Packet, pkt, pkt_data,
                              pkt_free, pkt_pull)
from iip.net.address cimport address_timers
from iip.net.arp cimport arp_input
from iip.net.ipv4 cimport ipv4_input
from iip.net.ipv6 cimport ipv6_input
from iip.net.mld cimport membership_timers
from iip.net.neighbour cimport neigh_timers
from iip.net.route cimport pmtu_timers
from iip.net.reassembly cimport reassembly_expire
from iip.net.state cimport AK_OWN, AddrSlot, PKT_LOOPED, addr_find
from iip.net.types cimport PROTO_TCP, PROTO_UDP, addr_from4, addr_from6
from iip.verdict cimport (ip_bad_version, link_not_ours, link_too_short, link_unknown_type, link_vlan, ok)
from iip.wire.bytes cimport likely, unlikely
from iip.wire.ethernet cimport (ETH_ARP, ETH_HLEN, ETH_IPV4, ETH_IPV6, ETH_QINQ, ETH_VLAN, eth_is_broadcast,
                                eth_is_group, eth_same, eth_type)
from iip.wire.icmp cimport ICMP4_TIME_EXCEEDED, ICMP6_TIME_EXCEEDED, TIME_EXCEEDED_REASSEMBLY
from iip.wire.ipv4 cimport IP4_HLEN, IP4_MF, IP4_OFFSET, ip4_frag, ip4_sum20, ip4_total_len, ip_version
from iip.wire.ipv6 cimport IP6_HLEN, ip6_class, ip6_hops, ip6_next, ip6_payload_len

cdef inline bint _plain_length(Packet* k, uint32_t total, uint32_t hlen) noexcept nogil:
    """Whether the packet is one piece of at least `total` bytes, or a chain of exactly that many; cuts off link
    padding. The transport sees to its own header."""
    if likely(k.next == NIL):
        if unlikely(total > k.len):
            return False
        k.len = total
        k.total_len = total
        return True
    return total == k.total_len and k.len >= hlen


cdef inline bint _plain4(Net* net, Packet* k, IpRx* rx) noexcept nogil:
    """The plain case of IPv4: no options, no fragment, TCP or UDP, from one host to an address of ours. Anything
    else is for `ipv4_input`, which starts over."""
    cdef const uint8_t* p = pkt_data(k)
    cdef AddrSlot* slot
    cdef uint32_t total
    if unlikely(k.len < IP4_HLEN or p[0] != 0x45 or ip4_frag(p) & (IP4_MF | IP4_OFFSET)):
        return False
    total = ip4_total_len(p)
    if unlikely(total < IP4_HLEN or (p[9] != PROTO_TCP and p[9] != PROTO_UDP)
                or (not k.flags & PKT_RX_IP_CSUM_OK and ip4_sum20(p) != 0)):
        return False
    addr_from4(&rx.src, p + 12)
    addr_from4(&rx.dst, p + 16)
    slot = addr_find(net, &rx.dst)
    if unlikely(slot == NULL or slot.kind != AK_OWN or p[12] == 0 or p[12] == 127 or p[12] >= 224
                or addr_find(net, &rx.src) != NULL or not _plain_length(k, total, IP4_HLEN)):
        return False
    rx.proto = p[9]
    rx.ttl = p[8]
    rx.tos = p[1]
    rx.version = 4
    rx.l4_off = IP4_HLEN
    rx.l4_len = total - IP4_HLEN
    rx.multicast = k.flags & (PKT_RX_BROADCAST | PKT_RX_MULTICAST)
    return True


cdef inline bint _plain6(Net* net, Packet* k, IpRx* rx) noexcept nogil:
    """The plain case of IPv6: no extension headers, TCP or UDP, from one host to an address of ours."""
    cdef const uint8_t* p = pkt_data(k)
    cdef AddrSlot* slot
    cdef uint32_t n
    if unlikely(k.len < IP6_HLEN or ip_version(p) != 6 or (p[6] != PROTO_TCP and p[6] != PROTO_UDP)):
        return False
    n = ip6_payload_len(p)
    addr_from6(&rx.src, p + 8)
    addr_from6(&rx.dst, p + 24)
    slot = addr_find(net, &rx.dst)
    # hi == 0: unspecified, loopback and mapped addresses
    if unlikely(n == 0 or slot == NULL or slot.kind != AK_OWN or rx.dst.hi == 0 or rx.src.hi == 0 or p[8] == 0xFF
                or addr_find(net, &rx.src) != NULL or not _plain_length(k, n + IP6_HLEN, IP6_HLEN)):
        return False
    rx.proto = ip6_next(p)
    rx.ttl = ip6_hops(p)
    rx.tos = ip6_class(p)
    rx.version = 6
    rx.l4_off = IP6_HLEN
    rx.l4_len = n
    rx.multicast = k.flags & (PKT_RX_BROADCAST | PKT_RX_MULTICAST)
    return True


cdef inline bint _for_us(Net* net, Packet* k, const uint8_t* mac) noexcept nogil:
    """Whether a frame's destination is our station, or a group; marks groups."""
    if likely(eth_same(mac, net.mac)):
        return True
    if not eth_is_group(mac):
        return False
    k.flags |= PKT_RX_BROADCAST if eth_is_broadcast(mac) else PKT_RX_MULTICAST
    return True


cdef int net_input(Net* net, uint32_t i, IpRx* rx) noexcept nogil:
    """Take packet `i`, which begins at the link header (at the IP header on a bare-IP medium, or if it came
    from `net_loopback_pop`). Bytes are only read: they may be shared with whoever sent them.

    `ok`: `rx` is filled and the caller has the packet `rx.pkt` (perhaps another than `i`) for the transport
    that `rx.proto` (TCP or UDP) names. `icmp_in_error`: `net.icmp_error` is filled. Any other verdict says what
    happened to the packet; it is no longer the caller's. The verdict returned was not counted."""
    cdef Packet* k = pkt(net.pool, i)
    cdef const uint8_t* p = pkt_data(k)
    cdef uint16_t type
    cdef int verdict
    rx.pkt = i
    if likely(net.link_len != 0 and not k.flags & PKT_LOOPED):
        if unlikely(k.len < ETH_HLEN or not _for_us(net, k, p)):
            verdict = link_too_short if k.len < ETH_HLEN else link_not_ours
            pkt_free(net.pool, i)
            return verdict
        type = eth_type(p)
        pkt_pull(k, ETH_HLEN)
    else:
        type = _type_of_bare(k, p)
    k.l3 = <uint16_t>k.off
    if type == ETH_IPV4:
        if likely(_plain4(net, k, rx)):
            return ok
        verdict = ipv4_input(net, rx)
    elif type == ETH_IPV6:
        if likely(_plain6(net, k, rx)):
            return ok
        memcpy(net.link_src, p + 6 if net.link_len and not k.flags & PKT_LOOPED else &net.mac[0], 6)
        verdict = ipv6_input(net, rx)
    elif type == ETH_ARP:
        verdict = arp_input(net, rx)
    elif type == ETH_VLAN or type == ETH_QINQ:
        verdict = link_vlan
    else:
        verdict = link_unknown_type if type else ip_bad_version
    if verdict != ok and rx.pkt != NIL:
        pkt_free(net.pool, rx.pkt)
    return verdict


cdef uint16_t _type_of_bare(Packet* k, const uint8_t* p) noexcept nogil:
    """Without a link header the version says it; 0: none that we know."""
    if k.len == 0:
        return 0
    if ip_version(p) == 4:
        return ETH_IPV4
    return ETH_IPV6 if ip_version(p) == 6 else 0


cdef uint32_t net_loopback_pop(Net* net) noexcept nogil:
    """The next packet that we sent to ourselves, for `net_input`; NIL: none. Take no more of them in one run
    than `net.n_loop` says at its start: they may breed."""
    cdef uint32_t i = net.loop_head
    if i != NIL:
        net.loop_head = pkt(net.pool, i).qnext
        net.n_loop -= 1
    return i


cdef int64_t net_timers(Net* net) noexcept nogil:
    """Whatever is due at `net.now`. Returns when to call again, INT64_MAX: no need; work that comes up before
    changes it, so ask after every input too."""
    cdef IpRx rx
    address_timers(net)
    neigh_timers(net)
    membership_timers(net)
    pmtu_timers(net)
    while reassembly_expire(net, &rx):
        if rx.pkt != NIL:
            net_icmp_error(net, &rx, rx.pkt, ICMP4_TIME_EXCEEDED if rx.version == 4 else ICMP6_TIME_EXCEEDED,
                           TIME_EXCEEDED_REASSEMBLY, 0)
            pkt_free(net.pool, rx.pkt)
    return net_next_deadline(net)
