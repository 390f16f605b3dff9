"""The neighbour table: which link-layer address an on-link IP address has (RFC 826, RFC 4861 §7.3).

One table and one state machine serve ARP and neighbour discovery. Flows keep the index of their entry, so an
entry that is given to another address changes `route_gen`, and they are routed again.
"""
from libc.stdint cimport INT64_MAX, uint64_t
from iip.memory.pool cimport NIL, Packet, pkt, pkt_copy_out, pkt_data, pkt_free
from iip.net.fragment cimport ip_transmit
from iip.net.solicit cimport arp_send, nd_solicit
from iip.net.state cimport (NB_DELAY, NB_FREE, NB_INCOMPLETE, NB_PROBE, NB_REACHABLE, NB_STALE, NE_UNREACHABLE,
                            Neighbour, NetEvent, event_new, net_count)
from iip.net.types cimport PROTO_TCP, PROTO_UDP, addr_eq, addr_from4, addr_from6
from iip.verdict cimport (count, icmp_queue_full, neighbour_queue_full, neighbour_queued, neighbour_table_full,
                          neighbour_unreachable, ok)
from iip.wire.arp cimport ARP_REQUEST
from iip.wire.bytes cimport load16
from iip.wire.ethernet cimport ETH_IPV4, ETH_IPV6, eth_build, eth_same
from iip.wire.ipv4 cimport IP4_HLEN, ip_version
from iip.wire.ipv6 cimport IP6_HLEN
from iip.wire.rng cimport siphash_words

cdef enum:
    TRIES = 3                     # MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT (RFC 4861 §10)

cdef int64_t SECOND = 1000000000
cdef int64_t DELAY_FIRST_PROBE = 5 * SECOND


cdef inline uint32_t _bucket(Net* net, const Addr* a) noexcept nogil:
    return <uint32_t>siphash_words(<const uint64_t*>a, 2, net.key0, net.key1) & net.neigh_hash_mask


cdef uint32_t neigh_find(Net* net, const Addr* a) noexcept nogil:
    """The entry of address `a`, or NIL."""
    cdef uint32_t n = net.neigh_hash[_bucket(net, a)]
    while n != NIL and not addr_eq(&net.neigh[n].addr, a):
        n = net.neigh[n].hash_next
    return n


cdef void _unlink(Net* net, uint32_t n) noexcept nogil:
    cdef uint32_t* at = &net.neigh_hash[_bucket(net, &net.neigh[n].addr)]
    while at[0] != n:
        at = &net.neigh[at[0]].hash_next
    at[0] = net.neigh[n].hash_next


cdef bint _replaceable(Net* net, Neighbour* e, bint lightly) noexcept nogil:
    """`lightly`: only what nobody can be using."""
    if e.state == NB_FREE or e.state == NB_STALE or (e.state == NB_INCOMPLETE and e.tries == 0):
        return True
    if e.state == NB_REACHABLE:
        return not lightly or net.now >= e.deadline
    return False


cdef uint32_t _claim(Net* net, bint lightly) noexcept nogil:
    """A free entry, or one that is taken from a neighbour: a clock hand goes round the table, so that a flood
    of new addresses costs no long searches."""
    cdef uint32_t _step, n
    for _step in range(min(net.n_neigh, 64)):
        n = net.neigh_hand
        net.neigh_hand = n + 1 if n + 1 < net.n_neigh else 0
        if net.neigh[n].state == NB_FREE:
            return n
        if _replaceable(net, &net.neigh[n], lightly):
            _unlink(net, n)
            net.neigh[n].state = NB_FREE
            net.route_gen += 1
            return n
    return NIL


cdef uint32_t _create(Net* net, const Addr* a, uint8_t version, bint lightly) noexcept nogil:
    cdef uint32_t n = _claim(net, lightly), b
    cdef Neighbour* e
    if n == NIL:
        return NIL
    b = _bucket(net, a)
    e = &net.neigh[n]
    e.addr = a[0]
    e.src.hi = e.src.lo = 0
    e.state = NB_INCOMPLETE
    e.version = version
    e.tries = e.asked = 0
    e.deadline = INT64_MAX
    e.n_queued = 0
    e.q_head = e.q_tail = NIL
    e.hash_next = net.neigh_hash[b]
    net.neigh_hash[b] = n
    return n


cdef uint32_t neigh_get(Net* net, const Addr* a, uint8_t version, const Addr* src) noexcept nogil:
    """The entry of address `a`, made if it is new; NIL if the table is full (not counted). Nothing is sent
    before `neigh_output` has a packet for it. `src`: our address that will ask."""
    cdef uint32_t n = neigh_find(net, a)
    if n == NIL:
        n = _create(net, a, version, True)
        if n == NIL:
            n = _create(net, a, version, False)
    if n != NIL:
        net.neigh[n].src = src[0]
    return n


cdef inline void _arm(Net* net, Neighbour* e, int64_t deadline) noexcept nogil:
    # in steps of 1/64 s, so that many entries share one pass over the table
    e.deadline = (deadline + 0xFFFFFF) & ~<int64_t>0xFFFFFF
    if e.deadline < net.neigh_timer:
        net.neigh_timer = e.deadline


cdef int neigh_ask(Net* net, uint32_t n) noexcept nogil:
    """Send one solicitation, to everybody or (PROBE) to the neighbour itself."""
    cdef Neighbour* e = &net.neigh[n]
    cdef const uint8_t* mac = NULL
    cdef int verdict
    if e.state != NB_INCOMPLETE:
        mac = e.hdr
    if e.version == 4:
        verdict = arp_send(net, ARP_REQUEST, <const uint8_t*>&e.src + 12, mac, <const uint8_t*>&e.addr + 12)
    else:
        verdict = nd_solicit(net, &e.src, &e.addr, mac)
    return verdict


cdef int neigh_output(Net* net, uint32_t n, uint32_t i, uint32_t mtu) noexcept nogil:
    """Send an IP packet to a neighbour, or keep it until its address is known. Always takes the packet."""
    cdef Neighbour* e = &net.neigh[n]
    if e.state == NB_INCOMPLETE:
        return _enqueue(net, n, i, mtu)
    if e.state == NB_REACHABLE and net.now >= e.deadline:
        e.state = NB_STALE
    if e.state == NB_STALE:
        e.state = NB_DELAY
        e.tries = 0
        _arm(net, e, net.now + DELAY_FIRST_PROBE)
    return ip_transmit(net, e.hdr, i, mtu)


cdef int _enqueue(Net* net, uint32_t n, uint32_t i, uint32_t mtu) noexcept nogil:
    """RFC 4861 §7.2.2: a small queue; when it overflows the oldest packet makes room."""
    cdef Neighbour* e = &net.neigh[n]
    cdef Packet* k = pkt(net.pool, i)
    cdef uint32_t old
    if e.n_queued == net.neigh_queue:
        old = e.q_head
        e.q_head = pkt(net.pool, old).qnext
        e.n_queued -= 1
        net.neigh_queued -= 1
        pkt_free(net.pool, old)
        count(net.counters, neighbour_queue_full)
    elif net.neigh_queued == net.neigh_queued_max:
        pkt_free(net.pool, i)
        return neighbour_queue_full
    k.aux = mtu
    k.qnext = NIL
    if e.n_queued == 0:
        e.q_head = i
    else:
        pkt(net.pool, e.q_tail).qnext = i
    e.q_tail = i
    e.n_queued += 1
    net.neigh_queued += 1
    count(net.counters, neighbour_queued)
    if e.tries == 0:
        e.tries = 1
        _arm(net, e, net.now + SECOND)
        net_count(net, neigh_ask(net, n))
    return ok


cdef void _flush(Net* net, Neighbour* e) noexcept nogil:
    """The address is known now: send what waits."""
    cdef uint32_t i = e.q_head, nxt
    net.neigh_queued -= e.n_queued
    e.n_queued = 0
    e.q_head = e.q_tail = NIL
    while i != NIL:
        nxt = pkt(net.pool, i).qnext
        net_count(net, ip_transmit(net, e.hdr, i, pkt(net.pool, i).aux))
        i = nxt


cdef uint32_t neigh_learn(Net* net, const Addr* a, uint8_t version, const uint8_t* mac, int what) noexcept nogil:
    """What ARP (RFC 826) or neighbour discovery (RFC 4861 §7.2.3 to §7.2.5) heard about a neighbour. Returns
    its entry, or NIL."""
    cdef uint32_t n = neigh_find(net, a)
    cdef Neighbour* e
    cdef bint changed
    if n == NIL:
        if not what & LEARN_CREATE:
            return NIL
        n = _create(net, a, version, True)
        if n == NIL:
            count(net.counters, neighbour_table_full)
            return NIL
    e = &net.neigh[n]
    changed = e.state == NB_INCOMPLETE or not eth_same(e.hdr, mac)
    if changed and e.state != NB_INCOMPLETE and not what & LEARN_OVERRIDE:
        if e.state == NB_REACHABLE:
            e.state = NB_STALE    # §7.2.5: doubt, but do not believe
        return n
    if changed:
        eth_build(e.hdr, mac, net.mac, ETH_IPV4 if version == 4 else ETH_IPV6)
    if what & LEARN_REACHABLE:
        e.state = NB_REACHABLE
        e.deadline = net.now + net.neigh_lifetime
    elif changed:
        e.state = NB_STALE
    e.tries = 0
    if e.n_queued:
        _flush(net, e)
        if e.state == NB_STALE:   # it was used: check it (§7.3.3)
            e.state = NB_DELAY
            _arm(net, e, net.now + DELAY_FIRST_PROBE)
    return n


cdef void neigh_rebase(Net* net, int64_t now) noexcept nogil:
    """The clock starts: what was asked before the first run counts from now."""
    cdef uint32_t n
    cdef Neighbour* e
    for n in range(net.n_neigh):
        e = &net.neigh[n]
        if e.state == NB_INCOMPLETE and e.tries:
            _arm(net, e, now + SECOND)


cdef void neigh_ask_again(Net* net) noexcept nogil:
    """An IPv6 address of ours turned out to be good. Those we asked from it before could not answer, not knowing our
    link-layer address (see `nd_solicit`): start anew."""
    cdef uint32_t n
    cdef Neighbour* e
    for n in range(net.n_neigh):
        e = &net.neigh[n]
        if e.state == NB_INCOMPLETE and e.tries and e.version == 6:
            e.tries = 1
            _arm(net, e, net.now + SECOND)
            net_count(net, neigh_ask(net, n))


cdef void neigh_timers(Net* net) noexcept nogil:
    """Whatever is due of INCOMPLETE, DELAY and PROBE entries; sets the next deadline."""
    cdef uint32_t n
    cdef Neighbour* e
    if net.now < net.neigh_timer:
        return
    net.neigh_timer = INT64_MAX
    for n in range(net.n_neigh):
        e = &net.neigh[n]
        if (e.state == NB_INCOMPLETE and e.tries) or e.state == NB_DELAY or e.state == NB_PROBE:
            if net.now >= e.deadline:
                _expired(net, n)
            if (e.state != NB_INCOMPLETE or e.tries) and e.deadline < net.neigh_timer:
                net.neigh_timer = e.deadline


cdef void _expired(Net* net, uint32_t n) noexcept nogil:
    cdef Neighbour* e = &net.neigh[n]
    if e.state == NB_DELAY:
        e.state = NB_PROBE
        e.tries = 0
    if e.tries == TRIES:
        _give_up(net, n)
        return
    e.tries += 1
    _arm(net, e, net.now + SECOND)
    net_count(net, neigh_ask(net, n))


cdef void _give_up(Net* net, uint32_t n) noexcept nogil:
    """Nobody answers: the packets are lost, and whoever sent them is told."""
    cdef Neighbour* e = &net.neigh[n]
    cdef uint32_t i = e.q_head, nxt
    count(net.counters, neighbour_unreachable)
    if i == NIL:
        _tell_unreachable(net, e, NIL)
    while i != NIL:
        nxt = pkt(net.pool, i).qnext
        _tell_unreachable(net, e, i)
        pkt_free(net.pool, i)
        i = nxt
    net.neigh_queued -= e.n_queued
    e.n_queued = 0
    e.q_head = e.q_tail = NIL
    e.state = NB_INCOMPLETE
    e.tries = e.asked = 0
    e.deadline = INT64_MAX


cdef void _tell_unreachable(Net* net, Neighbour* e, uint32_t i) noexcept nogil:
    """An event with the addresses and ports of packet `i`, or with the neighbour's address."""
    cdef NetEvent* event = event_new(net, NE_UNREACHABLE)
    cdef const uint8_t* p
    cdef uint8_t ports[4]
    cdef uint32_t hlen
    if event == NULL:
        count(net.counters, icmp_queue_full)
        return
    event.version = e.version
    event.src = e.src
    event.dst = event.reporter = e.addr
    if i == NIL:
        return
    p = pkt_data(pkt(net.pool, i))
    if ip_version(p) == 4:
        hlen = IP4_HLEN
        event.proto = p[9]
        addr_from4(&event.src, p + 12)
        addr_from4(&event.dst, p + 16)
    else:
        hlen = IP6_HLEN
        event.proto = p[6]
        addr_from6(&event.src, p + 8)
        addr_from6(&event.dst, p + 24)
    if (event.proto == PROTO_TCP or event.proto == PROTO_UDP) and pkt_copy_out(net.pool, i, hlen, ports, 4) == 4:
        event.sport = load16(ports)
        event.dport = load16(ports + 2)


cdef void neigh_drop_all(Net* net) noexcept nogil:
    """Free every packet that waits."""
    cdef uint32_t n, i, nxt
    for n in range(net.n_neigh):
        if net.neigh[n].state != NB_FREE:
            i = net.neigh[n].q_head
            while i != NIL:
                nxt = pkt(net.pool, i).qnext
                pkt_free(net.pool, i)
                i = nxt
            net.neigh[n].n_queued = 0
            net.neigh[n].q_head = net.neigh[n].q_tail = NIL
    net.neigh_queued = 0
