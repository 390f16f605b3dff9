"""A driver without a device: the program feeds packets in and drains packets out.

For a tunnel of the program's own (over UDP, TLS, a serial line, ...). Packets are bytes; the engine runs when
the program calls `Engine.run`.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from iip.drivers.base cimport NEVER, Driver, copy_in, pkt_from_bytes
from iip.drivers.queue cimport (PacketQueue, queue_clear, queue_dispose, queue_init, queue_len, queue_pop, queue_push,
                                queue_room)
from iip.memory.pool cimport NIL, Pool, pkt, pkt_copy_out, pkt_external, pkt_free
from iip.net.types cimport CAP_SG

from iip.errors import DriverError

# the largest frame that can mean something: an IP packet of 64 KiB behind an Ethernet header
cdef enum:
    FRAME_MAX = 65535 + 14
    HEADERS = 128                     # bytes of a lent packet that are copied: any cell holds them
    LENT = 4096                       # bytes from which on that is cheaper than a copy


cdef bytes _bytes(Pool* pool, uint32_t i):
    """What a chain holds."""
    cdef uint32_t n = pkt(pool, i).total_len
    cdef bytes out = PyBytes_FromStringAndSize(NULL, n)
    pkt_copy_out(pool, i, 0, <uint8_t*>PyBytes_AS_STRING(out), n)
    return out


cdef void _release(void* owner) noexcept:
    Py_DECREF(<object>owner)


cdef uint32_t _lend(Pool* pool, bytes packet) except? 0:
    """A packet whose payload stays in the bytes object; NIL if the pool is empty."""
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(packet)
    cdef uint32_t n = <uint32_t>len(packet), head, rest
    head = pkt_from_bytes(pool, data, HEADERS)
    if head == NIL:
        return NIL
    rest = pkt_external(pool, <uint8_t*>data + HEADERS, n - HEADERS, <void*>packet, _release)
    if rest == NIL:
        pkt_free(pool, head)
        return NIL
    Py_INCREF(packet)
    pkt(pool, head).next = rest
    pkt(pool, head).total_len = n
    return head


cdef class Tunnel(Driver):
    """mtu: bytes of an IP packet; medium: ``"ip"`` or ``"ethernet"``; capacity: packets that may wait in each
    direction; wake: called without arguments, inside `Engine.run`, when packets appear in an empty outgoing
    queue. An exception that it raises ends the driver and comes out of `run`. scatter_gather: the engine leaves packets in
    pieces, which `drain` joins: sends that the engine refers to are then copied only once.
    """
    cdef PacketQueue incoming
    cdef PacketQueue outgoing
    cdef object wake
    cdef object ready
    cdef readonly bint closed
    cdef readonly uint64_t fed          # packets taken from the program
    cdef readonly uint64_t refused      # packets not taken: queue or pool full, empty, too long
    cdef readonly uint64_t drained      # packets given to the program

    def __init__(self, mtu=1500, *, medium="ip", capacity=1024, wake=None, scatter_gather=False):
        super().__init__(medium=medium, mtu=mtu, caps=CAP_SG if scatter_gather else 0)
        queue_init(&self.incoming, capacity)
        queue_init(&self.outgoing, capacity)
        self.wake = wake

    def __dealloc__(self):
        queue_dispose(&self.incoming)
        queue_dispose(&self.outgoing)

    def close(self):
        """Free what waits in both directions; packets sent later are dropped, `feed` refuses."""
        self.closed = True
        if self.pool is not None:
            queue_clear(&self.incoming, &self.pool.c)
            queue_clear(&self.outgoing, &self.pool.c)
            self.pool.drain_released()

    def notify(self, callback):
        self.ready = callback
        return True

    # -- the program's side -----------------------------------------------------------------------------
    def feed(self, packet):
        """Hand a received packet (bytes-like; copied, but for the payload of large `bytes`, which is referenced) to the engine,
        which sees it in its next run. False, and counted in `refused`, if queue or pool are full or no packet has that
        length."""
        if not self._feed(packet):
            return False
        if self.ready is not None:
            self.ready()
        return True

    def feed_many(self, packets):
        """`feed` each; how many were taken."""
        cdef Py_ssize_t n = 0
        try:
            for packet in packets:
                n += self._feed(packet)
        finally:
            if n and self.ready is not None:
                self.ready()
        return n

    cdef bint _feed(self, object packet) except -1:
        cdef uint32_t i = NIL
        cdef Py_ssize_t length
        if self.pool is None:
            raise DriverError("tunnel: feed() before an engine has the driver; make the Engine first")
        length = len(packet) if isinstance(packet, bytes) else memoryview(packet).nbytes
        if not self.closed and queue_room(&self.incoming) and 0 < length <= FRAME_MAX:
            i = _lend(&self.pool.c, packet) if type(packet) is bytes and length >= LENT else copy_in(&self.pool.c, packet)
        if i == NIL:
            self.refused += 1
            return False
        queue_push(&self.incoming, i)
        self.fed += 1
        return True

    def drain(self, limit=None):
        """Take up to `limit` outgoing packets as a list of `bytes`."""
        cdef uint32_t i, _n
        cdef uint32_t n = queue_len(&self.outgoing)
        cdef list packets = []
        if limit is not None and limit < n:
            n = <uint32_t>max(0, limit)
        for _n in range(n):
            i = self.outgoing.slots[self.outgoing.head & self.outgoing.mask]
            packets.append(_bytes(&self.pool.c, i))
            queue_pop(&self.outgoing)
            pkt_free(&self.pool.c, i)
        self.drained += n
        return packets

    def drain_into(self, callback):
        """Call `callback(packet)` with each outgoing packet (`bytes`); how many. If it raises, that packet is
        gone and the others wait."""
        cdef uint32_t i
        cdef uint32_t n = 0
        while queue_len(&self.outgoing):
            i = queue_pop(&self.outgoing)
            packet = _bytes(&self.pool.c, i)
            pkt_free(&self.pool.c, i)
            self.drained += 1
            n += 1
            callback(packet)
        return n

    @property
    def pending(self):
        """Packets that wait to be drained."""
        return queue_len(&self.outgoing)

    @property
    def waiting(self):
        """Fed packets that the engine has not seen yet."""
        return queue_len(&self.incoming)

    # -- the engine's side ------------------------------------------------------------------------------
    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef int i
        n = min(n, <int>queue_len(&self.incoming))
        for i in range(n):
            packets[i] = queue_pop(&self.incoming)
        return n

    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        cdef bint was_empty = queue_len(&self.outgoing) == 0
        cdef int i
        if self.closed:
            for i in range(n):
                pkt_free(&self.pool.c, packets[i])
            return n
        n = min(n, <int>queue_room(&self.outgoing))
        for i in range(n):
            queue_push(&self.outgoing, packets[i])
        if was_empty and n:
            with gil:
                self._call_wake()
        return n

    cdef void _call_wake(self) noexcept:
        if self.wake is None:
            return
        try:
            self.wake()
        except Exception as error:
            self.error = error

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        return now if queue_len(&self.incoming) else NEVER
