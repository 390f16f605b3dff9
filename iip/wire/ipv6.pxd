"""The IPv6 header and its extension headers (RFC 8200)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy
from iip.wire.bytes cimport load16, load32, store16, store32

cdef enum:
    IP6_HLEN = 40
    IP6_MIN_MTU = 1280
    IP6_HOP_BY_HOP = 0
    IP6_ROUTING = 43
    IP6_FRAGMENT = 44
    IP6_NO_NEXT = 59
    IP6_DESTINATION = 60
    IP6_FRAG_HLEN = 8
    IP6OPT_PAD1 = 0
    IP6OPT_PADN = 1
    IP6OPT_ROUTER_ALERT = 5       # RFC 2711


cdef inline uint16_t ip6_payload_len(const uint8_t* p) noexcept nogil:
    return load16(p + 4)


cdef inline uint8_t ip6_next(const uint8_t* p) noexcept nogil:
    return p[6]


cdef inline uint8_t ip6_hops(const uint8_t* p) noexcept nogil:
    return p[7]


cdef inline uint8_t ip6_class(const uint8_t* p) noexcept nogil:
    return <uint8_t>(load16(p) >> 4)


cdef inline uint16_t ip6_frag_field(const uint8_t* p) noexcept nogil:
    """Of a fragment header: offset in bytes (a multiple of 8), reserved bits, and M in bit 0."""
    return load16(p + 2)


cdef inline uint32_t ip6_frag_ident(const uint8_t* p) noexcept nogil:
    return load32(p + 4)


cdef inline void ip6_build(uint8_t* p, uint8_t traffic_class, uint32_t flow_label, uint16_t payload_len,
                           uint8_t next_header, uint8_t hops, const void* src, const void* dst) noexcept nogil:
    store32(p, 0x60000000u | <uint32_t>traffic_class << 20 | flow_label)
    store16(p + 4, payload_len)
    p[6] = next_header
    p[7] = hops
    memcpy(p + 8, src, 16)
    memcpy(p + 24, dst, 16)


cdef inline void ip6_frag_build(uint8_t* p, uint8_t next_header, uint32_t offset, bint more,
                                uint32_t ident) noexcept nogil:
    p[0] = next_header
    p[1] = 0
    store16(p + 2, offset | more)
    store32(p + 4, ident)
