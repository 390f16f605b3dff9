"""What happens next: a heap of things, each at most once, whose times may be moved."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef struct Entry:
    int64_t at                    # ns
    uint64_t order                # of two at the same time, who was scheduled first
    uint32_t thing


cdef struct Agenda:
    Entry* heap
    uint32_t* place               # by thing: index in the heap + 1, 0 when it is not there
    uint32_t n
    uint32_t room
    uint64_t order


cdef int agenda_room(Agenda* a, uint32_t things) except -1
cdef void agenda_dispose(Agenda* a) noexcept
cdef void agenda_set(Agenda* a, uint32_t thing, int64_t at) noexcept nogil
