"""Passive opens: see passive.pxd.

Until its handshake is complete a connection is half open, and half-open connections are what a flood of SYNs
makes: there is a limit to them, and beyond it SYNs are answered without keeping anything (SYN cookies).
"""
from libc.stdint cimport uint32_t
from iip.memory.pool cimport pkt_free
from iip.memory.slab cimport slab_in_use
from iip.tcp.conn cimport conn_new, conn_release, mark_ready
from iip.tcp.cookie cimport cookie_answer, cookie_recover
from iip.tcp.fastopen cimport fastopen_serve
from iip.tcp.syn cimport take_syn, tcp_send_rst_for
from iip.tcp.tally cimport tally_add, tally_half_open_full, tally_peer_full
from iip.tcp.tcb cimport *
from iip.verdict cimport (
    count, tcp_cookies_failed, tcp_cookies_received, tcp_half_open_full, tcp_in_segments, tcp_passive_opens,
    tcp_peer_limit)
from iip.wire.bytes cimport unlikely
from iip.wire.seq cimport seq_leq
from iip.wire.tcp cimport OPT_FASTOPEN, OPT_FASTOPEN_EXP

cdef enum:
    ISS_STEP = 65536              # beyond the previous incarnation's sequence numbers


cdef int _drop(Tcp* s, Segment* seg, int verdict) noexcept nogil:
    pkt_free(s.pool, seg.pkt)
    return verdict


cdef bint _half_open_full(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil:
    """No more half-open connections: because of a limit, or because they have seven eighths of the slots that open
    connections leave; the rest is for handshakes that end."""
    cdef uint32_t room = s.tcbs.capacity - slab_in_use(s.tcbs) + s.n_time_wait + s.n_half_open
    return (s.n_half_open >= s.conf.max_half_open
            or (s.n_half_open and s.n_half_open >= room - room // 8)
            or tally_half_open_full(s, &rx.src, seg.dport))


cdef Tcb* _open(Tcp* s, IpRx* rx, Segment* seg, int* verdict) noexcept nogil:
    """A connection in SYN-RECEIVED about which the application will be asked; NULL sets `verdict`."""
    cdef Tcb* t = conn_new(s, &rx.dst, &rx.src, seg.dport, seg.sport, verdict)
    if t == NULL:
        return NULL
    t.state = SYN_RCVD
    t.flags |= TF_PASSIVE | TF_HALF_OPEN
    s.n_half_open += 1
    tally_add(s, t)
    count(s.counters, tcp_passive_opens)
    mark_ready(s, t, EV_SYN)
    return t


cdef void _beyond(Tcb* t, uint32_t used) noexcept nogil:
    """Sequence numbers up to `used` belong to the previous incarnation."""
    if seq_leq(t.iss, used):
        t.iss = used + ISS_STEP
        t.snd_una = t.snd_nxt = t.recover = t.fack = t.reo_round = t.iss


cdef int passive_syn(Tcp* s, IpRx* rx, Segment* seg, Tcb* old) noexcept nogil:
    """A SYN for a port that listens: half open until the application has decided and the peer answered. `old`: the
    connection in TIME-WAIT whose place it takes, or NULL."""
    cdef Tcb* t
    cdef uint32_t used = 0
    cdef int verdict
    cdef bint full = _half_open_full(s, rx, seg)
    if unlikely(tally_peer_full(s, &rx.src)) and old == NULL:
        return _drop(s, seg, tcp_peer_limit)
    if (full and s.conf.syn_cookies or s.conf.syn_cookies == COOKIES_ALWAYS) and old == NULL:
        return _drop(s, seg, cookie_answer(s, rx, seg))
    if full:
        return _drop(s, seg, tcp_half_open_full)
    if old != NULL:
        used = old.snd_nxt
        conn_release(s, old)
    t = _open(s, rx, seg, &verdict)
    if t == NULL:
        return _drop(s, seg, verdict)
    if old != NULL:
        _beyond(t, used)
    take_syn(s, t, seg)
    if seg.opts & (OPT_FASTOPEN | OPT_FASTOPEN_EXP) and s.conf.fastopen & FASTOPEN_SERVER:
        if fastopen_serve(s, t, seg):
            return tcp_in_segments
    return _drop(s, seg, tcp_in_segments)


cdef Tcb* passive_cookie(Tcp* s, IpRx* rx, Segment* seg, int* verdict) noexcept nogil:
    """An ACK that belongs to no connection, for a port that listens. If it answers a cookie of ours, the connection as
    it would have been after the SYN-ACK: the caller goes on with the ACK. NULL sets `verdict`."""
    cdef Segment syn
    cdef Tcb* t
    if not cookie_recover(s, rx, seg, &syn):
        tcp_send_rst_for(s, rx, seg)
        verdict[0] = tcp_cookies_failed
        return NULL
    if tally_peer_full(s, &rx.src):
        tcp_send_rst_for(s, rx, seg)
        verdict[0] = tcp_peer_limit
        return NULL
    t = _open(s, rx, &syn, verdict)
    if t == NULL:
        return NULL               # the peer sends again, and there may be room then
    count(s.counters, tcp_cookies_received)
    t.iss = seg.ack - 1
    t.snd_una = t.recover = t.fack = t.reo_round = t.iss
    t.snd_nxt = seg.ack
    t.backoff = 1                 # when the SYN-ACK left is not known: no round-trip sample
    take_syn(s, t, &syn)
    t.rcv_adv = t.rcv_nxt + min(t.rcv_buf, <uint32_t>65535)
    return t
