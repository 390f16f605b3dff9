"""Write down what passes between an engine and its driver, for Wireshark and tcpdump (pcapng)."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

from iip.drivers.base cimport Driver
from iip.memory.pool cimport PacketPool

import struct

from iip.errors import ConfigError

_LINKTYPE = {"ethernet": 1, "ip": 101}
_INBOUND, _OUTBOUND = 1, 2


def _block(kind, body):
    """A block of a pcapng file; `body` is padded."""
    body += bytes(-len(body) & 3)
    total = len(body) + 12
    return struct.pack("<II", kind, total) + body + struct.pack("<I", total)


def _option(code, value):
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) & 3)


cdef class Capture(Driver):
    """Put a recorder in front of `driver`; packets go to `file`, a path or a binary file object, in both directions.

    snaplen: bytes kept of each packet, 0: all; epoch: what to add to the engine's time to get the time since 1970,
    ns. Packets are recorded as the driver takes and gives them: with checksum offload, those that leave have
    unfinished checksums. If writing fails, the exception ends the driver and comes out of `Engine.run`.
    """
    cdef readonly Driver inner
    cdef object file
    cdef bint owned
    cdef int64_t epoch
    cdef uint32_t snaplen
    cdef readonly uint64_t packets

    def __init__(self, Driver driver not None, file, *, snaplen=0, epoch=0):
        if not 0 <= snaplen <= 1 << 20:
            raise ConfigError(f"snaplen={snaplen}: must be from 0 (everything) to {1 << 20} bytes")
        super().__init__(medium=driver.medium, mtu=driver.mtu, caps=driver.caps, mac=driver.mac)
        self.inner = driver
        self.snaplen = snaplen
        self.epoch = epoch
        self.owned = not hasattr(file, "write")
        self.file = open(file, "wb") if self.owned else file
        self.file.write(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        # option 9: times in units of 10**-9 s
        self.file.write(_block(1, struct.pack("<HHI", _LINKTYPE[driver.medium], 0, snaplen) + _option(9, b"\x09")
                               + _option(0, b"")))

    def attach(self, PacketPool pool not None):
        self.inner.attach(pool)
        Driver.attach(self, pool)

    def fileno(self):
        return self.inner.fileno()

    def close(self):
        """Close the driver, and the file if it was opened here."""
        self.inner.close()
        if self.file is not None and self.owned:
            self.file.close()
        self.file = None

    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef int got = self.inner.rx_burst(now, packets, n)
        if got:
            with gil:
                self._write(now, packets, got, _INBOUND)
        if self.inner.error is not None:
            with gil:
                self.error = self.inner.error
        return got

    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        # copied before the driver has them, since it may free them at once
        cdef int i, taken = 0
        for i in range(n):
            with gil:
                frame = self.pool.bytes(packets[i])
                taken = self.inner.tx_burst(now, packets + i, 1)
                if taken:
                    self._frame(now, frame, _OUTBOUND)
            if not taken:
                return i
        return n

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        return self.inner.poll_at(now)

    cdef void _write(self, int64_t now, const uint32_t* packets, int n, int direction) noexcept:
        cdef int i
        for i in range(n):
            self._frame(now, self.pool.bytes(packets[i]), direction)

    cdef void _frame(self, int64_t now, bytes frame, int direction) noexcept:
        cdef uint64_t at = <uint64_t>(now + self.epoch)
        if self.file is None:
            return
        kept = frame[:self.snaplen] if self.snaplen else frame
        body = struct.pack("<IIIII", 0, at >> 32, at & 0xFFFFFFFF, len(kept), len(frame))
        body += kept + bytes(-len(kept) & 3) + _option(2, struct.pack("<I", direction)) + _option(0, b"")
        try:
            self.file.write(_block(6, body))
            self.packets += 1
        except Exception as error:
            self.file = None
            self.error = error
