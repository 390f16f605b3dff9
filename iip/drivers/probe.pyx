"""A probe for driver authors and tests: a driver's C side, called from Python."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from iip.drivers.base cimport NEVER, Driver
from iip.drivers.base cimport copy_in
from iip.memory.pool cimport NIL, Packet, PacketPool, pkt, pkt_data, pkt_free
from iip.wire.ethernet cimport ETH_HLEN, eth_type
from iip.wire.tcp cimport TCP_CSUM_OFF

cdef extern from *:
    """
    #include <poll.h>
    #include <stdint.h>
    #include <time.h>
    static inline int64_t probe_clock(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    static inline void probe_wait(int fd) {
        struct pollfd one = {fd, POLLIN, 0};
        poll(&one, 1, 10);
    }
    """
    int64_t probe_clock() noexcept nogil
    void probe_wait(int fd) noexcept nogil

cdef enum:
    BURST = 64
    EXPERIMENT = 0x88B5           # EtherType (IEEE 802, local experiments)


cdef class DriverProbe:
    """Plays the engine for `driver`: sends and receives frames as bytes, or packets as indexes.

    What the driver hands over is the caller's: `rx` frees it, after `rx_packets` the caller does.
    """
    cdef readonly Driver driver
    cdef readonly PacketPool pool

    def __init__(self, Driver driver not None, PacketPool pool not None):
        self.driver = driver
        self.pool = pool
        driver.attach(pool)

    def tx_packets(self, packets, *, now=0):
        """Offer packet indexes; how many the driver took. The others stay with the caller."""
        cdef int n = <int>len(packets), i
        cdef int taken
        cdef int64_t time = now
        cdef uint32_t* indexes = <uint32_t*>calloc(n + 1, sizeof(uint32_t))
        if indexes == NULL:
            raise MemoryError
        try:
            for i in range(n):
                indexes[i] = packets[i]
            with nogil:
                taken = self.driver.tx_burst(time, indexes, n)
        finally:
            free(indexes)
        self._check()
        return taken

    def rx_packets(self, *, limit=64, now=0):
        """Up to `limit` received packet indexes."""
        cdef int n = limit, i, got
        cdef int64_t time = now
        cdef uint32_t* indexes = <uint32_t*>calloc(n + 1, sizeof(uint32_t))
        if indexes == NULL:
            raise MemoryError
        try:
            with nogil:
                got = self.driver.rx_burst(time, indexes, n)
            packets = [indexes[i] for i in range(got)]
        finally:
            free(indexes)
        self._check()
        return packets

    def tx(self, *frames, now=0, flags=0, l3=0, l4=0, gso_size=0):
        """Send frames (bytes) with the given PKT_* marks; how many the driver took. The rest is freed.

        With `gso_size`, TCP segments to be cut at so many payload bytes; l3, l4: where their headers begin.
        """
        cdef uint32_t i
        cdef Packet* k
        packets = []
        for frame in frames:
            i = copy_in(&self.pool.c, frame)
            if i == NIL:
                break
            k = pkt(&self.pool.c, i)
            k.flags |= <uint32_t>flags
            k.l3, k.l4 = <uint16_t>(k.off + <uint32_t>l3), <uint16_t>(k.off + <uint32_t>l4)
            k.csum_off, k.gso_size = TCP_CSUM_OFF, gso_size
            packets.append(i)
        taken = self.tx_packets(packets, now=now)
        for i in packets[taken:]:
            pkt_free(&self.pool.c, i)
        return taken

    def rx(self, *, limit=64, now=0):
        """Received frames as bytes."""
        return [frame for frame, _ in self.rx_flags(limit=limit, now=now)]

    def rx_flags(self, *, limit=64, now=0):
        """Received frames as pairs of bytes and PKT_* marks."""
        frames = []
        for i in self.rx_packets(limit=limit, now=now):
            frames.append((self.pool.bytes(i), pkt(&self.pool.c, i).flags))
            pkt_free(&self.pool.c, i)
        return frames

    def poll_at(self, now=0):
        """The time (ns) at which the driver has something to do, or None."""
        cdef int64_t at = self.driver.poll_at(now)
        return None if at == NEVER else at

    def reflect(self, seconds):
        """Send Ethernet frames of EtherType 0x88B5 back to their sender for so long, asleep while there are none if the driver
        has a descriptor to sleep on; how many. For measuring: it does nothing else, and that without the GIL."""
        cdef int64_t end = probe_clock() + <int64_t>(seconds * 1e9), now = 0
        cdef int fd, got
        cdef uint64_t done = 0
        descriptor = self.driver.fileno()
        fd = -1 if descriptor is None else descriptor
        with nogil:
            while now < end and self.driver.error is None:
                now = probe_clock()
                got = self._reflect_burst(now)
                done += got
                if got == 0 and fd >= 0:
                    probe_wait(fd)
        self._check()
        return done

    cdef int _reflect_burst(self, int64_t now) noexcept nogil:
        cdef uint32_t packets[BURST]
        cdef uint8_t station[6]
        cdef uint8_t* p
        cdef int got = self.driver.rx_burst(now, packets, BURST), kept = 0, sent = 0, i
        for i in range(got):
            p = pkt_data(pkt(&self.pool.c, packets[i]))
            if pkt(&self.pool.c, packets[i]).len < ETH_HLEN or eth_type(p) != EXPERIMENT:
                pkt_free(&self.pool.c, packets[i])
                continue
            memcpy(station, p, 6)
            memcpy(p, p + 6, 6)
            memcpy(p + 6, station, 6)
            packets[kept] = packets[i]
            kept += 1
        while sent < kept and self.driver.error is None:
            sent += self.driver.tx_burst(now, packets + sent, kept - sent)
        for i in range(sent, kept):
            pkt_free(&self.pool.c, packets[i])
        return kept

    def _check(self):
        if self.driver.error is not None:
            raise self.driver.error
