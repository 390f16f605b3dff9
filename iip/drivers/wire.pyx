"""A bad wire between two devices, in real time: what comes from one goes to the other, and back."""
from libc.stdint cimport int64_t, uint32_t

from cpython.exc cimport PyErr_CheckSignals
from iip.drivers.base cimport Driver
from iip.drivers.line cimport (Line, line_admit, line_clear, line_dispose, line_init, line_next, line_pop, line_return,
                               line_stats)
from iip.memory.pool cimport NIL, PacketPool

from iip.drivers.impairments import Impairments
from iip.errors import ConfigError

cdef extern from *:
    """
    #include <poll.h>
    #include <stdint.h>
    #include <time.h>
    #ifdef __linux__
    #include <sys/prctl.h>
    #endif
    static inline int64_t wire_clock(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    /* Until one of the descriptors is readable, but not longer than ns. */
    static inline void wire_wait(int a, int b, int64_t ns) {
        struct pollfd fds[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
    #ifdef __linux__
        struct timespec t = {ns / 1000000000, ns % 1000000000};
        ppoll(fds, 2, &t, 0);
    #else
        poll(fds, 2, (int)(ns / 1000000));
    #endif
    }
    /* The kernel may wake us that much too late, ns. The old value, 0 where there is none. */
    static inline int64_t wire_slack(int64_t ns) {
    #ifdef __linux__
        int64_t old = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
        prctl(PR_SET_TIMERSLACK, (unsigned long)ns, 0, 0, 0);
        return old > 0 ? old : 0;
    #else
        (void)ns;
        return 0;
    #endif
    }
    """
    int64_t wire_clock() noexcept nogil
    void wire_wait(int a, int b, int64_t ns) noexcept nogil
    int64_t wire_slack(int64_t ns) noexcept nogil

cdef enum:
    BURST = 64
    LOOK = 50_000_000             # ns between two looks at signals and the end
    NEAR = 5_000                  # what is due sooner is waited for awake, ns
    BUSY = 100_000                # ns between two tries at a device that takes nothing


cdef class Wire:
    """Forwards frames between two devices (drivers with a descriptor, usually two `Tap`).

    there: what happens from `a` to `b`, back: from `b` to `a` (`Impairments`); seed: of the dice; packets: on the wire
    at most. `run` does the work.
    """
    cdef readonly Driver a
    cdef readonly Driver b
    cdef readonly PacketPool pool
    cdef Line there
    cdef Line back

    def __init__(self, Driver a not None, Driver b not None, *, seed, there=None, back=None, packets=32768):
        there = Impairments() if there is None else there
        back = Impairments() if back is None else back
        for name, settings in (("there", there), ("back", back)):
            if not isinstance(settings, Impairments):
                raise ConfigError(f"{name}={settings!r}: use iip.drivers.Impairments(...)")
        if a.medium != b.medium:
            raise ConfigError(f"one device speaks {a.medium}, the other {b.medium}; use two of a kind")
        if a.fileno() is None or b.fileno() is None:
            raise ConfigError("a wire needs devices with a descriptor to wait for, like Tap")
        self.a, self.b = a, b
        size = (max(a.mtu, b.mtu) + 18 + 128 + 63) // 64 * 64
        self.pool = PacketPool(packets=packets, packet_size=max(2048, size), views=16)
        base = 2 * int(seed)
        line_init(&self.there, there, base & 0xFFFFFFFFFFFFFFFF, a.medium)
        line_init(&self.back, back, (base + 1) & 0xFFFFFFFFFFFFFFFF, a.medium)
        self.there.pool = self.back.pool = &self.pool.c
        for driver in (a, b):
            driver.plain()        # what one device leaves unfinished the other would have to finish
            driver.attach(self.pool)

    def __dealloc__(self):
        line_dispose(&self.there)
        line_dispose(&self.back)

    def stats(self):
        """What happened to frames, by direction: ``there`` and ``back``."""
        return {"there": line_stats(&self.there, ""), "back": line_stats(&self.back, "")}

    def close(self):
        """Lose what is on the wire. The devices stay open."""
        line_clear(&self.there)
        line_clear(&self.back)

    def run(self, duration=None, stop=None):
        """Forward for `duration` seconds (None: for ever), or until `stop()` is true or a `threading.Event` set;
        asked twenty times a second. Raises when a device is gone."""
        cdef int64_t now = wire_clock(), end = 0x7FFFFFFFFFFFFFFF, slack
        asked = getattr(stop, "is_set", stop)
        if duration is not None:
            end = now + <int64_t>(duration * 1e9)
        slack = wire_slack(1)
        try:
            while now < end and not (asked is not None and asked()):
                with nogil:
                    self._part(min(end, now + LOOK))
                PyErr_CheckSignals()
                for driver in (self.a, self.b):
                    if driver.error is not None:
                        error, driver.error = driver.error, None
                        raise error
                now = wire_clock()
        finally:
            wire_slack(slack)

    cdef void _part(self, int64_t end) noexcept nogil:
        cdef int fd_a, fd_b, got
        cdef int64_t now, at
        cdef bint busy
        with gil:
            fd_a, fd_b = self.a.fileno(), self.b.fileno()
        while True:
            now = wire_clock()
            if now >= end or self.a.error is not None or self.b.error is not None:
                return
            got = self._take(self.a, &self.there, now)
            got += self._take(self.b, &self.back, now)
            busy = self._give(self.b, &self.there, now)
            if self._give(self.a, &self.back, now):
                busy = True
            if got:
                continue
            at = now + BUSY if busy else min(line_next(&self.there), line_next(&self.back))
            at = min(at, end)
            if at - now > NEAR:
                wire_wait(fd_a, fd_b, at - now)

    cdef int _take(self, Driver driver, Line* line, int64_t now) noexcept nogil:
        cdef uint32_t packets[BURST]
        cdef int i, got = driver.rx_burst(now, packets, BURST)
        for i in range(got):
            line_admit(line, packets[i], now)
        return got

    cdef bint _give(self, Driver driver, Line* line, int64_t now) noexcept nogil:
        """What has arrived goes out. True if the device did not take all of it."""
        cdef uint32_t packets[BURST]
        cdef int n = BURST, taken
        while n == BURST:
            n = 0
            while n < BURST:
                packets[n] = line_pop(line, now)
                if packets[n] == NIL:
                    break
                n += 1
            if n == 0:
                return False
            taken = driver.tx_burst(now, packets, n)
            if taken < n:
                while n > taken:
                    n -= 1
                    line_return(line, packets[n], now)
                return True
        return False
