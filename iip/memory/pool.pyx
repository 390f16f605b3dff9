"""The packet pool: larger operations and the Python class."""
from cpython.buffer cimport PyObject_GetBuffer, PyBuffer_Release, Py_buffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from iip.memory.raw cimport free_lines, zalloc_lines

import numpy as np

from iip.errors import ConfigError

cdef enum:
    PAGE = 4096


cdef uint32_t pkt_headers_in_new_cell(Pool* pool) noexcept nogil:
    """`pkt_headers` when the cell is used up, or was freed with the last packet in it."""
    cdef uint32_t i = pkt_alloc(pool), first
    if i == NIL:
        return NIL
    pkt(pool, i).flags |= PKT_HEADERS
    pool.header_cell = i
    pool.header_end = pool.headroom
    first = pkt_slice(pool, i, pool.headroom, 0)
    pkt(pool, first).buf_len = pool.headroom
    pkt_free(pool, i)             # it lasts as long as the packets in it
    return first


cdef uint32_t pkt_clone(Pool* pool, uint32_t i) noexcept nogil:
    """A second view of the whole chain `i`, marks included; NIL if descriptors ran out."""
    cdef uint32_t head = NIL, last = NIL, n
    cdef Packet* k
    cdef Packet* s
    while i != NIL:
        s = pkt(pool, i)
        n = pkt_slice(pool, i, s.off, s.len)
        if n == NIL:
            pkt_free(pool, head)
            return NIL
        k = pkt(pool, n)
        if head == NIL:
            head = n
            k.flags |= s.flags & ~<uint32_t>(PKT_INDIRECT | PKT_EXTERNAL)
            k.l3, k.l4, k.csum_off, k.gso_size = s.l3, s.l4, s.csum_off, s.gso_size
            k.total_len = s.total_len
        else:
            pkt(pool, last).next = n
        last = n
        i = s.next
    return head


cdef uint32_t pkt_copy_out(Pool* pool, uint32_t i, uint32_t skip, uint8_t* dst, uint32_t n) noexcept nogil:
    """Copy up to `n` bytes from byte `skip` of the chain; how many there were."""
    cdef uint32_t done = 0, take
    cdef Packet* k
    while i != NIL and done < n:
        k = pkt(pool, i)
        if skip >= k.len:
            skip -= k.len
        else:
            take = min(k.len - skip, n - done)
            memcpy(dst + done, pkt_data(k) + skip, take)
            done += take
            skip = 0
        i = k.next
    return done


cdef uint32_t pkt_linearize(Pool* pool, uint32_t i) noexcept nogil:
    """The chain as one piece: itself, or a copy that replaces it (the chain is freed).
    NIL, the chain untouched, if it does not fit into one cell or none is left."""
    cdef Packet* k = pkt(pool, i)
    cdef Packet* c
    cdef uint32_t n
    if k.next == NIL:
        return i
    if k.total_len > pool.cell_size:
        return NIL
    n = pkt_alloc(pool)
    if n == NIL:
        return NIL
    c = pkt(pool, n)
    c.off = min(pool.headroom, pool.cell_size - k.total_len)
    pkt_copy_out(pool, i, 0, c.buf + c.off, k.total_len)
    c.len = c.total_len = k.total_len
    c.flags |= k.flags & ~<uint32_t>(PKT_INDIRECT | PKT_EXTERNAL)
    c.l3 = <uint16_t>(k.l3 - k.off + c.off)
    c.l4 = <uint16_t>(k.l4 - k.off + c.off)
    c.csum_off, c.gso_size = k.csum_off, k.gso_size
    pkt_free(pool, i)
    return n


cdef uint32_t pkt_split(Pool* pool, uint32_t i, uint32_t n) noexcept nogil:
    """Cut the chain behind its first `n` bytes (at least one, and not all): the head of the rest, which the caller
    holds. NIL, the chain untouched, when the cut goes through a piece and no view is left."""
    cdef Packet* head = pkt(pool, i)
    cdef Packet* k = head
    cdef uint32_t left = n, rest
    while left > k.len:
        left -= k.len
        i = k.next
        k = pkt(pool, i)
    if left == k.len:
        rest = k.next
    else:
        rest = pkt_slice(pool, i, k.off + left, k.len - left)
        if rest == NIL:
            return NIL
        pkt(pool, rest).next = k.next
        k.len = left
    k.next = NIL
    pkt(pool, rest).total_len = head.total_len - n
    head.total_len = n
    return rest


cdef uint32_t pkt_chain_len(Pool* pool, uint32_t i) noexcept nogil:
    """Pieces in the chain."""
    cdef uint32_t n = 0
    while i != NIL:
        n += 1
        i = pool.packets[i].next
    return n


cdef void pkt_trim_head(Pool* pool, uint32_t i, uint32_t n) noexcept nogil:
    """Take `n` bytes off the front of a chain; pieces may become empty, the head stays."""
    cdef Packet* head = pkt(pool, i)
    cdef Packet* k
    cdef uint32_t take
    n = min(n, head.total_len)
    head.total_len -= n
    while n and i != NIL:
        k = pkt(pool, i)
        take = min(n, k.len)
        k.off += take
        k.len -= take
        n -= take
        i = k.next


cdef void pkt_trim_tail(Pool* pool, uint32_t i, uint32_t n) noexcept nogil:
    """Cut `n` bytes off the end of a chain; pieces that become empty are freed, the head stays."""
    cdef Packet* k = pkt(pool, i)
    cdef uint32_t keep
    n = min(n, k.total_len)
    k.total_len -= n
    keep = k.total_len
    while True:
        if keep <= k.len:
            k.len = keep
            pkt_free(pool, k.next)
            k.next = NIL
            return
        keep -= k.len
        k = pkt(pool, k.next)


cdef uint32_t pkt_external(Pool* pool, uint8_t* data, uint32_t n, void* owner,
                           void (*release)(void*) noexcept) noexcept nogil:
    """A descriptor for `n` bytes that the application lends; `release(owner)` is called, with the GIL, when
    the last view is gone. Views are taken with `pkt_slice`; the holder frees it with `pkt_free`."""
    cdef uint32_t i
    cdef Packet* k
    cdef Detail* d
    if pool.n_free_indirect == 0:
        pool.exhausted += 1
        return NIL
    pool.n_free_indirect -= 1
    i = pool.free_indirect[pool.n_free_indirect]
    k = &pool.packets[i]
    _pkt_reset(k, PKT_EXTERNAL)
    k.buf = data
    k.buf_len = n
    k.off = 0
    k.len = n
    k.total_len = n
    k.parent = i
    d = pkt_detail(pool, k)
    d.owner = owner
    d.release = release
    pool.pinned += n
    return i


cdef void _decref(void* owner) noexcept:
    Py_DECREF(<object>owner)


cdef class PacketPool:
    """A pool of `packets` cells of `packet_size` bytes, `headroom` of them kept free for headers.

    `memory`: a writable, contiguous buffer of at least packets * packet_size bytes to use as the arena (huge
    pages, an AF_XDP UMEM); by default the pool allocates it. `views`: how many indirect descriptors
    (slices, clones, packets on their way out) there are; twice the packets by default.

    A pool belongs to one thread. Engines on the same thread may share one; the memory link then
    passes packets between them without a copy.
    """

    def __cinit__(self, packets=4096, packet_size=2048, headroom=128, memory=None, views=None):
        cdef uint32_t i
        cdef uint64_t n_desc
        cdef uint8_t[::1] arena
        views = 2 * packets if views is None else views
        _check(packets, packet_size, headroom, views)
        if memory is None:
            memory = _pages(packets * packet_size)
        try:
            arena = memory
        except (TypeError, ValueError, BufferError):
            arena = memoryview(memory).cast("B")
        if arena.shape[0] < packets * packet_size:
            raise ConfigError(
                f"memory: {arena.shape[0]} bytes are too few for {packets} packets of {packet_size}; "
                f"bring at least {packets * packet_size}")
        self.memory = arena
        self.c.arena = &arena[0]
        self.c.n_direct = packets
        self.c.n_indirect = views
        self.c.cell_size = packet_size
        self.c.headroom = headroom
        self.c.headers = min(headroom, MOST_HEADERS)
        self.c.reserve = packets >> 4
        self.c.released = NIL
        n_desc = packets + views
        self._tables = zalloc_lines(n_desc, sizeof(Packet) + sizeof(Detail) + 4)
        if self._tables == NULL:
            raise MemoryError("no memory for the descriptors of the packet pool")
        self.c.packets = <Packet*>self._tables
        self.c.details = <Detail*>(self.c.packets + n_desc)
        self.c.free_direct = <uint32_t*>(self.c.details + n_desc)
        self.c.free_indirect = self.c.free_direct + self.c.n_direct
        for i in range(<uint32_t>n_desc):
            self.c.packets[i].parent = i
            self.c.packets[i].next = NIL
            self.c.packets[i].qnext = NIL
        for i in range(<uint32_t>packets):
            self.c.packets[i].buf = self.c.arena + <uint64_t>i * self.c.cell_size
            self.c.packets[i].buf_len = self.c.cell_size
            # the stack hands out low indexes first
            self.c.free_direct[i] = <uint32_t>packets - 1 - i
        for i in range(<uint32_t>views):
            self.c.free_indirect[i] = <uint32_t>packets + <uint32_t>views - 1 - i
        self.c.n_free_direct = packets
        self.c.n_free_indirect = views

    def __dealloc__(self):
        if self._tables != NULL:
            self.drain_released()
            free_lines(self._tables)

    cdef void drain_released(self):
        """Hand lent memory whose last view is gone back to its owner."""
        cdef uint32_t i = self.c.released
        cdef Packet* k
        cdef Detail* d
        self.c.released = NIL
        while i != NIL:
            k = &self.c.packets[i]
            self.c.free_indirect[self.c.n_free_indirect] = i
            self.c.n_free_indirect += 1
            self.c.pinned -= k.buf_len
            d = pkt_detail(&self.c, k)
            i = k.qnext
            d.release(d.owner)

    # -- what a user sees -------------------------------------------------------------------------------
    @property
    def packets(self):
        return self.c.n_direct

    @property
    def packet_size(self):
        return self.c.cell_size

    @property
    def headroom(self):
        return self.c.headroom

    @property
    def views(self):
        return self.c.n_indirect

    @property
    def free_packets(self):
        """Cells that nobody uses."""
        return self.c.n_free_direct

    @property
    def free_views(self):
        """Indirect descriptors that nobody uses."""
        self.drain_released()
        return self.c.n_free_indirect

    @property
    def full(self):
        """True when nothing is in use: every cell and every view is back."""
        return self.free_packets == self.packets and self.free_views == self.views

    @property
    def pinned(self):
        """Bytes of lent memory that are still in use."""
        self.drain_released()
        return self.c.pinned

    @property
    def exhausted(self):
        """How often an allocation failed."""
        return self.c.exhausted

    def alloc(self, data=None):
        """Take a packet, filled with `data` if given. Returns its index; None when the pool is empty."""
        cdef uint32_t i
        cdef Packet* k
        cdef Py_buffer view
        if data is not None and len(memoryview(data).cast("B")) > self.c.cell_size - self.c.headroom:
            raise ValueError(f"data of {len(data)} bytes does not fit: a packet has "
                             f"{self.c.cell_size - self.c.headroom} after its headroom")
        i = pkt_alloc(&self.c)
        if i == NIL:
            return None
        if data is not None:
            k = pkt(&self.c, i)
            PyObject_GetBuffer(data, &view, 0)
            memcpy(pkt_data(k), view.buf, view.len)
            k.len = k.total_len = <uint32_t>view.len
            PyBuffer_Release(&view)
        return i

    def lend(self, data):
        """A packet that shows the caller's memory `data` (any contiguous buffer) without a copy. The object
        stays referenced until the last view of it is freed. None when no view is left."""
        cdef const uint8_t[::1] bytes_ = memoryview(data).cast("B")
        cdef uint32_t i
        if bytes_.shape[0] == 0:
            raise ValueError("data: cannot lend an empty buffer")
        owner = bytes_.base
        i = pkt_external(&self.c, <uint8_t*>&bytes_[0], <uint32_t>bytes_.shape[0], <void*>owner, _decref)
        if i == NIL:
            return None
        Py_INCREF(owner)
        return i

    def free(self, index):
        """Give a packet (and the rest of its chain) back."""
        pkt_free(&self.c, self._checked(index))
        self.drain_released()

    def clone(self, index):
        """A second view of the same bytes (whole chain); None when no view is left."""
        cdef uint32_t i = pkt_clone(&self.c, self._checked(index))
        return None if i == NIL else i

    def slice(self, index, start, length):
        """A view of `length` bytes from byte `start` of one piece; None when no view is left."""
        cdef Packet* k = pkt(&self.c, self._checked(index))
        cdef uint32_t i
        if start < 0 or length < 0 or start + length > k.len:
            raise ValueError(f"slice {start}+{length} is outside the packet's {k.len} bytes")
        i = pkt_slice(&self.c, index, k.off + <uint32_t>start, length)
        return None if i == NIL else i

    def chain(self, head, tail):
        """Append packet `tail` to the chain of `head`, which holds it from now on."""
        cdef uint32_t i = self._checked(head), j = self._checked(tail)
        if self._holds(i, j) or self._holds(j, i):
            raise ValueError(f"packets {head} and {tail} are of one chain already")
        pkt(&self.c, i).total_len += pkt(&self.c, j).total_len
        while pkt(&self.c, i).next != NIL:
            i = pkt(&self.c, i).next
        pkt(&self.c, i).next = tail

    cdef bint _holds(self, uint32_t head, uint32_t i):
        while head != NIL and head != i:
            head = pkt(&self.c, head).next
        return head == i

    def linearize(self, index):
        """The chain as one piece: returns itself if it is one, else a packet that replaces it. None, and the chain
        stays, when it does not fit into one packet or the pool is empty."""
        cdef uint32_t i = pkt_linearize(&self.c, self._checked(index))
        return None if i == NIL else i

    def pieces(self, index):
        """How many pieces the chain has."""
        return pkt_chain_len(&self.c, self._checked(index))

    def bytes(self, index):
        """A copy of the whole chain's bytes."""
        cdef uint32_t n = pkt(&self.c, self._checked(index)).total_len
        out = PyBytes_FromStringAndSize(NULL, n)
        pkt_copy_out(&self.c, index, 0, <uint8_t*><char*>out, n)
        return out

    def view(self, index):
        """The first piece as a numpy array (uint8) over the packet's own bytes. It does not keep the packet
        alive: use it before `free`."""
        cdef Packet* k = pkt(&self.c, self._checked(index))
        cdef uint8_t[::1] mv
        if k.len == 0:
            return np.empty(0, dtype=np.uint8)
        mv = <uint8_t[:k.len]>pkt_data(k)
        return np.asarray(mv)

    def trim(self, index, head=0, tail=0):
        """Cut `head` bytes off the front and `tail` off the end of the chain."""
        self._checked(index)
        pkt_trim_head(&self.c, index, head)
        pkt_trim_tail(&self.c, index, tail)

    cdef uint32_t _checked(self, index) except? 0:
        if not 0 <= index < self.c.n_direct + self.c.n_indirect or self.c.packets[<uint32_t>index].refs == 0 \
                or self.c.packets[<uint32_t>index].flags & PKT_FREED:
            raise ValueError(f"packet {index} is not in use")
        return index


def _pages(size):
    """So many bytes that begin at a page, so that they can be given to the kernel."""
    memory = np.empty(size + PAGE, dtype=np.uint8)
    start = -memory.ctypes.data % PAGE
    return memory[start:start + size]


def _check(packets, packet_size, headroom, views):
    if not 1 <= packets <= 1 << 26:
        raise ConfigError(f"packets={packets}: a pool has 1 to 2**26 packets")
    if not 256 <= packet_size <= 65536 or packet_size % 64:
        raise ConfigError(f"packet_size={packet_size}: use a multiple of 64 from 256 to 65536 bytes")
    if not 128 <= headroom <= packet_size - 128:
        raise ConfigError(f"headroom={headroom}: headers need 128 bytes or more, and at least 128 bytes of "
                          f"the {packet_size} must stay for data")
    if not 1 <= views <= 1 << 27:
        raise ConfigError(f"views={views}: a pool has 1 to 2**27 views")


def _cycle(PacketPool pool not None, n, burst, views=False):
    """Take and give back `n` packets, or views of one, in bursts: for measuring. How many there were."""
    cdef uint32_t held[256]
    cdef uint32_t size = min(burst, 256), owner, i
    cdef uint64_t done = 0, wanted = n
    cdef bint slices = views
    owner = pkt_alloc(&pool.c)
    while owner != NIL and done < wanted:
        for i in range(size):
            held[i] = pkt_slice(&pool.c, owner, 0, 64) if slices else pkt_alloc(&pool.c)
        for i in range(size):
            pkt_free(&pool.c, held[i])
        done += size
    pkt_free(&pool.c, owner)
    return done
