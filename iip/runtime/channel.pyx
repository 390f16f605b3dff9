"""The rings and bells between a network thread and an application thread: see channel.pxd."""
import os

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.memory.raw cimport free_lines, zalloc_lines
from iip.memory.ring cimport load_relaxed, ring_fini, ring_init, store_release

from iip.errors import ConfigError

cdef extern from *:
    """
    #include <poll.h>
    #include <time.h>
    #include <unistd.h>
    static void iip_poll(int a, int b, int c, int64_t ns) {
        struct pollfd p[3];
        int n = 0, fds[3] = {a, b, c}, i;
        for (i = 0; i < 3; i++)
            if (fds[i] >= 0) {
                p[n].fd = fds[i];
                p[n].events = POLLIN;
                p[n++].revents = 0;
            }
    #if defined(__linux__)
        struct timespec t;
        t.tv_sec = (time_t)(ns / 1000000000);
        t.tv_nsec = (long)(ns % 1000000000);
        ppoll(p, n, &t, NULL);
    #else
        poll(p, n, (int)((ns + 999999) / 1000000));
    #endif
    }
    """
    void iip_poll(int a, int b, int c, int64_t ns) noexcept nogil
    ssize_t c_read "read"(int fd, void* buffer, size_t n) noexcept nogil
    ssize_t c_write "write"(int fd, const void* buffer, size_t n) noexcept nogil


cdef int bell_open(Bell* bell) except -1:
    if hasattr(os, "eventfd"):
        bell.read_fd = bell.write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return 0
    bell.read_fd, bell.write_fd = os.pipe()
    os.set_blocking(bell.read_fd, False)
    os.set_blocking(bell.write_fd, False)
    return 0


cdef void bell_close(Bell* bell) noexcept:
    if bell.read_fd > 0:
        os.close(bell.read_fd)
        if bell.write_fd != bell.read_fd:
            os.close(bell.write_fd)
    bell.read_fd = bell.write_fd = 0


cdef void bell_wake(Bell* bell) noexcept nogil:
    cdef uint64_t one = 1
    store_release(&bell.asleep, 0)
    bell.rung += 1
    while c_write(bell.write_fd, &one, sizeof(one)) < 0 and errno == EINTR:
        pass


cdef void bell_sleep(Bell* bell, int fd, int fd2, int64_t ns) noexcept nogil:
    """Sleep until the bell is rung, one of the descriptors (-1: none) is readable, or `ns` are over."""
    cdef uint64_t rung
    iip_poll(bell.read_fd, fd, fd2, max(ns, <int64_t>0))
    store_release(&bell.asleep, 0)
    while c_read(bell.read_fd, &rung, sizeof(rung)) > 0:
        pass


cdef class Link:
    """`capacity`: events, and requests, that may wait; `stock`: empty packets that the application's thread has at hand.
    Both are powers of two."""

    def __cinit__(self, capacity=8192, stock=256):
        if sizeof(Tell) != 64 or sizeof(Ask) != 32:
            raise SystemError("the records of a channel do not fill cache lines")
        for name, value, low in (("ring", capacity, 4096), ("stock", stock, 16)):
            if not isinstance(value, int) or value & (value - 1) or not low <= value <= 1 << 20:
                raise ConfigError(f"{name}={value!r}: must be a power of two from {low} to {1 << 20}")
        self.capacity, self.stock = capacity, stock
        self.c = <Channel*>zalloc_lines(1, sizeof(Channel))
        if (self.c == NULL or ring_init(&self.c.tells, capacity, sizeof(Tell), NULL) != 0
                or ring_init(&self.c.asks, capacity, sizeof(Ask), NULL) != 0
                or ring_init(&self.c.stock, stock, sizeof(uint32_t), NULL) != 0):
            raise MemoryError("no memory for the rings between two threads; lower ring")
        bell_open(&self.c.net)
        bell_open(&self.c.app)

    def __dealloc__(self):
        if self.c != NULL:
            ring_fini(&self.c.tells)
            ring_fini(&self.c.asks)
            ring_fini(&self.c.stock)
            bell_close(&self.c.net)
            bell_close(&self.c.app)
            free_lines(self.c)

    def stats(self):
        """Records that wait, and how often each thread was woken."""
        return {"events_waiting": ring_len(&self.c.tells), "requests_waiting": ring_len(&self.c.asks),
                "requests_full": load_relaxed(&self.c.asks.full), "network_woken": self.c.net.rung,
                "application_woken": self.c.app.rung}

    def layout(self):
        """Where the words lie that one thread writes and the other reads, bytes from the start of a cache line."""
        cdef char* base = <char*>self.c
        found = {"start": <size_t>base % 64, "tell": sizeof(Tell), "ask": sizeof(Ask),
                 "tells_data": <size_t>self.c.tells.data % 64, "asks_data": <size_t>self.c.asks.data % 64,
                 "stock_data": <size_t>self.c.stock.data % 64}
        words = {
            "tells.tail": <char*>&self.c.tells.tail - base, "tells.head": <char*>&self.c.tells.head - base,
            "asks.tail": <char*>&self.c.asks.tail - base, "asks.head": <char*>&self.c.asks.head - base,
            "stock.tail": <char*>&self.c.stock.tail - base, "stock.head": <char*>&self.c.stock.head - base,
            "net_gone": <char*>&self.c.net_gone - base, "app_gone": <char*>&self.c.app_gone - base,
            "given_up": <char*>&self.c.given_up - base, "net.asleep": <char*>&self.c.net.asleep - base,
            "app.asleep": <char*>&self.c.app.asleep - base}
        return found, words
