"""TAP and TUN devices of Linux: Ethernet frames and IP packets exchanged with the kernel.

Frames are read straight into packets of the pool and written straight from them. With `offload` each has a header in
front (struct virtio_net_hdr) that says what is left to the other side: the checksum, since nothing happens to the bytes on the
way, and the cutting into segments, so that TCP sends and receives up to 64 KiB at once.
"""
from libc.errno cimport EAGAIN, EBADF, EINTR, ENODEV, ENXIO, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from iip.drivers.base cimport Driver
from iip.drivers.discovery cimport Discovery, is_discovery
from iip.drivers.vnet cimport VnetHeader, vnet_describe, vnet_received
from iip.memory.pool cimport NIL, Packet, PacketPool, Pool, pkt, pkt_alloc, pkt_data, pkt_free
from iip.net.types cimport CAP_LRO, CAP_RX_L4_CSUM, CAP_SG, CAP_TSO4, CAP_TSO6, CAP_TX_L4_CSUM
from iip.wire.bytes cimport unlikely
from iip.wire.ethernet cimport ETH_HLEN

import ipaddress
import os

from iip.drivers import device
from iip.drivers.capability import Capability
from iip.errors import ConfigError, DriverError

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void* iov_base
        size_t iov_len
    ssize_t readv(int fd, const iovec* iov, int n)
    ssize_t writev(int fd, const iovec* iov, int n)

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void* buf, size_t n)
    int posix_close "close"(int fd)

cdef extern from *:
    """
    #include <errno.h>
    #ifndef EBADFD
    #define EBADFD EBADF
    #endif
    """
    const int EBADFD

cdef enum:
    IOV_MAX_ = 64                 # pieces of one frame
    ETHERNET = 18                 # header and one VLAN tag, bytes
    LARGEST = 65535 + ETHERNET    # frame of many segments, bytes
    MAX_CELLS = 64                # cells that one frame is read into
    CHECKSUMS = CAP_RX_L4_CSUM | CAP_TX_L4_CSUM
    SEGMENTS = CAP_TSO4 | CAP_TSO6 | CAP_LRO


cdef class TunTap(Driver):
    """What Tap and Tun share."""
    cdef int fd
    cdef bint gone                # the device was removed
    cdef Discovery discovery      # of one of several queues
    cdef bint vnet                # frames have a VnetHeader in front
    cdef bint early               # frames were exchanged before an engine came: without offload
    cdef int rx_cells             # cells that a frame may need
    cdef uint32_t link            # bytes of the link header
    cdef uint32_t posted[MAX_CELLS]     # cells that wait for the next frame, within a burst
    cdef readonly str name        # of the device, as the kernel knows it
    cdef readonly uint64_t rx_packets
    cdef readonly uint64_t rx_bytes
    cdef readonly uint64_t rx_errors    # failed reads
    cdef readonly uint64_t rx_too_long  # frames longer than a packet of the pool: dropped
    cdef readonly uint64_t rx_no_buffer # large frames for which the pool had too few cells: dropped
    cdef readonly uint64_t tx_packets
    cdef readonly uint64_t tx_bytes
    cdef readonly uint64_t tx_errors    # frames that the kernel did not take (link down, no memory, malformed)
    cdef uint8_t spill[64]              # where the rest of a frame goes that is too long

    def __cinit__(self, *args, **kwargs):
        self.fd = -1
        self.rx_cells = 1

    def __init__(self, kind, name=None, *, mtu=None, host_address=(), queues=1, persist=None, create=True, offload=True):
        if isinstance(host_address, (str, ipaddress.IPv4Interface, ipaddress.IPv6Interface)):
            host_address = (host_address,)
        try:
            addresses = [ipaddress.ip_interface(a) for a in host_address]
        except ValueError as error:
            raise ConfigError(f"host_address: {error}; write it like 10.0.0.1/24 or fd00::1/64") from None
        if isinstance(queues, bool) or not isinstance(queues, int) or not 1 <= queues <= 256:
            raise ConfigError(f"queues={queues!r}: must be from 1 to 256")
        medium = "ethernet" if kind == "tap" else "ip"
        wanted = _wanted(offload)
        super().__init__(medium=medium, mtu=1500 if mtu is None else mtu, caps=wanted & CAP_SG)
        self.link = ETH_HLEN if kind == "tap" else 0
        self.fd, self.name = device.open_device(kind, name, queues=queues, persist=persist, create=create,
                                                vnet=bool(wanted & CHECKSUMS))
        try:
            self.vnet = bool(wanted & CHECKSUMS)
            if self.vnet and device.set_offload(self.fd, bool(wanted & CAP_RX_L4_CSUM), bool(wanted & CAP_LRO)):
                self.caps = wanted
            if mtu is not None and mtu != device.get_mtu(self.name):
                device.set_mtu(self.name, mtu)
            self.mtu = device.get_mtu(self.name)
            if addresses:
                device.add_host_addresses(self.name, addresses)
            device.bring_up(self.name)
            if queues > 1:
                device.set_steering(self.fd)
            if queues > 1 and kind == "tap":
                self.discovery = _discovery(self.name, self.fd)
            device.wait_until_usable(addresses)
        except BaseException:
            self.close()
            raise

    def __dealloc__(self):
        if self.fd >= 0:
            posix_close(self.fd)

    def attach(self, PacketPool pool not None):
        link = ETHERNET if self.medium == "ethernet" else 0
        need = self.mtu + link + pool.headroom
        if need > pool.packet_size:
            raise ConfigError(f"packet_size={pool.packet_size}: too small for frames of {self.name} with mtu={self.mtu}"
                              f" behind {pool.headroom} bytes of headroom; use packet_size={(need + 63) // 64 * 64} "
                              "or a smaller MTU")
        Driver.attach(self, pool)
        if self.early and self.fd >= 0 and self.caps & CAP_TX_L4_CSUM:
            device.set_offload(self.fd, True, True)
        cells = 1 + -(-(LARGEST - (pool.packet_size - pool.headroom)) // pool.packet_size)
        if not self.caps & CAP_LRO or self.fd < 0:
            return
        if cells <= MAX_CELLS and pool.packets >= 4 * cells:
            self.rx_cells = cells
        else:                     # such a pool has no room for frames of many segments
            device.set_offload(self.fd, True, False)

    @property
    def offload(self):
        """Whether checksums and segmentation are left to the other side."""
        return bool(self.caps & CHECKSUMS)

    def plain(self):
        """See `Driver.plain`: switch the offload off."""
        if self.fd >= 0 and self.caps & CHECKSUMS:
            device.set_offload(self.fd, False, False)
        self.caps = CAP_SG

    # -- before an engine has the driver, for who configures the host: see iip.dhcp ---------------------------

    cdef int _early(self) except -1:
        if self.pool is not None:
            raise DriverError(f"{self.name}: an engine has the driver; frames are its")
        if not self.early and self.fd >= 0 and self.caps & CAP_TX_L4_CSUM:
            device.set_offload(self.fd, False, False)
        self.early = True
        return 0

    def send_frame(self, frame):
        """Send a complete frame (bytes), before an engine has the driver."""
        self._early()
        os.write(self.fd, bytes(sizeof(VnetHeader) if self.vnet else 0) + frame)

    def receive_frame(self):
        """The next complete frame (bytes), or None if none waits; before an engine has the driver."""
        self._early()
        try:
            return os.read(self.fd, LARGEST + sizeof(VnetHeader))[sizeof(VnetHeader) if self.vnet else 0:]
        except BlockingIOError:
            return None

    def fileno(self):
        if self.fd < 0:
            return None
        return self.fd if self.discovery is None else self.discovery.fileno()

    def close(self):
        """Give the device back; it vanishes unless it is persistent. What is sent from then on is dropped."""
        fd, self.fd = self.fd, -1
        if self.discovery is not None:
            self.discovery.close()
        if fd >= 0:
            if self.vnet:
                device.set_offload(fd, False, False)      # a persistent device may have another user next
            os.close(fd)

    def stats(self):
        """Counters of this driver (not the kernel's)."""
        return {"rx_packets": self.rx_packets, "rx_bytes": self.rx_bytes, "rx_errors": self.rx_errors,
                "rx_too_long": self.rx_too_long, "rx_no_buffer": self.rx_no_buffer,
                "tx_packets": self.tx_packets, "tx_bytes": self.tx_bytes, "tx_errors": self.tx_errors}

    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef int count = 0, have = 0
        if self.fd < 0 or self.gone:
            return 0
        if unlikely(self.discovery is not None):
            count = self.discovery.receive(&self.pool.c, packets, n)
            self.rx_packets += count
        while count < n:
            while have < self.rx_cells:
                self.posted[have] = pkt_alloc(&self.pool.c)
                if self.posted[have] == NIL:
                    break
                have += 1
            if have == 0:
                break             # the kernel keeps the frames meanwhile
            packets[count] = NIL
            if not self._read(&have, &packets[count]):
                break
            if packets[count] != NIL:
                count += 1
        while have:
            have -= 1
            pkt_free(&self.pool.c, self.posted[have])
        return count

    cdef bint _read(self, int* have, uint32_t* packet) noexcept nogil:
        """One frame into as many of the posted cells as it needs: `packet` (untouched if it was dropped). False when
        there is none."""
        cdef Pool* pool = &self.pool.c
        cdef iovec iov[MAX_CELLS + 2]
        cdef VnetHeader header
        cdef size_t room = 0
        cdef ssize_t got
        cdef int i, pieces = 0
        cdef Packet* k
        if self.vnet:
            iov[0].iov_base = &header
            iov[0].iov_len = sizeof(VnetHeader)
            pieces = 1
        for i in range(have[0]):
            k = pkt(pool, self.posted[i])
            k.off = pool.headroom if i == 0 else 0
            iov[pieces].iov_base = pkt_data(k)
            iov[pieces].iov_len = k.buf_len - k.off
            room += iov[pieces].iov_len
            pieces += 1
        iov[pieces].iov_base = self.spill
        iov[pieces].iov_len = sizeof(self.spill)
        while True:
            got = readv(self.fd, iov, pieces + 1)
            if got >= 0 or errno != EINTR:
                break
        if self.vnet:
            got -= sizeof(VnetHeader)
        if got <= 0:
            if got < 0 and errno != EAGAIN:
                self.rx_errors += 1
                self._failed()
            return False
        if unlikely(<size_t>got > room):
            if have[0] < self.rx_cells:
                self.rx_no_buffer += 1
            else:
                self.rx_too_long += 1
            return True
        if unlikely(self.discovery is not None) and is_discovery(pkt_data(pkt(pool, self.posted[0])), <uint32_t>got):
            return True
        self._take(<uint32_t>got, have, packet)
        if self.vnet:
            vnet_received(pkt(pool, packet[0]), &header, self.link)
        self.rx_packets += 1
        self.rx_bytes += <uint64_t>got
        return True

    cdef void _take(self, uint32_t n, int* have, uint32_t* packet) noexcept nogil:
        """The frame's `n` bytes lie in the first of the posted cells: chain them, and keep the others."""
        cdef Packet* k = pkt(&self.pool.c, self.posted[0])
        cdef int used = 1, i
        packet[0] = self.posted[0]
        k.total_len = n
        k.len = min(n, k.buf_len - k.off)
        n -= k.len
        while n:
            k.next = self.posted[used]
            k = pkt(&self.pool.c, self.posted[used])
            k.len = min(n, k.buf_len)
            n -= k.len
            used += 1
        have[0] -= used
        for i in range(have[0]):
            self.posted[i] = self.posted[i + used]

    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        cdef Pool* pool = &self.pool.c
        cdef int i
        cdef ssize_t done
        for i in range(n):
            if self.fd >= 0 and not self.gone:
                done = self._write(pkt(pool, packets[i]))
                if done < 0 and errno == EAGAIN:
                    return i
                if done != <ssize_t>pkt(pool, packets[i]).total_len:
                    self.tx_errors += 1
                    if done < 0:
                        self._failed()
                else:
                    self.tx_packets += 1
                    self.tx_bytes += <uint64_t>done
            else:
                self.tx_errors += 1
            pkt_free(pool, packets[i])
        return n

    cdef ssize_t _write(self, Packet* k) noexcept nogil:
        """One frame to the device; what write(2) returns, 0 for a frame of too many pieces."""
        cdef iovec iov[IOV_MAX_ + 1]
        cdef VnetHeader header
        cdef int pieces = 0, most = IOV_MAX_ + self.vnet
        cdef ssize_t done
        if self.vnet:
            vnet_describe(k, &header)
            iov[0].iov_base = &header
            iov[0].iov_len = sizeof(VnetHeader)
            pieces = 1
        elif k.next == NIL:
            while True:
                done = write(self.fd, pkt_data(k), k.len)
                if done >= 0 or errno != EINTR:
                    return done
        while True:
            if pieces == most:
                return 0
            iov[pieces].iov_base = pkt_data(k)
            iov[pieces].iov_len = k.len
            pieces += 1
            if k.next == NIL:
                break
            k = pkt(&self.pool.c, k.next)
        while True:
            done = writev(self.fd, iov, pieces)
            if done >= 0 or errno != EINTR:
                return done - <ssize_t>sizeof(VnetHeader) if self.vnet and done > 0 else done

    cdef void _failed(self) noexcept nogil:
        """After an error of a system call: the driver ends only if the device does not exist any more."""
        cdef int code = errno
        if code == EBADF or code == EBADFD or code == ENODEV or code == ENXIO:
            self.gone = True
            with gil:
                self.error = DriverError(f"device {self.name} is gone ({os.strerror(code)}): "
                                         "it was removed while in use")


def _wanted(offload):
    """The capabilities that are asked for, without those that need one which is not."""
    if isinstance(offload, bool):
        return CAP_SG | CHECKSUMS | SEGMENTS if offload else CAP_SG
    if not isinstance(offload, Capability):
        raise ConfigError(f"offload={offload!r}: must be True, False or members of iip.drivers.Capability")
    caps = offload.value & (CAP_SG | CHECKSUMS | SEGMENTS)
    if not caps & CAP_TX_L4_CSUM:
        caps &= ~(CAP_TSO4 | CAP_TSO6)
    return caps if caps & CAP_RX_L4_CSUM else caps & ~CAP_LRO


def _discovery(name, fd):
    """None where there is no permission for packet sockets: then only one of the queues finds neighbours."""
    try:
        return Discovery(name, fd, True)
    except DriverError:
        return None


cdef class Tap(TunTap):
    """A TAP device: Ethernet frames.

    name: of the device, made if there is none of that name; None: the kernel chooses. mtu: set on the device; None:
    what the device has. host_address: addresses for the kernel's end, like ``"10.0.0.1/24"`` (one or several;
    needs the extra ``iip[netlink]``). queues: more than one opens the device in multi-queue mode, one driver per
    queue and engine. persist: True keeps the device after close, False removes it, None leaves that as it is.
    create: False insists that the device exists. offload: leave checksums and segmentation to the other side, both ways, if the
    kernel knows how; False: every packet is complete; `Capability`: only these, to see what each is worth.

    Raises `DriverError`, which says what to do.
    """

    def __init__(self, name=None, *, mtu=None, host_address=(), queues=1, persist=None, create=True, offload=True):
        super().__init__("tap", name, mtu=mtu, host_address=host_address, queues=queues, persist=persist, create=create,
                         offload=offload)


cdef class Tun(TunTap):
    """A TUN device: bare IP packets. Arguments as for `Tap`."""

    def __init__(self, name=None, *, mtu=None, host_address=(), queues=1, persist=None, create=True, offload=True):
        super().__init__("tun", name, mtu=mtu, host_address=host_address, queues=queues, persist=persist, create=create,
                         offload=offload)
