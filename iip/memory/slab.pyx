"""Slabs of equal objects, found by generation-checked handles; slab.pxd has them for C callers."""
from libc.string cimport memset

from iip.memory.raw cimport CACHE_LINE, free_lines, window, zalloc_lines


cdef int slab_init(Slab* s, uint32_t capacity, size_t object_size) noexcept nogil:
    """Reserve room for `capacity` objects; -1, and nothing to free, if there is no memory."""
    memset(s, 0, sizeof(Slab))
    if object_size > <size_t>-1 - CACHE_LINE:
        return -1
    s.stride = (object_size + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
    s.objects = <uint8_t*>zalloc_lines(capacity, s.stride)
    s.gens = <uint32_t*>zalloc_lines(capacity, sizeof(uint32_t))
    s.free_stack = <uint32_t*>zalloc_lines(capacity, sizeof(uint32_t))
    if s.objects is NULL or s.gens is NULL or s.free_stack is NULL:
        slab_fini(s)
        return -1
    s.capacity = capacity
    return 0


cdef void slab_fini(Slab* s) noexcept nogil:
    """Free everything; the slab is then one without room."""
    free_lines(s.objects)
    free_lines(s.gens)
    free_lines(s.free_stack)
    memset(s, 0, sizeof(Slab))


cdef class ObjectSlab:
    """A slab of `capacity` objects of `object_size` bytes each, to be inspected and tested from Python.

    Raises ValueError if either is out of range, MemoryError if the memory cannot be reserved.
    """

    def __cinit__(self, capacity, object_size):
        if not 1 <= capacity <= 0xFFFFFFFF:
            raise ValueError(f"capacity is {capacity}, but must be between 1 and 2**32 - 1 objects")
        if not 1 <= object_size <= 1 << 30:
            raise ValueError(f"object_size is {object_size}, but must be between 1 and 2**30 bytes")
        self.object_size = object_size
        if slab_init(&self.c, capacity, object_size) != 0:
            raise MemoryError(f"no memory for capacity={capacity} objects of object_size={object_size} bytes: "
                              "lower either")

    def __dealloc__(self):
        slab_fini(&self.c)

    def alloc(self):
        """The handle of a free object, now in use, or None (counted in `exhausted`) if there is none."""
        cdef int64_t i = slab_alloc(&self.c)
        return None if i < 0 else slab_handle(&self.c, <uint32_t>i)

    def free(self, uint64_t handle):
        """Give the object back. Raises ValueError if the handle is no longer, or never was, one in use."""
        if slab_lookup(&self.c, handle) is NULL:
            raise ValueError(f"handle {handle:#x} is of no object in use: it was freed before, or is not of this slab")
        slab_free(&self.c, <uint32_t>handle)

    def lookup(self, uint64_t handle):
        """A writable memoryview of the object, or None if the handle is not of one in use."""
        cdef void* p = slab_lookup(&self.c, handle)
        return None if p is NULL else window(self, <uint8_t*>p, self.object_size, False)

    def __len__(self):
        return slab_in_use(&self.c)

    @property
    def in_use(self):
        """Objects allocated and not yet freed."""
        return slab_in_use(&self.c)

    @property
    def capacity(self):
        return self.c.capacity

    @property
    def stride(self):
        """Bytes from one object to the next: `object_size` in whole cache lines."""
        return self.c.stride

    @property
    def high_water(self):
        """The most objects that were ever in use at once: memory beyond them was never touched."""
        return self.c.high_water

    @property
    def exhausted(self):
        """Allocations that found no free object."""
        return self.c.exhausted
