"""Loads and stores of network-order fields at any alignment."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define IIP_BE16(x) (x)
    #define IIP_BE32(x) (x)
    #define IIP_BE64(x) (x)
    #elif defined(_MSC_VER)
    #include <stdlib.h>
    #define IIP_BE16(x) _byteswap_ushort(x)
    #define IIP_BE32(x) _byteswap_ulong(x)
    #define IIP_BE64(x) _byteswap_uint64(x)
    #else
    #define IIP_BE16(x) __builtin_bswap16(x)
    #define IIP_BE32(x) __builtin_bswap32(x)
    #define IIP_BE64(x) __builtin_bswap64(x)
    #endif
    #if defined(__GNUC__) || defined(__clang__)
    #define IIP_LIKELY(x) __builtin_expect(!!(x), 1)
    #define IIP_UNLIKELY(x) __builtin_expect(!!(x), 0)
    #define IIP_PREFETCH(p) __builtin_prefetch(p)
    #else
    #define IIP_LIKELY(x) (x)
    #define IIP_UNLIKELY(x) (x)
    #define IIP_PREFETCH(p) ((void)(p))
    #endif
    """
    uint16_t be16 "IIP_BE16"(uint16_t x) noexcept nogil
    uint32_t be32 "IIP_BE32"(uint32_t x) noexcept nogil
    uint64_t be64 "IIP_BE64"(uint64_t x) noexcept nogil
    bint likely "IIP_LIKELY"(bint x) noexcept nogil
    bint unlikely "IIP_UNLIKELY"(bint x) noexcept nogil
    void prefetch "IIP_PREFETCH"(const void* p) noexcept nogil


cdef inline void copy(uint8_t* to, const uint8_t* data, uint32_t n) noexcept nogil:
    """`memcpy`: for a short message, whose call into the library costs more than its bytes, in two words that may overlap, or
    in three bytes."""
    cdef uint64_t first, last
    cdef uint8_t middle
    if n > 16:
        memcpy(to, data, n)
    elif n >= 8:
        memcpy(&first, data, 8)
        memcpy(&last, data + n - 8, 8)
        memcpy(to, &first, 8)
        memcpy(to + n - 8, &last, 8)
    elif n >= 4:
        memcpy(&first, data, 4)
        memcpy(&last, data + n - 4, 4)
        memcpy(to, &first, 4)
        memcpy(to + n - 4, &last, 4)
    elif n:
        first, middle, last = data[0], data[n >> 1], data[n - 1]
        to[0] = <uint8_t>first
        to[n >> 1] = middle
        to[n - 1] = <uint8_t>last


cdef inline uint16_t load16(const uint8_t* p) noexcept nogil:
    cdef uint16_t x
    memcpy(&x, p, 2)
    return be16(x)


cdef inline uint32_t load32(const uint8_t* p) noexcept nogil:
    cdef uint32_t x
    memcpy(&x, p, 4)
    return be32(x)


cdef inline void store16(uint8_t* p, uint32_t value) noexcept nogil:
    cdef uint16_t x = be16(<uint16_t>value)
    memcpy(p, &x, 2)


cdef inline void store32(uint8_t* p, uint32_t value) noexcept nogil:
    cdef uint32_t x = be32(value)
    memcpy(p, &x, 4)


cdef inline uint16_t load16_be(const uint8_t* p) noexcept nogil:
    """As it lies on the wire: only for copying and comparing."""
    cdef uint16_t x
    memcpy(&x, p, 2)
    return x


cdef inline uint32_t load32_be(const uint8_t* p) noexcept nogil:
    cdef uint32_t x
    memcpy(&x, p, 4)
    return x


cdef inline uint64_t load64_be(const uint8_t* p) noexcept nogil:
    cdef uint64_t x
    memcpy(&x, p, 8)
    return x


cdef inline void store16_be(uint8_t* p, uint16_t x_be) noexcept nogil:
    memcpy(p, &x_be, 2)
