"""The random numbers of a stack: a generator that was given its seed (xoshiro256**), and a keyed
hash (SipHash-2-4) for what a stranger must not predict."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct Rng:
    uint64_t s[4]


cdef inline uint64_t rotl64(uint64_t x, int k) noexcept nogil:
    return (x << k) | (x >> (64 - k))


cdef inline uint64_t splitmix64(uint64_t* state) noexcept nogil:
    cdef uint64_t z
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    z = state[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline void rng_seed(Rng* r, uint64_t seed) noexcept nogil:
    cdef int i
    for i in range(4):
        r.s[i] = splitmix64(&seed)


cdef inline uint64_t rng_next(Rng* r) noexcept nogil:
    cdef uint64_t result = rotl64(r.s[1] * 5, 7) * 9
    cdef uint64_t t = r.s[1] << 17
    r.s[2] ^= r.s[0]
    r.s[3] ^= r.s[1]
    r.s[1] ^= r.s[2]
    r.s[0] ^= r.s[3]
    r.s[2] ^= t
    r.s[3] = rotl64(r.s[3], 45)
    return result


cdef inline uint32_t rng_below(Rng* r, uint32_t n) noexcept nogil:
    """Uniform in [0, n)."""
    return <uint32_t>(((rng_next(r) >> 32) * <uint64_t>n) >> 32)


cdef inline void _sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[1] = rotl64(v[1], 13) ^ v[0]
    v[0] = rotl64(v[0], 32)
    v[2] += v[3]
    v[3] = rotl64(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = rotl64(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = rotl64(v[1], 17) ^ v[2]
    v[2] = rotl64(v[2], 32)


cdef inline uint64_t siphash_words(const uint64_t* words, int n, uint64_t k0, uint64_t k1) noexcept nogil:
    """SipHash-2-4 of `n` 64-bit words under the key (k0, k1)."""
    cdef uint64_t v[4]
    cdef int i, _i
    v[0] = k0 ^ <uint64_t>0x736F6D6570736575
    v[1] = k1 ^ <uint64_t>0x646F72616E646F6D
    v[2] = k0 ^ <uint64_t>0x6C7967656E657261
    v[3] = k1 ^ <uint64_t>0x7465646279746573
    for i in range(n):
        v[3] ^= words[i]
        _sip_round(v)
        _sip_round(v)
        v[0] ^= words[i]
    v[3] ^= (<uint64_t>n * 8) << 56
    _sip_round(v)
    _sip_round(v)
    v[0] ^= (<uint64_t>n * 8) << 56
    v[2] ^= 0xFF
    for _i in range(4):
        _sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
