"""Devices by DPDK: frames from the device into the packet pool and out of it, without the kernel.

What is received lies in packets of the pool, which the device takes by itself (`cells`); what is sent is described by mbufs that
point into the pool. There is nothing to sleep on: the device is looked at again and again, less often as long as nothing comes.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from iip.drivers.base cimport NEVER, Driver
from iip.drivers.discovery cimport is_discovery
from iip.drivers.dpdk.cells cimport STASH, Memory, reclaim, returned
from iip.drivers.dpdk.port cimport Port
from iip.drivers.dpdk.rte cimport (
    RTE_MBUF_F_RX_IP_CKSUM_GOOD, RTE_MBUF_F_RX_IP_CKSUM_MASK, RTE_MBUF_F_RX_L4_CKSUM_GOOD, RTE_MBUF_F_RX_L4_CKSUM_MASK,
    RTE_MBUF_F_TX_IP_CKSUM, RTE_MBUF_F_TX_IPV4, RTE_MBUF_F_TX_IPV6, RTE_MBUF_F_TX_TCP_CKSUM, RTE_MBUF_F_TX_TCP_SEG,
    RTE_MBUF_F_TX_UDP_CKSUM, rte_eth_rx_burst, rte_eth_tx_burst, rte_eth_tx_done_cleanup, rte_eth_tx_prepare, rte_mbuf,
    rte_pktmbuf_free)
from iip.drivers.queue cimport packet_copy, packet_foreign
from iip.memory.pool cimport (
    NIL, PKT_RX_IP_CSUM_OK, PKT_RX_L4_CSUM_OK, PKT_TX_L4_CSUM, PKT_TX_TSO4, PKT_TX_TSO6, Packet, PacketPool, Pool,
    pkt, pkt_alloc, pkt_chain_len, pkt_data, pkt_free)
from iip.net.gso cimport finish_checksum
from iip.net.types cimport CAP_SG, CAP_TSO4, CAP_TSO6
from iip.wire.bytes cimport likely, unlikely
from iip.wire.ethernet cimport ETH_HLEN
from iip.wire.tcp cimport TCP_CSUM_OFF

from iip.drivers.capability import Capability
from iip.drivers.settings import in_range, station as station_of
from iip.errors import ConfigError, DriverError

cdef enum:
    BURST = 64
    TAG = 4                       # VLAN
    LARGEST = 65535 + ETH_HLEN + TAG
    UDP_CSUM_OFF = 6
    LOOK = 10_000_000             # ns between two looks whether the device is still there
    EAGER = 50_000                # ns after a frame during which the device is looked at all the time
    RETRY = 50_000                # ns until the device is offered again what it did not take,
    PATIENCE = 100_000_000        # and after which it is lost, as without a cable


cdef class Dpdk(Driver):
    """The device `device` of DPDK: a PCI address (``"0000:03:00.0"``) or a virtual device with its arguments
    (``"net_af_packet0,iface=eth0"``). See `initialize` for DPDK's own arguments.

    mtu: set on the device; None: what it has. mac: a station address of our own, for which the device is made promiscuous; None:
    the device's. offload: leave checksums and segmentation to the device, as far as it can; `Capability`: only these. queues: of
    how many drivers of the device this is the first; beside: that one, for the others. ring: descriptors of each queue, about.
    pause: µs between two looks at the device at most, when nothing comes; 0: it is looked at all the time.

    Raises `DriverError`, which says what to do.
    """
    cdef Port port
    cdef Memory memory
    cdef uint16_t id
    cdef bint on                        # the engine is attached, and we are not closed
    cdef bint gone
    cdef bint copies                    # lent memory: the device reads only the pool
    cdef bint lazy                      # the device has to be asked what it has sent
    cdef uint32_t pieces                # of a frame, at most
    cdef int64_t pause                  # ns
    cdef int64_t heard                  # when a frame came last
    cdef int64_t looked                 # when we last asked for the device
    cdef rte_mbuf* batch[BURST]         # what the device gets next
    cdef int first                      # of them,
    cdef int end                        # and behind the last
    cdef int64_t refused                # since when the device does not take it, 0: it does
    cdef bint marked                    # some of them have work for the device
    cdef object final
    cdef readonly int queue
    cdef readonly uint64_t rx_packets
    cdef readonly uint64_t rx_bytes
    cdef readonly uint64_t rx_no_buffer # frames in foreign memory for which the pool had no packet
    cdef readonly uint64_t tx_packets
    cdef readonly uint64_t tx_bytes
    cdef readonly uint64_t tx_errors    # frames that could not be sent: too long, refused, device gone

    def __init__(self, device, *, mtu=None, mac=None, offload=True, queue=0, queues=1, beside=None, ring=1024, pause=500):
        in_range("queues", queues, 1, 256)
        in_range("ring", ring, 64, 32768)
        in_range("pause", pause, 0, 1_000_000)
        if beside is None:
            self.port = Port(device, queues=queues, mtu=mtu, mac=station_of(mac), offload=_wanted(offload), ring=ring)
        else:
            self.port = _port_of(beside)
        self.port.users += 1
        if not 0 <= queue < self.port.queues:
            name, there = self.port.name, self.port.queues
            self.close()
            raise ConfigError(f"queue={queue!r}: device {name} was opened with queues={there}")
        self.queue, self.id, self.pause = queue, self.port.id, pause * 1000
        self.copies = not self.port.virtual
        self.pieces = min(self.port.pieces(), STASH)
        self.lazy = True
        try:
            super().__init__(medium="ethernet", mtu=self.port.mtu, caps=self.port.capabilities(), mac=self.port.mac)
        except BaseException:
            self.close()
            raise

    def __del__(self):
        self.close()

    def attach(self, PacketPool pool not None):
        if self.pool is pool:
            return
        if self.port is None:
            raise DriverError("dpdk: the driver is closed; make a new one")
        if self.queue in self.port.memories:
            raise ConfigError(f"queue={self.queue}: has a driver already; use another")
        Driver.attach(self, pool)
        if LARGEST // (pool.packet_size - pool.headroom) + 3 > self.pieces:
            self.caps &= ~(CAP_TSO4 | CAP_TSO6)
        try:
            self.memory = self.port.join(self.queue, pool)
        except BaseException:
            self.close()
            raise
        self.on = True

    @property
    def name(self):
        """Of the device, as DPDK calls it."""
        return self.port.name if self.port is not None else None

    @property
    def driver(self):
        """DPDK's driver for it, like ``"net_tap"``."""
        return self.port.driver_name() if self.port is not None else None

    @property
    def steered(self):
        """Whether the device deals flows to its queues by the symmetric Toeplitz hash, so that answers to active opens come
        to the engine that opened."""
        return self.port is not None and self.port.steered

    @property
    def offload(self):
        """Whether anything is left to the device."""
        return bool(self.caps & ~CAP_SG)

    def plain(self):
        """See `Driver.plain`."""
        self.port.plain()
        self.caps = self.port.capabilities()

    def close(self):
        """Let go of the device. It is given up with the last driver of its queues, and with that what the device had comes back."""
        if self.port is None:
            return
        self.final = self.stats()
        self.on = False
        while self.first < self.end:
            rte_pktmbuf_free(self.batch[self.first])
            self.first += 1
        port, self.port, self.memory = self.port, None, None
        port.leave()

    def stats(self):
        """Counters of this driver, and of the device with all its queues: rx_dropped (we were too slow), rx_errors, rx_no_buffer
        (the pool was empty), tx_errors."""
        if self.port is None:
            return self.final
        device = self.port.stats()
        return {"rx_packets": self.rx_packets, "rx_bytes": self.rx_bytes, "rx_dropped": device["rx_dropped"],
                "rx_errors": device["rx_errors"], "rx_no_buffer": device["rx_no_buffer"] + self.rx_no_buffer,
                "tx_packets": self.tx_packets, "tx_bytes": self.tx_bytes, "tx_errors": device["tx_errors"] + self.tx_errors}

    # -- receiving ----------------------------------------------------------------------------------------
    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef rte_mbuf* mbufs[BURST]
        cdef int count = 0, want = BURST, got = BURST, i
        if unlikely(not self.on or not self.port.started or self.gone):
            return 0
        if self.memory.sending.in_flight:
            self._reclaim()
        if unlikely(self.port.queues > 1):
            count = self.port.hear(self.queue, &self.pool.c, packets, n)
        while count < n and got == want:
            want = min(BURST, n - count)
            got = rte_eth_rx_burst(self.id, <uint16_t>self.queue, mbufs, <uint16_t>want)
            for i in range(got):
                packets[count] = self._received(mbufs[i])
                if likely(packets[count] != NIL):
                    count += 1
        if count:
            self.heard = now
            self.rx_packets += count
        elif unlikely(now - self.looked > LOOK):
            self._look(now)
        return count

    cdef uint32_t _received(self, rte_mbuf* m) noexcept nogil:
        """The packet that lies in an mbuf; NIL if there is none for it."""
        cdef uint32_t i
        cdef Packet* k
        if likely(m.pool == self.memory.cells.mempool):
            i = self._own(m) if likely(m.nb_segs == 1) else self._chain(m)
        else:
            i = self._copy(m)
            if i == NIL:
                self.rx_no_buffer += 1
                return NIL
        k = pkt(&self.pool.c, i)
        self.rx_bytes += k.total_len
        if unlikely(self.port.queues > 1) and is_discovery(pkt_data(k), k.len):
            self.port.tell(self.queue, pkt_data(k), k.len)
        return i

    cdef uint32_t _own(self, rte_mbuf* m) noexcept nogil:
        """One piece, in the cell that the device filled."""
        cdef uint32_t i = returned(&self.memory.cells, m)
        cdef Packet* k = pkt(&self.pool.c, i)
        k.off = m.data_off
        k.len = m.data_len
        k.total_len = m.pkt_len
        if (m.ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_GOOD:
            k.flags |= PKT_RX_IP_CSUM_OK
        if (m.ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD:
            k.flags |= PKT_RX_L4_CSUM_OK
        return i

    cdef uint32_t _chain(self, rte_mbuf* m) noexcept nogil:
        cdef uint32_t head = self._own(m), last = head, i
        cdef rte_mbuf* rest
        while True:
            rest = m.next
            m.next = NULL         # as it has to be in the mempool
            m.nb_segs = 1
            if rest == NULL:
                return head
            i = self._own(rest)
            pkt(&self.pool.c, last).next = i
            last = i
            m = rest

    cdef uint32_t _copy(self, rte_mbuf* m) noexcept nogil:
        """A frame that lies in somebody else's memory: of another port, by a ring."""
        cdef Pool* pool = &self.pool.c
        cdef rte_mbuf* at = m
        cdef uint32_t head = pkt_alloc(pool), last = head, i, done = 0, take
        cdef Packet* k
        while at != NULL and head != NIL:
            k = pkt(pool, last)
            take = min(<uint32_t>at.data_len - done, k.buf_len - k.off - k.len)
            memcpy(pkt_data(k) + k.len, <uint8_t*>at.buf_addr + at.data_off + done, take)
            k.len += take
            done += take
            if done == at.data_len:
                at = at.next
                done = 0
                continue
            i = pkt_alloc(pool)
            if i == NIL:
                pkt_free(pool, head)
                head = NIL
                break
            k.next = i
            last = i
        if head != NIL:
            pkt(pool, head).total_len = m.pkt_len
        rte_pktmbuf_free(m)
        return head

    # -- sending ------------------------------------------------------------------------------------------
    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        cdef int i = 0
        if unlikely(now - self.looked > LOOK) and self.on:
            self._look(now)
        if unlikely(not self.on or self.gone):
            for i in range(n):
                pkt_free(&self.pool.c, packets[i])
            self.tx_errors += n
            return n
        if unlikely(not self.port.started):
            return 0
        while self._flush(now) and i < n and self._add(packets[i]):
            i += 1
            while i < n and self.end < BURST and self._add(packets[i]):
                i += 1
        if self.memory.sending.in_flight:
            self._reclaim()
        return i

    cdef bint _flush(self, int64_t now) noexcept nogil:
        """The batch to the device. False if it does not take all now."""
        cdef uint16_t done
        if self.first < self.end and self.marked:
            self._prepare()
        while self.first < self.end:
            done = rte_eth_tx_burst(self.id, <uint16_t>self.queue, self.batch + self.first, <uint16_t>(self.end - self.first))
            if unlikely(done == 0):
                if not self._lose(now):
                    return False
                done = 1
            self.refused = 0
            self.first += done
        self.first = self.end = 0
        return True

    cdef bint _lose(self, int64_t now) noexcept nogil:
        """The frame that the device has not taken for too long."""
        if self.refused == 0:
            self.refused = now
        if now - self.refused <= PATIENCE:
            return False
        rte_pktmbuf_free(self.batch[self.first])
        self.tx_packets -= 1
        self.tx_errors += 1
        return True

    cdef void _prepare(self) noexcept nogil:
        """Have the device's driver look at what is left to it; what it refuses is lost."""
        cdef int at = self.first, i
        while True:
            at += rte_eth_tx_prepare(self.id, <uint16_t>self.queue, self.batch + at, <uint16_t>(self.end - at))
            if likely(at == self.end):
                break
            rte_pktmbuf_free(self.batch[at])
            self.tx_packets -= 1
            self.tx_errors += 1
            self.end -= 1
            for i in range(at, self.end):
                self.batch[i] = self.batch[i + 1]
        self.marked = False

    cdef bint _add(self, uint32_t i) noexcept nogil:
        """Packet `i` into the batch. False, untouched, if there are no mbufs or no cells for a copy."""
        cdef Pool* pool = &self.pool.c
        cdef Packet* k = pkt(pool, i)
        cdef uint32_t n = k.total_len, need = 1, copy
        if unlikely(n < ETH_HLEN or n > (<uint32_t>LARGEST if k.flags & (PKT_TX_TSO4 | PKT_TX_TSO6)
                                         else <uint32_t>self.mtu + ETH_HLEN + TAG)):
            self.tx_errors += 1
            pkt_free(pool, i)
            return True
        if unlikely(k.next != NIL):
            need = pkt_chain_len(pool, i)
        if unlikely(need > self.pieces or (self.copies and packet_foreign(&self.pool.c, i))):
            copy = packet_copy(pool, i, pool)
            if copy == NIL:
                return False
            need = pkt_chain_len(pool, copy)
            if need > self.pieces:
                pkt_free(pool, copy)
                pkt_free(pool, i)
                self.tx_errors += 1
                return True
            if not self.memory.room(need):
                pkt_free(pool, copy)
                return False
            pkt_free(pool, i)
            i = copy
        elif not self.memory.room(need):
            return False
        self._describe(i, need)
        self.tx_packets += 1
        self.tx_bytes += n
        return True

    cdef void _describe(self, uint32_t i, uint32_t pieces) noexcept nogil:
        cdef Packet* k = pkt(&self.pool.c, i)
        cdef rte_mbuf* head
        cdef rte_mbuf* m
        cdef uint32_t nxt
        if k.flags & PKT_TX_L4_CSUM and k.csum_off != TCP_CSUM_OFF and k.csum_off != UDP_CSUM_OFF:
            finish_checksum(&self.pool.c, i, 0)    # ICMP, which no device knows
        head = m = self.memory.attach(i)
        head.pkt_len = k.total_len
        head.nb_segs = <uint16_t>pieces
        if k.flags & PKT_TX_L4_CSUM:
            self._mark(k, head)
        while unlikely(k.next != NIL):
            nxt = k.next
            k.next = NIL          # each piece goes back by itself
            m.next = self.memory.attach(nxt)
            m = m.next
            k = pkt(&self.pool.c, nxt)
        self.batch[self.end] = head
        self.end += 1

    cdef void _mark(self, Packet* k, rte_mbuf* m) noexcept nogil:
        """What the device has to do with a frame."""
        cdef uint8_t* ip = k.buf + k.l3
        cdef bint four = ip[0] >> 4 == 4
        self.marked = True
        m.l2_len = <uint16_t>(k.l3 - k.off)
        m.l3_len = <uint16_t>(k.l4 - k.l3)
        m.ol_flags |= RTE_MBUF_F_TX_IPV4 if four else RTE_MBUF_F_TX_IPV6
        if k.csum_off == UDP_CSUM_OFF:
            m.l4_len = 8
            m.ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM
            return
        m.l4_len = <uint16_t>((k.buf[k.l4 + 12] >> 4) * 4)
        m.ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM
        if k.flags & (PKT_TX_TSO4 | PKT_TX_TSO6):
            m.ol_flags |= RTE_MBUF_F_TX_TCP_SEG
            m.tso_segsz = k.gso_size
            if four:              # each segment gets its own
                m.ol_flags |= RTE_MBUF_F_TX_IP_CKSUM
                ip[10] = ip[11] = 0
            _without_length(k.buf + k.l4 + TCP_CSUM_OFF, k.off + k.total_len - k.l4)

    cdef void _reclaim(self) noexcept nogil:
        if self.lazy and rte_eth_tx_done_cleanup(self.id, <uint16_t>self.queue, 0) < 0:
            self.lazy = False     # it does not need that, or cannot
        reclaim(&self.memory.sending, &self.pool.c)

    # -- the device ---------------------------------------------------------------------------------------
    cdef void _look(self, int64_t now) noexcept nogil:
        self.looked = now
        if self.port.started and self.port.gone():
            self.gone = True
            with gil:
                self.error = DriverError(f"device {self.port.device} is gone: it was removed while in use")

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        cdef int64_t quiet = now - self.heard
        if not self.on or self.gone:
            return NEVER
        if self.first < self.end:
            return now + min(RETRY, self.pause)
        if quiet < EAGER or self.pause == 0:
            return now
        return now + min(quiet >> 2, self.pause)


cdef void _without_length(uint8_t* field, uint32_t n) noexcept nogil:
    """Take the length out of a pseudo-header's sum, since each segment has another."""
    cdef uint32_t sum = (<uint32_t>field[0] << 8 | field[1]) + (~n & 0xFFFF)
    sum = (sum & 0xFFFF) + (sum >> 16)
    field[0], field[1] = <uint8_t>(sum >> 8), <uint8_t>sum


cdef _port_of(Dpdk beside):
    if beside.port is None:
        raise ConfigError("beside: that driver is closed; give one that is open")
    return beside.port


def _wanted(offload):
    if not isinstance(offload, (bool, Capability)):
        raise ConfigError(f"offload={offload!r}: must be True, False or members of iip.drivers.Capability")
    return offload
