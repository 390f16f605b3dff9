"""XDP sockets of Linux: packets for our addresses past the kernel, into the packet pool and out of it.

The arena of the pool is the memory (UMEM) that the kernel and the device write received frames to and read frames to be sent from.
Four rings say which cell is whose: *fill* gives empty cells to the kernel, *rx* brings them back with frames, *tx* gives frames
to send, *completion* tells that they are sent.
"""
from libc.errno cimport EINTR, ENXIO, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from iip.drivers.base cimport NEVER, Driver
from iip.drivers.discovery cimport Discovery
from iip.drivers.queue cimport packet_foreign
from iip.memory.pool cimport (
    NIL, PKT_RX_L4_CSUM_OK, Packet, PacketPool, Pool, pkt, pkt_alloc, pkt_chain_len, pkt_copy_out, pkt_free)
from iip.net.types cimport CAP_RX_L4_CSUM, CAP_SG
from iip.wire.bytes cimport likely, unlikely
from iip.wire.ethernet cimport ETH_HLEN

import ctypes
import os

from iip.drivers import device, ethtool, xdp
from iip.drivers.settings import in_range
from iip.errors import ConfigError, DriverError

cdef extern from *:
    """
    #include <stdint.h>
    #include <sys/types.h>
    #include <sys/socket.h>
    static inline uint32_t xdp_load(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void xdp_store(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline ssize_t xdp_kick_tx(int fd) { return sendto(fd, 0, 0, MSG_DONTWAIT, 0, 0); }
    static inline ssize_t xdp_kick_rx(int fd) { return recvfrom(fd, 0, 0, MSG_DONTWAIT, 0, 0); }
    static inline int xdp_error(int fd) {
        int code = 0;
        socklen_t n = sizeof code;
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &n) ? 0 : code;
    }
    """
    uint32_t xdp_load(const uint32_t* p) noexcept nogil
    void xdp_store(uint32_t* p, uint32_t v) noexcept nogil
    ssize_t xdp_kick_tx(int fd) noexcept nogil
    ssize_t xdp_kick_rx(int fd) noexcept nogil
    int xdp_error(int fd) noexcept nogil

cdef enum:
    HEADROOM = 256                # that the kernel leaves in front of a frame, bytes
    TAG = 4                       # VLAN
    CONTINUED = 1                 # flag of a descriptor: the frame goes on in the next
    WAKE_UP = 1                   # flag of a ring: the kernel wants a system call
    MAX_PIECES = 17               # of a frame
    FEW = 16                      # cells that the kernel gets even if the pool runs low
    LOOK = 10_000_000             # ns between two looks whether the device is still there
    IDLE = 1_000_000_000          # the same while nothing happens
    RETRY = 200_000               # ns until the kernel is asked again to send what it did not


cdef struct Desc:
    # struct xdp_desc
    uint64_t addr
    uint32_t len
    uint32_t options


cdef struct Ring:
    uint32_t* producer
    uint32_t* consumer
    uint32_t* flags
    uint64_t* cells               # entries of fill and completion,
    Desc* descs                   # of rx and tx
    uint32_t mask
    uint32_t size
    uint32_t at                   # our end: entries that we wrote or read


cdef inline uint32_t _filled(const Ring* r) noexcept nogil:
    """Entries that we can read."""
    return xdp_load(r.producer) - r.at


cdef inline uint32_t _room(const Ring* r) noexcept nogil:
    """Entries that we can write."""
    return r.size - (r.at - xdp_load(r.consumer))


cdef class AfXdp(Driver):
    """Queue `queue` of the network device `name`, through an XDP socket. Needs root.

    addresses: packets to these, and ARP and neighbour discovery for them, are ours, everything else remains the kernel's; without
    any, all that comes in on that queue is ours. mode: how the program is attached, ``"native"`` (by the device's driver),
    ``"generic"`` (by the kernel) or ``"auto"``. zero_copy: True insists on it, False avoids it, None: if the device can.
    ring: entries of each ring. busy_poll: µs for which a system call may poll the device, 0: interrupts. trust_checksums: believe
    the checksums of received packets, as is right where a virtual device leaves them unfinished. beside: another driver of this
    process on the device, whose program and addresses this one shares. queues: of how many drivers of the device this is the
    first; each then learns its neighbours. mtu: set on the device; None: what it has.

    The packet pool must have packet_size=2048 or 4096. Raises `DriverError`, which says what to do.
    """
    cdef int fd
    cdef int shift                      # log2 of the cell size
    cdef bint gone
    cdef bint several                   # frames may have several pieces
    cdef bint trust
    cdef bint polls                     # we busy-poll
    cdef Ring rx
    cdef Ring tx
    cdef Ring fill
    cdef Ring completion
    cdef uint32_t wanted                # cells that the kernel should have for frames to come,
    cdef uint32_t lent                  # and has
    cdef uint8_t* with_kernel           # by cell: it has it for a frame to come
    cdef uint32_t* sending              # by cell: packets on their way out, linked by qnext
    cdef uint32_t in_flight             # how many
    cdef uint32_t head                  # of a frame whose pieces are not all there yet
    cdef uint32_t last
    cdef int64_t looked                 # when we last asked for errors
    cdef Discovery discovery            # of one of several queues
    cdef object socket
    cdef object rings
    cdef object final                   # what the kernel had counted when we closed
    cdef int size
    cdef object wants_zero_copy
    cdef int busy_poll
    cdef readonly str name
    cdef readonly int queue
    cdef readonly object program        # what is attached to the device
    cdef readonly bint zero_copy        # once it is attached to an engine
    cdef readonly uint64_t rx_packets
    cdef readonly uint64_t rx_bytes
    cdef readonly uint64_t tx_packets
    cdef readonly uint64_t tx_bytes
    cdef readonly uint64_t tx_errors    # frames that could not be sent: too long, of too many pieces, device gone

    def __cinit__(self, *args, **kwargs):
        self.fd = -1
        self.head = self.last = NIL

    def __init__(self, name, *, addresses=(), queue=0, queues=1, mode="auto", zero_copy=None, ring=2048, busy_poll=0,
                 trust_checksums=False, beside=None, mtu=None):
        in_range("queue", queue, 0, 65535)
        in_range("queues", queues, 1, 65536)
        in_range("busy_poll", busy_poll, 0, 10_000)
        if mode not in ("auto", "native", "generic"):
            raise ConfigError(f"mode={mode!r}: use 'auto', 'native' or 'generic'")
        if isinstance(ring, bool) or not isinstance(ring, int) or not 64 <= ring <= 1 << 16 or ring & (ring - 1):
            raise ConfigError(f"ring={ring!r}: must be a power of two from 64 to 65536")
        if isinstance(addresses, str):
            addresses = (addresses,)
        ours = [xdp.address(a) for a in addresses]
        station = ethtool.station_address("af_xdp", name)
        super().__init__(medium="ethernet", mtu=1500 if mtu is None else mtu, caps=CAP_RX_L4_CSUM if trust_checksums else 0,
                         mac=station)
        if mtu is not None and mtu != device.get_mtu(name):
            device.set_mtu(name, mtu)
        self.mtu = device.get_mtu(name)
        self.name, self.queue, self.size, self.busy_poll = name, queue, ring, busy_poll
        self.trust, self.wants_zero_copy = bool(trust_checksums), zero_copy
        self.polls = busy_poll > 0
        self.socket = xdp.open_socket(name)
        try:
            self.program = self._program(ours, mode, queues > 1, beside)
            if self.program.shared:
                self.discovery = Discovery(name, self.socket.fileno(), False)
        except BaseException:
            self.close()
            raise

    def _program(self, ours, mode, shared, AfXdp beside):
        if beside is None:
            return xdp.Program(self.name, ours, mode, shared)
        if beside.name != self.name or beside.program is None:
            raise ConfigError(f"beside: that driver is of {beside.name!r} or closed; give one that is open on {self.name!r}")
        beside.program.users += 1
        return beside.program

    def __dealloc__(self):
        free(self.with_kernel)
        free(self.sending)

    def __del__(self):
        self.close()

    def attach(self, PacketPool pool not None):
        if self.pool is pool:
            return
        if pool.packet_size not in (2048, 4096) or <uintptr_t>pool.c.arena & 4095:
            raise ConfigError(f"packet_size={pool.packet_size}: the pool of an XDP socket has packets of 2048 or 4096 bytes, and "
                              "its memory begins at a page; use packet_size=2048, or 4096 for a larger MTU")
        if self.socket is None:
            raise DriverError(f"af_xdp: the driver of {self.name} is closed; make a new one")
        Driver.attach(self, pool)
        self.shift = pool.packet_size.bit_length() - 1
        self.several = self.mtu + ETH_HLEN + TAG > pool.packet_size - HEADROOM
        if self.several:
            self.caps |= CAP_SG
        self.with_kernel = <uint8_t*>calloc(pool.packets, 1)
        self.sending = <uint32_t*>calloc(pool.packets, sizeof(uint32_t))
        if self.with_kernel == NULL or self.sending == NULL:
            raise MemoryError("no memory for an XDP socket")
        memset(self.sending, 0xFF, <size_t>pool.packets * sizeof(uint32_t))      # NIL
        self.wanted = max(1, min(self.size, pool.packets // 4))
        try:
            self._open(pool)
        except BaseException:
            self.close()
            raise

    def _open(self, PacketPool pool):
        xdp.register(self.socket, <uintptr_t>pool.c.arena, <uint64_t>pool.packets * pool.packet_size, pool.packet_size)
        self.rings = xdp.rings(self.socket, self.size)
        _map(&self.rx, self.rings["rx"], self.size)
        _map(&self.tx, self.rings["tx"], self.size)
        _map(&self.fill, self.rings["fill"], self.size)
        _map(&self.completion, self.rings["completion"], self.size)
        self.fd = self.socket.fileno()
        xdp.tune(self.socket, self.size, self.busy_poll)
        self._refill()
        self.zero_copy = xdp.bind(self.socket, self.name, self.queue, self.wants_zero_copy, self.several)
        self.program.add(self.queue, self.fd)

    @property
    def native(self):
        """Whether the device's driver runs the program, and not the kernel behind it."""
        return self.program is not None and self.program.native

    def fileno(self):
        if self.fd < 0:
            return None
        return self.fd if self.discovery is None else self.discovery.fileno()

    def close(self):
        """Let go of the device, whose packets are the kernel's again. What is sent from then on is dropped."""
        if self.fd >= 0:
            self.final = xdp.dropped(self.socket)
        self.fd = -1
        if self.discovery is not None:
            self.discovery.close()
        if self.rings is not None:          # before the socket: as long as they are there, so is it
            for ring in self.rings.values():
                ring.memory.close()
            self.rings = None
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        if self.program is not None:
            self.program.release()
            self.program = None
        if self.pool is not None:
            self._take_back()

    cdef void _take_back(self):
        """All that the kernel had."""
        cdef uint32_t i, packet
        for i in range(self.pool.c.n_direct if self.with_kernel != NULL and self.sending != NULL else 0):
            if self.with_kernel[i]:
                self.with_kernel[i] = 0
                pkt_free(&self.pool.c, i)
            while self.sending[i] != NIL:
                packet = self.sending[i]
                self.sending[i] = pkt(&self.pool.c, packet).qnext
                pkt_free(&self.pool.c, packet)
        self.lent = self.in_flight = 0
        pkt_free(&self.pool.c, self.head)
        self.head = NIL

    def stats(self):
        """Counters of this driver, and of the kernel: rx_ring_full and rx_no_buffer (we were too slow, or the pool had no cells),
        rx_dropped (other reasons, like too long), tx_invalid."""
        kernel = xdp.dropped(self.socket) if self.fd >= 0 else self.final or {}
        return {"rx_packets": self.rx_packets, "rx_bytes": self.rx_bytes, "tx_packets": self.tx_packets,
                "tx_bytes": self.tx_bytes, "tx_errors": self.tx_errors, **kernel}

    # -- receiving ----------------------------------------------------------------------------------------
    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef Pool* pool = &self.pool.c
        cdef uint32_t filled, cell
        cdef int count = 0
        cdef Desc* d
        cdef Packet* k
        if unlikely(self.fd < 0 or self.gone):
            return 0
        if self.in_flight:
            self._complete()
        if unlikely(self.discovery is not None):
            count = self._discover(packets, n)
        filled = _filled(&self.rx)
        while filled and count < n:
            d = &self.rx.descs[self.rx.at & self.rx.mask]
            self.rx.at += 1
            filled -= 1
            cell = <uint32_t>(d.addr >> self.shift)
            self.with_kernel[cell] = 0
            self.lent -= 1
            k = pkt(pool, cell)
            k.off = <uint32_t>(d.addr & ((1 << self.shift) - 1))
            k.len = k.total_len = d.len
            if unlikely(self.head != NIL or d.options & CONTINUED):
                self._append(cell)
                if d.options & CONTINUED:
                    continue
                cell = self.head
                k = pkt(pool, cell)
                self.head = NIL
            if self.trust:
                k.flags |= PKT_RX_L4_CSUM_OK
            self.rx_bytes += k.total_len
            packets[count] = cell
            count += 1
        xdp_store(self.rx.consumer, self.rx.at)
        self.rx_packets += count
        self._refill()
        if xdp_load(self.fill.flags) & WAKE_UP or (self.polls and count == 0):
            xdp_kick_rx(self.fd)
        if unlikely(count == 0) and now - self.looked > LOOK:
            self._look(now)
        return count

    cdef int _discover(self, uint32_t* packets, int n) noexcept nogil:
        cdef int i, count = self.discovery.receive(&self.pool.c, packets, n)
        for i in range(count):
            self.rx_bytes += pkt(&self.pool.c, packets[i]).total_len
        return count

    cdef void _append(self, uint32_t cell) noexcept nogil:
        """A further piece of the frame that is coming in."""
        cdef Pool* pool = &self.pool.c
        if self.head == NIL:
            self.head = cell
        else:
            pkt(pool, self.last).next = cell
            pkt(pool, self.head).total_len += pkt(pool, cell).len
        self.last = cell

    cdef void _refill(self) noexcept nogil:
        """Give the kernel cells for frames to come, and leave some to those who have to answer."""
        cdef Pool* pool = &self.pool.c
        cdef uint32_t i, before = self.fill.at
        while self.lent < self.wanted and (pool.n_free_direct > pool.reserve or self.lent < FEW):
            i = pkt_alloc(pool)
            if unlikely(i == NIL):
                break
            self.with_kernel[i] = 1
            self.lent += 1
            self.fill.cells[self.fill.at & self.fill.mask] = <uint64_t>i << self.shift
            self.fill.at += 1
        if self.fill.at != before:
            xdp_store(self.fill.producer, self.fill.at)

    # -- sending ------------------------------------------------------------------------------------------
    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        cdef int i
        if unlikely(self.fd < 0 or self.gone):
            for i in range(n):
                pkt_free(&self.pool.c, packets[i])
            self.tx_errors += n
            return n
        if self.in_flight:
            self._complete()
        for i in range(n):
            if not self._send(packets[i]):
                n = i
                break
        self._flush()
        return n

    cdef bint _send(self, uint32_t i) noexcept nogil:
        """Packet `i` into the ring. False, untouched, if there is no room or no cell for a copy."""
        cdef Pool* pool = &self.pool.c
        cdef uint32_t nxt, copy, most = MAX_PIECES if self.several else 1
        cdef uint32_t octets = pkt(pool, i).total_len
        if _room(&self.tx) < most or self.in_flight + most > self.completion.size:
            return False
        if unlikely(octets < ETH_HLEN or octets > <uint32_t>self.mtu + ETH_HLEN + TAG):
            self.tx_errors += 1
            pkt_free(pool, i)
            return True
        if unlikely(packet_foreign(&self.pool.c, i) or (pkt(pool, i).next != NIL and pkt_chain_len(pool, i) > most)):
            copy = self._copy(i)
            if copy == NIL:
                return False
            pkt_free(pool, i)
            i = copy
        while i != NIL:
            nxt = pkt(pool, i).next
            pkt(pool, i).next = NIL
            self._describe(i, nxt != NIL)
            i = nxt
        self.tx_packets += 1
        self.tx_bytes += octets
        return True

    cdef uint32_t _copy(self, uint32_t i) noexcept nogil:
        """The frame in as few cells as it needs; NIL if the pool has not so many."""
        cdef Pool* pool = &self.pool.c
        cdef uint32_t n = pkt(pool, i).total_len, done = 0, head = NIL, last = NIL, c
        cdef Packet* k
        while done < n:
            c = pkt_alloc(pool)
            if c == NIL:
                pkt_free(pool, head)
                return NIL
            k = pkt(pool, c)
            k.off = 0
            k.len = pkt_copy_out(pool, i, done, k.buf, min(n - done, k.buf_len))
            done += k.len
            if head == NIL:
                head = c
                k.total_len = n
            else:
                pkt(pool, last).next = c
            last = c
        return head

    cdef void _describe(self, uint32_t i, bint more) noexcept nogil:
        cdef Packet* k = pkt(&self.pool.c, i)
        cdef uint32_t cell = k.parent
        cdef Desc* d = &self.tx.descs[self.tx.at & self.tx.mask]
        d.addr = (<uint64_t>cell << self.shift) + k.off
        d.len = k.len
        d.options = CONTINUED if more else 0
        self.tx.at += 1
        k.qnext = self.sending[cell]
        self.sending[cell] = i
        self.in_flight += 1

    cdef void _complete(self) noexcept nogil:
        """What was sent is the pool's again. Views of one cell are alike, so any of them will do."""
        cdef uint32_t filled = _filled(&self.completion), cell, i
        while filled:
            cell = <uint32_t>(self.completion.cells[self.completion.at & self.completion.mask] >> self.shift)
            self.completion.at += 1
            filled -= 1
            i = self.sending[cell]
            if likely(i != NIL):
                self.sending[cell] = pkt(&self.pool.c, i).qnext
                self.in_flight -= 1
                pkt_free(&self.pool.c, i)
        xdp_store(self.completion.consumer, self.completion.at)

    cdef void _flush(self) noexcept nogil:
        """Tell the kernel what there is to send; it takes some at a time. What it has no room for remains in the ring."""
        cdef uint32_t before
        cdef int code
        xdp_store(self.tx.producer, self.tx.at)
        while True:
            before = xdp_load(self.tx.consumer)
            if before == self.tx.at or not xdp_load(self.tx.flags) & WAKE_UP:
                return
            if xdp_kick_tx(self.fd) < 0:
                code = errno
                if code == ENXIO:
                    with gil:
                        self._device_is_gone(code)
                    return
                if code != EINTR and xdp_load(self.tx.consumer) == before:
                    return        # EAGAIN, EBUSY, ENOBUFS, or the link is down: later

    # -- the device ---------------------------------------------------------------------------------------
    cdef void _look(self, int64_t now) noexcept nogil:
        cdef int code = xdp_error(self.fd)
        self.looked = now
        if code:
            with gil:
                self._device_is_gone(code)

    cdef void _device_is_gone(self, int code) noexcept:
        self.gone = True
        self.error = DriverError(f"device {self.name} is gone ({os.strerror(code)}): it was removed while in use")

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        if self.fd < 0 or self.gone:
            return NEVER
        if xdp_load(self.tx.consumer) != self.tx.at or self.lent < self.wanted >> 2:
            return now + RETRY
        return now + IDLE         # nothing wakes us when the device goes


cdef void _map(Ring* to, ring, uint32_t size):
    pin = ctypes.c_char.from_buffer(ring.memory)
    cdef uint8_t* memory = <uint8_t*><uintptr_t>ctypes.addressof(pin)
    to.producer = <uint32_t*>(memory + <uint64_t>ring.producer)
    to.consumer = <uint32_t*>(memory + <uint64_t>ring.consumer)
    to.flags = <uint32_t*>(memory + <uint64_t>ring.flags)
    to.cells = <uint64_t*>(memory + <uint64_t>ring.entries)
    to.descs = <Desc*>to.cells
    to.size = size
    to.mask = size - 1
