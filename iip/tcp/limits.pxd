"""What bounds the work that strangers cause: answers per second, and the counts of connections that `tally` keeps."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.wire.rng cimport Rng, rng_below


cdef struct RateLimit:
    int64_t until                 # end of this second
    uint32_t left                 # answers left in it


cdef struct TallyEntry:
    # passive connections of one peer (an IPv4 address, an IPv6 /64) or to one local port
    uint64_t hi
    uint64_t lo
    uint32_t total                # 0: a free entry
    uint32_t half_open


cdef inline bint rate_allows(RateLimit* r, Rng* rng, int64_t now, uint32_t per_second) noexcept nogil:
    """One more answer? How many a second has is drawn anew, from half of `per_second` to one and a half, so that
    nobody learns from the answers he gets how many others got (RFC 5961 §7 as amended by CVE-2016-5696)."""
    if now >= r.until:
        r.until = now + 1000000000
        r.left = (per_second + 1) // 2 + rng_below(rng, per_second) if per_second else 0
    if r.left == 0:
        return False
    r.left -= 1
    return True
