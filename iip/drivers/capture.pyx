"""Write down what passes between an engine and its driver, for Wireshark and tcpdump (pcapng)."""
from libc.stdint cimport int64_t, uint32_t

from iip.drivers.base cimport Driver
from iip.memory.pool cimport PacketPool

from iip.drivers.pcapng import INBOUND as _INBOUND, OUTBOUND as _OUTBOUND, PcapngWriter


cdef class Capture(Driver):
    """Put a recorder in front of `driver`; packets go to `file`, a path or a binary file object, in both directions.

    snaplen: bytes kept of each packet, 0: all; epoch: what to add to the engine's time to get the time since 1970,
    ns. Packets are recorded as the driver takes and gives them: with checksum offload, those that leave have
    unfinished checksums. If writing fails, the exception ends the driver and comes out of `Engine.run`.
    """
    cdef readonly Driver inner
    cdef object writer
    cdef int64_t epoch

    def __init__(self, Driver driver not None, file, *, snaplen=0, epoch=0):
        super().__init__(medium=driver.medium, mtu=driver.mtu, caps=driver.caps, mac=driver.mac)
        self.inner = driver
        self.epoch = epoch
        self.writer = PcapngWriter(file, snaplen=snaplen)
        self.writer.interface(driver.medium)

    @property
    def packets(self):
        """Packets recorded."""
        return self.writer.packets

    def attach(self, PacketPool pool not None):
        self.inner.attach(pool)
        Driver.attach(self, pool)

    def fileno(self):
        return self.inner.fileno()

    def notify(self, callback):
        return self.inner.notify(callback)

    def close(self):
        """Close the driver, and the file if it was opened here."""
        self.inner.close()
        self.writer.close()

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
        try:
            self.writer.frame(now + self.epoch, frame, direction)
        except Exception as error:
            self.writer.close()
            self.error = error
