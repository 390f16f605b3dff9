"""What drivers share: a bounded queue of packet indexes, and copies of packets from pool to pool."""
from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from iip.memory.pool cimport (NIL, PKT_EXTERNAL, PKT_INDIRECT, Packet, Pool, pkt, pkt_alloc, pkt_data, pkt_free,
                              pkt_tailroom)
from iip.memory.sizes cimport power_of_two

from iip.errors import ConfigError


cdef int queue_init(PacketQueue* q, object capacity) except -1:
    """Make a queue of up to `capacity` packets."""
    cdef uint32_t size
    if isinstance(capacity, bool) or not isinstance(capacity, int) or not 1 <= capacity <= 1 << 24:
        raise ConfigError(f"capacity={capacity!r}: must be from 1 to {1 << 24} packets")
    size = power_of_two(<uint32_t>capacity)
    q.slots = <uint32_t*>calloc(size, sizeof(uint32_t))
    if q.slots == NULL:
        raise MemoryError("no memory for a packet queue")
    q.mask = size - 1
    q.head = q.tail = 0
    q.limit = capacity
    return 0


cdef void queue_dispose(PacketQueue* q) noexcept:
    """Free the memory of the queue, not its packets."""
    free(q.slots)
    q.slots = NULL
    q.head = q.tail = q.limit = 0


cdef void queue_clear(PacketQueue* q, Pool* pool) noexcept nogil:
    """Give the waiting packets back to the pool."""
    while queue_len(q):
        pkt_free(pool, queue_pop(q))


cdef bint packet_foreign(Pool* pool, uint32_t i) noexcept nogil:
    """Whether a piece of the packet lies outside the pool's arena."""
    while i != NIL:
        if pkt(pool, pkt(pool, i).parent).flags & PKT_EXTERNAL:
            return True
        i = pkt(pool, i).next
    return False


cdef uint32_t packet_copy(Pool* src, uint32_t i, Pool* dst) noexcept nogil:
    """A copy of chain `i` with bytes of its own in pool `dst` (which may be `src`); marks and header offsets
    are kept. NIL, nothing taken, if `dst` has no packet left. The original stays with its holder."""
    cdef Packet* s = pkt(src, i)
    cdef Packet* first = s
    cdef Packet* d
    cdef uint32_t head, last, nxt, take, done = 0
    head = last = pkt_alloc(dst)
    if head == NIL:
        return NIL
    d = pkt(dst, head)
    d.flags |= s.flags & ~<uint32_t>(PKT_INDIRECT | PKT_EXTERNAL)
    d.l3 = <uint16_t>(d.off + s.l3 - s.off)
    d.l4 = <uint16_t>(d.off + s.l4 - s.off)
    d.csum_off, d.gso_size = s.csum_off, s.gso_size
    while True:
        take = min(s.len - done, pkt_tailroom(d))
        memcpy(pkt_data(d) + d.len, pkt_data(s) + done, take)
        d.len += take
        done += take
        if done == s.len:
            if s.next == NIL:
                break
            s = pkt(src, s.next)
            done = 0
        else:
            nxt = pkt_alloc(dst)
            if nxt == NIL:
                pkt_free(dst, head)
                return NIL
            pkt(dst, last).next = nxt
            last = nxt
            d = pkt(dst, nxt)
    pkt(dst, head).total_len = first.total_len
    return head
