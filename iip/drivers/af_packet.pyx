"""Packet sockets of Linux: the frames of any network device, beside the kernel.

Received frames lie in a ring of memory shared with the kernel and are copied from there into packets of the pool; sent ones are
gathered into another ring, and one system call per burst tells the kernel of them. A header (struct virtio_net_hdr) in front of
each says what is left to the other side: checksums, and the cutting into segments.
"""
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from iip.drivers.base cimport NEVER, Driver
from iip.drivers.discovery cimport Discovery, is_discovery
from iip.drivers.packet_ring cimport (
    AVAILABLE, OUTGOING, SEND_REQUEST, TX_DATA, V2_LEN, VLAN_VALID, Mapped, RxFrame, packet_give, packet_status, ring_done,
    ring_map, ring_peek, ring_slot, ring_step)
from iip.drivers.vnet cimport VN_GSO_TCPV4, VN_GSO_TCPV6, VN_NEEDS_CSUM, VnetHeader, vnet_describe, vnet_received
from iip.memory.pool cimport (
    NIL, PKT_RX_L4_CSUM_OK, PKT_TX_L4_CSUM, PKT_TX_TSO4, PKT_TX_TSO6, Packet, PacketPool, Pool, pkt, pkt_alloc, pkt_copy_out,
    pkt_data, pkt_free)
from iip.net.gso cimport finish_checksum, gso_segment
from iip.net.types cimport CAP_LRO, CAP_RX_L4_CSUM, CAP_SG, CAP_TSO4, CAP_TSO6, CAP_TX_L4_CSUM
from iip.wire.bytes cimport likely, unlikely
from iip.wire.ethernet cimport ETH_HLEN

import os

from iip.drivers import device, ethtool, packet_socket
from iip.drivers.settings import in_range, station as station_of
from iip.errors import ConfigError, DriverError

cdef extern from *:
    """
    #include <sys/types.h>
    #include <sys/socket.h>
    static inline ssize_t packet_kick(int fd) {
        return send(fd, 0, 0, MSG_DONTWAIT);
    }
    static inline int packet_error(int fd) {
        int code = 0;
        socklen_t n = sizeof code;
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &n) ? 0 : code;
    }
    """
    ssize_t packet_kick(int fd) noexcept nogil
    int packet_error(int fd) noexcept nogil

cdef enum:
    LARGEST = 65535 + ETH_HLEN    # frame of many segments, bytes
    GSO_MAX = 65536               # frames from here on the kernel does not leave to a device
    TAG = 4                       # VLAN
    LOOK = 10_000_000             # ns between two looks whether the device is still there
    RETRY = 200_000               # ns until the kernel is asked again to send what it did not,
    PATIENCE = 250                # so often


cdef class AfPacket(Driver):
    """The network device `name`, shared with the kernel. Needs root or CAP_NET_RAW.

    The kernel gets every received frame, too: our addresses must not be the kernel's. mtu: set on the device; None: what it has.
    mac: a station address of our own, for which the device is made promiscuous; None: the device's. offload: leave checksums
    and segmentation to the kernel and the device, both ways; False: the driver hands in complete segments. frames: in each ring.
    block_timeout: 0 takes each frame at once; from 1, in milliseconds, frames come in blocks (TPACKET_V3) that are handed over when
    they are full or that old: fewer cache misses, later answers. qdisc_bypass: straight to the device, without traffic control.
    group: frames are shared, flow by flow, with the other drivers of that number on this device; 0: a new one (`AfPacket.group`).

    Raises `DriverError`, which says what to do.
    """
    cdef Mapped rx
    cdef Mapped tx
    cdef object rx_ring                 # what keeps the memory
    cdef object tx_ring
    cdef Discovery discovery            # of one of a group
    cdef bint offloaded
    cdef bint gone
    cdef bint unsent                    # there are frames in the ring that the kernel did not take
    cdef int refusals                   # how often it did not, one after the other
    cdef int64_t looked                 # when we last asked for errors
    cdef uint32_t cut                   # received frame of many segments that we cut
    cdef uint32_t rest                  # the same for one to be sent
    cdef uint32_t cells                 # that the largest frame needs
    cdef uint32_t room                  # bytes of a frame in the transmit ring
    cdef readonly str name
    cdef readonly int group             # -1: none
    cdef readonly uint64_t rx_packets
    cdef readonly uint64_t rx_bytes
    cdef readonly uint64_t rx_too_long  # frames longer than a slot, or more than the pool could ever hold: dropped
    cdef readonly uint64_t rx_ignored   # frames that are not for us: sent by the kernel, or of a VLAN
    cdef uint64_t rx_dropped
    cdef readonly uint64_t tx_packets
    cdef readonly uint64_t tx_bytes
    cdef readonly uint64_t tx_errors    # frames that the kernel did not take (link down, malformed, too long)

    def __cinit__(self, *args, **kwargs):
        self.rx.fd = self.tx.fd = -1
        self.cut = self.rest = NIL

    def __init__(self, name, *, mtu=None, mac=None, offload=True, frames=512, block_timeout=0, qdisc_bypass=True, group=None):
        in_range("frames", frames, 16, 1 << 16)
        in_range("block_timeout", block_timeout, 0, 1000)
        if group is not None:
            in_range("group", group, 0, 65535)
        station = ethtool.station_address("af_packet", name)
        promiscuous = mac is not None and station_of(mac) != station
        super().__init__(medium="ethernet", mtu=1500 if mtu is None else mtu, caps=CAP_SG, mac=station_of(mac) or station)
        self.name = name
        if mtu is not None and mtu != device.get_mtu(name):
            device.set_mtu(name, mtu)
        self.mtu = device.get_mtu(name)
        self.offloaded = bool(offload)
        if offload:
            self.caps |= _caps(ethtool.features(name), qdisc_bypass)
        try:
            self.rx_ring = packet_socket.open_receive(name, frames=frames, block_timeout=block_timeout, promiscuous=promiscuous,
                                                      group=group)
            self.group = -1 if group is None else packet_socket.group_of(self.rx_ring.socket)
            self.room = LARGEST if self.caps & CAP_TSO4 else <uint32_t>self.mtu + ETH_HLEN + TAG
            self.tx_ring = packet_socket.open_transmit(name, frames=frames, largest=self.room, qdisc_bypass=qdisc_bypass)
            ring_map(&self.rx, self.rx_ring)
            if group is not None:
                self.discovery = Discovery(name, self.rx.fd, False)
            ring_map(&self.tx, self.tx_ring)
        except BaseException:
            self.close()
            raise

    def __del__(self):
        self.close()

    def attach(self, PacketPool pool not None):
        cell = pool.packet_size - pool.headroom
        if pool.packets * cell < 4 * (self.mtu + ETH_HLEN):
            raise ConfigError(f"pool_packets={pool.packets}: too few for frames of {self.name} with mtu={self.mtu}")
        Driver.attach(self, pool)
        self.cells = 1 + -(-(LARGEST - cell) // pool.packet_size)

    @property
    def offload(self):
        """Whether checksums and segmentation are left to the other side."""
        return bool(self.caps & CAP_TX_L4_CSUM)

    def plain(self):
        """See `Driver.plain`: from now on the driver finishes what the kernel leaves unfinished."""
        self.offloaded = False
        self.caps = CAP_SG

    def fileno(self):
        if self.rx.fd < 0:
            return None
        return self.rx.fd if self.discovery is None else self.discovery.fileno()

    def close(self):
        """Let go of the device. What is sent from then on is dropped."""
        if self.rx.fd >= 0:
            self.stats()
        self.rx.fd = self.tx.fd = -1
        self.rx.memory = self.tx.memory = NULL
        if self.discovery is not None:
            self.discovery.close()
        for ring in (self.rx_ring, self.tx_ring):
            if ring is not None:
                ring.memory.close()
                ring.socket.close()
        self.rx_ring = self.tx_ring = None
        if self.pool is not None:
            pkt_free(&self.pool.c, self.cut)
            pkt_free(&self.pool.c, self.rest)
        self.cut = self.rest = NIL

    def stats(self):
        """Counters of this driver; rx_dropped: frames for which the ring was full."""
        if self.rx.fd >= 0:
            self.rx_dropped += packet_socket.dropped(self.rx_ring.socket, self.rx.slots == 0)
        return {"rx_packets": self.rx_packets, "rx_bytes": self.rx_bytes, "rx_too_long": self.rx_too_long,
                "rx_ignored": self.rx_ignored, "rx_dropped": self.rx_dropped, "tx_packets": self.tx_packets,
                "tx_bytes": self.tx_bytes, "tx_errors": self.tx_errors}

    # -- receiving ----------------------------------------------------------------------------------------
    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef RxFrame frame
        cdef int count = 0
        if unlikely(self.rx.fd < 0 or self.gone):
            return 0
        if unlikely(self.discovery is not None):
            count = self._discover(packets, n)
        while count < n:
            if unlikely(self.cut != NIL):
                count += gso_segment(&self.pool.c, &self.cut, packets + count, n - count, CAP_SG)
                if self.cut != NIL:
                    break         # the pool has no more
                continue
            if not ring_peek(&self.rx, &frame):
                break
            if unlikely(not self._wanted(&frame)):
                ring_done(&self.rx)
                continue
            packets[count] = self._copy(&frame)
            if packets[count] == NIL:
                break             # the kernel keeps the frames meanwhile
            ring_done(&self.rx)
            if self.cut == NIL:
                count += 1
        if unlikely(count == 0) and now - self.looked > LOOK:
            self._look(now)
        return count

    cdef int _discover(self, uint32_t* packets, int n) noexcept nogil:
        cdef int i, count = self.discovery.receive(&self.pool.c, packets, n)
        for i in range(count):
            self.rx_bytes += pkt(&self.pool.c, packets[i]).total_len
        self.rx_packets += count
        return count

    cdef bint _wanted(self, const RxFrame* frame) noexcept nogil:
        if frame.kind == OUTGOING or frame.status & VLAN_VALID or frame.len < ETH_HLEN:
            self.rx_ignored += 1
            return False
        if frame.snaplen < frame.len or frame.len > LARGEST \
                or (frame.len > <uint32_t>self.mtu + ETH_HLEN + TAG and 4 * self.cells > self.pool.c.n_direct):
            self.rx_too_long += 1
            return False
        return self.discovery is None or not is_discovery(frame.data, frame.snaplen)

    cdef uint32_t _copy(self, const RxFrame* frame) noexcept nogil:
        """The frame as a packet; NIL if the pool has not enough. It is in `cut` instead if we have to cut it."""
        cdef VnetHeader header
        cdef Pool* pool = &self.pool.c
        cdef const uint8_t* data = frame.data
        cdef uint32_t left = frame.len, i, last, head = pkt_alloc(pool)
        cdef Packet* k
        if head == NIL:
            return NIL
        k = pkt(pool, head)
        k.total_len = left
        last = head
        while True:
            k.len = min(left, k.buf_len - k.off)
            memcpy(pkt_data(k), data, k.len)
            data += k.len
            left -= k.len
            if likely(left == 0):
                break
            i = pkt_alloc(pool)
            if i == NIL:
                pkt_free(pool, head)
                return NIL
            pkt(pool, last).next = i
            last = i
            k = pkt(pool, i)
            k.off = 0
        memcpy(&header, frame.data - sizeof(VnetHeader), sizeof(VnetHeader))
        vnet_received(pkt(pool, head), &header, ETH_HLEN)
        self.rx_packets += 1
        self.rx_bytes += frame.len
        if unlikely(not self.offloaded):
            self._finish(head, &header)
        return head

    cdef void _finish(self, uint32_t i, const VnetHeader* header) noexcept nogil:
        """A received frame made complete: its checksum computed, or, if it is several segments, put aside to be cut."""
        cdef Packet* k = pkt(&self.pool.c, i)
        k.flags &= ~<uint32_t>PKT_RX_L4_CSUM_OK
        if not header.flags & VN_NEEDS_CSUM or <uint32_t>header.csum_start + header.csum_offset + 2 > k.len:
            return
        k.flags |= PKT_TX_L4_CSUM
        k.l3 = <uint16_t>(k.off + ETH_HLEN)
        k.l4 = <uint16_t>(k.off + header.csum_start)
        k.csum_off = header.csum_offset
        if k.gso_size and header.gso_type & (VN_GSO_TCPV4 | VN_GSO_TCPV6):
            k.flags |= PKT_TX_TSO6 if header.gso_type & VN_GSO_TCPV6 else PKT_TX_TSO4
            self.cut = i
        else:
            finish_checksum(&self.pool.c, i, 0)

    # -- sending ------------------------------------------------------------------------------------------
    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        cdef Pool* pool = &self.pool.c
        cdef int i = 0
        if unlikely(self.tx.fd < 0 or self.gone):
            for i in range(n):
                pkt_free(pool, packets[i])
            self.tx_errors += n
            return n
        while i < n and self._send_rest():
            if unlikely(pkt(pool, packets[i]).total_len >= GSO_MAX):
                self.rest = packets[i]
            elif not self._fill(packets[i]):
                break
            i += 1
        self._send_rest()
        self._flush()
        return i

    cdef bint _send_rest(self) noexcept nogil:
        """A frame that is too large for the kernel leaves in segments. False when not all of it found room."""
        cdef uint32_t segment
        while unlikely(self.rest != NIL):
            if packet_status(ring_slot(&self.tx)) != AVAILABLE or not gso_segment(
                    &self.pool.c, &self.rest, &segment, 1, CAP_SG | CAP_TX_L4_CSUM):
                return self.rest == NIL
            self._fill(segment)
        return True

    cdef bint _fill(self, uint32_t i) noexcept nogil:
        """Packet `i` into the next slot of the ring, and freed. False, untouched, if there is none."""
        cdef VnetHeader header
        cdef Pool* pool = &self.pool.c
        cdef Packet* k = pkt(pool, i)
        cdef uint8_t* slot = ring_slot(&self.tx)
        cdef uint32_t n = k.total_len
        if packet_status(slot) != AVAILABLE:
            return False
        if unlikely(n < ETH_HLEN or n > self.room):
            self.tx_errors += 1
            pkt_free(pool, i)
            return True
        vnet_describe(k, &header)
        memcpy(slot + TX_DATA, &header, sizeof(VnetHeader))
        if likely(k.next == NIL):
            memcpy(slot + TX_DATA + sizeof(VnetHeader), pkt_data(k), n)
        else:
            pkt_copy_out(pool, i, 0, slot + TX_DATA + sizeof(VnetHeader), n)
        (<uint32_t*>(slot + V2_LEN))[0] = n + <uint32_t>sizeof(VnetHeader)
        packet_give(slot, SEND_REQUEST)
        ring_step(&self.tx)
        self.unsent = True
        self.tx_packets += 1
        self.tx_bytes += n
        pkt_free(pool, i)
        return True

    cdef void _flush(self) noexcept nogil:
        """Tell the kernel what there is to send. What it has no room for now remains in the ring."""
        cdef int code
        if not self.unsent:
            return
        while packet_kick(self.tx.fd) < 0:
            code = errno
            if code == EINTR:
                continue
            if code == EAGAIN or code == ENOBUFS:
                self.refusals += 1
                if self.refusals <= PATIENCE:
                    return
            self._forget(code)
            return
        self.refusals = 0
        self.unsent = self._pending()

    cdef bint _pending(self) noexcept nogil:
        """Whether the last frame in the ring still waits for the kernel, which takes them in order."""
        cdef Mapped before = self.tx
        if before.slot:
            before.slot -= 1
        else:
            before.slot = before.slots - 1
            before.block = (before.block if before.block else before.blocks) - 1
        return packet_status(ring_slot(&before)) == SEND_REQUEST

    cdef void _forget(self, int code) noexcept nogil:
        """The kernel does not take what waits in the ring (the link is down): it is lost, as without a cable. The kernel will
        look for the next frame where the first of them was."""
        cdef Mapped at = self.tx
        cdef bint found = False
        cdef uint32_t _i
        for _i in range(at.blocks * at.slots):
            if packet_status(ring_slot(&at)) == SEND_REQUEST:
                if not found:
                    self.tx.block, self.tx.slot = at.block, at.slot
                found = True
                packet_give(ring_slot(&at), AVAILABLE)
                self.tx_packets -= 1
                self.tx_errors += 1
            ring_step(&at)
        self.unsent = False
        self.refusals = 0
        with gil:
            self._check_device(code)

    # -- the device ---------------------------------------------------------------------------------------
    cdef void _look(self, int64_t now) noexcept nogil:
        cdef int code = packet_error(self.rx.fd)
        self.looked = now
        if code:
            with gil:
                self._check_device(code)

    cdef void _check_device(self, int code) noexcept:
        """After an error: the driver ends only if the device does not exist any more."""
        try:
            if not packet_socket.exists(self.rx_ring.socket):
                self.gone = True
                self.error = DriverError(f"device {self.name} is gone ({os.strerror(code)}): it was removed while in use")
        except Exception as error:
            self.error = error

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        return now + RETRY if self.unsent or self.rest != NIL or self.cut != NIL else NEVER


def _caps(features, qdisc_bypass):
    """What may be left to the kernel: on the short way to the device, only segments that the device itself can cut."""
    caps = CAP_RX_L4_CSUM | CAP_TX_L4_CSUM | CAP_LRO
    if not qdisc_bypass or "tx-tcp-segmentation" in features:
        caps |= CAP_TSO4
    if not qdisc_bypass or "tx-tcp6-segmentation" in features:
        caps |= CAP_TSO6
    return caps
