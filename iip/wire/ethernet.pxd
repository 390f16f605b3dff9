"""Ethernet II frames: destination, source, type (RFC 894, RFC 2464)."""
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcmp, memcpy
from iip.wire.bytes cimport load16, load32_be, load16_be, store16

cdef enum:
    ETH_HLEN = 14
    ETH_IPV4 = 0x0800
    ETH_ARP = 0x0806
    ETH_VLAN = 0x8100
    ETH_QINQ = 0x88A8
    ETH_IPV6 = 0x86DD


cdef inline uint16_t eth_type(const uint8_t* p) noexcept nogil:
    return load16(p + 12)


cdef inline const uint8_t* eth_src(const uint8_t* p) noexcept nogil:
    return p + 6


cdef inline bint eth_is_group(const uint8_t* mac) noexcept nogil:
    return mac[0] & 1


cdef inline bint eth_is_broadcast(const uint8_t* mac) noexcept nogil:
    return load32_be(mac) == 0xFFFFFFFFu and load16_be(mac + 4) == 0xFFFF


cdef inline bint eth_same(const uint8_t* a, const uint8_t* b) noexcept nogil:
    return load32_be(a) == load32_be(b) and load16_be(a + 4) == load16_be(b + 4)


cdef inline bint eth_is_station(const uint8_t* mac) noexcept nogil:
    """An address one interface can have: neither a group nor zero."""
    return not mac[0] & 1 and (load32_be(mac) | load16_be(mac + 4)) != 0


cdef inline void eth_build(uint8_t* p, const uint8_t* dst, const uint8_t* src, uint16_t ethertype) noexcept nogil:
    memcpy(p, dst, 6)
    memcpy(p + 6, src, 6)
    store16(p + 12, ethertype)


cdef inline void eth_group4(uint8_t* mac, const uint8_t* group) noexcept nogil:
    """The link-layer address of an IPv4 group (RFC 1112 §6.4)."""
    mac[0] = 0x01
    mac[1] = 0x00
    mac[2] = 0x5E
    mac[3] = group[1] & 0x7F
    mac[4] = group[2]
    mac[5] = group[3]


cdef inline void eth_group6(uint8_t* mac, const uint8_t* group) noexcept nogil:
    """The link-layer address of an IPv6 group (RFC 2464 §7)."""
    mac[0] = 0x33
    mac[1] = 0x33
    memcpy(mac + 2, group + 12, 4)
