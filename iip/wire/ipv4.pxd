"""The IPv4 header (RFC 791)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from iip.wire.bytes cimport load16, load32_be, store16, store16_be
from iip.wire.checksum cimport csum_fold, csum_reduce

cdef enum:
    IP4_HLEN = 20
    IP4_HLEN_MAX = 60
    IP4_DF = 0x4000
    IP4_MF = 0x2000
    IP4_OFFSET = 0x1FFF           # in units of 8 bytes
    IP4OPT_END = 0
    IP4OPT_NOP = 1
    IP4OPT_LSRR = 131             # loose and strict source route
    IP4OPT_SSRR = 137
    IP4OPT_ROUTER_ALERT = 148     # RFC 2113


cdef inline uint8_t ip_version(const uint8_t* p) noexcept nogil:
    return p[0] >> 4


cdef inline uint32_t ip4_hlen(const uint8_t* p) noexcept nogil:
    return (p[0] & 15) * 4


cdef inline uint16_t ip4_total_len(const uint8_t* p) noexcept nogil:
    return load16(p + 2)


cdef inline uint16_t ip4_frag(const uint8_t* p) noexcept nogil:
    """Flags and fragment offset."""
    return load16(p + 6)


cdef inline uint16_t ip4_sum20(const uint8_t* p) noexcept nogil:
    """The checksum over a header without options: 0 if it contains a correct one."""
    return csum_fold(csum_reduce(<uint64_t>load32_be(p) + load32_be(p + 4) + load32_be(p + 8)
                                 + load32_be(p + 12) + load32_be(p + 16)))


cdef inline void ip4_build(uint8_t* p, uint8_t tos, uint16_t total_len, uint16_t ident, uint16_t frag,
                           uint8_t ttl, uint8_t proto, const uint8_t* src, const uint8_t* dst) noexcept nogil:
    """A header without options; the checksum field is 0, `ip4_store_sum` fills it."""
    p[0] = 0x45
    p[1] = tos
    store16(p + 2, total_len)
    store16(p + 4, ident)
    store16(p + 6, frag)
    p[8] = ttl
    p[9] = proto
    store16(p + 10, 0)
    memcpy(p + 12, src, 4)
    memcpy(p + 16, dst, 4)


cdef inline void ip4_store_sum(uint8_t* p) noexcept nogil:
    """Of a header without options whose checksum field is 0."""
    store16_be(p + 10, ip4_sum20(p))
