"""See cells.pxd."""
from libc.errno cimport ENOBUFS
from libc.stdlib cimport calloc, free
from libc.string cimport memset, strcpy

from iip.drivers.dpdk.rte cimport (
    RTE_IOVA_VA, RTE_MBUF_F_EXTERNAL, RTE_MBUF_PORT_INVALID, RTE_PKTMBUF_HEADROOM, RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF,
    rte_eal_iova_mode, rte_errno, rte_extmem_register, rte_extmem_unregister, rte_mbuf_ext_refcnt_set, rte_mbuf_iova_set,
    rte_mbuf_refcnt_set, rte_mem_virt2iova, rte_mempool_create_empty, rte_mempool_free, rte_mempool_ops,
    rte_mempool_populate_default, rte_mempool_put, rte_mempool_register_ops, rte_mempool_set_ops_byname, rte_pktmbuf_alloc_bulk,
    rte_pktmbuf_attach_extbuf, rte_pktmbuf_free, rte_pktmbuf_pool_create, rte_pktmbuf_pool_init, rte_pktmbuf_pool_private)
from iip.memory.pool cimport PKT_EXTERNAL, pkt, pkt_alloc, pkt_data
from iip.wire.bytes cimport likely, unlikely

import itertools
import os

from iip.errors import ConfigError, DriverError

cdef enum:
    PAGE = 4096
    FEW = 16                      # cells that the device gets even if the pool runs low

_numbers = itertools.count()
_registered = {}                  # address of an arena: how many queues use it
_abandoned = []                   # memory that others still look at


# -- the mempool: what DPDK asks of one ------------------------------------------------------------------------

cdef int _open(rte_mempool* pool) noexcept nogil:
    pool.pool_data = pool.pool_config
    return 0


cdef void _close(rte_mempool* pool) noexcept nogil:
    pass


cdef int _give(rte_mempool* pool, void* const* items, unsigned int n) noexcept nogil:
    """At first each object, to get to know it; later those that the device does not need any more."""
    cdef Cells* c = <Cells*>pool.pool_data
    cdef unsigned int i
    for i in range(n):
        if unlikely(c.filled < c.pool.n_direct):
            c.mbufs[c.filled] = <rte_mbuf*>items[i]
            c.filled += 1
        else:
            pkt_free(c.pool, returned(c, <rte_mbuf*>items[i]))
    return 0


cdef int _take(rte_mempool* pool, void** items, unsigned int n) noexcept nogil:
    """Cells for frames to come; some are left to those who have to answer."""
    cdef Cells* c = <Cells*>pool.pool_data
    cdef unsigned int i
    cdef uint32_t cell
    if unlikely(c.filled == 0):   # the mempool is being freed, which takes each object
        return 0
    if c.pool.n_free_direct < n + (c.pool.reserve if c.lent >= FEW else 0):
        return -ENOBUFS
    for i in range(n):
        cell = pkt_alloc(c.pool)
        c.with_device[cell] = 1
        items[i] = c.mbufs[cell]
    c.lent += n
    return 0


cdef unsigned int _count(const rte_mempool* pool) noexcept nogil:
    return (<Cells*>pool.pool_data).pool.n_free_direct


cdef void _unshared(void* address, void* mbuf) noexcept nogil:
    """The last of several mbufs that looked at a cell is gone."""
    cdef rte_mbuf* m = <rte_mbuf*>mbuf
    rte_mbuf_ext_refcnt_set(m.shinfo, 1)
    m.ol_flags = RTE_MBUF_F_EXTERNAL
    m.next = NULL
    m.nb_segs = 1
    rte_mempool_put(m.pool, m)


cdef void _sent(void* address, void* slot) noexcept nogil:
    """The device has done with a piece."""
    iip_push((<Slot*>slot).done, slot, &(<Slot*>slot).next)


cdef bint _declared = False


cdef int _declare() except -1:
    global _declared
    cdef rte_mempool_ops ops
    if _declared:
        return 0
    memset(&ops, 0, sizeof(ops))
    strcpy(ops.name, b"iip")
    ops.alloc, ops.free, ops.enqueue, ops.dequeue, ops.get_count = _open, _close, _give, _take, _count
    if rte_mempool_register_ops(&ops) < 0:
        raise DriverError("dpdk: no room for another kind of memory pool")
    _declared = True
    return 0


cdef class Memory:
    """`pool` for a queue with `descriptors` frames on their way out; shared: a device reads and writes it by itself."""

    def __init__(self, PacketPool pool not None, descriptors, shared):
        if pool.packet_size > 65535:
            raise ConfigError(f"packet_size={pool.packet_size}: DPDK's packets have at most 65535 bytes; use a smaller one")
        _declare()
        self.pool = pool
        self.linear = rte_eal_iova_mode() == RTE_IOVA_VA
        if shared and (<uintptr_t>pool.c.arena % PAGE or not self.linear and PAGE % pool.packet_size):
            raise ConfigError(f"packet_size={pool.packet_size}: the memory of the pool has to begin at a page, and a packet must "
                              "not cross pages; use packet_size=2048 or 4096")
        number = next(_numbers)
        try:
            self._register()
            self._make_cells(f"iip_cells{number}".encode())
            self._make_slots(f"iip_sent{number}".encode(), descriptors)
        except BaseException:
            self.dispose()
            raise

    def _register(self):
        """Have DPDK know the arena, and devices that need it, too."""
        cdef uint64_t* iovas
        cdef uintptr_t start = <uintptr_t>self.pool.c.arena
        cdef unsigned int pages = (self.pool.packets * self.pool.packet_size + PAGE - 1) // PAGE, i
        if start % PAGE:
            return
        users = _registered.get(start, 0)
        if users == 0:
            iovas = <uint64_t*>calloc(pages, sizeof(uint64_t))
            if iovas == NULL:
                raise MemoryError("no memory for the addresses of a packet pool")
            for i in range(pages):
                iovas[i] = start + <uint64_t>i * PAGE if self.linear else rte_mem_virt2iova(<void*>(start + <uint64_t>i * PAGE))
            failed = rte_extmem_register(<void*>start, <size_t>pages * PAGE, iovas, pages, PAGE)
            free(iovas)
            if failed:
                raise DriverError(f"dpdk: the memory of the packet pool is refused: {os.strerror(rte_errno)}")
        _registered[start] = users + 1
        self.registered = True

    def _make_cells(self, name):
        cdef rte_pktmbuf_pool_private settings
        cdef Cells* c = &self.cells
        c.pool = &self.pool.c
        c.mbufs = <rte_mbuf**>calloc(self.pool.packets, sizeof(rte_mbuf*))
        c.with_device = <uint8_t*>calloc(self.pool.packets, 1)
        if c.mbufs == NULL or c.with_device == NULL:
            raise MemoryError("no memory for a packet pool's mbufs")
        memset(&settings, 0, sizeof(settings))
        settings.mbuf_data_room_size = <uint16_t>self.pool.packet_size
        settings.flags = RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF
        c.mempool = rte_mempool_create_empty(name, self.pool.packets, sizeof(rte_mbuf) + sizeof(rte_mbuf_ext_shared_info), 0,
                                             sizeof(settings), -1, 0)
        if c.mempool == NULL or rte_mempool_set_ops_byname(c.mempool, b"iip", c):
            raise _no_memory()
        rte_pktmbuf_pool_init(c.mempool, &settings)
        if rte_mempool_populate_default(c.mempool) < 0 or c.filled != c.pool.n_direct:
            raise _no_memory()
        for i in range(self.pool.packets):
            self._make_mbuf(i)

    def _make_mbuf(self, uint32_t i):
        cdef rte_mbuf* m = self.cells.mbufs[i]
        cdef Packet* k = pkt(&self.pool.c, i)
        memset(m, 0, sizeof(rte_mbuf) + sizeof(rte_mbuf_ext_shared_info))
        m.buf_addr = k.buf
        rte_mbuf_iova_set(m, <uint64_t><uintptr_t>k.buf if self.linear else rte_mem_virt2iova(k.buf))
        m.buf_len = <uint16_t>k.buf_len
        m.data_off = RTE_PKTMBUF_HEADROOM
        m.pool = self.cells.mempool
        m.nb_segs = 1
        m.port = RTE_MBUF_PORT_INVALID
        m.ol_flags = RTE_MBUF_F_EXTERNAL
        rte_mbuf_refcnt_set(m, 1)
        m.shinfo = <rte_mbuf_ext_shared_info*>(m + 1)
        m.shinfo.free_cb = _unshared
        m.shinfo.fcb_opaque = m
        rte_mbuf_ext_refcnt_set(m.shinfo, 1)

    def _make_slots(self, name, n):
        cdef Sending* s = &self.sending
        cdef uint32_t i, count = n + 2 * STASH
        s.slots = <Slot*>calloc(count, sizeof(Slot))
        if s.slots == NULL:
            raise MemoryError("no memory for the packets that a device sends")
        s.n_slots = count
        for i in range(count):
            s.slots[i].shared.free_cb = _sent
            s.slots[i].shared.fcb_opaque = &s.slots[i]
            s.slots[i].done = &s.done
            s.slots[i].packet = NIL
            s.slots[i].next = s.free
            s.free = &s.slots[i]
        s.mempool = rte_pktmbuf_pool_create(name, count, 0, 0, 0, -1)
        if s.mempool == NULL:
            raise _no_memory()

    def dispose(self):
        """When the device has let go of everything. The pool remains."""
        cdef Sending* s = &self.sending
        while s.n_stash:
            s.n_stash -= 1
            rte_pktmbuf_free(s.stash[s.n_stash])
        if self.pool is not None:
            reclaim(s, &self.pool.c)
            self._take_back()
        if s.in_flight:           # in a ring that is not the device's
            _abandoned.append(self)
        else:
            rte_mempool_free(s.mempool)
            free(s.slots)
        self.cells.filled = 0
        rte_mempool_free(self.cells.mempool)
        free(self.cells.mbufs)
        free(self.cells.with_device)
        s.n_slots = 0
        s.slots = s.free = NULL
        s.mempool = self.cells.mempool = NULL
        self.cells.mbufs = NULL
        self.cells.with_device = NULL
        if self.registered:
            self.registered = False
            self._unregister()

    def _take_back(self):
        """What the device's driver has forgotten."""
        cdef uint32_t i
        for i in range(self.sending.n_slots):
            pkt_free(&self.pool.c, self.sending.slots[i].packet)
            self.sending.slots[i].packet = NIL
        for i in range(self.pool.c.n_direct if self.cells.with_device != NULL else 0):
            if self.cells.with_device[i]:
                pkt_free(&self.pool.c, returned(&self.cells, self.cells.mbufs[i]))

    def _unregister(self):
        cdef uintptr_t start = <uintptr_t>self.pool.c.arena
        cdef size_t pages = (self.pool.packets * self.pool.packet_size + PAGE - 1) // PAGE
        users = _registered.pop(start, 0)
        if users > 1:
            _registered[start] = users - 1
        elif users == 1:
            rte_extmem_unregister(<void*>start, pages * PAGE)

    # -- sending ------------------------------------------------------------------------------------------
    cdef uint64_t iova(self, const Packet* k) noexcept nogil:
        """The address at which the device finds the bytes of a piece."""
        cdef uint32_t root = k.parent
        if likely(self.linear) or pkt(&self.pool.c, root).flags & PKT_EXTERNAL:
            return <uint64_t><uintptr_t>pkt_data(<Packet*>k)
        return self.cells.mbufs[root].buf_iova + <uint64_t>(pkt_data(<Packet*>k) - pkt(&self.pool.c, root).buf)

    cdef bint room(self, uint32_t n) noexcept nogil:
        """Whether there are mbufs and slots for `n` pieces (at most STASH)."""
        cdef Sending* s = &self.sending
        cdef uint32_t want = STASH - s.n_stash
        if s.n_stash < n:
            while want and rte_pktmbuf_alloc_bulk(s.mempool, s.stash + s.n_stash, want):
                want >>= 1
            s.n_stash += want
        return s.n_stash >= n and s.n_slots - s.in_flight >= n

    cdef rte_mbuf* attach(self, uint32_t i) noexcept nogil:
        """An mbuf for one piece, for which there is room."""
        cdef Sending* s = &self.sending
        cdef Packet* k = pkt(&self.pool.c, i)
        cdef Slot* slot = s.free
        cdef rte_mbuf* m
        s.free = <Slot*>slot.next
        s.n_stash -= 1
        m = s.stash[s.n_stash]
        s.in_flight += 1
        slot.packet = i
        rte_mbuf_ext_refcnt_set(&slot.shared, 1)
        rte_pktmbuf_attach_extbuf(m, pkt_data(k), self.iova(k), <uint16_t>k.len, &slot.shared)
        m.data_len = <uint16_t>k.len
        return m


def _no_memory():
    return DriverError(f"dpdk: no memory for mbufs ({os.strerror(rte_errno)}); give DPDK more (`initialize('-m', '512')`, or huge "
                       "pages), or make the packet pool smaller")
