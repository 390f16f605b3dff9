"""UDP (RFC 768): eight bytes."""
from libc.stdint cimport uint8_t, uint16_t
from iip.wire.bytes cimport load16, store16

cdef enum:
    UDP_HLEN = 8
    UDP_CSUM = 6                  # offset of the checksum


cdef inline uint16_t udp_sport(const uint8_t* p) noexcept nogil:
    return load16(p)


cdef inline uint16_t udp_dport(const uint8_t* p) noexcept nogil:
    return load16(p + 2)


cdef inline uint16_t udp_len(const uint8_t* p) noexcept nogil:
    return load16(p + 4)


cdef inline void udp_build(uint8_t* p, uint16_t sport, uint16_t dport, uint16_t length) noexcept nogil:
    """The checksum field is 0."""
    store16(p, sport)
    store16(p + 2, dport)
    store16(p + 4, length)
    store16(p + 6, 0)
