"""What the network layer shares with the layers above it."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from iip.memory.pool cimport Pool
from iip.wire.bytes cimport be64, load32
from iip.wire.rng cimport Rng

cdef enum:
    PROTO_ICMP = 1
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_ICMP6 = 58

cdef enum:
    # Capabilities of a driver: what the device does, so that the engine need not
    CAP_RX_IP_CSUM = 0x01         # received packets come with PKT_RX_IP_CSUM_OK where that was checked
    CAP_RX_L4_CSUM = 0x02
    CAP_TX_IP_CSUM = 0x04         # completes PKT_TX_IP_CSUM
    CAP_TX_L4_CSUM = 0x08         # completes PKT_TX_L4_CSUM
    CAP_SG = 0x10                 # sends chains
    CAP_TSO4 = 0x20
    CAP_TSO6 = 0x40
    CAP_LRO = 0x80                # may hand in segments larger than the MTU

cdef enum:
    MEDIUM_IP = 0
    MEDIUM_ETHERNET = 1


cdef struct Addr:
    # 16 bytes in wire order; IPv4 is mapped (::ffff:a.b.c.d, RFC 4291 §2.5.5.2)
    uint64_t hi
    uint64_t lo


cdef inline uint8_t* addr_bytes(const Addr* a) noexcept nogil:
    return <uint8_t*>a


cdef inline bint addr_eq(const Addr* a, const Addr* b) noexcept nogil:
    return ((a.hi ^ b.hi) | (a.lo ^ b.lo)) == 0


cdef inline void addr_from4(Addr* a, const uint8_t* p) noexcept nogil:
    a.hi = 0
    a.lo = be64(<uint64_t>0x0000FFFF00000000 | load32(p))


cdef inline void addr_from6(Addr* a, const uint8_t* p) noexcept nogil:
    memcpy(a, p, 16)


cdef inline bint addr_is4(const Addr* a) noexcept nogil:
    return a.hi == 0 and be64(a.lo) >> 32 == 0x0000FFFF


cdef inline const uint8_t* addr_v4(const Addr* a) noexcept nogil:
    """The four bytes of a mapped IPv4 address."""
    return <const uint8_t*>a + 12


cdef struct Flow:
    # A resolved way to a peer, kept by whoever sends there again and again. `net_route` fills it.
    Addr src
    Addr dst
    uint32_t neigh                # neighbour entry of the next hop; NIL on a bare-IP medium
    uint32_t pseudo               # checksum over both addresses, the constant part of the pseudo-header
    uint32_t route_gen            # stale when it differs from Net.route_gen: routed again on the next send
    uint16_t mtu                  # path MTU, bytes
    uint8_t version               # 4 or 6
    uint8_t ttl
    uint8_t tos                   # DSCP and ECN
    uint8_t df                    # IPv4: do not fragment


cdef struct IpRx:
    # A validated IP packet on its way to the transport; filled by `net_input`.
    Addr src
    Addr dst
    uint32_t pkt                  # head of the chain; `off` is at the IP header until the transport pulls it
    uint8_t proto
    uint8_t ttl
    uint8_t tos
    uint8_t version
    uint32_t l4_off               # of the transport header, from the start of the packet's data
    uint32_t l4_len               # transport header and payload, bytes (over the whole chain)
    bint multicast                # destination is a group or broadcast address (IP or link layer)


cdef struct IcmpError:
    # An ICMP error about a packet of ours, after validation of the quotation; for the transport.
    Addr src                      # of the quoted packet: one of our addresses
    Addr dst
    Addr reporter
    uint8_t version
    uint8_t type
    uint8_t code
    uint8_t proto                 # of the quoted packet
    uint32_t mtu                  # of a "too big" message; 0 if it did not say
    uint16_t src_port             # quoted, host order
    uint16_t dst_port
    uint32_t seq                  # TCP: quoted sequence number
    uint32_t quoted               # quoted transport bytes
