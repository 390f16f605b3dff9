"""A bad wire in front of any driver: delay, jitter, loss, duplication, reordering, corruption, limited rate.

All of it is decided by a generator with the given seed and by the engine's time, so a run can be repeated.
Packets on the wire are packets of the engine's pool: make that large enough for rate times delay.
"""
from libc.stdint cimport int64_t, uint32_t

from iip.drivers.base cimport Driver
from iip.drivers.line cimport (Line, line_admit, line_clear, line_dispose, line_init, line_next, line_pop, line_return,
                               line_stats)
from iip.memory.pool cimport NIL, PacketPool, pkt, pkt_free
from iip.net.gso cimport gso_segment
from iip.net.types cimport CAP_TSO4, CAP_TSO6, CAP_TX_IP_CSUM, CAP_TX_L4_CSUM
from iip.wire.bytes cimport likely

from iip.drivers.impairments import Impairments
from iip.errors import ConfigError

cdef enum:
    BURST = 64

cdef int64_t RETRY = 200000       # ns


cdef class Impair(Driver):
    """Put a bad wire in front of `driver`: `rx` for what comes from it, `tx` for what goes to it.

    seed: of the random decisions. While `tx` corrupts, checksums are not left to the device, which would
    compute them over the damage. Frames of many segments are cut before they are on the wire, in both directions.
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
        line_init(&self.rx_line, rx, base & 0xFFFFFFFFFFFFFFFF, driver.medium)
        line_init(&self.tx_line, tx, (base + 1) & 0xFFFFFFFFFFFFFFFF, driver.medium)

    def __dealloc__(self):
        line_dispose(&self.rx_line)
        line_dispose(&self.tx_line)

    def attach(self, PacketPool pool not None):
        self.inner.attach(pool)
        Driver.attach(self, pool)
        self.rx_line.pool = self.tx_line.pool = &pool.c

    def fileno(self):
        return self.inner.fileno()

    def notify(self, callback):
        return self.inner.notify(callback)

    def close(self):
        """Free the packets on the wire and close the driver behind it."""
        line_clear(&self.rx_line)
        line_clear(&self.tx_line)
        self.inner.close()

    def stats(self):
        """Counters of both directions: packets offered, what happened to them, how many are on the wire."""
        return line_stats(&self.rx_line, "rx_") | line_stats(&self.tx_line, "tx_")

    # -- the engine's side ------------------------------------------------------------------------------
    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef uint32_t fresh[BURST]
        cdef int got, i, count = 0
        self._flush(now)
        got = self.inner.rx_burst(now, fresh, min(n, <int>BURST))
        for i in range(got):
            self._admit(&self.rx_line, fresh[i], now)
        while count < n:
            packets[count] = line_pop(&self.rx_line, now)
            if packets[count] == NIL:
                break
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

    cdef void _admit(self, Line* line, uint32_t packet, int64_t now) noexcept nogil:
        cdef uint32_t segments[BURST]
        cdef int n, i
        if likely(pkt(line.pool, packet).gso_size == 0):
            line_admit(line, packet, now)
            return
        while packet != NIL:
            n = gso_segment(line.pool, &packet, segments, BURST, self.caps)
            for i in range(n):
                line_admit(line, segments[i], now)
            if n == 0 and packet != NIL:
                line.no_buffer += 1
                pkt_free(line.pool, packet)
                return

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        return min(min(line_next(&self.rx_line), max(line_next(&self.tx_line), self.blocked_until)),
                   self.inner.poll_at(now))

    cdef void _flush(self, int64_t now) noexcept nogil:
        """What has arrived at the other end of the wire goes to the driver; what it refuses waits."""
        cdef uint32_t packets[BURST]
        cdef int n = BURST, taken
        while n == BURST:
            n = 0
            while n < BURST:
                packets[n] = line_pop(&self.tx_line, now)
                if packets[n] == NIL:
                    break
                n += 1
            if n == 0:
                return
            taken = self.inner.tx_burst(now, packets, n)
            if taken < n:
                while n > taken:
                    n -= 1
                    line_return(&self.tx_line, packets[n], now)
                self.blocked_until = now + RETRY
                return
