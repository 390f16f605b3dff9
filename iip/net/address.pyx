"""Our addresses and groups: the table of what is for us, and the check that nobody else has an address.

Addresses are used at once. The check runs beside: IPv6 as optimistic duplicate address detection (RFC 4429),
where a duplicate found in the first second takes the address out of use; IPv4 after RFC 5227, with the
difference that traffic does not wait for the probes and that an address is never given up: it is defended,
once in ten seconds (§2.4 (c)), and the application is told.
"""
from libc.stdint cimport INT64_MAX, int64_t
from libc.string cimport memcpy, memset
from iip.net.neighbour cimport neigh_ask_again
from iip.net.solicit cimport arp_send, nd_solicit, solicited_node
from iip.net.state cimport (ADDR_ANNOUNCING, ADDR_DUPLICATE, ADDR_PROBING, ADDR_VALID, AK_BROADCAST, AK_GROUP, AK_OWN,
                            AddrSlot, Group, NE_CONFLICT, NetAddr, NetEvent, addr_is_group, addr_slot, event_new,
                            net_count)
from iip.net.types cimport MEDIUM_ETHERNET, addr_eq, addr_from4, addr_is4
from iip.verdict cimport count, group_table_full, icmp_queue_full, ok
from iip.wire.arp cimport ARP_REQUEST
from iip.wire.bytes cimport load32, store32
from iip.wire.rng cimport rng_below

cdef enum:
    ARP_PROBES = 3                # RFC 5227 §1.1
    ARP_ANNOUNCEMENTS = 2

cdef int64_t SECOND = 1000000000
cdef int64_t DEFEND_INTERVAL = 10 * SECOND


cdef void _table_add(Net* net, const Addr* a, uint32_t kind, uint32_t index) noexcept nogil:
    cdef AddrSlot* slot = addr_slot(net, a)
    if slot.kind == 0:
        slot.addr = a[0]
        slot.kind = kind
        slot.index = index


cdef void _add_broadcasts(Net* net) noexcept nogil:
    """255.255.255.255 and the directed broadcast address of every IPv4 prefix (RFC 919; none for /31 and /32,
    RFC 3021)."""
    cdef Addr a
    cdef uint8_t p[4]
    cdef uint32_t i
    memset(p, 0xFF, 4)
    addr_from4(&a, p)
    _table_add(net, &a, AK_BROADCAST, 0)
    for i in range(net.n_addrs):
        if net.addrs[i].version == 4 and net.addrs[i].prefix < 31:
            a = net.addrs[i].addr
            memcpy(p, <uint8_t*>&a + 12, 4)
            store32(<uint8_t*>&a + 12, load32(p) | 0xFFFFFFFFu >> net.addrs[i].prefix)
            _table_add(net, &a, AK_BROADCAST, i)


cdef void address_table_build(Net* net) noexcept nogil:
    """Fill the table anew; there is room for everything that can be in it."""
    cdef uint32_t i
    memset(net.addr_slots, 0, (net.addr_mask + 1) * sizeof(AddrSlot))
    for i in range(net.n_addrs):
        if net.addrs[i].state != ADDR_DUPLICATE:
            _table_add(net, &net.addrs[i].addr, AK_OWN, i)
    _add_broadcasts(net)
    for i in range(net.n_groups):
        if net.groups[i].refs:
            _table_add(net, &net.groups[i].addr, AK_GROUP, i)


# -- groups ---------------------------------------------------------------------------------------------
cdef int net_join(Net* net, const Addr* group) noexcept nogil:
    """Receive what is sent to a group; joins are counted. `ok`, or group_table_full (not counted)."""
    cdef uint32_t i
    cdef Group* g
    cdef const uint8_t* p = <const uint8_t*>group
    for i in range(net.n_groups):
        g = &net.groups[i]
        if addr_eq(&g.addr, group):
            if g.refs < 255:
                g.refs += 1
            if g.refs == 1:
                _changed(net, g)
            return ok
    if net.n_groups == net.max_groups or not addr_is_group(group):
        return group_table_full
    g = &net.groups[net.n_groups]
    net.n_groups += 1
    g.addr = group[0]
    g.version = 4 if addr_is4(group) else 6
    g.refs = 1
    # all-hosts, all-nodes, and what does not leave the node (RFC 3376 §6, RFC 3810 §6)
    if g.version == 4:
        g.silent = load32(p + 12) == 0xE0000001u
    else:
        g.silent = (p[1] & 15) < 2 or (load32(p) == 0xFF020000u and load32(p + 4) == 0
                                       and load32(p + 8) == 0 and load32(p + 12) == 1)
    _changed(net, g)
    return ok


cdef int net_leave(Net* net, const Addr* group) noexcept nogil:
    """Undo one `net_join`."""
    cdef uint32_t i
    cdef Group* g
    for i in range(net.n_groups):
        g = &net.groups[i]
        if addr_eq(&g.addr, group) and g.refs:
            g.refs -= 1
            if g.refs == 0:
                _changed(net, g)
            return ok
    return ok


cdef void _changed(Net* net, Group* g) noexcept nogil:
    """A group was joined or left: routers hear it twice (the robustness variable)."""
    g.reports = 0 if g.silent or net.medium != MEDIUM_ETHERNET else 2
    if g.reports and net.change_timer > net.now:
        net.change_timer = net.now
    address_table_build(net)


# -- conflicts ------------------------------------------------------------------------------------------
cdef void address_timers(Net* net) noexcept nogil:
    """Probes and announcements that are due; sets the next deadline."""
    cdef uint32_t i
    cdef NetAddr* a
    if net.now < net.addr_timer:
        return
    net.addr_timer = INT64_MAX
    for i in range(net.n_addrs):
        a = &net.addrs[i]
        if a.state != ADDR_PROBING and a.state != ADDR_ANNOUNCING:
            continue
        if net.now >= a.next_at:
            if a.version == 4:
                _check4(net, a)
            else:
                _check6(net, a)
        if (a.state == ADDR_PROBING or a.state == ADDR_ANNOUNCING) and a.next_at < net.addr_timer:
            net.addr_timer = a.next_at


cdef void _check4(Net* net, NetAddr* a) noexcept nogil:
    """RFC 5227 §2.1.1 and §2.3."""
    cdef uint8_t nobody[4]
    cdef const uint8_t* ip = <const uint8_t*>&a.addr + 12
    a.sent += 1
    if a.state == ADDR_PROBING:
        memset(nobody, 0, 4)
        net_count(net, arp_send(net, ARP_REQUEST, nobody, NULL, ip))
        a.next_at = net.now + SECOND + rng_below(&net.rng, 1000000000)
        if a.sent == ARP_PROBES:
            a.state = ADDR_ANNOUNCING
            a.sent = 0
            a.next_at = net.now + 2 * SECOND
    else:
        net_count(net, arp_send(net, ARP_REQUEST, ip, NULL, ip))
        a.next_at = net.now + 2 * SECOND
        if a.sent == ARP_ANNOUNCEMENTS:
            a.state = ADDR_VALID


cdef void _check6(Net* net, NetAddr* a) noexcept nogil:
    """RFC 4862 §5.4.2: one solicitation from nobody; nobody's answer within a second is good news."""
    cdef Addr nobody
    nobody.hi = nobody.lo = 0
    if a.sent:
        a.state = ADDR_VALID
        neigh_ask_again(net)
        return
    a.sent = 1
    a.next_at = net.now + SECOND
    net_count(net, nd_solicit(net, &nobody, &a.addr, NULL))


cdef void _tell_conflict(Net* net, NetAddr* a, const uint8_t* mac) noexcept nogil:
    cdef NetEvent* e = event_new(net, NE_CONFLICT)
    if e == NULL:
        count(net.counters, icmp_queue_full)
        return
    e.version = a.version
    e.src = e.dst = a.addr
    memcpy(e.mac, mac, 6)


cdef void address_conflict(Net* net, uint32_t index, const uint8_t* mac) noexcept nogil:
    """Somebody else (`mac`) uses an address of ours. IPv4: defend it, if that was not done just now."""
    cdef NetAddr* a = &net.addrs[index]
    _tell_conflict(net, a, mac)
    if a.version == 4 and net.now - a.defended_at >= DEFEND_INTERVAL:
        a.defended_at = net.now
        net_count(net, arp_send(net, ARP_REQUEST, <const uint8_t*>&a.addr + 12, NULL,
                                <const uint8_t*>&a.addr + 12))


cdef void address_duplicate(Net* net, uint32_t index, const uint8_t* mac) noexcept nogil:
    """An IPv6 address turned out to be somebody else's while it was being checked: it goes out of use
    (RFC 4862 §5.4.5)."""
    cdef NetAddr* a = &net.addrs[index]
    cdef Addr group
    _tell_conflict(net, a, mac)
    a.state = ADDR_DUPLICATE
    net.route_gen += 1
    address_table_build(net)
    solicited_node(&group, &a.addr)
    net_leave(net, &group)
