"""A bad wire in front of any driver: delay, jitter, loss, duplication, reordering, corruption, limited rate.

All of it is decided by a generator with the given seed and by the engine's time, so a run can be repeated.
Packets on the wire are packets of the engine's pool: make that large enough for rate times delay.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from iip.drivers.base cimport NEVER, Driver
from iip.drivers.queue cimport packet_copy
from iip.memory.pool cimport (NIL, PKT_RX_IP_CSUM_OK, PKT_RX_L4_CSUM_OK, Packet, PacketPool, pkt, pkt_data, pkt_free)
from iip.net.types cimport CAP_TSO4, CAP_TSO6, CAP_TX_IP_CSUM, CAP_TX_L4_CSUM
from iip.wire.rng cimport rng_next, rng_seed

from iip.drivers.impairments import Impairments
from iip.errors import ConfigError

cdef enum:
    BURST = 64

cdef int64_t RETRY = 200000       # ns


cdef inline bint _before(const Held* a, const Held* b) noexcept nogil:
    return a.at < b.at or (a.at == b.at and a.order < b.order)


cdef void _heap_push(Line* line, Held item) noexcept nogil:
    """The caller knows that there is room."""
    cdef uint32_t i = line.n, parent
    line.n += 1
    while i:
        parent = (i - 1) >> 1
        if not _before(&item, &line.heap[parent]):
            break
        line.heap[i] = line.heap[parent]
        i = parent
    line.heap[i] = item


cdef Held _heap_pop(Line* line) noexcept nogil:
    """The caller knows that it is not empty."""
    cdef Held top = line.heap[0]
    cdef Held last
    cdef uint32_t i = 0, child
    line.n -= 1
    last = line.heap[line.n]
    while True:
        child = 2 * i + 1
        if child >= line.n:
            break
        if child + 1 < line.n and _before(&line.heap[child + 1], &line.heap[child]):
            child += 1
        if not _before(&line.heap[child], &last):
            break
        line.heap[i] = line.heap[child]
        i = child
    line.heap[i] = last
    return top


cdef inline int64_t _next(const Line* line) noexcept nogil:
    return line.heap[0].at if line.n else NEVER


cdef int _line_init(Line* line, object s, uint64_t seed) except -1:
    line.limit = s.limit
    line.heap = <Held*>calloc(line.limit, sizeof(Held))
    if line.heap == NULL:
        raise MemoryError("no memory for the packets on the wire")
    line.loss = <uint64_t>(s.loss * 4294967296.0)
    line.duplicate = <uint64_t>(s.duplicate * 4294967296.0)
    line.reorder = <uint64_t>(s.reorder * 4294967296.0)
    line.corrupt = <uint64_t>(s.corrupt * 4294967296.0)
    line.delay = <int64_t>(s.delay * 1e9)
    line.jitter = s.jitter * 1e9
    line.reorder_delay = <int64_t>(s.reorder_delay * 1e9)
    line.ns_per_byte = 8e9 / s.rate if s.rate else 0.0
    line.queue = <int64_t>min(s.queue * line.ns_per_byte, 1e18)
    rng_seed(&line.rng, seed)
    return 0


cdef object _line_stats(const Line* line, str prefix):
    return {f"{prefix}_packets": line.packets, f"{prefix}_lost": line.lost, f"{prefix}_duplicated": line.duplicated,
            f"{prefix}_reordered": line.reordered, f"{prefix}_corrupted": line.corrupted,
            f"{prefix}_queue_full": line.queue_full, f"{prefix}_no_buffer": line.no_buffer, f"{prefix}_held": line.n}


cdef class Impair(Driver):
    """Put a bad wire in front of `driver`: `rx` for what comes from it, `tx` for what goes to it.

    seed: of the random decisions. While `tx` corrupts, checksums are not left to the device, which would
    compute them over the damage.
    """

    def __init__(self, Driver driver not None, *, seed, rx=None, tx=None):
        rx = Impairments() if rx is None else rx
        tx = Impairments() if tx is None else tx
        for name, settings in (("rx", rx), ("tx", tx)):
            if not isinstance(settings, Impairments):
                raise ConfigError(f"{name}={settings!r}: use iip.drivers.Impairments(...)")
        caps = driver.caps
        if tx.corrupt:
            caps &= ~<uint32_t>(CAP_TX_IP_CSUM | CAP_TX_L4_CSUM | CAP_TSO4 | CAP_TSO6)
        super().__init__(medium=driver.medium, mtu=driver.mtu, caps=caps, mac=driver.mac)
        self.inner = driver
        base = 2 * int(seed)
        _line_init(&self.rx_line, rx, base & 0xFFFFFFFFFFFFFFFF)
        _line_init(&self.tx_line, tx, (base + 1) & 0xFFFFFFFFFFFFFFFF)

    def __dealloc__(self):
        free(self.rx_line.heap)
        free(self.tx_line.heap)

    def attach(self, PacketPool pool not None):
        self.inner.attach(pool)
        Driver.attach(self, pool)

    def fileno(self):
        return self.inner.fileno()

    def close(self):
        """Free the packets on the wire and close the driver behind it."""
        while self.rx_line.n:
            pkt_free(&self.pool.c, _heap_pop(&self.rx_line).packet)
        while self.tx_line.n:
            pkt_free(&self.pool.c, _heap_pop(&self.tx_line).packet)
        self.inner.close()

    def stats(self):
        """Counters of both directions: packets offered, what happened to them, how many are on the wire."""
        return _line_stats(&self.rx_line, "rx") | _line_stats(&self.tx_line, "tx")

    # -- the engine's side ------------------------------------------------------------------------------
    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef uint32_t fresh[BURST]
        cdef int got, i, count = 0
        self._flush(now)
        got = self.inner.rx_burst(now, fresh, min(n, <int>BURST))
        for i in range(got):
            self._admit(&self.rx_line, fresh[i], now)
        while count < n and _next(&self.rx_line) <= now:
            packets[count] = _heap_pop(&self.rx_line).packet
            count += 1
        if self.inner.error is not None:
            with gil:
                self.error = self.inner.error
        return count

    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        cdef int i
        for i in range(n):
            self._admit(&self.tx_line, packets[i], now)
        self._flush(now)
        return n

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        cdef int64_t tx = _next(&self.tx_line)
        if tx < self.tx_line.blocked_until:
            tx = self.tx_line.blocked_until
        return min(min(_next(&self.rx_line), tx), self.inner.poll_at(now))

    cdef void _admit(self, Line* line, uint32_t packet, int64_t now) noexcept nogil:
        """A packet enters the wire. The dice are thrown in the same number for each, whatever the settings."""
        cdef uint64_t a = rng_next(&line.rng), b = rng_next(&line.rng), c = rng_next(&line.rng)
        cdef uint32_t copy = NIL
        line.packets += 1
        if (a >> 32) < line.loss:
            line.lost += 1
            pkt_free(&self.pool.c, packet)
            return
        if (b >> 32) < line.duplicate:
            copy = packet_copy(&self.pool.c, packet, &self.pool.c)
            if copy == NIL:
                line.no_buffer += 1
            else:
                line.duplicated += 1
        if <uint32_t>a < line.corrupt:
            packet = self._hit(line, packet, c)
        if packet != NIL:
            self._schedule(line, packet, now)
        if copy != NIL:
            self._schedule(line, copy, now)

    cdef uint32_t _hit(self, Line* line, uint32_t packet, uint64_t dice) noexcept nogil:
        """Flip one bit, in a copy, since others may see these bytes too. NIL if there is no room for a copy."""
        cdef uint32_t hit = packet_copy(&self.pool.c, packet, &self.pool.c)
        cdef Packet* k
        cdef uint64_t bit
        pkt_free(&self.pool.c, packet)
        if hit == NIL:
            line.no_buffer += 1
            return NIL
        k = pkt(&self.pool.c, hit)
        k.flags &= ~<uint32_t>(PKT_RX_IP_CSUM_OK | PKT_RX_L4_CSUM_OK)
        if k.total_len:
            bit = ((dice >> 32) * (<uint64_t>k.total_len * 8)) >> 32
            while (bit >> 3) >= k.len:
                bit -= <uint64_t>k.len * 8
                k = pkt(&self.pool.c, k.next)
            pkt_data(k)[bit >> 3] ^= <uint8_t>(1 << (bit & 7))
            line.corrupted += 1
        return hit

    cdef void _schedule(self, Line* line, uint32_t packet, int64_t now) noexcept nogil:
        cdef Held item
        cdef uint64_t dice = rng_next(&line.rng)
        cdef int64_t start = now
        if line.n == line.limit:
            line.queue_full += 1
            pkt_free(&self.pool.c, packet)
            return
        if line.ns_per_byte != 0:
            start = max(now, line.busy_until)
            if start - now > line.queue:
                line.queue_full += 1
                pkt_free(&self.pool.c, packet)
                return
            start += <int64_t>(line.ns_per_byte * pkt(&self.pool.c, packet).total_len)
            line.busy_until = start
        item.packet = packet
        item.order = line.order
        line.order += 1
        item.at = start + line.delay + <int64_t>(<double><uint32_t>dice / 4294967296.0 * line.jitter)
        if (dice >> 32) < line.reorder:
            line.reordered += 1
            item.at += line.reorder_delay
        else:
            item.at = max(item.at, line.last_at)
            line.last_at = item.at
        _heap_push(line, item)

    cdef void _flush(self, int64_t now) noexcept nogil:
        """What has arrived at the other end of the wire goes to the driver; what it refuses waits."""
        cdef Held due[BURST]
        cdef uint32_t packets[BURST]
        cdef int n, taken
        while _next(&self.tx_line) <= now:
            n = 0
            while n < BURST and _next(&self.tx_line) <= now:
                due[n] = _heap_pop(&self.tx_line)
                packets[n] = due[n].packet
                n += 1
            taken = self.inner.tx_burst(now, packets, n)
            if taken < n:
                while taken < n:
                    _heap_push(&self.tx_line, due[taken])
                    taken += 1
                self.tx_line.blocked_until = now + RETRY
                return
