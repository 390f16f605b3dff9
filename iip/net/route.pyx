"""Routes, the choice of a source address, and the path MTU cache."""
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from iip.memory.pool cimport NIL
from iip.net.checksum cimport pseudo_sum
from iip.net.neighbour cimport neigh_get
from iip.net.state cimport (ADDR_DUPLICATE, AK_BROADCAST, AK_OWN, AddrSlot, NEIGH_GROUP, NEIGH_LOOP, NetAddr,
                            PMTU_SETS, Pmtu, Route, addr_find, addr_is_group, addr_is_link_local, addr_is_zero)
from iip.net.types cimport MEDIUM_ETHERNET, addr_eq, addr_is4
from iip.verdict cimport count, ip_no_route, neighbour_table_full, ok, pmtu_reduced
from iip.wire.ipv6 cimport IP6_MIN_MTU
from iip.wire.rng cimport siphash_words

cdef enum:
    IP4_MIN_PMTU = 576            # RFC 1191 allows 68; smaller than this is an attack (RFC 5927 §7)

cdef int64_t PMTU_LIFETIME = 600 * <int64_t>1000000000  # RFC 1191 §6.3, RFC 8201 §5.3


cdef inline uint32_t _offset(const Addr* a) noexcept nogil:
    """Prefixes of mapped addresses begin after 96 bits."""
    return 96 if addr_is4(a) else 0


cdef bint prefix_match(const Addr* a, const Addr* b, uint32_t bits) noexcept nogil:
    """Whether the first `bits` of 128 are equal."""
    return _common(a, b) >= bits


cdef uint32_t _common(const Addr* a, const Addr* b) noexcept nogil:
    """How many leading bits two addresses have in common."""
    cdef const uint8_t* p = <const uint8_t*>a
    cdef const uint8_t* q = <const uint8_t*>b
    cdef uint32_t i, n = 0
    cdef uint8_t x
    for i in range(16):
        x = p[i] ^ q[i]
        if x == 0:
            n += 8
            continue
        while not x & 0x80:
            n += 1
            x = <uint8_t>(x << 1)
        return n
    return n


cdef const Route* _lookup(Net* net, const Addr* dst) noexcept nogil:
    """The longest prefix that matches; NULL: none."""
    cdef uint32_t i
    cdef const Route* r
    cdef bint v4 = addr_is4(dst)
    for i in range(net.n_routes):
        r = &net.routes[i]
        if (r.version == 4) == v4 and prefix_match(&r.prefix, dst, r.bits + (96 if v4 else 0)):
            return r
    return NULL


cdef int _choose_source(Net* net, Addr* src, const Addr* dst, const Addr* hop) noexcept nogil:
    """RFC 6724 §5 as far as one interface needs it: the destination's scope (rule 2), then the longest prefix
    in common with the next hop, of those that the address's own prefix covers (rule 8, §2.2); of equals the first.
    IPv4: the longest prefix in common."""
    cdef uint32_t i, n, best_n = 0
    cdef NetAddr* a
    cdef NetAddr* best = NULL
    cdef bint v4 = addr_is4(dst), local, best_local = False
    cdef bint want_local = addr_is_link_local(dst) or (not v4 and ((<const uint8_t*>dst)[0] == 0xFF)
                                                       and ((<const uint8_t*>dst)[1] & 15) <= 2)
    for i in range(net.n_addrs):
        a = &net.addrs[i]
        if (a.version == 4) != v4 or a.state == ADDR_DUPLICATE:
            continue
        local = not v4 and addr_is_link_local(&a.addr)
        n = min(_common(&a.addr, hop), a.prefix + _offset(&a.addr))
        if best == NULL or (local == want_local and best_local != want_local) or (
                (local == want_local) == (best_local == want_local) and n > best_n):
            best = a
            best_n = n
            best_local = local
    if best == NULL:
        return ip_no_route
    src[0] = best.addr
    return ok


cdef int net_route(Net* net, Flow* f) noexcept nogil:
    """Fill a flow: `src` if it is unspecified, the neighbour to send to, the path MTU, the IP version, the
    TTL if it is 0. Returns ok, ip_no_route or neighbour_table_full (not counted).

    On a bare-IP medium every destination is at the other end: no routes are needed there."""
    cdef int verdict = _route(net, f)
    f.pseudo = pseudo_sum(&f.src, &f.dst, f.version, 0, 0)
    if verdict != ok:
        f.route_gen = net.route_gen - 1    # so that nobody takes it for routed
    return verdict


cdef int _route(Net* net, Flow* f) noexcept nogil:
    cdef AddrSlot* slot = addr_find(net, &f.dst)
    cdef Addr hop = f.dst
    cdef const Route* r
    cdef bint group = addr_is_group(&f.dst) or (slot != NULL and slot.kind == AK_BROADCAST)
    f.version = 4 if addr_is4(&f.dst) else 6
    f.mtu = net.mtu
    f.route_gen = net.route_gen
    if f.ttl == 0:
        f.ttl = 1 if addr_is_group(&f.dst) else net.ttl
    if addr_is_zero(&f.dst) or (f.version == 4 and (<const uint8_t*>&f.dst)[12] in (0, 127)):
        return ip_no_route
    if slot != NULL and slot.kind == AK_OWN:
        if addr_is_zero(&f.src):
            f.src = f.dst
        f.neigh = NEIGH_LOOP
        f.mtu = 65535
        return ok
    if not group and net.medium == MEDIUM_ETHERNET:
        r = _lookup(net, &f.dst)
        if r == NULL:
            return ip_no_route
        if not r.onlink:
            hop = r.hop
    if addr_is_zero(&f.src) and _choose_source(net, &f.src, &f.dst, &hop) != ok:
        return ip_no_route
    if not group:
        f.mtu = pmtu_lookup(net, &f.dst)
    if net.medium != MEDIUM_ETHERNET:
        f.neigh = NIL
    elif group:
        f.neigh = NEIGH_GROUP
    else:
        return _neighbour(net, f, &hop)
    return ok


cdef int _neighbour(Net* net, Flow* f, const Addr* hop) noexcept nogil:
    """The next hop's entry. It is asked for by an address of ours (`f.src` may be somebody else's when we are
    a transparent proxy)."""
    cdef Addr asker = f.src
    cdef AddrSlot* slot = addr_find(net, &f.src)
    if slot == NULL or slot.kind != AK_OWN:
        if _choose_source(net, &asker, hop, hop) != ok:
            return ip_no_route
    f.neigh = neigh_get(net, hop, f.version, &asker)
    if f.neigh == NIL:
        return neighbour_table_full
    f.route_gen = net.route_gen   # it may have taken the entry from another address
    return ok


# -- path MTU -------------------------------------------------------------------------------------------
cdef inline Pmtu* _pmtu_set(Net* net, const Addr* dst) noexcept nogil:
    return &net.pmtu[2 * (siphash_words(<const uint64_t*>dst, 2, net.key1, net.key0) & (PMTU_SETS - 1))]


cdef uint16_t pmtu_lookup(Net* net, const Addr* dst) noexcept nogil:
    """The path MTU to an address: what was learnt in the last ten minutes, or the interface's MTU."""
    cdef Pmtu* e = _pmtu_set(net, dst)
    cdef int i
    for i in range(2):
        if e[i].mtu and addr_eq(&e[i].dst, dst) and net.now < e[i].expires:
            return <uint16_t>e[i].mtu
    return net.mtu


cdef bint net_pmtu_update(Net* net, const Addr* dst, uint32_t mtu) noexcept nogil:
    """Remember that packets of more than `mtu` bytes do not reach `dst` (RFC 1191, RFC 8201); True (and
    counted) if that is news. Never more than before, and never less than 576 or 1280 bytes."""
    cdef Pmtu* e = _pmtu_set(net, dst)
    cdef int at = 0, i
    mtu = max(mtu, <uint32_t>(IP4_MIN_PMTU if addr_is4(dst) else IP6_MIN_MTU))
    if mtu >= pmtu_lookup(net, dst):
        return False
    for i in range(2):
        if e[i].mtu and addr_eq(&e[i].dst, dst):
            at = i
            break
        if e[i].expires < e[at].expires:
            at = i
    e[at].dst = dst[0]
    e[at].mtu = mtu
    e[at].expires = net.now + PMTU_LIFETIME
    net.route_gen += 1
    net.pmtu_timer = min(net.pmtu_timer, e[at].expires)
    count(net.counters, pmtu_reduced)
    return True


cdef void pmtu_timers(Net* net) noexcept nogil:
    """What was learnt ten minutes ago ends: flows are routed anew, and try the interface's MTU again (RFC 1191 §6.3)."""
    cdef int i
    cdef Pmtu* e
    if net.now < net.pmtu_timer:
        return
    net.pmtu_timer = INT64_MAX
    for i in range(2 * PMTU_SETS):
        e = &net.pmtu[i]
        if e.mtu and net.now >= e.expires:
            e.mtu = 0
            net.route_gen += 1
        elif e.mtu:
            net.pmtu_timer = min(net.pmtu_timer, e.expires)
