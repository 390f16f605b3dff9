"""TAP and TUN devices of Linux: Ethernet frames and IP packets exchanged with the kernel.

Frames are read straight into packets of the pool and written straight from them.
"""
from libc.errno cimport EAGAIN, EBADF, EINTR, ENODEV, ENXIO, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from iip.drivers.base cimport Driver
from iip.memory.pool cimport NIL, Packet, PacketPool, Pool, pkt, pkt_alloc, pkt_data, pkt_free
from iip.net.types cimport CAP_SG
from iip.wire.bytes cimport unlikely

import ipaddress
import os

from iip.drivers import device
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


cdef class TunTap(Driver):
    """What Tap and Tun share."""
    cdef int fd
    cdef bint gone                # the device was removed
    cdef readonly str name        # of the device, as the kernel knows it
    cdef readonly uint64_t rx_packets
    cdef readonly uint64_t rx_bytes
    cdef readonly uint64_t rx_errors    # failed reads
    cdef readonly uint64_t rx_too_long  # frames longer than a packet of the pool: dropped
    cdef readonly uint64_t tx_packets
    cdef readonly uint64_t tx_bytes
    cdef readonly uint64_t tx_errors    # frames that the kernel did not take (link down, no memory, malformed)
    cdef uint8_t spill[64]              # where the rest of a frame goes that is too long

    def __cinit__(self, *args, **kwargs):
        self.fd = -1

    def __init__(self, kind, name=None, *, mtu=None, host_address=(), queues=1, persist=None, create=True):
        if isinstance(host_address, (str, ipaddress.IPv4Interface, ipaddress.IPv6Interface)):
            host_address = (host_address,)
        try:
            addresses = [ipaddress.ip_interface(a) for a in host_address]
        except ValueError as error:
            raise ConfigError(f"host_address: {error}; write it like 10.0.0.1/24 or fd00::1/64") from None
        if isinstance(queues, bool) or not isinstance(queues, int) or not 1 <= queues <= 256:
            raise ConfigError(f"queues={queues!r}: must be from 1 to 256")
        medium = "ethernet" if kind == "tap" else "ip"
        super().__init__(medium=medium, mtu=1500 if mtu is None else mtu, caps=CAP_SG)
        self.fd, self.name = device.open_device(kind, name, queues=queues, persist=persist, create=create)
        try:
            if mtu is not None and mtu != device.get_mtu(self.name):
                device.set_mtu(self.name, mtu)
            self.mtu = device.get_mtu(self.name)
            if addresses:
                device.add_host_addresses(self.name, addresses)
            device.bring_up(self.name)
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

    def fileno(self):
        return None if self.fd < 0 else self.fd

    def close(self):
        """Give the device back; it vanishes unless it is persistent. What is sent from then on is dropped."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def stats(self):
        """Counters of this driver (not the kernel's)."""
        return {"rx_packets": self.rx_packets, "rx_bytes": self.rx_bytes, "rx_errors": self.rx_errors,
                "rx_too_long": self.rx_too_long, "tx_packets": self.tx_packets, "tx_bytes": self.tx_bytes,
                "tx_errors": self.tx_errors}

    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef Pool* pool = &self.pool.c
        cdef int count = 0
        cdef uint32_t i
        cdef ssize_t got
        cdef Packet* k
        cdef iovec iov[2]
        if self.fd < 0 or self.gone:
            return 0
        while count < n:
            i = pkt_alloc(pool)
            if i == NIL:
                break             # the kernel keeps the frames meanwhile
            k = pkt(pool, i)
            iov[0].iov_base = pkt_data(k)
            iov[0].iov_len = k.buf_len - k.off
            iov[1].iov_base = self.spill
            iov[1].iov_len = sizeof(self.spill)
            got = readv(self.fd, iov, 2)
            if got <= 0:
                pkt_free(pool, i)
                if got < 0 and errno == EINTR:
                    continue
                if got < 0 and errno != EAGAIN:
                    self.rx_errors += 1
                    self._failed()
                break
            if unlikely(<size_t>got > iov[0].iov_len):
                pkt_free(pool, i)
                self.rx_too_long += 1
                continue
            k.len = k.total_len = <uint32_t>got
            self.rx_packets += 1
            self.rx_bytes += <uint64_t>got
            packets[count] = i
            count += 1
        return count

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
        cdef iovec iov[IOV_MAX_]
        cdef int pieces = 0
        cdef ssize_t done
        if k.next == NIL:
            while True:
                done = write(self.fd, pkt_data(k), k.len)
                if done >= 0 or errno != EINTR:
                    return done
        while True:
            if pieces == IOV_MAX_:
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
                return done

    cdef void _failed(self) noexcept nogil:
        """After an error of a system call: the driver ends only if the device does not exist any more."""
        cdef int code = errno
        if code == EBADF or code == EBADFD or code == ENODEV or code == ENXIO:
            self.gone = True
            with gil:
                self.error = DriverError(f"device {self.name} is gone ({os.strerror(code)}): "
                                         "it was removed while in use")


cdef class Tap(TunTap):
    """A TAP device: Ethernet frames.

    name: of the device, made if there is none of that name; None: the kernel chooses. mtu: set on the device; None:
    what the device has. host_address: addresses for the kernel's end, like ``"10.0.0.1/24"`` (one or several;
    needs the extra ``iip[netlink]``). queues: more than one opens the device in multi-queue mode, one driver per
    queue and engine. persist: True keeps the device after close, False removes it, None leaves that as it is.
    create: False insists that the device exists.

    Raises `DriverError`, which says what to do.
    """

    def __init__(self, name=None, *, mtu=None, host_address=(), queues=1, persist=None, create=True):
        super().__init__("tap", name, mtu=mtu, host_address=host_address, queues=queues, persist=persist, create=create)


cdef class Tun(TunTap):
    """A TUN device: bare IP packets. Arguments as for `Tap`."""

    def __init__(self, name=None, *, mtu=None, host_address=(), queues=1, persist=None, create=True):
        super().__init__("tun", name, mtu=mtu, host_address=host_address, queues=queues, persist=persist, create=create)
