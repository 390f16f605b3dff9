"""What drivers share: a bounded queue of packet indexes, and copies of packets from pool to pool."""
from libc.stdint cimport uint32_t
from iip.memory.pool cimport Pool

cdef struct PacketQueue:
    uint32_t* slots               # a power of two of them
    uint32_t mask
    uint32_t head                 # free-running: packets ever taken out,
    uint32_t tail                 # ever put in
    uint32_t limit                # packets it may hold


cdef inline uint32_t queue_len(const PacketQueue* q) noexcept nogil:
    return q.tail - q.head


cdef inline uint32_t queue_room(const PacketQueue* q) noexcept nogil:
    return q.limit - (q.tail - q.head)


cdef inline void queue_push(PacketQueue* q, uint32_t packet) noexcept nogil:
    """The caller knows that there is room."""
    q.slots[q.tail & q.mask] = packet
    q.tail += 1


cdef inline uint32_t queue_pop(PacketQueue* q) noexcept nogil:
    """The caller knows that it is not empty."""
    cdef uint32_t packet = q.slots[q.head & q.mask]
    q.head += 1
    return packet


cdef inline uint32_t queue_at(const PacketQueue* q, uint32_t i) noexcept nogil:
    """The packet that comes out after `i` others."""
    return q.slots[(q.head + i) & q.mask]


cdef int queue_init(PacketQueue* q, object capacity) except -1
cdef void queue_dispose(PacketQueue* q) noexcept
cdef void queue_clear(PacketQueue* q, Pool* pool) noexcept nogil
cdef bint packet_foreign(Pool* pool, uint32_t i) noexcept nogil
cdef uint32_t packet_copy(Pool* src, uint32_t i, Pool* dst) noexcept nogil
