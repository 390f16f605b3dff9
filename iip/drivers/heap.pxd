"""A binary heap of things that happen at a time; of two at the same time the one that was put in first."""
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef struct Held:
    int64_t at                    # ns
    uint64_t order
    uint32_t item                 # a packet, or whatever the owner of the heap numbers


cdef inline bint held_before(const Held* a, const Held* b) noexcept nogil:
    return a.at < b.at or (a.at == b.at and a.order < b.order)


cdef inline void heap_push(Held* heap, uint32_t* n, Held item) noexcept nogil:
    """The caller knows that there is room."""
    cdef uint32_t i = n[0], parent
    n[0] += 1
    while i:
        parent = (i - 1) >> 1
        if not held_before(&item, &heap[parent]):
            break
        heap[i] = heap[parent]
        i = parent
    heap[i] = item


cdef inline Held heap_pop(Held* heap, uint32_t* n) noexcept nogil:
    """The caller knows that it is not empty."""
    cdef Held top = heap[0]
    cdef Held last
    cdef uint32_t i = 0, child
    n[0] -= 1
    last = heap[n[0]]
    while True:
        child = 2 * i + 1
        if child >= n[0]:
            break
        if child + 1 < n[0] and held_before(&heap[child + 1], &heap[child]):
            child += 1
        if not held_before(&heap[child], &last):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = last
    return top
