"""ICMP (RFC 792), ICMPv6 (RFC 4443), neighbour discovery (RFC 4861) and group membership (RFC 3376, 3810)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset, memcpy
from iip.wire.bytes cimport load16, load32, store16, store32

cdef enum:
    ICMP_HLEN = 8
    ICMP4_ECHO_REPLY = 0
    ICMP4_UNREACHABLE = 3
    ICMP4_SOURCE_QUENCH = 4
    ICMP4_REDIRECT = 5
    ICMP4_ECHO = 8
    ICMP4_ROUTER_ADVERT = 9
    ICMP4_ROUTER_SOLICIT = 10
    ICMP4_TIME_EXCEEDED = 11
    ICMP4_PARAM_PROBLEM = 12

    ICMP4_HOST_UNREACHABLE = 1    # codes of unreachable
    ICMP4_PROTO_UNREACHABLE = 2
    ICMP4_PORT_UNREACHABLE = 3
    ICMP4_FRAG_NEEDED = 4

    ICMP6_UNREACHABLE = 1
    ICMP6_TOO_BIG = 2
    ICMP6_TIME_EXCEEDED = 3
    ICMP6_PARAM_PROBLEM = 4
    ICMP6_ECHO = 128
    ICMP6_ECHO_REPLY = 129
    ICMP6_MLD_QUERY = 130
    ICMP6_MLD_REPORT1 = 131
    ICMP6_MLD_DONE = 132
    ICMP6_ROUTER_SOLICIT = 133
    ICMP6_ROUTER_ADVERT = 134
    ICMP6_NEIGHBOUR_SOLICIT = 135
    ICMP6_NEIGHBOUR_ADVERT = 136
    ICMP6_REDIRECT = 137
    ICMP6_MLD_REPORT2 = 143

    ICMP6_ADDR_UNREACHABLE = 3    # codes of unreachable
    ICMP6_PORT_UNREACHABLE = 4
    ICMP6_BAD_FIELD = 0           # codes of parameter problem
    ICMP6_BAD_HEADER = 1
    ICMP6_BAD_OPTION = 2

    TIME_EXCEEDED_REASSEMBLY = 1  # a code in both versions

    ND_LEN = 24                   # solicitation or advertisement without options
    ND_OPT_SOURCE_LLADDR = 1
    ND_OPT_TARGET_LLADDR = 2
    ND_ROUTER = 0x80              # flags of an advertisement
    ND_SOLICITED = 0x40
    ND_OVERRIDE = 0x20

    IGMP_QUERY = 0x11
    IGMP_REPORT3 = 0x22
    GROUP_IS_EXCLUDE = 2          # record types, the same in IGMPv3 and MLDv2
    GROUP_TO_INCLUDE = 3
    GROUP_TO_EXCLUDE = 4


cdef inline void icmp_build(uint8_t* p, uint8_t type, uint8_t code, uint32_t rest) noexcept nogil:
    """The first eight bytes, checksum 0; `rest` is the second word."""
    p[0] = type
    p[1] = code
    store16(p + 2, 0)
    store32(p + 4, rest)


cdef inline uint16_t icmp_ident(const uint8_t* p) noexcept nogil:
    return load16(p + 4)


cdef inline uint16_t icmp_seq(const uint8_t* p) noexcept nogil:
    return load16(p + 6)


cdef inline const uint8_t* nd_target(const uint8_t* p) noexcept nogil:
    return p + 8


cdef inline uint32_t nd_build(uint8_t* p, uint8_t type, uint8_t flags, const void* target, uint8_t option,
                              const uint8_t* mac) noexcept nogil:
    """A solicitation or advertisement, with a link-layer address option unless `mac` is NULL; its length."""
    icmp_build(p, type, 0, <uint32_t>flags << 24)
    memcpy(p + 8, target, 16)
    if mac == NULL:
        return ND_LEN
    p[24] = option
    p[25] = 1
    memcpy(p + 26, mac, 6)
    return ND_LEN + 8
