"""What the application may set for one connection: see options.pxd."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.tcp.acks cimport acks_quick
from iip.tcp.conn cimport conn_route_options, mark_dirty, mark_ready
from iip.tcp.tcb cimport *
from iip.tcp.wheel cimport wheel_update

cdef int64_t LONGEST = 1000000000 * <int64_t>86400 * 365
cdef int64_t CORKED = 200000000   # ns that a corked segment waits at most


cdef bint options_range(int option, int64_t* low, int64_t* high) noexcept nogil:
    """What an option may be; False: there is no such option."""
    low[0] = 0
    high[0] = 1
    if option in (CO_NODELAY, CO_CORK, CO_QUICKACK, CO_KEEPALIVE, CO_PAUSED):
        return True
    if option == CO_KEEPALIVE_IDLE or option == CO_KEEPALIVE_INTERVAL:
        low[0], high[0] = 1000000, LONGEST
    elif option == CO_KEEPALIVE_PROBES or option == CO_TTL:
        low[0], high[0] = 1, 255
    elif option == CO_USER_TIMEOUT:
        high[0] = LONGEST
    elif option == CO_LINGER:
        low[0], high[0] = -1, LONGEST
    elif option == CO_UNSENT_LOW:
        high[0] = 1 << 30
    elif option == CO_SEND_BUFFER or option == CO_RECEIVE_BUFFER:
        low[0], high[0] = 1, 1 << 30
    elif option == CO_MAX_SEG:
        high[0] = 65495
    elif option == CO_TRAFFIC_CLASS:
        high[0] = 255
    else:
        return False
    return True


cdef void _flag(Tcb* t, uint32_t flag, bint on) noexcept nogil:
    t.flags = t.flags | flag if on else t.flags & ~flag


# -- setting -----------------------------------------------------------------------------------------------

cdef void _quickack(Tcp* s, Tcb* t, bint on) noexcept nogil:
    if not on:
        t.modes |= MD_PINGPONG
        return
    t.modes &= ~<uint32_t>MD_PINGPONG
    acks_quick(s, t)
    if t.flags & TF_ACK_LATER:
        t.flags |= TF_ACK_NOW


cdef void _keepalive(Tcp* s, Tcb* t, bint on) noexcept nogil:
    """RFC 9293 §3.8.4."""
    _flag(t, TF_KEEPALIVE, on)
    if on and t.state >= ESTABLISHED and t.state != TIME_WAIT and not (t.state == FIN_WAIT_2 and t.flags & TF_ORPHAN):
        t.t_idle = max(t.last_rx + t.keep_idle, s.now)
        wheel_update(s, t, t.t_idle)


cdef void _linger(Tcb* t, int64_t value) noexcept nogil:
    t.linger = max(value, <int64_t>0)
    t.modes = t.modes | MD_LINGER if value >= 0 else t.modes & ~<uint32_t>MD_LINGER


cdef void _pause(Tcp* s, Tcb* t, bint on) noexcept nogil:
    if on:
        t.modes |= MD_PAUSED
    elif t.modes & MD_PAUSED:
        t.modes &= ~<uint32_t>MD_PAUSED
        mark_ready(s, t, 0)       # whatever came meanwhile


cdef void _max_seg(Tcp* s, Tcb* t, uint16_t value) noexcept nogil:
    t.max_seg = value
    if t.state >= ESTABLISHED:
        conn_route_options(s, t)


cdef void _receive_buffer(Tcb* t, int64_t value) noexcept nogil:
    """What was offered is not taken back."""
    t.modes |= MD_RCV_FIXED
    t.tune_space = 0xFFFFFFFF
    t.rcv_buf = <uint32_t>min(value, <int64_t>65535 << t.rcv_wscale)


cdef int options_set(Tcp* s, Tcb* t, int option, int64_t value) noexcept nogil:
    """0, or -1: no such option, or a value out of range."""
    cdef int64_t low, high
    if not options_range(option, &low, &high) or not low <= value <= high:
        return -1
    if option == CO_NODELAY:
        _flag(t, TF_NODELAY, value)
    elif option == CO_CORK:
        _flag(t, TF_CORK, value)
    elif option == CO_QUICKACK:
        _quickack(s, t, value)
    elif option == CO_KEEPALIVE:
        _keepalive(s, t, value)
    elif option == CO_KEEPALIVE_IDLE:
        t.keep_idle = value
        _keepalive(s, t, (t.flags & TF_KEEPALIVE) != 0)
    elif option == CO_KEEPALIVE_INTERVAL:
        t.keep_interval = value
    elif option == CO_KEEPALIVE_PROBES:
        t.keep_probes = <uint8_t>value
    elif option == CO_USER_TIMEOUT:
        t.user_timeout = value
    elif option == CO_LINGER:
        _linger(t, value)
    elif option == CO_UNSENT_LOW:
        t.lowat = <uint32_t>value
    elif option == CO_MAX_SEG:
        _max_seg(s, t, <uint16_t>value)
    elif option == CO_TRAFFIC_CLASS:
        t.flow.tos = <uint8_t>((t.flow.tos & 3) | (value & 0xFC))    # the lower two are ECN's
    elif option == CO_TTL:
        t.flow.ttl = <uint8_t>value
    elif option == CO_PAUSED:
        _pause(s, t, value)
    elif option == CO_SEND_BUFFER:
        t.modes |= MD_SND_FIXED
        t.snd_buf = <uint32_t>value
    elif option == CO_RECEIVE_BUFFER:
        _receive_buffer(t, value)
    if t.state != CLOSED:
        mark_dirty(s, t)
    return 0


# -- reading -----------------------------------------------------------------------------------------------

cdef int64_t options_get(Tcp* s, Tcb* t, int option) noexcept nogil:
    """The value of an option; -2: there is no such option."""
    if option == CO_NODELAY:
        return (t.flags & TF_NODELAY) != 0
    if option == CO_CORK:
        return (t.flags & TF_CORK) != 0
    if option == CO_QUICKACK:
        return not t.modes & MD_PINGPONG
    if option == CO_KEEPALIVE:
        return (t.flags & TF_KEEPALIVE) != 0
    if option == CO_KEEPALIVE_IDLE:
        return t.keep_idle
    if option == CO_KEEPALIVE_INTERVAL:
        return t.keep_interval
    if option == CO_KEEPALIVE_PROBES:
        return t.keep_probes
    if option == CO_USER_TIMEOUT:
        return t.user_timeout
    if option == CO_LINGER:
        return t.linger if t.modes & MD_LINGER else -1
    if option == CO_UNSENT_LOW:
        return t.lowat
    if option == CO_MAX_SEG:
        return t.max_seg
    if option == CO_TRAFFIC_CLASS:
        return t.flow.tos
    if option == CO_TTL:
        return t.flow.ttl
    if option == CO_PAUSED:
        return (t.modes & MD_PAUSED) != 0
    if option == CO_SEND_BUFFER:
        return t.snd_buf
    if option == CO_RECEIVE_BUFFER:
        return t.rcv_buf
    return -2


# -- cork --------------------------------------------------------------------------------------------------

cdef bint options_cork_over(Tcp* s, Tcb* t) noexcept nogil:
    """Whether the short segment at `snd_nxt` has waited long enough; if not, the timer runs."""
    if t.modes & MD_CORK_DUE and t.cork_seq == t.snd_nxt:
        t.modes &= ~<uint32_t>MD_CORK_DUE
        return True
    if t.cork_at == TIMER_OFF or t.cork_seq != t.snd_nxt:
        t.cork_seq = t.snd_nxt
        t.cork_at = s.now + CORKED
        t.modes &= ~<uint32_t>MD_CORK_DUE
        t.t_misc = min(t.t_misc, t.cork_at)
        wheel_update(s, t, t.t_misc)
    return False
