"""Set-up and end of a network layer: everything is allocated here, once."""
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from iip.memory.pool cimport NIL, pkt, pkt_free
from iip.net.address cimport address_table_build, net_join, net_leave
from iip.net.neighbour cimport neigh_drop_all
from iip.net.reassembly cimport reassembly_drop_all
from iip.net.solicit cimport solicited_node
from iip.net.state cimport (ADDR_ANNOUNCING, ADDR_DUPLICATE, ADDR_PROBING, ADDR_VALID, AddrSlot, Datagram, Group, IP_IDS,
                            NB_FREE, Neighbour, NetAddr, NetEvent, PMTU_SETS, Pmtu, RUNTIME_GROUPS, Route, addr_is_own)
from iip.net.types cimport MEDIUM_ETHERNET, MEDIUM_IP, addr_eq, addr_from4, addr_from6, addr_is4, addr_v4
from iip.wire.ethernet cimport ETH_HLEN
from iip.wire.ipv6 cimport IP6_MIN_MTU
from iip.wire.rng cimport rng_next, rng_seed

import ipaddress


cdef int addr_of(Addr* a, object address) except -1:
    """From an `ipaddress` object, or anything it can parse."""
    cdef bytes raw = ipaddress.ip_address(address).packed
    if len(raw) == 4:
        addr_from4(a, <const uint8_t*>PyBytes_AS_STRING(raw))
    else:
        addr_from6(a, <const uint8_t*>PyBytes_AS_STRING(raw))
    return 0


cdef object addr_object(const Addr* a):
    """As an `ipaddress` object."""
    if addr_is4(a):
        return ipaddress.IPv4Address((<const char*>addr_v4(a))[:4])
    return ipaddress.IPv6Address((<const char*>a)[:16])


cdef uint32_t _power_of_two(uint32_t n) noexcept:
    cdef uint32_t p = 1
    while p < n:
        p <<= 1
    return p


cdef int64_t _ns(object seconds) except -1:
    return <int64_t>(seconds * 1e9)


cdef uint32_t _max_groups(object config, uint32_t n_addrs) except 0:
    return len(config.multicast) + n_addrs + 2 + RUNTIME_GROUPS


cdef uint32_t _addr_mask(uint32_t n_addrs, uint32_t max_groups) noexcept:
    return _power_of_two(4 * (2 * n_addrs + max_groups + 1)) - 1


cdef int _allocate(Net* net, object config, uint32_t n_addrs, uint32_t n_routes) except -1:
    cdef uint32_t n, i
    net.n_neigh = config.neighbours if net.medium == MEDIUM_ETHERNET else 0
    net.max_groups = _max_groups(config, n_addrs)
    net.tx_cap = config.tx_queue
    net.max_events = config.udp_queue
    net.max_datagrams = config.reassembly_packets
    net.addr_mask = _addr_mask(n_addrs, net.max_groups)
    net.neigh_hash_mask = _power_of_two(2 * net.n_neigh + 1) - 1
    net.datagram_hash_mask = _power_of_two(2 * net.max_datagrams + 1) - 1
    net.txq = <uint32_t*>calloc(net.tx_cap, sizeof(uint32_t))
    net.events = <NetEvent*>calloc(net.max_events, sizeof(NetEvent))
    net.addr_slots = <AddrSlot*>calloc(net.addr_mask + 1, sizeof(AddrSlot))
    net.addrs = <NetAddr*>calloc(n_addrs + 1, sizeof(NetAddr))
    net.groups = <Group*>calloc(net.max_groups, sizeof(Group))
    net.routes = <Route*>calloc(n_routes + 1, sizeof(Route))
    net.neigh = <Neighbour*>calloc(net.n_neigh + 1, sizeof(Neighbour))
    net.neigh_hash = <uint32_t*>calloc(net.neigh_hash_mask + 1, sizeof(uint32_t))
    net.datagrams = <Datagram*>calloc(net.max_datagrams + 1, sizeof(Datagram))
    net.datagram_hash = <uint32_t*>calloc(net.datagram_hash_mask + 1, sizeof(uint32_t))
    net.pmtu = <Pmtu*>calloc(2 * PMTU_SETS, sizeof(Pmtu))
    net.ip_ids = <uint32_t*>calloc(IP_IDS, sizeof(uint32_t))
    net.udp_ports = <uint8_t*>calloc(65536 // 8, 1)
    if (net.txq == NULL or net.events == NULL or net.addr_slots == NULL or net.addrs == NULL or net.groups == NULL
            or net.routes == NULL or net.neigh == NULL or net.neigh_hash == NULL or net.datagrams == NULL
            or net.datagram_hash == NULL or net.pmtu == NULL or net.ip_ids == NULL or net.udp_ports == NULL):
        _release(net)
        raise MemoryError("no memory for the tables of the network layer")
    memset(net.neigh_hash, 0xFF, (net.neigh_hash_mask + 1) * sizeof(uint32_t))
    memset(net.datagram_hash, 0xFF, (net.datagram_hash_mask + 1) * sizeof(uint32_t))
    for i in range(net.max_datagrams):
        net.datagrams[i].hash_next = i + 1 if i + 1 < net.max_datagrams else NIL
    net.datagram_free = 0 if net.max_datagrams else NIL
    net.datagram_oldest = net.datagram_newest = NIL
    for n in range(<uint32_t>IP_IDS):
        net.ip_ids[n] = <uint32_t>rng_next(&net.rng)
    return 0


cdef void _release(Net* net) noexcept nogil:
    free(net.txq)
    free(net.events)
    free(net.addr_slots)
    free(net.addrs)
    free(net.groups)
    free(net.routes)
    free(net.neigh)
    free(net.neigh_hash)
    free(net.datagrams)
    free(net.datagram_hash)
    free(net.pmtu)
    free(net.ip_ids)
    free(net.udp_ports)
    memset(net, 0, sizeof(Net))


cdef int _set_mac(Net* net, object config) except -1:
    cdef uint64_t x
    cdef bytes raw
    if config.mac is None:
        x = rng_next(&net.rng)
        memcpy(net.mac, &x, 6)
        net.mac[0] = (net.mac[0] & 0xFC) | 2  # locally administered, one station
    else:
        raw = bytes.fromhex(config.mac.replace(":", "").replace("-", ""))
        memcpy(net.mac, PyBytes_AS_STRING(raw), 6)
    return 0


cdef object _link_local(Net* net):
    """EUI-64 (RFC 4291 appendix A)."""
    mac = bytes(net.mac[:6])
    eui = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:6]
    return ipaddress.IPv6Interface((b"\xfe\x80" + bytes(6) + eui, 64))


cdef list _interfaces(Net* net, object config):
    """The configured addresses, and on Ethernet a link-local one of our own."""
    interfaces = list(config.interfaces)
    if net.medium == MEDIUM_ETHERNET and config.link_local and config.mtu >= IP6_MIN_MTU:
        if not any(i.version == 6 and i.ip.is_link_local for i in interfaces):
            interfaces.append(_link_local(net))
    return interfaces


cdef int _set_address(Net* net, NetAddr* a, object interface) except -1:
    """A new address: unless that is switched off, it is checked for a conflict."""
    addr_of(&a.addr, interface.ip)
    a.version = interface.version
    a.defended_at = INT64_MIN // 2
    a.next_at = INT64_MIN
    a.state = ADDR_VALID
    if net.medium == MEDIUM_ETHERNET:
        if net.address_check:
            a.state = ADDR_PROBING
        elif a.version == 4:
            a.state = ADDR_ANNOUNCING
    return 0


cdef int _set_addresses(Net* net, list interfaces) except -1:
    cdef NetAddr* a
    for interface in interfaces:
        a = &net.addrs[net.n_addrs]
        net.n_addrs += 1
        _set_address(net, a, interface)
        a.prefix = interface.network.prefixlen
    address_table_build(net)
    for interface in interfaces:
        _solicited(net, interface, True)
    return 0


cdef int _solicited(Net* net, object interface, bint join) except -1:
    """Join or leave the group to which others ask for an address of IPv6."""
    cdef Addr group, own
    if interface.version == 6:
        addr_of(&own, interface.ip)
        solicited_node(&group, &own)
        if join:
            net_join(net, &group)
        else:
            net_leave(net, &group)
    return 0


cdef int _set_routes(Net* net, object config, list interfaces) except -1:
    """The prefixes on link and the configured routes, the longest first; of equals the first given."""
    cdef Route* r
    routes = [(i.network, None) for i in interfaces] + list(config.all_routes)
    routes.sort(key=lambda route: -route[0].prefixlen)
    for prefix, hop in routes:
        r = &net.routes[net.n_routes]
        net.n_routes += 1
        addr_of(&r.prefix, prefix.network_address)
        r.version = prefix.version
        r.bits = prefix.prefixlen
        r.onlink = hop is None
        if hop is not None:
            addr_of(&r.hop, hop)
    return 0


cdef int net_setup(Net* net, object config, Pool* pool, uint64_t* counters, uint64_t seed, uint32_t caps) except -1:
    """Make a network layer of a `Config`. `pool` and `counters` (of N_VERDICTS) are the caller's; `seed` decides
    every random choice; `caps` are the driver's capabilities that are to be used. The first call of `net_timers`
    starts the announcements."""
    cdef Addr group
    memset(net, 0, sizeof(Net))
    net.pool = pool
    net.counters = counters
    net.caps = caps
    rng_seed(&net.rng, seed)
    net.key0 = rng_next(&net.rng)
    net.key1 = rng_next(&net.rng)
    net.medium = MEDIUM_ETHERNET if config.medium == "ethernet" else MEDIUM_IP
    net.link_len = ETH_HLEN if net.medium == MEDIUM_ETHERNET else 0
    net.mtu = config.mtu
    net.ttl = config.ttl
    net.accept_any = config.accept_any
    net.address_check = config.address_check
    net.icmp_rate = config.icmp_rate
    net.icmp_tokens = config.icmp_rate
    net.neigh_queue = config.neighbour_queue
    net.neigh_queued_max = max(pool.n_direct // 4, <uint32_t>1)
    net.neigh_lifetime = _ns(config.neighbour_lifetime)
    net.reassembly_max = config.reassembly_bytes
    net.reassembly_timeout = _ns(config.reassembly_timeout)
    net.route_gen = 1
    net.loop_head = net.loop_tail = NIL
    net.neigh_timer = net.mld_timer = net.igmp_timer = net.change_timer = net.pmtu_timer = INT64_MAX
    net.addr_timer = INT64_MIN
    net.now = INT64_MIN + 1
    _set_mac(net, config)
    interfaces = _interfaces(net, config)
    _allocate(net, config, len(interfaces), len(interfaces) + len(config.all_routes))
    _set_addresses(net, interfaces)
    _set_routes(net, config, interfaces)
    for address in ("224.0.0.1", "ff01::1", "ff02::1") + tuple(config.multicast):
        addr_of(&group, address)
        net_join(net, &group)
    net.now = 0
    net.icmp_filled_at = INT64_MIN
    return 0


# -- other addresses for a running network layer -------------------------------------------------------------
cdef NetAddr* _find(NetAddr* addrs, uint32_t n, const Addr* a) noexcept:
    cdef uint32_t i
    for i in range(n):
        if addr_eq(&addrs[i].addr, a):
            return &addrs[i]
    return NULL


cdef uint32_t _left(Net* net) noexcept:
    """Groups that were left, which routers have not heard yet."""
    cdef uint32_t i, n = 0
    for i in range(net.n_groups):
        n += net.groups[i].refs == 0 and net.groups[i].reports
    return n


cdef int _replace_tables(Net* net, object config, list interfaces) except -1:
    """Room for other addresses, routes and the groups that are still joined; the old ones' is freed."""
    cdef uint32_t n = len(interfaces), i, kept = 0
    cdef uint32_t max_groups = max(_max_groups(config, n) + _left(net), net.max_groups)
    cdef uint32_t mask = _addr_mask(n, max_groups)
    cdef NetAddr* addrs = <NetAddr*>calloc(n + 1, sizeof(NetAddr))
    cdef Route* routes = <Route*>calloc(n + len(config.all_routes) + 1, sizeof(Route))
    cdef AddrSlot* slots = <AddrSlot*>calloc(mask + 1, sizeof(AddrSlot))
    cdef Group* groups = <Group*>calloc(max_groups, sizeof(Group))
    if addrs == NULL or routes == NULL or slots == NULL or groups == NULL:
        free(addrs)
        free(routes)
        free(slots)
        free(groups)
        raise MemoryError("no memory for the tables of the network layer")
    for i in range(net.n_groups):
        if net.groups[i].refs or net.groups[i].reports:
            groups[kept] = net.groups[i]
            kept += 1
    free(net.addrs)
    free(net.routes)
    free(net.addr_slots)
    free(net.groups)
    net.addrs, net.routes, net.addr_slots, net.groups = addrs, routes, slots, groups
    net.n_addrs = net.n_routes = 0
    net.n_groups, net.max_groups, net.addr_mask = kept, max_groups, mask
    return 0


cdef int net_readdress(Net* net, object config) except -1:
    """The addresses and routes are those of `config` from now on. An address that stays is not checked again."""
    cdef list interfaces = _interfaces(net, config), new = []
    cdef bytes before = (<const char*>net.addrs)[:net.n_addrs * sizeof(NetAddr)]
    cdef NetAddr* old = <NetAddr*>PyBytes_AS_STRING(before)
    cdef uint32_t n_old = net.n_addrs, i
    cdef NetAddr* a
    cdef Addr own
    _replace_tables(net, config, interfaces)
    for interface in interfaces:
        addr_of(&own, interface.ip)
        a = _find(old, n_old, &own)
        if a == NULL:
            _set_address(net, &net.addrs[net.n_addrs], interface)
            new.append(interface)
        else:
            net.addrs[net.n_addrs] = a[0]
        net.addrs[net.n_addrs].prefix = interface.network.prefixlen
        net.n_addrs += 1
    address_table_build(net)
    for interface in new:
        _solicited(net, interface, True)
    for i in range(n_old):
        if old[i].state != ADDR_DUPLICATE and _find(net.addrs, net.n_addrs, &old[i].addr) == NULL:
            _solicited(net, ipaddress.ip_interface(addr_object(&old[i].addr)), False)
    _set_routes(net, config, interfaces)
    _rename_askers(net)
    net.addr_timer = INT64_MIN
    net.route_gen += 1
    return 0


cdef void _rename_askers(Net* net) noexcept:
    """Neighbours are asked for by an address that we still have."""
    cdef uint32_t n, i
    cdef Neighbour* e
    for n in range(net.n_neigh):
        e = &net.neigh[n]
        if e.state == NB_FREE or addr_is_own(net, &e.src):
            continue
        for i in range(net.n_addrs):
            if net.addrs[i].version == e.version and net.addrs[i].state != ADDR_DUPLICATE:
                e.src = net.addrs[i].addr
                break


cdef void net_teardown(Net* net) noexcept nogil:
    """Free every packet the layer holds (events that were not delivered included) and its tables."""
    cdef uint32_t i, nxt
    if net.txq == NULL:
        return
    neigh_drop_all(net)
    reassembly_drop_all(net)
    for i in range(net.tx_len):
        pkt_free(net.pool, net.txq[i])
    for i in range(net.n_events):
        pkt_free(net.pool, net.events[i].pkt)
    i = net.loop_head
    while i != NIL:
        nxt = pkt(net.pool, i).qnext
        pkt_free(net.pool, i)
        i = nxt
    _release(net)
