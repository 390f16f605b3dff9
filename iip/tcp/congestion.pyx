"""Congestion control: see congestion.pxd."""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset, strcmp
from iip.memory.pool cimport REC_LOST
from iip.tcp.bbr cimport bbr
from iip.tcp.cubic cimport cubic
from iip.tcp.dctcp cimport dctcp
from iip.tcp.newreno cimport newreno
from iip.tcp.pacing cimport pacing_by_window, pacing_limit, pacing_sent
from iip.tcp.rate cimport rate_sent, rate_start
from iip.tcp.tcb cimport CC_MODEL, CC_PACED, CC_RATE, ESTABLISHED, rec_space, tcp_in_flight
from iip.tcp.window cimport NO_SSTHRESH

from iip.errors import ConfigError

cdef enum:
    MAX_ALGORITHMS = 32

cdef const CongestionOps* algorithms[MAX_ALGORITHMS]
cdef int n_algorithms = 0
cdef const CongestionOps* object_ops = NULL   # of algorithms written in Python


# -- the algorithms there are ------------------------------------------------------------------------------

cdef int congestion_register(const CongestionOps* ops) except -1:
    """Make an algorithm known by its name. The table has to live as long as the process."""
    global n_algorithms
    if ops.name == NULL or ops.init == NULL or ops.on_ack == NULL or ops.on_loss == NULL or ops.on_timeout == NULL or (
            ops.on_undo == NULL or ops.on_ecn == NULL or ops.on_idle == NULL or ops.release == NULL):
        raise ConfigError("CongestionOps: every function but on_lost must be there; an empty one will do")
    if congestion_named(ops.name) != NULL:
        raise ConfigError(f"CongestionOps: there is an algorithm {ops.name.decode()!r} already; take another name")
    if n_algorithms == MAX_ALGORITHMS:
        raise ConfigError(f"CongestionOps: there is room for {MAX_ALGORITHMS} algorithms")
    algorithms[n_algorithms] = ops
    n_algorithms += 1
    return 0


cdef void congestion_objects(const CongestionOps* ops) noexcept:
    global object_ops
    object_ops = ops


cdef const CongestionOps* congestion_named(const char* name) noexcept nogil:
    """NULL: there is none."""
    cdef int i
    for i in range(n_algorithms):
        if strcmp(algorithms[i].name, name) == 0:
            return algorithms[i]
    return NULL


cdef const CongestionOps* congestion_find(object name) except NULL:
    cdef const CongestionOps* found = NULL
    cdef int i
    cdef bytes text
    if isinstance(name, str):
        text = name.encode()
        found = congestion_named(text)
    elif isinstance(name, type) and hasattr(name, "on_ack"):
        found = object_ops        # a class of control.CongestionControl; the settings have checked it
    if found == NULL:
        names = ", ".join(sorted(repr(algorithms[i].name.decode()) for i in range(n_algorithms)))
        raise ConfigError(f"congestion={name!r}: unknown algorithm; choose from {names}")
    return found


congestion_register(&newreno)
congestion_register(&cubic)
congestion_register(&bbr)
congestion_register(&dctcp)


# -- the algorithm of a connection ---------------------------------------------------------------------------

cdef uint32_t initial_window(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 6928 §2, the bound in bytes left to the setting."""
    return s.conf.initial_window * t.mss


cdef void _begin(Tcp* s, Tcb* t) noexcept nogil:
    """What the algorithm asks for, and what the connection has anyway."""
    t.cc_mode |= <uint8_t>t.cc.mode & ~<uint8_t>CC_RATE
    if t.cc.mode & CC_RATE:
        rate_start(s, t)
    t.cc.init(s, t)
    if t.cc_mode & CC_PACED:
        pacing_by_window(s, t)


cdef void congestion_start(Tcp* s, Tcb* t) noexcept nogil:
    """The connection is established."""
    t.cwnd = initial_window(s, t)
    t.last_data = s.now           # no pause precedes the first segment
    if s.conf.pacing:
        t.cc_mode |= CC_PACED
    if s.conf.max_pacing_rate and not t.max_pacing_rate:
        pacing_limit(s, t, s.conf.max_pacing_rate)
    _begin(s, t)


cdef void congestion_switch(Tcp* s, Tcb* t, const CongestionOps* ops, void* object) noexcept nogil:
    """Another algorithm goes on with the window as it is. `object`: for one written in Python, a counted
    reference that it takes over."""
    cdef bint running = t.state >= ESTABLISHED
    congestion_release(s, t)
    memset(t.cc_state, 0, sizeof(t.cc_state))
    t.cc = ops
    t.cc_mode &= CC_RATE
    if s.conf.pacing or t.max_pacing_rate:
        t.cc_mode |= CC_PACED
    t.pacing_rate = 0
    if object != NULL:
        t.cc_state[0] = <uint64_t>object
    if running:
        _begin(s, t)


cdef void congestion_release(Tcp* s, Tcb* t) noexcept nogil:
    """The connection is gone, or changes its algorithm."""
    t.cc.release(s, t)


# -- while sending -------------------------------------------------------------------------------------------

cdef void congestion_sent(Tcp* s, Tcb* t, Packet* k) noexcept nogil:
    """A record leaves: for delivery rates and pacing. One that was lost is not counted in flight yet."""
    if t.cc_mode & CC_RATE:
        rate_sent(s, t, k, tcp_in_flight(t) + (rec_space(k) if k.flags & REC_LOST else 0))
    if t.cc_mode & CC_PACED:
        pacing_sent(s, t, k.total_len)


cdef void congestion_after_idle(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 5681 §4.1, gentler: after a pause the window is halved for every RTO of it, down to the restart window, and
    ssthresh remembers what it was (RFC 2861)."""
    cdef uint32_t restart = initial_window(s, t)
    cdef int64_t idle = s.now - t.last_data
    t.cc.on_idle(s, t, idle)
    if t.cc_mode & CC_MODEL or idle <= t.rto or not s.conf.idle_restart:
        return
    if t.ssthresh != NO_SSTHRESH:
        t.ssthresh = max(t.ssthresh, t.cwnd - (t.cwnd >> 2))
    while idle > t.rto and t.cwnd > restart:
        t.cwnd = max(t.cwnd >> 1, restart)
        idle -= t.rto
