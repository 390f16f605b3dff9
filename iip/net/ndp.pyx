"""Neighbour discovery input (RFC 4861, RFC 4862). Redirects are ignored; router advertisements are for the application."""
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy
from iip.memory.pool cimport NIL, pkt, pkt_data
from iip.net.address cimport address_conflict, address_duplicate
from iip.net.neighbour cimport LEARN_CREATE, LEARN_OVERRIDE, LEARN_REACHABLE, neigh_learn
from iip.net.solicit cimport nd_advertise
from iip.net.state cimport (ADDR_PROBING, AK_OWN, AddrSlot, NetEvent, addr_find, addr_is_group, addr_is_link_local,
                            addr_is_zero, event_new, net_count)
from iip.net.types cimport MEDIUM_ETHERNET, Addr, addr_from6, addr_is4
from iip.verdict cimport (count, icmp_ignored, icmp_queue_full, link_looped, nd_conflict, nd_in, nd_malformed,
                          nd_not_for_us)
from iip.wire.ethernet cimport eth_is_station, eth_same
from iip.wire.icmp cimport (ICMP6_NEIGHBOUR_SOLICIT, ND_LEN, ND_OPT_SOURCE_LLADDR, ND_OPT_TARGET_LLADDR, ND_OVERRIDE,
                            ND_SOLICITED, nd_target)

cdef enum:
    RA_LEN = 16                   # of a router advertisement before its options (RFC 4861 §4.2)


cdef int nd_input(Net* net, IpRx* rx) noexcept nogil:
    """A solicitation or advertisement whose checksum is right; all of it is in the first piece."""
    cdef const uint8_t* p = pkt_data(pkt(net.pool, rx.pkt)) + rx.l4_off
    cdef const uint8_t* mac = NULL
    cdef Addr target
    cdef bint solicit = p[0] == ICMP6_NEIGHBOUR_SOLICIT
    if net.medium != MEDIUM_ETHERNET:
        return icmp_ignored
    if rx.ttl != 255 or p[1] != 0 or rx.l4_len < ND_LEN:
        return nd_malformed
    addr_from6(&target, nd_target(p))
    if addr_is_group(&target) or addr_is4(&target) or not _options(
            p + ND_LEN, rx.l4_len - ND_LEN, ND_OPT_SOURCE_LLADDR if solicit else ND_OPT_TARGET_LLADDR, &mac):
        return nd_malformed
    if mac != NULL and eth_same(mac, net.mac):
        return link_looped
    if solicit:
        return _solicited(net, rx, &target, mac)
    return _advertised(net, rx, p[4], &target, mac)


cdef int nd_router(Net* net, IpRx* rx) noexcept nogil:
    """A router's advertisement (RFC 4861 §6.1.2), whose checksum is right: what it says is for the application."""
    cdef const uint8_t* p = pkt_data(pkt(net.pool, rx.pkt)) + rx.l4_off
    cdef const uint8_t* mac = NULL
    cdef NetEvent* e
    if net.medium != MEDIUM_ETHERNET:
        return icmp_ignored
    if rx.ttl != 255 or p[1] != 0 or rx.l4_len < RA_LEN or not addr_is_link_local(&rx.src) or not _options(
            p + RA_LEN, rx.l4_len - RA_LEN, ND_OPT_SOURCE_LLADDR, &mac):
        return nd_malformed
    if eth_same(net.link_src, net.mac):
        return link_looped
    e = event_new(net, NE_ROUTER)
    if e == NULL:
        count(net.counters, icmp_queue_full)
        return nd_in
    e.version = 6
    e.src = rx.src
    e.dst = rx.dst
    e.ttl = rx.ttl
    memcpy(e.mac, net.link_src, 6)
    e.pkt = rx.pkt
    e.off = rx.l4_off
    e.len = rx.l4_len
    rx.pkt = NIL
    return nd_in


cdef bint _options(const uint8_t* p, uint32_t n, uint8_t wanted, const uint8_t** mac) noexcept nogil:
    """Whether the options are well formed (none of length 0, none beyond the end); finds the link-layer
    address."""
    cdef uint32_t size
    while n:
        if n < 8:
            return False
        size = <uint32_t>p[1] * 8
        if size == 0 or size > n:
            return False
        if p[0] == wanted:
            if not eth_is_station(p + 2):
                return False
            mac[0] = p + 2
        p += size
        n -= size
    return True


cdef int _solicited(Net* net, IpRx* rx, const Addr* target, const uint8_t* mac) noexcept nogil:
    """RFC 4861 §7.1.1 and §7.2.3, §7.2.4."""
    cdef AddrSlot* slot
    cdef bint probe = addr_is_zero(&rx.src)
    cdef uint8_t flags
    cdef const uint8_t* link = net.link_src
    cdef Addr all_nodes
    cdef const uint8_t* d = <const uint8_t*>&rx.dst
    if probe and (mac != NULL or not (d[0] == 0xFF and d[11] == 1 and d[12] == 0xFF)):
        return nd_malformed
    slot = addr_find(net, target)
    if slot == NULL or slot.kind != AK_OWN:
        return nd_not_for_us
    if probe and net.addrs[slot.index].state == ADDR_PROBING:
        if eth_same(net.link_src, net.mac):
            return link_looped
        address_duplicate(net, slot.index, net.link_src)
        return nd_conflict
    flags = 0 if net.addrs[slot.index].state == ADDR_PROBING else ND_OVERRIDE
    if probe:
        all_nodes.hi = all_nodes.lo = 0
        (<uint8_t*>&all_nodes)[0] = 0xFF
        (<uint8_t*>&all_nodes)[1] = 0x02
        (<uint8_t*>&all_nodes)[15] = 0x01
        net_count(net, nd_advertise(net, target, &all_nodes, NULL, flags))
        return nd_in
    if mac != NULL:
        link = mac
        neigh_learn(net, &rx.src, 6, mac, LEARN_OVERRIDE | LEARN_CREATE)
    net_count(net, nd_advertise(net, target, &rx.src, link, flags | ND_SOLICITED))
    return nd_in


cdef int _advertised(Net* net, IpRx* rx, uint8_t flags, const Addr* target, const uint8_t* mac) noexcept nogil:
    """RFC 4861 §7.1.2 and §7.2.5. Without a link-layer address in it (which may be left out of an answer to a
    solicitation that was not multicast) the frame's sender counts."""
    cdef AddrSlot* slot
    cdef const uint8_t* link = net.link_src
    cdef int what = 0
    if addr_is_group(&rx.dst) and flags & ND_SOLICITED:
        return nd_malformed
    slot = addr_find(net, target)
    if slot != NULL and slot.kind == AK_OWN:
        if eth_same(net.link_src, net.mac):
            return link_looped
        if net.addrs[slot.index].state == ADDR_PROBING:
            address_duplicate(net, slot.index, net.link_src)
        else:
            address_conflict(net, slot.index, net.link_src)
        return nd_conflict
    if flags & ND_SOLICITED:
        what |= LEARN_REACHABLE
    if flags & ND_OVERRIDE:
        what |= LEARN_OVERRIDE
    neigh_learn(net, target, 6, link if mac == NULL else mac, what)
    return nd_in
