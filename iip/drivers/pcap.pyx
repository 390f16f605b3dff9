"""A capture as a driver: packets come from a file, at their times, and those that are sent go to another."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from iip.drivers.base cimport NEVER, Driver, copy_in
from iip.memory.pool cimport NIL, PKT_RX_L4_CSUM_OK, pkt, pkt_free
from iip.net.types cimport CAP_LRO, CAP_RX_L4_CSUM, CAP_SG

from iip.drivers import captures
from iip.drivers.pcapng import OUTBOUND as _OUTBOUND, PcapngWriter
from iip.errors import ConfigError


cdef class Pcap(Driver):
    """Packets of the capture `source` (pcap or pcapng, perhaps gzipped: a path or a binary file).

    sink: where sent packets are written to (pcapng: a path or a binary file); None: nowhere. direction: ``"in"`` or ``"out"``, if
    the capture tells, takes only packets of that direction. speed: 2.0 plays twice as fast, None all at once. trust_checksums:
    believe the checksums, which a capture made in front of a device that computes them does not have.

    The first run of the engine is the time of the first packet, all others follow at their distances: run it first at `start`, and
    engine and capture have the same time; run it on a clock, and the capture is replayed. Needs the library scapy (``iip[pcap]``).
    """
    cdef object source
    cdef object writer
    cdef object waiting           # the next packet
    cdef double speed             # 0: all at once
    cdef bint trust
    cdef bint running
    cdef int64_t began            # engine's time of the first packet
    cdef int64_t due              # and of the next
    cdef readonly int64_t start   # when the first packet was captured, ns since 1970
    cdef readonly uint64_t rx_packets
    cdef readonly uint64_t rx_no_buffer   # for which the pool had no room: lost
    cdef readonly uint64_t tx_packets

    def __init__(self, source, *, sink=None, direction=None, speed=1.0, trust_checksums=False, mtu=65535):
        if direction is not None and direction not in ("in", "out"):
            raise ConfigError(f"direction={direction!r}: use 'in', 'out' or None")
        if speed is not None and not (isinstance(speed, (int, float)) and 0 < speed < 1e9):
            raise ConfigError(f"speed={speed!r}: must be greater than 0, or None for all at once")
        self.speed, self.trust = speed or 0, bool(trust_checksums)
        self.source = captures.Source(source, direction)
        super().__init__(medium=self.source.medium, mtu=mtu,
                         caps=CAP_LRO | CAP_SG | (CAP_RX_L4_CSUM if trust_checksums else 0))
        self.start = self.source.start
        self.waiting = self.source.next()
        if sink is not None:
            self.writer = PcapngWriter(sink)
            self.writer.interface(self.medium)

    @property
    def rx_ignored(self):
        """Packets of another medium or direction, or cut short when they were captured."""
        return self.source.ignored

    @property
    def finished(self):
        """Whether the engine has got all packets."""
        return self.waiting is None

    def close(self):
        """Close the files that were opened here. What is sent from then on is dropped."""
        self.waiting = None
        if self.source is not None:
            self.source.close()
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def stats(self):
        """Counters of this driver."""
        return {"rx_packets": self.rx_packets, "rx_ignored": self.rx_ignored, "rx_no_buffer": self.rx_no_buffer,
                "tx_packets": self.tx_packets}

    cdef void _schedule(self):
        """When the waiting packet is due."""
        cdef int64_t after
        if self.waiting is None:
            self.due = NEVER
            return
        after = self.waiting.at
        after -= self.start
        if self.speed != 1:
            after = <int64_t>(after / self.speed) if self.speed else 0
        self.due = self.began + after

    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        if self.running and now < self.due:
            return 0
        with gil:
            return self._rx(now, packets, n)

    cdef int _rx(self, int64_t now, uint32_t* packets, int n) noexcept:
        cdef int count = 0
        cdef uint32_t i
        try:
            if not self.running:
                self.running = True
                self.began = now
                self._schedule()
            while count < n and self.due <= now:
                i = copy_in(&self.pool.c, self.waiting.frame)
                if i == NIL:
                    self.rx_no_buffer += 1
                else:
                    if self.trust:
                        pkt(&self.pool.c, i).flags |= PKT_RX_L4_CSUM_OK
                    packets[count] = i
                    count += 1
                    self.rx_packets += 1
                self.waiting = self.source.next()
                self._schedule()
        except Exception as error:
            self.due = NEVER
            self.error = error
        return count

    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        if n:
            with gil:
                self._tx(now, packets, n)
        return n

    cdef void _tx(self, int64_t now, const uint32_t* packets, int n) noexcept:
        cdef int i
        try:
            for i in range(n if self.writer is not None else 0):
                self.writer.frame(self.start + now - self.began, self.pool.bytes(packets[i]), _OUTBOUND)
        except Exception as error:
            self.writer = None
            self.error = error
        self.tx_packets += n
        for i in range(n):
            pkt_free(&self.pool.c, packets[i])

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        return self.due if self.running else now
