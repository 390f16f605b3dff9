"""A ring between two threads, one producing and one consuming, without locks and without copies.

The producer writes elements where they will lie (`ring_reserve`) and publishes them (`ring_commit`); the
consumer reads them there (`ring_peek`) and gives the room back (`ring_release`). Indexes run freely modulo
the word size; the capacity is a power of two. Each side keeps a copy of the other's index and looks at the
real one only if the copy does not suffice, so that mostly no cache line travels.

Both indexes are in the struct, so both threads are of one process, even if the elements lie in memory that
other processes see. With elements of one byte the ring is a byte stream.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #if !defined(__GNUC__)
    #error "iip.memory.ring needs the __atomic builtins of gcc or clang"
    #endif
    #define IIP_LOAD_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define IIP_LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define IIP_STORE_RELAXED(p, x) __atomic_store_n((p), (x), __ATOMIC_RELAXED)
    #define IIP_STORE_RELEASE(p, x) __atomic_store_n((p), (x), __ATOMIC_RELEASE)
    """
    size_t load_relaxed "IIP_LOAD_RELAXED"(size_t* p) noexcept nogil
    size_t load_acquire "IIP_LOAD_ACQUIRE"(size_t* p) noexcept nogil
    void store_relaxed "IIP_STORE_RELAXED"(size_t* p, size_t x) noexcept nogil
    void store_release "IIP_STORE_RELEASE"(size_t* p, size_t x) noexcept nogil


# 128 bytes apart, whatever the alignment of the struct: processors fetch lines in pairs.
cdef struct SpscRing:
    # set once
    uint8_t* data
    size_t capacity               # elements
    size_t elem_size              # bytes
    bint owned                    # whether `data` is ours to free
    uint8_t _pad0[128]
    # the producer's
    size_t tail                   # elements ever committed
    size_t head_seen              # no later than the real `head`
    size_t full                   # reservations that found no room
    uint8_t _pad1[128]
    # the consumer's
    size_t head                   # elements ever released
    size_t tail_seen
    uint8_t _pad2[128]


cdef inline size_t ring_reserve(SpscRing* r, size_t n, uint8_t** ptr) noexcept nogil:
    """Producer: where to write the next elements. Up to `n`, as many as there is room for and as lie
    together: a ring has one place where it wraps. 0 (counted in `full`) if there is no room."""
    cdef size_t tail = r.tail
    cdef size_t room = r.capacity - (tail - r.head_seen)
    cdef size_t at = tail & (r.capacity - 1)
    if room < n:
        r.head_seen = load_acquire(&r.head)
        room = r.capacity - (tail - r.head_seen)
        if room == 0:
            store_relaxed(&r.full, r.full + 1)
            return 0
        if n > room:
            n = room
    if n > r.capacity - at:
        n = r.capacity - at
    ptr[0] = r.data + at * r.elem_size
    return n


cdef inline void ring_commit(SpscRing* r, size_t n) noexcept nogil:
    """Producer: publish the first `n` of the reserved elements."""
    store_release(&r.tail, r.tail + n)


cdef inline size_t ring_peek(SpscRing* r, size_t n, uint8_t** ptr) noexcept nogil:
    """Consumer: where the next elements are. Up to `n`, as many as there are and as lie together."""
    cdef size_t head = r.head
    cdef size_t there = r.tail_seen - head
    cdef size_t at = head & (r.capacity - 1)
    if there < n:
        r.tail_seen = load_acquire(&r.tail)
        there = r.tail_seen - head
        if n > there:
            n = there
    if n > r.capacity - at:
        n = r.capacity - at
    ptr[0] = r.data + at * r.elem_size
    return n


cdef inline void ring_release(SpscRing* r, size_t n) noexcept nogil:
    """Consumer: done with the first `n` of the peeked elements; they may be overwritten."""
    store_release(&r.head, r.head + n)


cdef inline size_t ring_push_u32(SpscRing* r, const uint32_t* values, size_t n) noexcept nogil:
    """Producer, elements of 4 bytes: copy up to `n` values in; how many found room."""
    cdef size_t done = 0
    cdef size_t k
    cdef uint8_t* p
    while done < n:
        k = ring_reserve(r, n - done, &p)
        if k == 0:
            break
        memcpy(p, values + done, k * sizeof(uint32_t))
        ring_commit(r, k)
        done += k
    return done


cdef inline size_t ring_pop_u32(SpscRing* r, uint32_t* values, size_t n) noexcept nogil:
    """Consumer, elements of 4 bytes: copy up to `n` values out; how many there were."""
    cdef size_t done = 0
    cdef size_t k
    cdef uint8_t* p
    while done < n:
        k = ring_peek(r, n - done, &p)
        if k == 0:
            break
        memcpy(values + done, p, k * sizeof(uint32_t))
        ring_release(r, k)
        done += k
    return done


cdef inline size_t ring_len(SpscRing* r) noexcept nogil:
    """Elements committed and not released, as seen from any thread: the truth of a moment ago."""
    cdef size_t head = load_acquire(&r.head)
    cdef size_t n = load_acquire(&r.tail) - head
    return n if n < r.capacity else r.capacity


# `memory` of at least capacity * elem_size bytes is borrowed; NULL: allocate. -1: no memory, or the capacity
# is not a power of two.
cdef int ring_init(SpscRing* r, size_t capacity, size_t elem_size, void* memory) noexcept nogil
cdef void ring_fini(SpscRing* r) noexcept nogil


cdef class BufferRing:
    cdef SpscRing c
    cdef Py_buffer brought        # the caller's memory,
    cdef bint borrows             # if there is any
    cdef size_t reserved          # by the last reserve() and not yet committed
    cdef size_t peeked
