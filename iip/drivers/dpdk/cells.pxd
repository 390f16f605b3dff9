"""The packet pool as DPDK sees it.

Receiving: a mempool whose objects are the cells of the packet pool, so that a device takes packets of the pool for the frames to
come. Sending: an mbuf for each piece of a frame, attached to the bytes where they lie; a slot remembers the packet until the
device has done with it.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from iip.drivers.dpdk.rte cimport rte_mbuf, rte_mbuf_ext_shared_info, rte_mempool
from iip.memory.pool cimport NIL, Packet, PacketPool, Pool, pkt_free

cdef extern from *:
    """
    /* A stack that any thread pushes to, and one takes whole. */
    static inline void iip_push(void **head, void *item, void **link) {
        void *top = __atomic_load_n(head, __ATOMIC_RELAXED);
        do
            *link = top;
        while (!__atomic_compare_exchange_n(head, &top, item, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
    }
    static inline void *iip_take(void **head) {
        return __atomic_load_n(head, __ATOMIC_RELAXED) ? __atomic_exchange_n(head, 0, __ATOMIC_ACQUIRE) : 0;
    }
    """
    void iip_push(void** head, void* item, void** link) noexcept nogil
    void* iip_take(void** head) noexcept nogil

cdef enum:
    STASH = 64                    # mbufs that are taken at once, and pieces of a frame at most


cdef struct Slot:
    # a piece that the device has
    rte_mbuf_ext_shared_info shared
    void* next
    void** done                   # where it is put when the device has done with it
    uint32_t packet               # NIL: the slot is free


cdef struct Cells:
    # the cells as a mempool; only the thread of the engine takes from it and gives to it
    Pool* pool
    rte_mempool* mempool
    rte_mbuf** mbufs              # of each cell
    uint32_t filled               # so many of them are known
    uint32_t lent                 # cells that the device has,
    uint8_t* with_device          # and which


cdef struct Sending:
    Slot* slots
    uint32_t n_slots
    Slot* free
    void* done                    # slots that have been sent, possibly by another thread
    rte_mempool* mempool
    rte_mbuf* stash[STASH]
    uint32_t n_stash
    uint32_t in_flight


cdef inline uint32_t cell_of(const Cells* c, const rte_mbuf* m) noexcept nogil:
    cdef uint64_t off = <uint64_t>(<uint8_t*>m.buf_addr - c.pool.arena)
    return <uint32_t>(off >> 6) // (c.pool.cell_size >> 6)


cdef inline uint32_t returned(Cells* c, rte_mbuf* m) noexcept nogil:
    """The packet of an mbuf that the device has filled."""
    cdef uint32_t i = cell_of(c, m)
    c.with_device[i] = 0
    c.lent -= 1
    return i


cdef inline void reclaim(Sending* s, Pool* pool) noexcept nogil:
    """What was sent is the pool's again."""
    cdef Slot* slot = <Slot*>iip_take(&s.done)
    cdef Slot* rest
    while slot != NULL:
        rest = <Slot*>slot.next
        pkt_free(pool, slot.packet)
        slot.packet = NIL
        slot.next = s.free
        s.free = slot
        s.in_flight -= 1
        slot = rest


cdef class Memory:
    """What one queue needs of a packet pool."""
    cdef Cells cells
    cdef Sending sending
    cdef readonly PacketPool pool
    cdef bint linear              # addresses for the device are our own
    cdef bint registered
    cdef uint64_t iova(self, const Packet* k) noexcept nogil
    cdef bint room(self, uint32_t n) noexcept nogil
    cdef rte_mbuf* attach(self, uint32_t i) noexcept nogil
