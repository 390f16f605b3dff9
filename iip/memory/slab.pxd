"""Slabs: many objects of one size, found by index, and by a handle that outlives them safely.

Memory is reserved at set-up and touched when used: allocation takes the slot freed last, then the next one
never used. Neither touches the object, which is zero at first and later as its last owner left it.

Each slot has a generation, odd while the slot is in use and even while it is free. A handle is
`generation << 32 | index`, so the handle of a freed object finds nothing, nor does 0, until one slot has
been reused 2**31 times.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from iip.wire.bytes cimport unlikely


cdef struct Slab:
    uint8_t* objects
    uint32_t* gens
    uint32_t* free_stack
    size_t stride                 # bytes from object to object: whole cache lines
    uint32_t capacity
    uint32_t n_free               # on the stack
    uint32_t high_water           # slots ever used; those from here on are free as well
    uint64_t exhausted            # failed allocations


cdef inline int64_t slab_alloc(Slab* s) noexcept nogil:
    """The index of a free object, now in use; -1 (counted) if there is none."""
    cdef uint32_t i
    if s.n_free:
        s.n_free -= 1
        i = s.free_stack[s.n_free]
    elif s.high_water < s.capacity:
        i = s.high_water
        s.high_water += 1
    else:
        s.exhausted += 1
        return -1
    s.gens[i] += 1
    return i


cdef inline bint slab_live(Slab* s, uint32_t i) noexcept nogil:
    return i < s.high_water and s.gens[i] & 1


cdef inline bint slab_free(Slab* s, uint32_t i) noexcept nogil:
    """Give an object back; False, and no change, if it was not in use."""
    if unlikely(not slab_live(s, i)):
        return False
    s.gens[i] += 1
    s.free_stack[s.n_free] = i
    s.n_free += 1
    return True


cdef inline uint32_t slab_in_use(Slab* s) noexcept nogil:
    return s.high_water - s.n_free


cdef inline void* slab_ptr(Slab* s, uint32_t i) noexcept nogil:
    """The object of an index; unchecked."""
    return s.objects + i * s.stride


cdef inline uint64_t slab_handle(Slab* s, uint32_t i) noexcept nogil:
    """The handle of an object in use."""
    return (<uint64_t>s.gens[i] << 32) | i


cdef inline void* slab_lookup(Slab* s, uint64_t handle) noexcept nogil:
    """The object if it is still the one the handle was made for, or NULL."""
    cdef uint32_t i = <uint32_t>handle
    cdef uint32_t gen = <uint32_t>(handle >> 32)
    if unlikely(i >= s.high_water or s.gens[i] != gen or not gen & 1):
        return NULL
    return slab_ptr(s, i)


cdef int slab_init(Slab* s, uint32_t capacity, size_t object_size) noexcept nogil
cdef void slab_fini(Slab* s) noexcept nogil


cdef class ObjectSlab:
    cdef Slab c
    cdef readonly Py_ssize_t object_size
