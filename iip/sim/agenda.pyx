"""What happens next: a heap of things, each at most once, whose times may be moved."""
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, realloc

from iip.drivers.base cimport NEVER


cdef int agenda_room(Agenda* a, uint32_t things) except -1:
    """Make room for things numbered from 0 to `things` - 1."""
    cdef Entry* heap
    cdef uint32_t* place
    cdef uint32_t size = a.room if a.room else 16, i
    if things <= a.room:
        return 0
    while size < things:
        size *= 2
    heap = <Entry*>realloc(a.heap, size * sizeof(Entry))
    if heap != NULL:
        a.heap = heap
    place = <uint32_t*>realloc(a.place, size * sizeof(uint32_t))
    if place != NULL:
        a.place = place
    if heap == NULL or place == NULL:
        raise MemoryError("no memory for the agenda of a simulation")
    for i in range(a.room, size):
        place[i] = 0
    a.room = size
    return 0


cdef void agenda_dispose(Agenda* a) noexcept:
    free(a.heap)
    free(a.place)
    a.heap = NULL
    a.place = NULL
    a.n = a.room = 0


cdef inline bint _before(const Entry* a, const Entry* b) noexcept nogil:
    return a.at < b.at or (a.at == b.at and a.order < b.order)


cdef inline void _put(Agenda* a, uint32_t i, Entry e) noexcept nogil:
    a.heap[i] = e
    a.place[e.thing] = i + 1


cdef void _settle(Agenda* a, uint32_t i, Entry e) noexcept nogil:
    """The place `i` is free: put `e` where it belongs."""
    cdef uint32_t parent, child
    while i:
        parent = (i - 1) >> 1
        if not _before(&e, &a.heap[parent]):
            break
        _put(a, i, a.heap[parent])
        i = parent
    while True:
        child = 2 * i + 1
        if child >= a.n:
            break
        if child + 1 < a.n and _before(&a.heap[child + 1], &a.heap[child]):
            child += 1
        if not _before(&a.heap[child], &e):
            break
        _put(a, i, a.heap[child])
        i = child
    _put(a, i, e)


cdef void agenda_set(Agenda* a, uint32_t thing, int64_t at) noexcept nogil:
    """`thing` happens at `at` and at no other time; NEVER: it does not happen."""
    cdef uint32_t i = a.place[thing]
    cdef Entry e
    if at == NEVER:
        if i:
            a.place[thing] = 0
            a.n -= 1
            if i - 1 != a.n:
                e = a.heap[a.n]
                _settle(a, i - 1, e)
        return
    if i and a.heap[i - 1].at == at:
        return
    if not i:
        a.n += 1
        i = a.n
    a.order += 1
    e.at, e.order, e.thing = at, a.order, thing
    _settle(a, i - 1, e)
