"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

A *sum* is the one's complement sum of 16-bit words as they lie in memory, in native order, kept in 32 bits
and not yet complemented. Byte order does not matter to it (RFC 1071 §2 (B)), so the folded result is stored
with `store16_be`, never swapped. A sum is zero only if every byte that went into it was.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from iip.wire.bytes cimport be16, be32, load16_be, load32_be

# Any alignment, any length below 16 GiB; an odd last byte counts as padded with zero.
cdef uint32_t csum_partial(const uint8_t* p, size_t n, uint32_t sum) noexcept nogil


cdef inline uint32_t csum_reduce(uint64_t wide) noexcept nogil:
    """64 bits to 32, carries added back in."""
    wide = (wide & 0xFFFFFFFFu) + (wide >> 32)
    return <uint32_t>(wide + (wide >> 32))


cdef inline uint32_t csum_add(uint32_t a, uint32_t b) noexcept nogil:
    a += b
    return a + (a < b)


cdef inline uint32_t csum_block_add(uint32_t sum, uint32_t sum2, size_t offset) noexcept nogil:
    """Join the sum of a piece that starts `offset` bytes into the whole: at an odd one its bytes have
    changed places, which a rotation by eight bits undoes."""
    if offset & 1:
        sum2 = (sum2 << 8) | (sum2 >> 24)
    return csum_add(sum, sum2)


cdef inline uint16_t csum_fold_nocompl(uint32_t sum) noexcept nogil:
    """16 bits, not complemented: what a device that finishes the checksum wants to find in its place."""
    sum = (sum >> 16) + (sum & 0xFFFF)
    return <uint16_t>(sum + (sum >> 16))


cdef inline uint16_t csum_fold(uint32_t sum) noexcept nogil:
    """The checksum field. Over data that contains a correct checksum it is 0."""
    return <uint16_t>(0xFFFF ^ csum_fold_nocompl(sum))


cdef inline uint32_t csum_small(const uint8_t* p, size_t n) noexcept nogil:
    """The sum of a header: an even number of bytes, few enough that a call would cost more."""
    cdef uint64_t wide = 0
    cdef size_t i
    for i in range(n >> 2):
        wide += load32_be(p + 4 * i)
    if n & 2:
        wide += load16_be(p + (n & ~<size_t>3))
    return csum_reduce(wide)


cdef inline uint32_t csum_pseudo4(const uint8_t* src, const uint8_t* dst, uint8_t proto,
                                  uint32_t length) noexcept nogil:
    """Pseudo-header over IPv4 (RFC 9293 §3.1, RFC 768): 4-byte addresses in network order, bytes of
    transport header and payload."""
    return csum_reduce(<uint64_t>load32_be(src) + load32_be(dst) + be16(proto) + be32(length))


cdef inline uint32_t csum_pseudo6(const uint8_t* src, const uint8_t* dst, uint8_t proto,
                                  uint32_t length) noexcept nogil:
    """Pseudo-header over IPv6 (RFC 8200 §8.1): 16-byte addresses in network order."""
    cdef uint64_t wide = <uint64_t>be16(proto) + be32(length)
    cdef int i
    for i in range(0, 16, 4):
        wide += <uint64_t>load32_be(src + i) + load32_be(dst + i)
    return csum_reduce(wide)


cdef inline uint16_t csum_update16(uint16_t check, uint16_t old, uint16_t new) noexcept nogil:
    """The checksum after a 16-bit field changed from `old` to `new`, by RFC 1624 [Eqn. 3]; all three in
    the same byte order. Not for a UDP checksum of 0, which means that there is none (RFC 768)."""
    cdef uint32_t sum = <uint32_t>(check ^ 0xFFFF) + <uint32_t>(old ^ 0xFFFF) + new
    return csum_fold(sum)


cdef inline uint16_t csum_update32(uint16_t check, uint32_t old, uint32_t new) noexcept nogil:
    """As `csum_update16` for an aligned 32-bit field, `check` being in native order if `old` and `new` were
    loaded as they lie, and in host order if they were."""
    cdef uint64_t wide = <uint64_t>(check ^ 0xFFFF) + (old ^ 0xFFFFFFFFu) + new
    return csum_fold(csum_reduce(wide))
