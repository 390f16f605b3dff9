"""Two engines of one thread on the real clock, joined by a memory link."""
from libc.stdint cimport int64_t

from cpython.exc cimport PyErr_CheckSignals
from iip.engine cimport Engine
from iip.wire.bytes cimport unlikely

cdef extern from "<time.h>" nogil:
    """
    #if defined(CLOCK_MONOTONIC_RAW) && defined(__APPLE__)
    #define IIP_CLOCK CLOCK_UPTIME_RAW
    #else
    #define IIP_CLOCK CLOCK_MONOTONIC
    #endif
    static inline int64_t iip_clock_ns(void) {
        struct timespec t;
        clock_gettime(IIP_CLOCK, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    static inline void iip_sleep_ns(int64_t ns) {
        struct timespec t;
        t.tv_sec = (time_t)(ns / 1000000000);
        t.tv_nsec = (long)(ns % 1000000000);
        nanosleep(&t, NULL);
    }
    """
    int64_t iip_clock_ns()
    void iip_sleep_ns(int64_t ns)

cdef enum:
    SIGNALS = 4_000_000           # ns between two looks at signals and errors
    SLEEP = 1_000_000             # longest sleep, ns
    SPIN = 50_000                 # nearer deadlines are waited for awake, ns
    STALL = 500_000               # ns between two rounds that a timer could take for a loss
    BURSTS = 256                  # that an engine may then need for what lies in its queue


cdef int64_t clock_ns() noexcept nogil:
    """The monotonic clock, ns: the one of `time.monotonic_ns`."""
    return iip_clock_ns()


cdef void pair_settle(Engine a, Engine b) noexcept nogil:
    """The thread stood still, or a round took long: what is on the link arrives at the time of the last round, so that no
    timer takes it for lost."""
    cdef int64_t before = max(a.net.now, b.net.now)
    cdef int _i
    for _i in range(BURSTS):
        if a.run_c(before) > before:
            break
    for _i in range(BURSTS):
        if b.run_c(before) > before:
            break


cdef int pair_run(Engine a, Engine b, int64_t until, int64_t* now_out, const bint* stop) except -1 nogil:
    """Run both in turn until the clock says `until` or `stop[0]` is set. The clock is read once per round, into
    `now_out[0]`. Both pointers may be NULL. What a signal handler, a handler or a driver raises comes out."""
    cdef int64_t now, due, look = 0, idle, before = max(a.net.now, b.net.now)
    cdef bint awake
    with gil:
        awake = a.driver.fileno() is not None or b.driver.fileno() is not None     # one may have packets without a word
    while True:
        now = iip_clock_ns()
        if unlikely(now - before > STALL) and before and not awake:
            pair_settle(a, b)
        before = now
        if now_out != NULL:
            now_out[0] = now
        if now >= until or (stop != NULL and stop[0]):
            break
        if now >= look:
            look = now + SIGNALS
            with gil:
                _look(a, b)
        due = a.run_c(now)
        due = min(due, b.run_c(now))
        if due > now:
            # `a` may have been given packets by `b` after it said what it waits for
            due = min(due, a.driver.poll_at(now))
            idle = min(due, until) - now
            if idle > SPIN and not awake:
                iip_sleep_ns(min(idle, <int64_t>SLEEP))
                before = iip_clock_ns()
    with gil:
        _look(a, b)
    return 0


cdef int _look(Engine a, Engine b) except -1:
    PyErr_CheckSignals()
    for engine in (a, b):
        error = (<Engine>engine).error
        if error is not None:
            (<Engine>engine).error = None
            raise error
        error = (<Engine>engine).driver.error
        if error is not None:
            raise error
    return 0


def run_pair(Engine a not None, Engine b not None, *, until=None, duration=None, stop=None):
    """Run two engines that a link joins, of memory or of devices, in turn, in this thread; why it ended: ``"until"`` or ``"stop"``.

    until: a time of `time.monotonic_ns`, ns; duration: seconds from now; stop: a `threading.Event` or a callable,
    asked every few milliseconds. Exceptions come out as from `iip.runtime.loop.run`.
    """
    cdef int64_t end, part
    if until is None and duration is None and stop is None:
        raise ValueError("run_pair: give until, duration or stop, else it would never end")
    end = 0x7FFFFFFFFFFFFFFF if until is None else until
    if duration is not None:
        end = min(end, iip_clock_ns() + <int64_t>(duration * 1e9))
    asked = getattr(stop, "is_set", stop)
    while True:
        if asked is not None and asked():
            return "stop"
        part = end if asked is None else min(end, iip_clock_ns() + <int64_t>SIGNALS)
        with nogil:
            pair_run(a, b, part, NULL, NULL)
        if iip_clock_ns() >= end:
            return "until"


def run_rounds(Engine a not None, Engine b not None, rounds, now=0, step=10_000):
    """Run both in turn `rounds` times in virtual time that begins at `now` and advances by `step` (ns) each round.
    Returns the time reached. The same work every time: for counting instructions and for simulations."""
    cdef int64_t t = now, dt = step
    cdef int64_t n = rounds, _i
    with nogil:
        for _i in range(n):
            a.run_c(t)
            b.run_c(t)
            t += dt
    _look(a, b)
    return t
