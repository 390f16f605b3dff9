"""The life of a connection: created, listed, ended."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from iip.memory.pool cimport NIL
from iip.net.types cimport Addr
from iip.tcp.tcb cimport TF_DIRTY, TF_READY, Tcb, Tcp, tcb


cdef inline void mark_dirty(Tcp* s, Tcb* t) noexcept nogil:
    """Flush this connection in the output phase."""
    if t.flags & TF_DIRTY:
        return
    t.flags |= TF_DIRTY
    t.dirty_next = NIL
    if s.dirty_head == NIL:
        s.dirty_head = t.id
    else:
        tcb(s, s.dirty_tail).dirty_next = t.id
    s.dirty_tail = t.id


cdef inline void mark_ready(Tcp* s, Tcb* t, uint32_t events) noexcept nogil:
    """Deliver `events` (EV_*) to the application in the deliver phase."""
    t.events |= events
    if t.flags & TF_READY:
        return
    t.flags |= TF_READY
    t.ready_next = NIL
    if s.ready_head == NIL:
        s.ready_head = t.id
    else:
        tcb(s, s.ready_tail).ready_next = t.id
    s.ready_tail = t.id


cdef Tcb* conn_new(Tcp* s, const Addr* local, const Addr* remote, uint16_t lport, uint16_t rport,
                   int* error) noexcept nogil
cdef void conn_route_options(Tcp* s, Tcb* t) noexcept nogil
cdef void conn_begin(Tcp* s, Tcb* t) noexcept nogil
cdef void conn_established(Tcp* s, Tcb* t) noexcept nogil
cdef void conn_half_open_done(Tcp* s, Tcb* t) noexcept nogil
cdef void conn_close(Tcp* s, Tcb* t, int reason) noexcept nogil
cdef void conn_release(Tcp* s, Tcb* t) noexcept nogil
cdef void conn_time_wait(Tcp* s, Tcb* t) noexcept nogil
cdef void conn_drop_payload(Tcp* s, Tcb* t) noexcept nogil
cdef void conn_drop_out_of_order(Tcp* s, Tcb* t) noexcept nogil
cdef void conn_gap_opened(Tcp* s, Tcb* t) noexcept nogil
cdef void conn_gap_closed(Tcp* s, Tcb* t) noexcept nogil
cdef uint32_t conn_isn(Tcp* s, Tcb* t) noexcept nogil
cdef uint32_t conn_ts_offset(Tcp* s, const Addr* local, const Addr* remote, uint16_t lport, uint16_t rport) noexcept nogil
cdef uint8_t conn_window_scale(Tcp* s, uint32_t buffer) noexcept nogil
