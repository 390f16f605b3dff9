"""The state of one network layer, and the small operations that all of its parts share."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from iip.memory.pool cimport NIL, Pool
from iip.net.types cimport Addr, IcmpError, addr_eq
from iip.verdict cimport count, ok
from iip.wire.rng cimport Rng

cdef extern from *:
    """
    #define IIP_NEIGH_GROUP 0xFFFFFFFEu
    #define IIP_NEIGH_LOOP 0xFFFFFFFDu
    """
    const uint32_t NEIGH_GROUP "IIP_NEIGH_GROUP"  # Flow.neigh: the link address follows from the group
    const uint32_t NEIGH_LOOP "IIP_NEIGH_LOOP"    # Flow.neigh: the destination is ourselves

cdef enum:
    PKT_LOOPED = 0x1000           # packet flag: came through the loopback queue, has no link header

cdef enum:
    PMTU_SETS = 128               # of two entries
    IP_IDS = 1024                 # counters of IPv4 and fragment identifications
    RUNTIME_GROUPS = 64           # groups that can be joined after set-up

cdef enum:
    # what an address in the address table is to us
    AK_OWN = 1
    AK_BROADCAST = 2
    AK_GROUP = 3

cdef enum:
    # states of an address of ours
    ADDR_PROBING = 1              # in use, being checked for a conflict (RFC 4429, RFC 5227)
    ADDR_ANNOUNCING = 2           # IPv4: telling the neighbours
    ADDR_VALID = 3
    ADDR_DUPLICATE = 4            # IPv6: somebody else had it first; not used

cdef enum:
    # states of a neighbour (RFC 4861 §7.3.2)
    NB_FREE = 0
    NB_INCOMPLETE = 1
    NB_REACHABLE = 2
    NB_STALE = 3
    NB_DELAY = 4
    NB_PROBE = 5

cdef enum:
    # events for the application
    NE_UDP = 1
    NE_ICMP_REPLY = 2
    NE_ICMP_ERROR = 3
    NE_ARP_REPLY = 4
    NE_CONFLICT = 5
    NE_UNREACHABLE = 6


cdef struct AddrSlot:
    Addr addr
    uint32_t kind                 # AK_*, 0: empty
    uint32_t index                # of addrs or groups


cdef struct NetAddr:
    Addr addr
    uint8_t version
    uint8_t prefix                # bits
    uint8_t state                 # ADDR_*
    uint8_t sent                  # probes or announcements sent in this state
    int64_t next_at               # ns
    int64_t defended_at


cdef struct Group:
    Addr addr
    uint8_t version
    uint8_t refs                  # joins
    uint8_t reports               # state-change reports still to send
    uint8_t silent                # all-hosts, all-nodes: never reported


cdef struct Route:
    Addr prefix
    Addr hop                      # unspecified: on link
    uint8_t version
    uint8_t bits
    uint8_t onlink


cdef struct Neighbour:
    uint8_t hdr[16]               # the link header towards it: 14 bytes
    int64_t deadline              # REACHABLE: until then; INCOMPLETE, DELAY, PROBE: when to act
    Addr addr
    Addr src                      # the address of ours that asks for it
    uint8_t state
    uint8_t version
    uint8_t tries
    uint8_t asked                 # the application wants to hear the answer
    uint16_t n_queued
    uint32_t q_head               # packets that wait, linked by qnext
    uint32_t q_tail
    uint32_t hash_next


cdef struct Pmtu:
    Addr dst
    int64_t expires
    uint32_t mtu                  # 0: empty


cdef struct Datagram:
    # a datagram being reassembled
    Addr src
    Addr dst
    uint32_t ident
    uint8_t version
    uint8_t proto
    uint8_t dead                  # had overlapping fragments: what is still to come is dropped (RFC 5722)
    uint8_t in_use
    uint8_t ecn_ce
    uint32_t total                # bytes of the whole payload; 0 until the last fragment is there
    uint32_t have                 # payload bytes so far
    uint32_t held                 # bytes of pool memory
    uint32_t pieces
    uint32_t first                # fragments in order, linked by qnext; seq: offset, aux: payload bytes
    uint32_t last
    uint32_t l4_off               # of the first fragment
    int64_t expires
    uint32_t hash_next
    uint32_t newer                # in order of arrival
    uint32_t older


cdef struct NetEvent:
    uint8_t type                  # NE_*
    uint8_t version
    uint8_t proto                 # ICMP errors: of the quoted packet
    uint8_t ttl
    uint8_t tos
    uint8_t icmp_type
    uint8_t icmp_code
    uint8_t multicast             # UDP: came to a group or broadcast address
    uint16_t sport
    uint16_t dport
    uint16_t ident
    uint16_t seq
    uint32_t mtu
    uint32_t pkt                  # held by the event, or NIL; whoever delivers the event frees it
    uint32_t off                  # of the payload, from the start of the packet's data
    uint32_t len                  # of the payload
    uint8_t mac[8]
    Addr src                      # ICMP errors: of the packet we had sent
    Addr dst
    Addr reporter


cdef struct Net:
    # what every packet needs
    Pool* pool
    uint64_t* counters
    int64_t now                   # ns; whoever calls sets it first
    uint32_t* txq                 # frames for the driver, oldest first; the engine takes them and sets tx_len
    uint32_t tx_len
    uint32_t tx_cap
    uint32_t caps                 # CAP_* in use
    uint32_t route_gen            # grows with every change that can make a Flow wrong
    Neighbour* neigh
    uint32_t n_neigh
    uint32_t addr_mask
    AddrSlot* addr_slots          # open addressing: ours, broadcast and group addresses
    uint8_t medium
    uint8_t accept_any
    uint8_t ttl
    uint8_t link_len              # bytes of link header
    uint16_t mtu
    uint8_t mac[6]
    uint8_t link_src[6]           # who sent the ARP or ND message being handled
    # events for the application
    NetEvent* events
    uint32_t n_events
    uint32_t max_events
    IcmpError icmp_error          # valid after the verdict icmp_in_error
    # packets to ourselves, linked by qnext
    uint32_t loop_head
    uint32_t loop_tail
    uint32_t n_loop
    # addresses, groups, routes
    NetAddr* addrs
    uint32_t n_addrs
    Group* groups
    uint32_t n_groups
    uint32_t max_groups
    Route* routes                 # longest prefix first
    uint32_t n_routes
    # neighbours
    uint32_t* neigh_hash
    uint32_t neigh_hash_mask
    uint32_t neigh_hand
    uint32_t neigh_queue          # packets per entry
    uint32_t neigh_queued         # packets in all entries
    uint32_t neigh_queued_max
    int64_t neigh_lifetime
    int64_t neigh_timer           # earliest deadline that needs action
    # reassembly
    Datagram* datagrams
    uint32_t* datagram_hash
    uint32_t datagram_hash_mask
    uint32_t max_datagrams
    uint32_t datagram_free        # linked by hash_next
    uint32_t datagram_oldest
    uint32_t datagram_newest
    uint32_t reassembly_held
    uint32_t reassembly_max
    int64_t reassembly_timeout
    # other timers
    int64_t addr_timer
    int64_t mld_timer             # a report of all IPv6 groups is due
    int64_t igmp_timer
    int64_t change_timer          # state-change reports are due
    int64_t pmtu_timer            # what was learnt about a path's MTU ends
    # limits, caches
    double icmp_tokens
    double icmp_rate
    int64_t icmp_filled_at
    Pmtu* pmtu
    uint32_t* ip_ids
    uint8_t* udp_ports            # one bit each
    uint8_t udp_all
    uint8_t address_check
    Rng rng
    uint64_t key0                 # of every hash over addresses a stranger chooses
    uint64_t key1


cdef inline AddrSlot* addr_slot(Net* net, const Addr* a) noexcept nogil:
    """The slot of address `a`, or the empty one where it would be. Only our own addresses are in the table,
    so that nobody can lengthen its chains."""
    cdef uint64_t h = (a.hi * <uint64_t>0x9E3779B97F4A7C15 ^ a.lo) * <uint64_t>0xD6E8FEB86659FD93
    cdef uint32_t i = <uint32_t>(h >> 32) & net.addr_mask
    cdef AddrSlot* s = &net.addr_slots[i]
    while s.kind and not addr_eq(&s.addr, a):
        i = (i + 1) & net.addr_mask
        s = &net.addr_slots[i]
    return s


cdef inline AddrSlot* addr_find(Net* net, const Addr* a) noexcept nogil:
    """What address `a` is to us; NULL: nothing."""
    cdef AddrSlot* s = addr_slot(net, a)
    return s if s.kind else NULL


cdef inline bint addr_is_own(Net* net, const Addr* a) noexcept nogil:
    cdef AddrSlot* s = addr_find(net, a)
    return s != NULL and s.kind == AK_OWN


cdef inline bint addr_is_group(const Addr* a) noexcept nogil:
    """A multicast address of either version, or 255.255.255.255."""
    cdef const uint8_t* p = <const uint8_t*>a
    if p[0] == 0xFF:
        return True
    return a.hi == 0 and p[8] == 0 and p[9] == 0 and p[10] == 0xFF and p[11] == 0xFF and (
        (p[12] & 0xF0) == 0xE0 or (p[12] & p[13] & p[14] & p[15]) == 0xFF)


cdef inline bint addr_is_zero(const Addr* a) noexcept nogil:
    return (a.hi | a.lo) == 0


cdef inline bint addr_is_link_local(const Addr* a) noexcept nogil:
    """fe80::/10 (RFC 4291 §2.5.6)."""
    cdef const uint8_t* p = <const uint8_t*>a
    return p[0] == 0xFE and (p[1] & 0xC0) == 0x80


cdef inline uint32_t net_tx_room(Net* net) noexcept nogil:
    """How many more packets the output queue takes."""
    return net.tx_cap - net.tx_len


cdef inline NetEvent* event_new(Net* net, uint8_t type) noexcept nogil:
    """The next event of the queue, without a packet; NULL: no room (not counted)."""
    cdef NetEvent* e
    if net.n_events == net.max_events:
        return NULL
    e = &net.events[net.n_events]
    net.n_events += 1
    memset(e, 0, sizeof(NetEvent))
    e.type = type
    e.pkt = NIL
    return e


cdef inline void net_count(Net* net, int verdict) noexcept nogil:
    """Count a verdict that is not handed to the caller."""
    if verdict != ok:
        count(net.counters, verdict)
