"""The Toeplitz hash by which devices spread packets over queues (Microsoft's "RSS Hashing Types"): both directions of a
connection get the same one with the key 0x6d5a, repeated. Since that key repeats after 16 bits, so do the windows of it that are
added up, and it is enough to hash the sum of the input's 16-bit words."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from iip.wire.bytes cimport be16

cdef enum:
    RSS_ENTRIES = 128             # of the indirection table: hash → queue, by its last bits


cdef inline uint16_t toeplitz_fold(uint64_t a, uint64_t b) noexcept nogil:
    """The sum of the 16-bit words of both, as they lie in memory."""
    a ^= b
    a ^= a >> 32
    a ^= a >> 16
    return <uint16_t>a


cdef inline uint32_t toeplitz_words(uint16_t sum_be, uint16_t port_a, uint16_t port_b) noexcept nogil:
    """The hash of addresses, whose words add up to `sum_be`, and ports (0: of the addresses alone)."""
    cdef uint32_t x = be16(sum_be) ^ port_a ^ port_b
    cdef uint32_t key = 0x6D5A6D5A, found = 0
    cdef int _i
    for _i in range(16):
        if x & 0x8000:
            found ^= key
        x <<= 1
        key = key << 1 | key >> 31
    return found


cdef inline uint32_t rss_queue(uint32_t found, uint32_t queues) noexcept nogil:
    """The queue of a hash, as by an indirection table that is filled in turn."""
    return (found & (RSS_ENTRIES - 1)) % queues
