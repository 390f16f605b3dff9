"""The single-producer single-consumer ring; ring.pxd has it for C callers."""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memset

from iip.memory.raw cimport free_lines, window, zalloc_lines

cdef extern from "<sched.h>" nogil:
    int sched_yield() noexcept


cdef int ring_init(SpscRing* r, size_t capacity, size_t elem_size, void* memory) noexcept nogil:
    memset(r, 0, sizeof(SpscRing))
    if capacity == 0 or capacity & (capacity - 1) or elem_size == 0:
        return -1
    r.data = <uint8_t*>memory
    if memory is NULL:
        r.data = <uint8_t*>zalloc_lines(capacity, elem_size)
        if r.data is NULL:
            return -1
        r.owned = True
    r.capacity = capacity
    r.elem_size = elem_size
    return 0


cdef void ring_fini(SpscRing* r) noexcept nogil:
    """Free what `ring_init` allocated; when neither thread uses the ring any more."""
    if r.owned:
        free_lines(r.data)
    memset(r, 0, sizeof(SpscRing))


cdef int _borrow(BufferRing ring, memory, need) except -1:
    try:
        PyObject_GetBuffer(memory, &ring.brought, PyBUF_WRITABLE)
    except (BufferError, ValueError) as error:
        raise ValueError("memory must be writable and C-contiguous, e.g. a bytearray, "
                         "shared_memory.SharedMemory(...).buf or a numpy array") from error
    ring.borrows = True
    if ring.brought.len < need:
        raise ValueError(f"memory has {ring.brought.len} bytes, but capacity * elem_size is {need}: "
                         "bring more or lower capacity")
    return 0


cdef size_t _limit(BufferRing ring, n) except? 0:
    if n is None:
        return ring.c.capacity
    if n < 1:
        raise ValueError(f"n is {n}, but must be at least 1 element")
    return min(n, ring.c.capacity)


cdef size_t _part(n, size_t most, str verb, str participle) except? 0:
    if n is None:
        return most
    if not 0 <= n <= most:
        raise ValueError(f"cannot {verb} {n} elements: {most} are {participle}")
    return n


cdef class BufferRing:
    """A ring of `capacity` elements (a power of two) of `elem_size` bytes each, for one thread that
    produces and one that consumes, without locks or copies.

    `memory` is a writable C-contiguous buffer of at least `capacity * elem_size` bytes for the elements to
    lie in; without it the ring allocates its own. It must not be used otherwise while the ring lives.
    Counts are in elements, lengths of views in bytes. Raises ValueError for settings that do not fit
    together, MemoryError if the memory cannot be had.
    """

    def __cinit__(self, capacity, elem_size=1, memory=None):
        if not 1 <= capacity <= 1 << 40 or capacity & (capacity - 1):
            raise ValueError(f"capacity is {capacity}, but must be a power of two up to 2**40 elements"
                             + (f": try {1 << (capacity - 1).bit_length()}" if 1 <= capacity < 1 << 40 else ""))
        if not 1 <= elem_size <= 1 << 20:
            raise ValueError(f"elem_size is {elem_size}, but must be between 1 and 2**20 bytes")
        if memory is not None:
            _borrow(self, memory, capacity * elem_size)
        if ring_init(&self.c, capacity, elem_size, self.brought.buf if self.borrows else NULL) != 0:
            raise MemoryError(f"no memory for capacity={capacity} elements of elem_size={elem_size} bytes: "
                              "lower either")

    def __dealloc__(self):
        ring_fini(&self.c)
        if self.borrows:
            PyBuffer_Release(&self.brought)

    def reserve(self, n=None):
        """Producer: a writable memoryview of where the next elements go: `n` or (None) as many as possible,
        fewer if there is less room or the ring wraps; empty, and counted in `full_count`, if it is full.
        Write to it, then `commit`."""
        cdef uint8_t* p = self.c.data
        self.reserved = 0
        self.reserved = ring_reserve(&self.c, _limit(self, n), &p)
        return window(self, p, self.reserved * self.c.elem_size, False)

    def commit(self, n=None):
        """Producer: publish the first `n` (None: all) of the reserved elements.
        Raises ValueError if fewer are reserved."""
        cdef size_t k = _part(n, self.reserved, "commit", "reserved")
        self.reserved -= k
        ring_commit(&self.c, k)

    def peek(self, n=None):
        """Consumer: a read-only memoryview of the next elements: `n` or (None) as many as possible, fewer
        if there are fewer or the ring wraps; empty if there are none. Read it, then `release`."""
        cdef uint8_t* p = self.c.data
        self.peeked = 0
        self.peeked = ring_peek(&self.c, _limit(self, n), &p)
        return window(self, p, self.peeked * self.c.elem_size, True)

    def release(self, n=None):
        """Consumer: done with the first `n` (None: all) of the peeked elements, which may then be
        overwritten. Raises ValueError if fewer are peeked."""
        cdef size_t k = _part(n, self.peeked, "release", "peeked")
        self.peeked -= k
        ring_release(&self.c, k)

    def __len__(self):
        return ring_len(&self.c)

    @property
    def free(self):
        """Elements there is room for."""
        return self.c.capacity - ring_len(&self.c)

    @property
    def full_count(self):
        """Reservations that found no room."""
        return load_relaxed(&self.c.full)

    @property
    def capacity(self):
        return self.c.capacity

    @property
    def elem_size(self):
        return self.c.elem_size


# One half each of a conversation between two threads, for tests and benchmarks: the GIL is released, and
# with fewer places than values neither half can finish unless the other runs at the same time.

cdef enum:
    LARGEST_BURST = 256


cdef inline uint32_t _value(size_t i) noexcept nogil:
    return <uint32_t>i * 2654435761u + 12345u


cdef size_t _produce(SpscRing* r, size_t count, size_t burst, bint copy, size_t patience) noexcept nogil:
    cdef uint32_t[LARGEST_BURST] values
    cdef uint8_t* p
    cdef size_t i = 0, idle = 0, k, j
    cdef uint32_t v
    while i < count and idle < patience:
        k = min(1 + i % burst, count - i)
        if copy:
            for j in range(k):
                values[j] = _value(i + j)
            k = ring_push_u32(r, values, k)
        else:
            k = ring_reserve(r, k, &p)
            for j in range(k):
                v = _value(i + j)
                memcpy(p + 4 * j, &v, 4)
            ring_commit(r, k)
        i += k
        idle = 0 if k else idle + 1
        if k == 0:
            sched_yield()
    return i


cdef size_t _consume(SpscRing* r, size_t count, size_t burst, bint copy, size_t patience) noexcept nogil:
    cdef uint32_t[LARGEST_BURST] values
    cdef uint8_t* p
    cdef size_t i = 0, idle = 0, wrong = 0, k, j
    cdef uint32_t v
    while i < count and idle < patience:
        k = min(1 + i % burst, count - i)
        if copy:
            k = ring_pop_u32(r, values, k)
            for j in range(k):
                wrong += values[j] != _value(i + j)
        else:
            k = ring_peek(r, k, &p)
            for j in range(k):
                memcpy(&v, p + 4 * j, 4)
                wrong += v != _value(i + j)
            ring_release(r, k)
        i += k
        idle = 0 if k else idle + 1
        if k == 0:
            sched_yield()
    return i - wrong


cdef _check_stress(BufferRing ring, size_t burst):
    if ring.c.elem_size != 4 or not 1 <= burst <= LARGEST_BURST:
        raise ValueError("the stress test needs elem_size=4 and a burst between 1 and 256")


def _stress_producer(BufferRing ring, size_t count, size_t burst=32, bint copy=True, size_t patience=20_000_000):
    """Send `count` known values in bursts of 1 to `burst`; how many were sent before the patience, counted
    in fruitless attempts in a row, ran out."""
    cdef size_t sent
    _check_stress(ring, burst)
    with nogil:
        sent = _produce(&ring.c, count, burst, copy, patience)
    return sent


def _stress_consumer(BufferRing ring, size_t count, size_t burst=32, bint copy=True, size_t patience=20_000_000):
    """Receive `count` values; how many came, and were the right ones in their places."""
    cdef size_t right
    _check_stress(ring, burst)
    with nogil:
        right = _consume(&ring.c, count, burst, copy, patience)
    return right


def _cycle_u32(BufferRing ring, size_t times, size_t burst):
    """Push and pop `burst` values `times` times in one thread; how many came out."""
    cdef uint32_t[LARGEST_BURST] values
    cdef size_t out = 0, _i
    _check_stress(ring, burst)
    memset(values, 0, sizeof(values))
    with nogil:
        for _i in range(times):
            ring_push_u32(&ring.c, values, burst)
            out += ring_pop_u32(&ring.c, values, burst)
    return out
