"""ARP input (RFC 826, RFC 5227)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy
from iip.memory.pool cimport NIL, pkt, pkt_data
from iip.net.address cimport address_conflict
from iip.net.link cimport net_pullup
from iip.net.neighbour cimport LEARN_CREATE, LEARN_OVERRIDE, LEARN_REACHABLE, neigh_get, neigh_learn
from iip.net.solicit cimport arp_send
from iip.net.state cimport (ADDR_PROBING, AK_OWN, AddrSlot, NE_ARP_REPLY, NetEvent, addr_find, addr_is_group,
                            event_new, net_count)
from iip.net.types cimport MEDIUM_ETHERNET, addr_from4, addr_is4
from iip.verdict cimport (arp_conflict, arp_in_replies, arp_in_requests, arp_malformed, arp_not_for_us, count,
                          icmp_queue_full, ip_no_route, link_looped, neighbour_table_full, tx_no_buffer)
from iip.wire.arp cimport (ARP_LEN, ARP_REPLY, ARP_REQUEST, arp_is_ethernet_ipv4, arp_op, arp_sender_ip, arp_sender_mac,
                           arp_target_ip)
from iip.wire.bytes cimport load32_be
from iip.wire.ethernet cimport eth_is_station, eth_same


cdef int arp_input(Net* net, IpRx* rx) noexcept nogil:
    """`rx.pkt` begins at the ARP packet; only read here."""
    cdef const uint8_t* p
    cdef uint16_t op
    cdef Addr sender
    cdef Addr target
    cdef AddrSlot* slot
    cdef uint32_t i = net_pullup(net, rx.pkt, ARP_LEN)
    if i == NIL:
        return tx_no_buffer
    rx.pkt = i
    p = pkt_data(pkt(net.pool, i))
    if pkt(net.pool, i).len < ARP_LEN or not arp_is_ethernet_ipv4(p):
        return arp_malformed
    op = arp_op(p)
    addr_from4(&sender, arp_sender_ip(p))
    addr_from4(&target, arp_target_ip(p))
    if (op != ARP_REQUEST and op != ARP_REPLY) or not eth_is_station(arp_sender_mac(p)) or addr_is_group(&sender):
        return arp_malformed
    if eth_same(arp_sender_mac(p), net.mac):
        return link_looped
    slot = addr_find(net, &sender)
    if slot != NULL:
        if slot.kind != AK_OWN:
            return arp_malformed  # a broadcast address as the sender's
        address_conflict(net, slot.index, arp_sender_mac(p))
        return arp_conflict
    slot = addr_find(net, &target)
    if slot == NULL or slot.kind != AK_OWN:
        # not for us, but it may correct what we know (an announcement, RFC 5227 §2.3)
        if load32_be(arp_sender_ip(p)):
            neigh_learn(net, &sender, 4, arp_sender_mac(p), LEARN_OVERRIDE)
        return arp_not_for_us
    if op == ARP_REPLY:
        return _reply(net, &sender, &target, arp_sender_mac(p))
    return _request(net, &sender, slot, p)


cdef int _request(Net* net, const Addr* sender, AddrSlot* slot, const uint8_t* p) noexcept nogil:
    if load32_be(arp_sender_ip(p)):
        neigh_learn(net, sender, 4, arp_sender_mac(p), LEARN_OVERRIDE | LEARN_CREATE)
    elif net.addrs[slot.index].state == ADDR_PROBING:
        # two of us probe the same address (RFC 5227 §2.1.1)
        address_conflict(net, slot.index, arp_sender_mac(p))
        return arp_conflict
    net_count(net, arp_send(net, ARP_REPLY, <const uint8_t*>&slot.addr + 12, arp_sender_mac(p), arp_sender_ip(p)))
    return arp_in_requests


cdef int _reply(Net* net, const Addr* sender, const Addr* target, const uint8_t* mac) noexcept nogil:
    """Only answers to what we asked make or change entries."""
    cdef uint32_t n
    cdef NetEvent* e
    if load32_be(<const uint8_t*>sender + 12) == 0:
        return arp_malformed
    n = neigh_learn(net, sender, 4, mac, LEARN_REACHABLE | LEARN_OVERRIDE)
    if n != NIL and net.neigh[n].asked:
        net.neigh[n].asked = False
        e = event_new(net, NE_ARP_REPLY)
        if e == NULL:
            count(net.counters, icmp_queue_full)
        else:
            e.version = 4
            e.src = sender[0]
            e.dst = target[0]
            memcpy(e.mac, mac, 6)
    return arp_in_replies


cdef int net_arp_request(Net* net, const Addr* a) noexcept nogil:
    """Ask for the link-layer address of an IPv4 address; the answer is an event. Returns ok or a verdict that
    was not counted."""
    cdef uint32_t i, n
    if net.medium != MEDIUM_ETHERNET or not addr_is4(a):
        return ip_no_route
    for i in range(net.n_addrs):
        if net.addrs[i].version == 4:
            n = neigh_get(net, a, 4, &net.addrs[i].addr)
            if n == NIL:
                return neighbour_table_full
            net.neigh[n].asked = True
            return arp_send(net, ARP_REQUEST, <const uint8_t*>&net.addrs[i].addr + 12, NULL,
                            <const uint8_t*>a + 12)
    return ip_no_route
