"""Timers: see timers.pxd."""
from libc.stdint cimport int64_t, uint32_t
from iip.memory.pool cimport NIL
from iip.tcp.acks cimport acks_late
from iip.tcp.conn cimport conn_close, conn_release, mark_dirty
from iip.tcp.fastopen cimport fastopen_lost
from iip.tcp.recovery cimport probe_timeout, reordering_timeout, retransmission_timeout
from iip.tcp.rtt cimport rto_backed_off
from iip.tcp.tcb cimport *
from iip.tcp.wheel cimport earliest_deadline, wheel_file, wheel_next, wheel_pop
from iip.verdict cimport (
    count, tcp_delayed_acks, tcp_keepalives, tcp_linger_expired, tcp_persist_timeout, tcp_rto_expired, tcp_timed_out,
    tcp_user_timeout, tcp_window_probes)
from iip.wire.bytes cimport unlikely


cdef void _time_out(Tcp* s, Tcb* t) noexcept nogil:
    """Give up. Nothing says so to a peer that did not answer for so long: if it still comes, it gets its RST then."""
    count(s.counters, tcp_timed_out)
    conn_close(s, t, CLOSE_TIMEOUT)


cdef bint _user_timeout(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 9293 §3.10.8, user timeout."""
    if t.user_timeout and s.now - t.stalled_since >= from_ms(t.user_timeout):
        count(s.counters, tcp_user_timeout)
        _time_out(s, t)
        return True
    return False


cdef void _restart_rto(Tcp* s, Tcb* t) noexcept nogil:
    if t.backoff < 64:
        t.backoff += 1
    t.t_rto = s.now + rto_backed_off(s, t)
    if t.user_timeout and t.state >= ESTABLISHED:
        t.t_rto = min(t.t_rto, max(t.stalled_since + from_ms(t.user_timeout), s.now + 1000000))


cdef void _syn_timer(Tcp* s, Tcb* t) noexcept nogil:
    """SYN or SYN-ACK unanswered (RFC 9293 §3.8.3, RFC 6298 §5.4)."""
    cdef uint32_t limit = s.conf.syn_retries if t.state == SYN_SENT else s.conf.synack_retries
    count(s.counters, tcp_rto_expired)
    if t.backoff >= limit:
        _time_out(s, t)
        return
    if unlikely(t.fastopen) and t.state == SYN_SENT:
        fastopen_lost(s, t)
    t.backoff += 1
    t.flags |= TF_SEND_SYN        # sending restarts the timer
    t.t_rto = TIMER_OFF
    mark_dirty(s, t)


cdef bint _closed_too_long(Tcp* s, Tcb* t) noexcept nogil:
    """A peer that answers may keep its window closed for as long as the application lets it (RFC 6429): not for ever
    when nobody is there any more who could end it."""
    if t.flags & TF_ORPHAN and t.backoff >= s.conf.retries:
        return True
    return s.conf.persist_timeout and s.now - t.persist_since >= s.conf.persist_timeout


cdef void _persist_timer(Tcp* s, Tcb* t) noexcept nogil:
    """Probe a closed window (RFC 9293 §3.8.6.1). As long as the peer answers, it may stay closed."""
    if _closed_too_long(s, t):
        count(s.counters, tcp_persist_timeout)
        _time_out(s, t)
        return
    if t.probes == 0:
        t.stalled_since = s.now
    if t.probes >= s.conf.retries or (t.probes and _user_timeout(s, t)):
        if t.state != CLOSED:
            _time_out(s, t)
        return
    count(s.counters, tcp_window_probes)
    t.probes += 1
    t.flags |= TF_PROBE
    mark_dirty(s, t)
    _restart_rto(s, t)
    if s.conf.persist_timeout:
        t.t_rto = min(t.t_rto, max(t.persist_since + s.conf.persist_timeout, s.now + 1000000))


cdef void _rto_timer(Tcp* s, Tcb* t) noexcept nogil:
    if t.state == SYN_SENT or t.state == SYN_RCVD:
        _syn_timer(s, t)
    elif t.flags & TF_PERSIST:
        _persist_timer(s, t)
    elif t.rtx_head == NIL:
        t.t_rto = TIMER_OFF
    elif _user_timeout(s, t):
        pass
    elif t.timer == TM_REORDER:
        reordering_timeout(s, t)
    elif t.timer == TM_PROBE:
        probe_timeout(s, t)
    elif t.backoff >= s.conf.retries:
        _time_out(s, t)
    else:
        retransmission_timeout(s, t)
        _restart_rto(s, t)


cdef void _ack_timer(Tcp* s, Tcb* t) noexcept nogil:
    t.t_ack = TIMER_OFF
    if t.flags & TF_ACK_LATER:
        count(s.counters, tcp_delayed_acks)
        acks_late(s, t)
        t.flags |= TF_ACK_NOW
        mark_dirty(s, t)


cdef void _keepalive_timer(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 9293 §3.8.4: probe an idle connection; one that answers stays. A user timeout decides instead of the number
    of probes."""
    cdef int64_t due = t.last_rx + from_ms(t.keep_idle)
    if not t.flags & TF_KEEPALIVE:
        t.t_idle = TIMER_OFF
        return
    if t.probes == 0 and due > s.now:
        t.t_idle = due
        return
    if t.snd_nxt != t.snd_una or t.unsent:     # retransmission and persist find out sooner
        t.t_idle = s.now + from_ms(t.keep_idle)
        return
    if t.probes and t.last_rx > s.now - from_ms(t.keep_interval):
        t.probes = 0
        t.t_idle = t.last_rx + from_ms(t.keep_idle)
        return
    if (s.now - t.last_rx >= from_ms(t.user_timeout) if t.user_timeout and t.probes else t.probes >= t.keep_probes):
        t.flags |= TF_SEND_RST    # as is usual here: it may have data for us that nobody waits for
        _time_out(s, t)
        return
    count(s.counters, tcp_keepalives)
    t.probes += 1
    t.flags |= TF_PROBE
    t.t_idle = s.now + from_ms(t.keep_interval)
    mark_dirty(s, t)


cdef void _idle_timer(Tcp* s, Tcb* t) noexcept nogil:
    if t.state == TIME_WAIT:
        conn_release(s, t)
    elif t.state == FIN_WAIT_2 and t.flags & TF_ORPHAN:
        conn_close(s, t, CLOSE_TIMEOUT)        # nobody waits for the peer's FIN any more
    else:
        _keepalive_timer(s, t)


cdef void _misc_timer(Tcp* s, Tcb* t) noexcept nogil:
    """What was held back by the cork leaves; who lingered too long is cut off."""
    t.t_misc = TIMER_OFF
    if t.flags & TF_ORPHAN and t.modes & MD_LINGER:
        count(s.counters, tcp_linger_expired)
        t.flags |= TF_SEND_RST
        conn_close(s, t, CLOSE_ABORTED)
    else:
        t.modes |= MD_CORK_DUE
        mark_dirty(s, t)


cdef void _run(Tcp* s, Tcb* t) noexcept nogil:
    """Whatever of this connection is due; then file it under its next deadline."""
    cdef int64_t at
    if t.t_ack <= s.now:
        _ack_timer(s, t)
    if t.t_rto <= s.now:
        _rto_timer(s, t)
    if t.t_pace <= s.now:
        t.t_pace = TIMER_OFF
        mark_dirty(s, t)
    if t.t_idle <= s.now and t.state != CLOSED:
        _idle_timer(s, t)
    if t.t_misc <= s.now and t.state != CLOSED:
        _misc_timer(s, t)
    if t.state == CLOSED:
        return
    at = earliest_deadline(t)
    if at < t.wheel_at:
        wheel_file(s, t, at)


cdef void tcp_timers(Tcp* s) noexcept nogil:
    """Everything due at `s.now`. Costs nothing for connections that are not due."""
    cdef uint32_t i
    if s.now < s.next_timer:
        return
    s.next_timer = TIMER_OFF
    i = wheel_pop(s)
    while i != NIL:
        _run(s, tcb(s, i))
        i = wheel_pop(s)
    s.next_timer = wheel_next(s)
