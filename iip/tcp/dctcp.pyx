"""DCTCP: see dctcp.pxd. Growth and the reaction to loss are those of NewReno (§3.4, §3.5)."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.tcp.newreno cimport newreno_on_ack, newreno_on_loss
from iip.tcp.tcb cimport CC_PRECISE_ECN, AckInfo, Tcb, Tcp
from iip.wire.seq cimport seq_geq

cdef enum:
    ONE = 1 << 20                 # alpha is a fraction of this
    G_SHIFT = 4                   # §4.2: g is 1/16


cdef struct Dctcp:
    uint64_t growth               # NewReno's
    uint64_t acked                # bytes in the window of observation,
    uint64_t marked               # and those that arrived marked: acknowledged with ECE, or told by accurate ECN
    uint32_t alpha
    uint32_t window_end


cdef inline Dctcp* _state(Tcb* t) noexcept nogil:
    return <Dctcp*>t.cc_state


cdef void _on_ack(Tcp* s, Tcb* t, AckInfo* ack) noexcept nogil:
    """§3.3: alpha is the moving average of the share of marked bytes, window by window."""
    cdef Dctcp* d = _state(t)
    d.acked += ack.acked
    if ack.ece:
        d.marked += ack.marked
    if seq_geq(t.snd_una, d.window_end) and d.acked:
        d.alpha += <uint32_t>(min(d.marked, d.acked) * ONE // d.acked >> G_SHIFT) - (d.alpha >> G_SHIFT)
        d.window_end = t.snd_nxt
        d.acked = d.marked = 0
    newreno_on_ack(s, t, ack)


cdef uint32_t _on_ecn(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil:
    """§3.3: cwnd (1 - alpha / 2)"""
    cdef uint32_t less = <uint32_t>(<uint64_t>t.cwnd * _state(t).alpha // ONE // 2)
    return max(t.cwnd - less, 2 * t.mss)


cdef void _init(Tcp* s, Tcb* t) noexcept nogil:
    _state(t).alpha = ONE         # §4.2: the first reaction is the careful one
    _state(t).window_end = t.snd_nxt


cdef void _nothing(Tcp* s, Tcb* t) noexcept nogil:
    pass


cdef void _on_idle(Tcp* s, Tcb* t, int64_t idle) noexcept nogil:
    pass


dctcp.name = b"dctcp"
dctcp.mode = CC_PRECISE_ECN
dctcp.init = _init
dctcp.on_ack = _on_ack
dctcp.on_loss = newreno_on_loss
dctcp.on_ecn = _on_ecn
dctcp.on_timeout = dctcp.on_undo = dctcp.release = _nothing
dctcp.on_idle = _on_idle
