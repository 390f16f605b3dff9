"""A bounded store of keys and values with least-recently-used eviction, as memcached's."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    KEY_MAX = 250
    KEY_WORDS = 33


cdef struct Item:
    Item* chain                   # in its bucket
    Item* newer                   # by use
    Item* older
    uint64_t cas
    int64_t expires               # seconds since 1970; 0: never
    int64_t used_at
    uint64_t hash
    uint32_t flags
    uint32_t n                    # bytes of the value
    uint8_t key_len
    bint fetched
    # key, value and two bytes for CR LF follow


cdef inline uint8_t* item_key(Item* i) noexcept nogil:
    return <uint8_t*>i + sizeof(Item)


cdef inline uint8_t* item_value(Item* i) noexcept nogil:
    return <uint8_t*>i + sizeof(Item) + i.key_len


cdef struct Cache:
    Item** buckets
    uint64_t mask
    uint64_t key[2]
    Item* newest
    Item* oldest
    uint64_t limit                # bytes
    uint64_t bytes
    uint64_t items
    uint64_t next_cas
    int64_t offset                # of the clock, s
    uint64_t evictions
    uint64_t expired
    uint64_t refused              # items for which there was no memory


cdef bint cache_init(Cache* c, uint64_t limit, uint64_t seed) noexcept nogil
cdef void cache_fini(Cache* c) noexcept nogil
cdef int64_t cache_now(Cache* c) noexcept nogil
cdef Item* cache_find(Cache* c, const uint8_t* key, uint32_t n, bint touch) noexcept nogil
cdef Item* cache_new(Cache* c, const uint8_t* key, uint32_t key_len, uint32_t n) noexcept nogil
cdef void cache_drop(Cache* c, Item* i) noexcept nogil
cdef void cache_link(Cache* c, Item* i) noexcept nogil
cdef void cache_remove(Cache* c, Item* i) noexcept nogil
cdef void cache_clear(Cache* c) noexcept nogil
