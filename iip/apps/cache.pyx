"""A bounded store of keys and values with least-recently-used eviction: see cache.pxd. It belongs to one thread."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from libc.time cimport time
from iip.wire.rng cimport siphash_words


cdef bint cache_init(Cache* c, uint64_t limit, uint64_t seed) noexcept nogil:
    """A store of up to `limit` bytes, items' heads included. False: no memory."""
    cdef uint64_t n = 1024
    memset(c, 0, sizeof(Cache))
    while n < limit // 256:
        n *= 2
    c.buckets = <Item**>calloc(n, sizeof(Item*))
    c.mask = n - 1
    c.limit = limit
    c.key[0] = seed
    c.key[1] = seed * <uint64_t>0x9E3779B97F4A7C15 + 1
    return c.buckets != NULL


cdef void cache_fini(Cache* c) noexcept nogil:
    if c.buckets != NULL:
        cache_clear(c)
        free(c.buckets)
        c.buckets = NULL


cdef int64_t cache_now(Cache* c) noexcept nogil:
    """Seconds since 1970."""
    return <int64_t>time(NULL) + c.offset


cdef inline uint64_t _size(uint32_t key_len, uint32_t n) noexcept nogil:
    return sizeof(Item) + key_len + n + 2


cdef uint64_t _hash(Cache* c, const uint8_t* key, uint32_t n) noexcept nogil:
    """Keyed: nobody can choose keys that fall into one bucket."""
    cdef uint64_t words[KEY_WORDS]
    words[0] = n
    words[(n + 7) // 8] = 0
    memset(&words[1 + n // 8], 0, 8)
    memcpy(&words[1], key, n)
    return siphash_words(words, 1 + (n + 7) // 8, c.key[0], c.key[1])


cdef void _unlink(Cache* c, Item* i) noexcept nogil:
    if i.newer != NULL:
        i.newer.older = i.older
    else:
        c.newest = i.older
    if i.older != NULL:
        i.older.newer = i.newer
    else:
        c.oldest = i.newer


cdef void _newest(Cache* c, Item* i) noexcept nogil:
    i.newer = NULL
    i.older = c.newest
    if c.newest != NULL:
        c.newest.newer = i
    else:
        c.oldest = i
    c.newest = i


cdef Item* cache_find(Cache* c, const uint8_t* key, uint32_t n, bint touch) noexcept nogil:
    """The item of a key, NULL if there is none (any more). touch: it was used."""
    cdef uint64_t h = _hash(c, key, n)
    cdef Item* i = c.buckets[h & c.mask]
    while i != NULL and not (i.hash == h and i.key_len == n and memcmp(item_key(i), key, n) == 0):
        i = i.chain
    if i == NULL:
        return NULL
    if i.expires and i.expires <= cache_now(c):
        c.expired += 1
        cache_remove(c, i)
        return NULL
    if touch and c.newest != i:
        _unlink(c, i)
        _newest(c, i)
    return i


cdef Item* cache_new(Cache* c, const uint8_t* key, uint32_t key_len, uint32_t n) noexcept nogil:
    """An item to fill and link, for which others give way. NULL: too large, or the system has no memory."""
    cdef uint64_t need = _size(key_len, n)
    cdef Item* i
    while c.bytes + need > c.limit and c.oldest != NULL:
        c.evictions += 1
        cache_remove(c, c.oldest)
    i = <Item*>malloc(need) if c.bytes + need <= c.limit else NULL
    if i == NULL:
        c.refused += 1
        return NULL
    memset(i, 0, sizeof(Item))
    c.bytes += need
    i.key_len, i.n = <uint8_t>key_len, n
    memcpy(item_key(i), key, key_len)
    i.hash = _hash(c, key, key_len)
    return i


cdef void cache_drop(Cache* c, Item* i) noexcept nogil:
    """Free an item that is not linked."""
    c.bytes -= _size(i.key_len, i.n)
    free(i)


cdef void cache_link(Cache* c, Item* i) noexcept nogil:
    """Into the store. The caller has removed another one of the same key."""
    c.next_cas += 1
    i.cas = c.next_cas
    i.used_at = cache_now(c)
    i.chain = c.buckets[i.hash & c.mask]
    c.buckets[i.hash & c.mask] = i
    _newest(c, i)
    c.items += 1


cdef void cache_remove(Cache* c, Item* i) noexcept nogil:
    cdef Item** at = &c.buckets[i.hash & c.mask]
    while at[0] != i:
        at = &at[0].chain
    at[0] = i.chain
    _unlink(c, i)
    c.items -= 1
    cache_drop(c, i)


cdef void cache_clear(Cache* c) noexcept nogil:
    while c.oldest != NULL:
        cache_remove(c, c.oldest)
