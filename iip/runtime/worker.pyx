"""The loops of threads: one that runs engines, and one that runs an application whose engine is in another thread. Both run
without the GIL, which handlers written in Python take for themselves."""
from collections import deque

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport INT64_MAX, int64_t
from iip.engine cimport Engine
from iip.memory.pool cimport NIL
from iip.memory.ring cimport load_acquire, load_relaxed, ring_len, store_release
from iip.runtime.channel cimport Bell, bell_close, bell_get_up, bell_lie_down, bell_open, bell_ring, bell_sleep
from iip.runtime.pair cimport clock_ns, pair_settle
from iip.runtime.relay cimport Relay
from iip.runtime.remote cimport Remote
from iip.runtime.ticker cimport Ticker
from iip.wire.bytes cimport unlikely

from iip.errors import ConfigError

cdef extern from "<sched.h>" nogil:
    int sched_yield() noexcept

cdef extern from *:
    """
    #include <pthread.h>
    static void iip_name_thread(const char *name) {
    #if defined(__linux__)
        pthread_setname_np(pthread_self(), name);
    #elif defined(__APPLE__)
        pthread_setname_np(name);
    #else
        (void)name;
    #endif
    }
    """
    void iip_name_thread(const char* name)

IDLE = {"spin": IDLE_SPIN, "spin-then-sleep": IDLE_SPIN_THEN_SLEEP, "sleep": IDLE_SLEEP}

cdef enum:
    LONGEST = 100_000_000         # ns that a thread sleeps at most
    STALLED = 1_000_000           # and while it waits for the other one to read
    SHORT = 20_000                # sleeps shorter than this are not worth it
    STALL = 500_000               # ns between two rounds of a pair that a timer could take for a loss


def name_thread(name):
    """Name the calling thread, for top and debuggers; the system keeps 15 bytes."""
    iip_name_thread(name.encode()[:15])


cdef class Loop:
    """What the loops have in common. idle: what to do when there is nothing to do: ``"spin"``, ``"spin-then-sleep"`` after
    `spin` seconds, or ``"sleep"``."""

    def __cinit__(self, *args, idle="spin-then-sleep", spin=50e-6, **kwargs):
        if idle not in IDLE:
            raise ConfigError(f"idle={idle!r}: use 'spin', 'spin-then-sleep' or 'sleep'")
        if not 0 <= spin <= 1:
            raise ConfigError(f"spin={spin!r}: must be from 0 to 1 second")
        self.policy = IDLE[idle]
        self.spin = <int64_t>(spin * 1e9)
        self.calls = deque()

    cdef Bell* bell(self) noexcept nogil:
        return NULL

    cdef int ready(self) noexcept nogil:
        """Whether there is something to do after all."""
        return 0

    def stop(self):
        """Ask the loop to end; from any thread."""
        store_release(&self.stopping, 1)
        bell_ring(self.bell())

    def call(self, function, *arguments):
        """Have the loop's thread call a function between two rounds; from any thread."""
        self.calls.append((function, arguments))
        store_release(&self.called, 1)
        bell_ring(self.bell())

    cdef void run_calls(self):
        store_release(&self.called, 0)
        while self.calls:
            function, arguments = self.calls.popleft()
            function(*arguments)


cdef inline bint _sleepy(Loop self, int64_t now) noexcept nogil:
    """There is nothing to do. True: sleep; else the time was passed."""
    if self.policy == IDLE_SPIN or (self.policy == IDLE_SPIN_THEN_SLEEP and now - self.busy_at < self.spin):
        sched_yield()             # for the other thread of this core, if there is one
        return False
    return True


cdef void _sleep(Loop self, int fd, int fd2, int64_t ns) noexcept nogil:
    bell_lie_down(self.bell())
    if load_relaxed(&self.stopping) or load_relaxed(&self.called) or self.ready():
        bell_get_up(self.bell())
        return
    self.sleeps += 1
    bell_sleep(self.bell(), fd, fd2, ns)


cdef class NetworkLoop(Loop):
    """Runs an engine, or two that a memory link joins, and the relays that their handlers may be."""

    def __init__(self, Engine a not None, Engine b=None, *, idle="spin-then-sleep", spin=50e-6):
        self.a, self.b = a, b
        if isinstance(a.native, Relay):
            self.relay_a = a.native
        for engine in (a, b):
            if engine is not None and isinstance((<Engine>engine).native, Ticker):
                self.ticker, self.ticked = (<Engine>engine).native, engine
        if b is not None and isinstance(b.native, Relay):
            self.relay_b = b.native
        bell_open(&self.own)
        self.mine = &self.own
        for relay in (self.relay_a, self.relay_b):
            if relay is not None and self.mine == &self.own:
                self.mine = &(<Relay>relay).c.net
        if self.relay_a is not None and self.relay_b is not None:
            raise ConfigError("one of two engines in a thread may have its application in another thread, not both")
        self.fd_a = _descriptor(a)
        self.fd_b = -1 if b is None else _descriptor(b)

    def __dealloc__(self):
        bell_close(&self.own)

    cdef Bell* bell(self) noexcept nogil:
        return self.mine

    cdef int ready(self) noexcept nogil:
        return ((self.relay_a is not None and ring_len(&self.relay_a.c.asks))
                or (self.relay_b is not None and ring_len(&self.relay_b.c.asks)))

    cdef int64_t turn(self) noexcept nogil:
        """Requests, then the engines; when to run again."""
        cdef int64_t now = clock_ns(), due, tick = INT64_MAX
        if self.b is not None and unlikely(now - self.now > STALL) and self.now:
            pair_settle(self.a, self.b)
        self.now = now
        if self.ticker is not None:
            tick = self.ticker.tick(self.ticked, now)
        due = _run(self.a, self.relay_a, now)
        if self.b is not None:
            due = min(due, _run(self.b, self.relay_b, now))
            if due > now:
                due = min(due, self.a.driver.poll_at(now))
        if self.ticker is not None and due > now:
            if not _has_output(self.ticked):
                # what came in may have made something due: a connection is free again
                tick = self.ticker.tick(self.ticked, now)
                if _has_output(self.ticked):
                    return now
            due = min(due, tick)
        return due

    def run(self, until=None):
        """Run in this thread until `stop` is called, or the clock says `until` (ns). Exceptions of handlers, drivers and calls
        come out, and end it."""
        cdef int64_t end = INT64_MAX if until is None else until
        cdef bint on = True
        while on:
            with nogil:
                on = self.many(end)
            PyErr_CheckSignals()
            self.run_calls()
            for engine in (self.a, self.b):
                if engine is not None:
                    _check(engine)

    cdef bint many(self, int64_t end) noexcept nogil:
        """Rounds until something needs Python. False: it is over."""
        cdef int64_t due, ns
        cdef int _i
        for _i in range(1 << 16):
            due = self.turn()
            self.rounds += 1
            if unlikely(load_relaxed(&self.stopping) != 0) or self.now >= end:
                self.turn()       # what was asked for before
                return False
            if unlikely(load_relaxed(&self.called) or _troubled(self.a) or (self.b is not None and _troubled(self.b))):
                return True
            if due <= self.now:
                self.busy_at = self.now
            elif due - self.now > SHORT and _sleepy(self, self.now):
                ns = min(min(due, end) - self.now, <int64_t>LONGEST)
                _sleep(self, self.fd_a, self.fd_b, ns)
                self.now = 0      # no stall: it slept
                return True
        return True


cdef int _descriptor(Engine engine):
    fd = engine.driver.fileno()
    return -1 if fd is None else fd


cdef int64_t _run(Engine engine, Relay relay, int64_t now) noexcept nogil:
    cdef int64_t due
    cdef int taken
    if relay is None:
        return engine.run_c(now)
    taken = relay.take(engine)
    due = engine.run_c(now)
    relay.watch(engine, now)
    if taken:
        return now
    if engine.stalled:
        return min(max(due, now + STALLED), now + STALLED)
    return due


cdef inline bint _has_output(Engine engine) noexcept nogil:
    return engine.tcp.dirty_head != NIL or engine.net.tx_len != 0


cdef inline bint _troubled(Engine engine) noexcept nogil:
    return engine.error is not None or engine.driver.error is not None or engine.pool.c.released != NIL


cdef int _check(Engine engine) except -1:
    engine.pool.drain_released()
    error = engine.error
    if error is not None:
        engine.error = None
        raise error
    error = engine.driver.error
    if error is not None:
        raise error
    return 0


cdef class ApplicationLoop(Loop):
    """Runs an application whose engine is in another thread."""

    def __init__(self, Remote remote not None, *, idle="spin-then-sleep", spin=50e-6):
        self.remote = remote

    cdef Bell* bell(self) noexcept nogil:
        return &self.remote.c.app

    cdef int ready(self) noexcept nogil:
        return ring_len(&self.remote.c.tells) != 0 or (self.remote.starved != NIL and ring_len(&self.remote.c.stock) != 0)

    def run(self):
        """Run in this thread until `stop` is called, the other thread has ended, or this one was given up. Exceptions of
        handlers and calls come out, and end it. Returns why: ``"stop"``, ``"network"`` or ``"given up"``."""
        cdef bint on = True
        while on:
            with nogil:
                on = self.many()
            PyErr_CheckSignals()
            self.run_calls()
            self.remote.collect()
            self.remote.flush()
            if self.remote.error is not None:
                error, self.remote.error = self.remote.error, None
                raise error
        if load_acquire(&self.remote.c.given_up):
            return "given up"
        return "stop" if load_acquire(&self.stopping) else "network"

    cdef bint many(self) noexcept nogil:
        cdef int64_t now
        cdef int _i
        for _i in range(1 << 16):
            self.rounds += 1
            if self.remote.turn():
                self.busy_at = 0
            elif (load_acquire(&self.stopping) or load_acquire(&self.remote.c.net_gone)
                    or load_acquire(&self.remote.c.given_up)):
                return False
            else:
                now = clock_ns()
                if self.busy_at == 0:
                    self.busy_at = now
                if _sleepy(self, now):
                    _sleep(self, -1, -1, LONGEST)
                    return True
            if unlikely(load_relaxed(&self.called) or self.remote.error is not None):
                return True
        return True
