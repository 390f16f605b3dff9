"""The Internet checksum (RFC 1071, RFC 1624) of bytes-like objects; checksum.pxd has it for C callers.

Values are those a hex dump shows: the two bytes of the field read in network order.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

# How it gets fast: words of 64 bits are added lane by lane, once whole (modulo 2**64, `all`) and once by
# their upper half alone (`high`). The lower halves are then `all - (high << 32)`: three vector operations
# per load and no carry. Since 2**32 = 1 modulo 2**16 - 1, lower and upper halves are simply added up in the
# end, exactly as long as there are fewer than 2**32 of them: below 16 GiB.
cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* One's complement addition of 64-bit words: the carry comes back in at the bottom. */
    #define IIP_ADDC(total, x) do { (total) += (x); (total) += (total) < (x); } while (0)

    static inline uint32_t iip_csum_tail(const uint8_t *p, size_t n, uint64_t total)
    {
        uint64_t w8;
        uint32_t w4;
        uint16_t w2;
        for (; n >= 8; p += 8, n -= 8) {
            memcpy(&w8, p, 8);
            IIP_ADDC(total, w8);
        }
        w8 = 0;
        if (n & 4) {
            memcpy(&w4, p, 4);
            w8 += w4;
            p += 4;
        }
        if (n & 2) {
            memcpy(&w2, p, 2);
            w8 += w2;
            p += 2;
        }
        if (n & 1) {
            w2 = 0;
            memcpy(&w2, p, 1);
            w8 += w2;
        }
        IIP_ADDC(total, w8);
        total = (total & 0xffffffffu) + (total >> 32);
        return (uint32_t)(total + (total >> 32));
    }

    static inline uint64_t iip_read_tail(const uint8_t *p, size_t n, uint64_t sum)
    {
        uint64_t w8;
        for (; n >= 8; p += 8, n -= 8) {
            memcpy(&w8, p, 8);
            sum += w8;
        }
        return sum;
    }

    #if defined(__GNUC__)
    typedef uint64_t iip_v2 __attribute__((vector_size(16)));
    typedef uint64_t iip_v4 __attribute__((vector_size(32)));

    #define IIP_CSUM_TAKE(i) do { \\
            memcpy(&x, p + (i) * sizeof x, sizeof x); \\
            all##i += x; \\
            high##i += x >> 32; \\
        } while (0)

    /* A macro, so that each instruction set gets a body of its own to compile. */
    #define IIP_CSUM_DEFINE(name, vector, lanes) \\
    static uint32_t name(const uint8_t *p, size_t n, uint32_t sum) \\
    { \\
        uint64_t total = sum; \\
        if (n >= sizeof(vector)) { \\
            vector x, all0 = {0}, all1 = {0}, all2 = {0}, all3 = {0}; \\
            vector high0 = {0}, high1 = {0}, high2 = {0}, high3 = {0}; \\
            int i; \\
            for (; n >= 4 * sizeof x; p += 4 * sizeof x, n -= 4 * sizeof x) { \\
                IIP_CSUM_TAKE(0); \\
                IIP_CSUM_TAKE(1); \\
                IIP_CSUM_TAKE(2); \\
                IIP_CSUM_TAKE(3); \\
            } \\
            all0 += all2; \\
            high0 += high2; \\
            if (n >= 2 * sizeof x) { \\
                IIP_CSUM_TAKE(0); \\
                IIP_CSUM_TAKE(1); \\
                p += 2 * sizeof x; \\
                n -= 2 * sizeof x; \\
            } \\
            if (n >= sizeof x) { \\
                IIP_CSUM_TAKE(0); \\
                p += sizeof x; \\
                n -= sizeof x; \\
            } \\
            all0 += all1 + all3; \\
            high0 += high1 + high3; \\
            all0 -= (high0 << 32) - high0; \\
            for (i = 1; i < lanes; i++) \\
                all0[0] += all0[i]; \\
            IIP_ADDC(total, all0[0]); \\
        } \\
        return iip_csum_tail(p, n, total); \\
    }

    /* What benchmarks compare with: merely reading the same words, as fast as the same vectors can. */
    #define IIP_READ_DEFINE(name, vector, lanes) \\
    static uint64_t name(const uint8_t *p, size_t n, uint64_t sum) \\
    { \\
        vector x, all0 = {0}, all1 = {0}, all2 = {0}, all3 = {0}; \\
        int i; \\
        for (; n >= 4 * sizeof x; p += 4 * sizeof x, n -= 4 * sizeof x) { \\
            IIP_READ_TAKE(0); \\
            IIP_READ_TAKE(1); \\
            IIP_READ_TAKE(2); \\
            IIP_READ_TAKE(3); \\
        } \\
        for (; n >= sizeof x; p += sizeof x, n -= sizeof x) \\
            IIP_READ_TAKE(0); \\
        all0 += all1 + all2 + all3; \\
        for (i = 0; i < lanes; i++) \\
            sum += all0[i]; \\
        return iip_read_tail(p, n, sum); \\
    }

    #define IIP_READ_TAKE(i) do { \\
            memcpy(&x, p + (i) * sizeof x, sizeof x); \\
            all##i += x; \\
        } while (0)

    IIP_CSUM_DEFINE(iip_csum_generic, iip_v2, 2)
    IIP_READ_DEFINE(iip_read_generic, iip_v2, 2)
    #if defined(__x86_64__)
    __attribute__((target("avx2")))
    IIP_CSUM_DEFINE(iip_csum_avx2, iip_v4, 4)
    __attribute__((target("avx2")))
    IIP_READ_DEFINE(iip_read_avx2, iip_v4, 4)
    #endif
    #else
    static uint32_t iip_csum_generic(const uint8_t *p, size_t n, uint32_t sum)
    {
        return iip_csum_tail(p, n, sum);
    }

    static uint64_t iip_read_generic(const uint8_t *p, size_t n, uint64_t sum)
    {
        return iip_read_tail(p, n, sum);
    }
    #endif

    /* Chosen once, at import. */
    static uint32_t (*iip_csum)(const uint8_t *, size_t, uint32_t) = iip_csum_generic;
    static uint64_t (*iip_read)(const uint8_t *, size_t, uint64_t) = iip_read_generic;

    static const char *iip_csum_choose(int plain)
    {
        iip_csum = iip_csum_generic;
        iip_read = iip_read_generic;
    #if defined(__GNUC__) && defined(__x86_64__)
        if (!plain && __builtin_cpu_supports("avx2")) {
            iip_csum = iip_csum_avx2;
            iip_read = iip_read_avx2;
            return "avx2";
        }
    #else
        (void)plain;
    #endif
        return "generic";
    }
    """
    uint32_t iip_csum(const uint8_t* p, size_t n, uint32_t sum) noexcept nogil
    const char* iip_csum_choose(bint plain) noexcept nogil
    uint64_t iip_read(const uint8_t* p, size_t n, uint64_t sum) noexcept nogil


cdef uint32_t csum_partial(const uint8_t* p, size_t n, uint32_t sum) noexcept nogil:
    return iip_csum(p, n, sum)


iip_csum_choose(False)


cdef int _get(object buffer, Py_buffer* view) except -1:
    try:
        return PyObject_GetBuffer(buffer, view, PyBUF_SIMPLE)
    except (BufferError, ValueError) as error:
        raise ValueError("buffer is not C-contiguous: pass a contiguous copy, e.g. bytes(buffer)") from error


cdef uint32_t _sum_long(const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t limit = 1 << 30
    cdef uint32_t sum = 0
    while n > limit:
        sum = csum_partial(p, limit, sum)
        p += limit
        n -= limit
    return csum_partial(p, n, sum)


cdef uint32_t _sum(object buffer, uint32_t sum, size_t offset) except? 0xFFFFFFFFu:
    cdef Py_buffer view
    cdef uint32_t piece
    _get(buffer, &view)
    if view.len >= 65536:
        with nogil:
            piece = _sum_long(<const uint8_t*>view.buf, view.len)
    else:
        piece = csum_partial(<const uint8_t*>view.buf, view.len, 0)
    piece = csum_block_add(sum, piece, offset)
    PyBuffer_Release(&view)
    return piece


cdef uint32_t _number(object value, str name, uint32_t highest) except? 0xFFFFFFFFu:
    if not 0 <= value <= highest:
        raise ValueError(f"{name} is {value}, but must be between 0 and {highest:#x}")
    return value


def checksum(buffer, initial=0):
    """The Internet checksum of `buffer` (RFC 1071), complemented, as an int from 0 to 0xffff.

    `initial` is a sum to start from, such as `pseudo_header(...)`. Over data that includes a correct
    checksum the result is 0. UDP sends 0xffff where the result is 0 (RFC 768).

    Raises ValueError if the buffer is not C-contiguous or `initial` is not a 32-bit number, TypeError if
    `buffer` is not bytes-like.
    """
    return checksum_chain((buffer,), initial)


def checksum_chain(buffers, initial=0):
    """As `checksum`, of several pieces as if they lay one behind the other; they may have odd lengths."""
    cdef uint32_t sum = be16(csum_fold_nocompl(_number(initial, "initial", 0xFFFFFFFFu)))
    cdef size_t offset = 0
    for buffer in buffers:
        sum = _sum(buffer, sum, offset)
        offset += memoryview(buffer).nbytes
    return be16(csum_fold(sum))


def pseudo_header(src, dst, proto, length):
    """The sum, not complemented, of the pseudo-header of TCP, UDP (RFC 9293 §3.1, RFC 768) and ICMPv6
    (RFC 8200 §8.1), for use as `initial` of `checksum`.

    `src` and `dst` are addresses as bytes, both of 4 or both of 16; `proto` is the protocol number and
    `length` the bytes of transport header and payload. Raises ValueError for anything else.
    """
    cdef const uint8_t* s
    cdef const uint8_t* d
    cdef uint32_t p = _number(proto, "proto", 0xFF)
    cdef uint32_t n
    cdef bytes src_bytes = bytes(memoryview(src))
    cdef bytes dst_bytes = bytes(memoryview(dst))
    s = src_bytes
    d = dst_bytes
    if len(src_bytes) == 4 and len(dst_bytes) == 4:
        n = _number(length, "length", 0xFFFF)
        return be16(csum_fold_nocompl(csum_pseudo4(s, d, <uint8_t>p, n)))
    if len(src_bytes) == 16 and len(dst_bytes) == 16:
        n = _number(length, "length", 0xFFFFFFFFu)
        return be16(csum_fold_nocompl(csum_pseudo6(s, d, <uint8_t>p, n)))
    raise ValueError(f"src has {len(src_bytes)} bytes and dst {len(dst_bytes)}: "
                     "both must have 4 (IPv4) or both 16 (IPv6)")


def update(check, old, new):
    """The checksum that follows from `check` when a 16-bit field changes from `old` to `new`
    (RFC 1624 [Eqn. 3]). Raises ValueError if one of them is not a 16-bit number."""
    return csum_update16(<uint16_t>_number(check, "check", 0xFFFF), <uint16_t>_number(old, "old", 0xFFFF),
                         <uint16_t>_number(new, "new", 0xFFFF))


def update32(check, old, new):
    """As `update`, for a 32-bit field that starts at an even offset, such as an IPv4 address."""
    return csum_update32(<uint16_t>_number(check, "check", 0xFFFF), _number(old, "old", 0xFFFFFFFFu),
                         _number(new, "new", 0xFFFFFFFFu))


def _small(buffer):
    """`csum_small` of a buffer of even length, complemented: for tests."""
    cdef const uint8_t[::1] view = buffer
    return be16(csum_fold(csum_small(&view[0], view.shape[0]))) if view.shape[0] else 0xFFFF


def _choose(plain):
    """Use the code for any processor (`plain`) or the best one for this; which one it was. For tests."""
    return iip_csum_choose(plain).decode()


def _repeat(buffer, Py_ssize_t times, bint read):
    """Checksum `buffer`, or merely `read` its 64-bit words, this many times: for benchmarks."""
    cdef const uint8_t[::1] view = buffer
    cdef const uint8_t* p = &view[0]
    cdef size_t n = view.shape[0]
    cdef uint64_t words = 0
    cdef uint32_t sum = 0
    cdef Py_ssize_t _i
    with nogil:
        if read:
            for _i in range(times):
                words = iip_read(p, n, words)
        else:
            for _i in range(times):
                sum = csum_partial(p, n, sum)
    return words + sum
