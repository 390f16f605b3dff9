"""The memory link: two engines in one thread, back to back.

When both engines use one `PacketPool` a packet passes by reference, its bytes untouched; otherwise it is
copied. The queues are bounded: what does not fit stays with the sending engine. For engines in different
threads this is the wrong link, since a pool belongs to one thread.
"""
from libc.stdint cimport int64_t, uint32_t

from iip.drivers.base cimport NEVER
from iip.drivers.queue cimport (PacketQueue, packet_copy, queue_at, queue_clear, queue_dispose, queue_init, queue_len, queue_pop,
                                queue_push, queue_room)
from iip.memory.pool cimport (NIL, PKT_EXTERNAL, PKT_INDIRECT, PKT_RX_IP_CSUM_OK, PKT_RX_L4_CSUM_OK, PKT_TX_IP_CSUM,
                              PKT_TX_L4_CSUM, PKT_TX_TSO4, PKT_TX_TSO6, Packet, PacketPool, Pool, pkt, pkt_free)
from iip.net.gso cimport finish_checksum, gso_segment
from iip.net.types cimport (CAP_LRO, CAP_RX_IP_CSUM, CAP_RX_L4_CSUM, CAP_SG, CAP_TSO4, CAP_TSO6, CAP_TX_IP_CSUM,
                            CAP_TX_L4_CSUM)
from iip.wire.bytes cimport prefetch, unlikely

cdef enum:
    FIRST = 16                    # packets of the next burst, before its receiver asks for the others itself


cdef inline void _turn_round(Packet* k) noexcept nogil:
    """What was to be sent has been received. A checksum left to the device was never computed and the bytes
    never left memory, so it counts as verified; a computed one is for the receiver to verify."""
    cdef uint32_t keep = k.flags & <uint32_t>(PKT_INDIRECT | PKT_EXTERNAL)
    if k.flags & <uint32_t>(PKT_TX_IP_CSUM | PKT_TX_L4_CSUM):
        keep |= PKT_RX_IP_CSUM_OK | PKT_RX_L4_CSUM_OK
    k.flags = keep


cdef inline uint32_t _cells(Pool* pool, uint32_t n) noexcept nogil:
    """Cells that a frame of `n` bytes takes."""
    return n // (pool.cell_size - pool.headroom) + 1


cdef class MemoryDriver(Driver):
    """One end of a `MemoryLink`; give it to one engine."""

    def __init__(self, *, capacity=4096, **settings):
        super().__init__(**settings)
        queue_init(&self.inbox, capacity)
        self.rest = NIL
        self.whole = True

    def __dealloc__(self):
        queue_dispose(&self.inbox)

    def attach(self, PacketPool pool not None):
        Driver.attach(self, pool)
        self.shared = self.peer is not None and self.peer.pool is pool
        if self.peer is not None:
            self.peer.shared = self.shared

    def close(self):
        """Pull the plug: what waits for this end is freed, what comes later is dropped. What this end sent
        before still arrives."""
        self.closed = True
        if self.pool is not None:
            queue_clear(&self.inbox, &self.pool.c)
            pkt_free(&self.pool.c, self.rest)
        self.rest = NIL

    def notify(self, callback):
        self.ready = callback
        return True

    @property
    def pending(self):
        """Packets that wait for this end's engine."""
        return queue_len(&self.inbox)

    def stats(self):
        """Counters of this end: packets, bytes; drops are packets sent to an end without an engine."""
        return {"tx_packets": self.tx_packets, "tx_bytes": self.tx_bytes, "tx_dropped": self.tx_dropped,
                "rx_packets": self.rx_packets}

    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef int i
        cdef int take = min(n, <int>queue_len(&self.inbox))
        for i in range(take):
            packets[i] = queue_pop(&self.inbox)
        for i in range(min(<int>FIRST, <int>queue_len(&self.inbox))):
            prefetch(pkt(&self.pool.c, queue_at(&self.inbox, i)))     # no cache holds a long queue
        self.rx_packets += take
        return take

    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        n = self._tx(packets, n)
        if unlikely(self.peer.ready is not None) and queue_len(&self.peer.inbox):
            with gil:
                self._tell()
        return n

    cdef void _tell(self) noexcept:
        try:
            self.peer.ready()
        except Exception as error:
            self.error = error

    cdef int _tx(self, const uint32_t* packets, int n) noexcept nogil:
        cdef PacketQueue* inbox = &self.peer.inbox
        cdef Pool* pool = &self.pool.c
        cdef Packet* k
        cdef int i
        if unlikely(not self.whole):
            return self._tx_finished(packets, n)
        if unlikely(not self.shared or self.peer.closed):
            return self._tx_copy(packets, n)
        n = min(n, <int>queue_room(inbox))
        for i in range(n):
            k = pkt(pool, packets[i])
            self.tx_bytes += k.total_len
            _turn_round(k)
            queue_push(inbox, packets[i])
        self.tx_packets += n
        return n

    cdef int _tx_copy(self, const uint32_t* packets, int n) noexcept nogil:
        """Between different pools. If the other one has no packet left, the rest waits here."""
        cdef PacketQueue* inbox = &self.peer.inbox
        cdef Pool* theirs
        cdef int i
        cdef uint32_t copy
        if self.peer.closed or self.peer.pool is None:
            return self._tx_drop(packets, n)
        theirs = &self.peer.pool.c
        n = min(n, <int>queue_room(inbox))
        for i in range(n):
            copy = packet_copy(&self.pool.c, packets[i], theirs)
            if copy == NIL:
                n = i
                break
            self.tx_bytes += pkt(&self.pool.c, packets[i]).total_len
            pkt_free(&self.pool.c, packets[i])
            _turn_round(pkt(theirs, copy))
            queue_push(inbox, copy)
        self.tx_packets += n
        return n

    cdef int _tx_finished(self, const uint32_t* packets, int n) noexcept nogil:
        """To an end that does not take what the device would have to finish: the link does it, as late as possible."""
        cdef int i = 0
        if self.peer.closed or self.peer.pool is None:
            pkt_free(&self.pool.c, self.rest)
            self.rest = NIL
            return self._tx_drop(packets, n)
        while self._cut() and i < n:
            if pkt(&self.pool.c, packets[i]).flags & (PKT_TX_TSO4 | PKT_TX_TSO6) and not self.peer.caps & CAP_LRO:
                self.rest = packets[i]
            else:
                if not self.peer.caps & CAP_RX_L4_CSUM:
                    finish_checksum(&self.pool.c, packets[i], 0)
                if not self._deliver(packets[i]):
                    break
            i += 1
        self._cut()
        return i

    cdef bint _cut(self) noexcept nogil:
        """Send the rest of a large frame in segments. False when not all of it found room."""
        cdef uint32_t segment, caps = self.caps & <uint32_t>CAP_SG
        if self.peer.caps & CAP_RX_L4_CSUM:
            caps |= CAP_TX_L4_CSUM | CAP_TX_IP_CSUM
        while self.rest != NIL:
            if queue_room(&self.peer.inbox) == 0:
                return False
            if not self.shared and self.peer.pool.c.n_free_direct < _cells(
                    &self.peer.pool.c, pkt(&self.pool.c, self.rest).gso_size + 128):
                return False
            if gso_segment(&self.pool.c, &self.rest, &segment, 1, caps):
                self._deliver(segment)
            elif self.rest != NIL:
                return False      # no memory
        return True

    cdef bint _deliver(self, uint32_t packet) noexcept nogil:
        """Into the other end's queue. False, the packet untouched, if there is no room or memory."""
        cdef Packet* k = pkt(&self.pool.c, packet)
        cdef uint32_t n = k.total_len, copy = packet
        if queue_room(&self.peer.inbox) == 0:
            return False
        if not self.shared:
            copy = packet_copy(&self.pool.c, packet, &self.peer.pool.c)
            if copy == NIL:
                return False
            pkt_free(&self.pool.c, packet)
        _turn_round(pkt(&self.peer.pool.c, copy))
        queue_push(&self.peer.inbox, copy)
        self.tx_packets += 1
        self.tx_bytes += n
        return True

    cdef int _tx_drop(self, const uint32_t* packets, int n) noexcept nogil:
        cdef int i
        for i in range(n):
            pkt_free(&self.pool.c, packets[i])
        self.tx_dropped += n
        return n

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        return now if queue_len(&self.inbox) or self.rest != NIL else NEVER


cdef class MemoryLink:
    """Two connected drivers, `a` and `b`, for two engines in one thread.

    medium: ``"ip"`` or ``"ethernet"``; mtu: bytes; capacity: packets that may wait at each end; `macs`: two station
    addresses (bytes), ethernet only; None leaves them to the engines.

    What the link offers to do for the engines: checksum_offload, both ways, or each way for itself: tx_checksum leaves
    checksums of packets sent to the link, rx_checksum says that those of received packets are right;
    scatter_gather takes chains; tso takes segments of up to 64 KiB, and lro (by default as tso) hands them in
    whole, else the link cuts them. What one end leaves to the link and the other does not take, the link
    finishes in software.
    """

    def __init__(self, medium="ip", mtu=1500, capacity=4096, checksum_offload=True, scatter_gather=True, tso=False,
                 macs=None, *, tx_checksum=None, rx_checksum=None, lro=None):
        caps = 0
        if checksum_offload if tx_checksum is None else tx_checksum:
            caps |= CAP_TX_IP_CSUM | CAP_TX_L4_CSUM
        if checksum_offload if rx_checksum is None else rx_checksum:
            caps |= CAP_RX_IP_CSUM | CAP_RX_L4_CSUM
        if scatter_gather:
            caps |= CAP_SG
        if tso:
            caps |= CAP_TSO4 | CAP_TSO6
        if tso if lro is None else lro:
            caps |= CAP_LRO
        mac_a, mac_b = (None, None) if macs is None else (bytes(m) for m in macs)
        self.a = MemoryDriver(capacity=capacity, medium=medium, mtu=mtu, caps=caps, mac=mac_a)
        self.b = MemoryDriver(capacity=capacity, medium=medium, mtu=mtu, caps=caps, mac=mac_b)
        self.a.peer = self.b
        self.b.peer = self.a
        self.a.whole = self.b.whole = (
            not (tso and not caps & CAP_LRO) and not (caps & CAP_TX_L4_CSUM and not caps & CAP_RX_L4_CSUM))

    def close(self):
        self.a.close()
        self.b.close()
