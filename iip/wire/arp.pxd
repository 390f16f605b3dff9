"""ARP for IPv4 over Ethernet (RFC 826): 28 bytes."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy
from iip.wire.bytes cimport load16, load32, store16, store32

cdef enum:
    ARP_LEN = 28
    ARP_REQUEST = 1
    ARP_REPLY = 2


cdef inline bint arp_is_ethernet_ipv4(const uint8_t* p) noexcept nogil:
    """Hardware type 1 with 6 bytes, protocol IPv4 with 4 bytes."""
    return load32(p) == 0x00010800u and load16(p + 4) == 0x0604


cdef inline uint16_t arp_op(const uint8_t* p) noexcept nogil:
    return load16(p + 6)


cdef inline const uint8_t* arp_sender_mac(const uint8_t* p) noexcept nogil:
    return p + 8


cdef inline const uint8_t* arp_sender_ip(const uint8_t* p) noexcept nogil:
    return p + 14


cdef inline const uint8_t* arp_target_ip(const uint8_t* p) noexcept nogil:
    return p + 24


cdef inline void arp_build(uint8_t* p, uint16_t op, const uint8_t* sender_mac, const uint8_t* sender_ip,
                           const uint8_t* target_mac, const uint8_t* target_ip) noexcept nogil:
    store32(p, 0x00010800u)
    store16(p + 4, 0x0604)
    store16(p + 6, op)
    memcpy(p + 8, sender_mac, 6)
    memcpy(p + 14, sender_ip, 4)
    memcpy(p + 18, target_mac, 6)
    memcpy(p + 24, target_ip, 4)
