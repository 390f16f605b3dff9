"""Drivers: where packets come from and go to.

In Cython, subclass `Driver` and override `rx_burst` and `tx_burst`. In Python, subclass `PythonDriver` and
override `receive` and `transmit`.
"""
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from cpython.buffer cimport PyBUF_SIMPLE, PyObject_GetBuffer, PyBuffer_Release, Py_buffer
from iip.memory.pool cimport NIL, Packet, Pool, pkt, pkt_alloc, pkt_data, pkt_free

from iip.errors import ConfigError, DriverError

cdef int64_t NEVER = 0x7FFFFFFFFFFFFFFF


cdef class Driver:
    """Base of all drivers.

    caps: bits of `iip.drivers.Capability`; medium: ``"ethernet"`` or ``"ip"``; mtu: bytes of an IP packet;
    mac: the station address the device insists on, or None.
    """

    def __init__(self, *, medium="ethernet", mtu=1500, caps=0, mac=None):
        if medium not in ("ethernet", "ip"):
            raise ConfigError(f"medium={medium!r}: use 'ethernet' or 'ip'")
        if not 576 <= mtu <= 65535:
            raise ConfigError(f"mtu={mtu}: must be from 576 to 65535 bytes")
        self.medium = medium
        self.mtu = mtu
        self.caps = caps
        self.mac = mac

    def attach(self, PacketPool pool not None):
        """Called by the engine: received packets are taken from `pool`, sent ones given back to it."""
        if self.pool is not None and self.pool is not pool:
            raise ConfigError("driver: already attached to another engine; make one driver per engine")
        self.pool = pool

    def fileno(self):
        """A file descriptor that is readable when packets wait, or None if there is none."""
        return None

    def notify(self, callback):
        """Have `callback` called without arguments when packets wait for the engine (None: no more), for a driver without
        a descriptor. False if the driver cannot: then somebody else has to know when to run the engine."""
        return False

    def plain(self):
        """Before `attach`: hand in and take complete packets only, not larger than the MTU and with their checksums.
        For who forwards packets instead of ending their way."""

    def close(self):
        """Give the device back. Closing twice is allowed."""

    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        """Fill `packets` with up to `n` packets, which belong to the engine from then on; how many."""
        return 0

    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        """Take packets from the front of the array; how many. Those belong to the driver, which frees them;
        the others are offered again at the next run."""
        return 0

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        """When the driver has something to do without being readable (ns), for example delayed packets."""
        return NEVER


cdef class PythonDriver(Driver):
    """A driver written in Python: override `receive` and `transmit`.

    An exception that they raise ends the driver and comes out of `Engine.run`.
    """

    def __init__(self, *, medium="ethernet", mtu=1500, mac=None):
        super().__init__(medium=medium, mtu=mtu, caps=0, mac=mac)
        self._receive = self.receive
        self._transmit = self.transmit

    def receive(self, now, limit):
        """Return an iterable of at most `limit` frames (bytes-like). `now` in ns."""
        return ()

    def transmit(self, now, frames):
        """Send `frames`, a list of `bytes`. Return how many were taken from the front; None for all."""
        return None

    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        with gil:
            return self._rx(now, packets, n)

    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        if n == 0:
            return 0
        with gil:
            return self._tx(now, packets, n)

    cdef int _rx(self, int64_t now, uint32_t* packets, int n) noexcept:
        cdef int count = 0
        cdef uint32_t i
        if self._failed:
            return 0
        try:
            for frame in self._receive(now, n):
                if count == n:
                    raise DriverError(f"receive() returned more than limit={n} frames; keep the rest for the next call")
                i = copy_in(&self.pool.c, frame)
                if i != NIL:
                    packets[count] = i
                    count += 1
        except Exception as error:
            self._failed = True
            self.error = error
        return count

    cdef int _tx(self, int64_t now, const uint32_t* packets, int n) noexcept:
        cdef int i
        cdef object taken
        if self._failed:
            for i in range(n):
                pkt_free(&self.pool.c, packets[i])
            return n
        try:
            taken = self._transmit(now, [self.pool.bytes(packets[i]) for i in range(n)])
            taken = n if taken is None else min(max(int(taken), 0), n)
        except Exception as error:
            self._failed = True
            self.error = error
            taken = n
        for i in range(<int>taken):
            pkt_free(&self.pool.c, packets[i])
        return taken


cdef uint32_t copy_in(Pool* pool, object frame) except? 0:
    """A frame from Python as a packet, in a chain if one cell is too small; NIL if the pool is empty."""
    cdef Py_buffer view
    cdef uint32_t i
    PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
    i = pkt_from_bytes(pool, <const uint8_t*>view.buf, <uint32_t>view.len)
    PyBuffer_Release(&view)
    return i


cdef uint32_t pkt_from_bytes(Pool* pool, const uint8_t* data, uint32_t n) noexcept nogil:
    """Copy `n` bytes into a new packet (chained when they exceed a cell); NIL, nothing kept, if the pool is empty."""
    cdef uint32_t head = NIL, last = NIL, i, take, total = n
    cdef Packet* k
    while True:
        i = pkt_alloc(pool)
        if i == NIL:
            pkt_free(pool, head)
            return NIL
        k = pkt(pool, i)
        take = min(n, k.buf_len - k.off)
        memcpy(pkt_data(k), data, take)
        k.len = take
        data += take
        n -= take
        if head == NIL:
            head = i
            k.total_len = total
        else:
            pkt(pool, last).next = i
        last = i
        if n == 0:
            return head
