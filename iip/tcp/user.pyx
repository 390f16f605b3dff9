"""The calls of the application: see user.pxd."""
from libc.stdint cimport int32_t, uint64_t
from iip.memory.pool cimport (
    NIL, PKT_EXTERNAL, PKT_INDIRECT, Packet, pkt, pkt_alloc, pkt_data, pkt_free, pkt_slice, pool_low,
    pool_views_low)
from iip.net.route cimport net_route
from iip.net.types cimport Flow
from iip.tcp.conn cimport conn_begin, conn_close, conn_drop_out_of_order, conn_new, mark_dirty
from iip.tcp.demux cimport demux_lookup
from iip.tcp.tcb cimport *
from iip.tcp.tuning cimport tuning_consumed, tuning_send
from iip.tcp.wheel cimport wheel_update
from iip.verdict cimport count, ok, tcp_active_opens, tcp_not_accepted, tx_no_buffer
from iip.wire.bytes cimport copy, unlikely
from iip.wire.rng cimport rng_below, siphash_words
from iip.wire.seq cimport seq_diff
from iip.wire.toeplitz cimport rss_queue, toeplitz_fold, toeplitz_words

cdef enum:
    PORT_STEP = 8                 # local ports left out at random between two connections, at most
    SMALL = 512                   # bytes that are copied behind others rather than queued as a packet of their own


# -- opening -----------------------------------------------------------------------------------------------

cdef uint16_t _choose_port(Tcp* s, const Addr* local, const Addr* remote, uint16_t rport) noexcept nogil:
    """RFC 6056 §3.3.4, the double-hash algorithm, with steps of a random size: who sees our ports to him learns nothing
    about those to others, nor how many there are. 0: none is free."""
    cdef uint64_t words[5]
    cdef uint64_t hashed
    cdef uint32_t count_ = s.conf.port_high - s.conf.port_low + 1, offset, i
    cdef uint32_t* counter
    cdef uint16_t port, folded = 0
    words[0] = local.hi
    words[1] = local.lo
    words[2] = remote.hi
    words[3] = remote.lo
    words[4] = rport
    hashed = siphash_words(words, 5, s.port_key[0], s.port_key[1])
    counter = &s.port_counters[hashed >> 54]
    offset = (<uint32_t>hashed + counter[0]) % count_
    if unlikely(s.conf.queues > 1):
        folded = toeplitz_fold(local.hi, local.lo) ^ toeplitz_fold(remote.hi, remote.lo)
    for i in range(count_):
        port = <uint16_t>(s.conf.port_low + (offset + i) % count_)
        if unlikely(s.conf.queues > 1) and rss_queue(toeplitz_words(folded, port, rport), s.conf.queues) != s.conf.queue:
            continue              # the answers would reach another engine
        if demux_lookup(s, local, remote, port, rport) == NULL:
            counter[0] += i + 1 + rng_below(&s.rng, PORT_STEP)
            return port
    return 0


cdef Tcb* user_open(Tcp* s, const Addr* local, const Addr* remote, uint16_t lport, uint16_t rport,
                    int* error) noexcept nogil:
    """OPEN, active: SYN-SENT. `local` all zero: chosen by the route; `lport` 0: chosen. NULL sets `error`."""
    cdef Flow flow
    cdef Tcb* t
    cdef int verdict
    flow.src = local[0]
    flow.dst = remote[0]
    flow.tos = 0
    flow.ttl = 0
    flow.df = 1
    flow.route_gen = 0
    error[0] = OPEN_NO_ROUTE
    if net_route(s.net, &flow) != ok:
        return NULL
    error[0] = OPEN_NO_PORT
    if lport == 0:
        lport = _choose_port(s, &flow.src, remote, rport)
        if lport == 0:
            return NULL
    error[0] = OPEN_IN_USE
    if demux_lookup(s, &flow.src, remote, lport, rport) != NULL:
        return NULL
    error[0] = OPEN_NO_ROOM
    t = conn_new(s, &flow.src, remote, lport, rport, &verdict)
    if t == NULL:
        count(s.counters, verdict)
        return NULL
    error[0] = OPEN_OK
    count(s.counters, tcp_active_opens)
    t.state = SYN_SENT
    t.flags |= TF_SEND_SYN | TF_USED
    mark_dirty(s, t)
    return t


cdef void user_fastopen(Tcp* s, Tcb* t) noexcept nogil:
    """What is queued before the SYN leaves may go with it (RFC 7413): the server may see it twice."""
    if t.state == SYN_SENT and t.flags & TF_SEND_SYN and s.conf.fastopen & FASTOPEN_CLIENT:
        t.fastopen |= FO_WANTED


cdef void user_accept(Tcp* s, Tcb* t, bint accepted) noexcept nogil:
    """The application has seen the SYN: answer with SYN and ACK, or with RST. The peer of a SYN cookie has had its
    SYN-ACK."""
    if accepted:
        t.flags |= TF_ASKED
        if t.state == SYN_RCVD:
            t.flags |= TF_SEND_SYN
            if t.fastopen & FO_OPEN:
                conn_begin(s, t)
        mark_dirty(s, t)
    else:
        count(s.counters, tcp_not_accepted)
        t.flags |= TF_SEND_RST
        if t.state == SYN_RCVD:
            t.snd_nxt = 0         # RFC 9293 §3.10.7.1: a RST in answer to a SYN has sequence number 0
        conn_close(s, t, CLOSE_REJECTED)


# -- sending -----------------------------------------------------------------------------------------------

cdef inline bint _sending_is_over(Tcb* t) noexcept nogil:
    """The application said so, or the connection ended: one test of a bit for each state."""
    return t.flags & TF_FIN_WANTED or (<uint32_t>1 << t.state) & (<uint32_t>1 << CLOSED | <uint32_t>1 << TIME_WAIT)


cdef inline uint32_t _queued(Tcb* t) noexcept nogil:
    return t.unsent + (t.snd_nxt - t.snd_una)


cdef inline uint32_t _room(Tcb* t) noexcept nogil:
    cdef uint32_t queued = _queued(t)
    return t.snd_buf - queued if queued < t.snd_buf else 0


cdef uint32_t user_send_room(Tcp* s, Tcb* t) noexcept nogil:
    """Bytes that `send` takes at the moment."""
    cdef uint32_t room
    if _sending_is_over(t):
        return 0
    tuning_send(s, t)
    room = _room(t)
    if unlikely(t.lowat):         # a segment more than may wait unsent, so that it is worth the call
        room = min(room, max(t.lowat - t.unsent, t.mss) if t.unsent < t.lowat else 0)
    return room


cdef uint32_t _scarce(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """Bytes of `n` that are taken when there is no room for all, or not in any case."""
    cdef uint32_t room = user_send_room(s, t)
    if n <= room:
        return n
    t.modes |= MD_SHORT
    if t.lowat:
        t.modes |= MD_HELD        # the output phase says when there is room
    return room


cdef inline void _append_unsent(Tcp* s, Tcb* t, uint32_t i) noexcept nogil:
    pkt(s.pool, i).qnext = NIL
    if t.unsent_head == NIL:
        t.unsent_head = i
    else:
        pkt(s.pool, t.unsent_tail).qnext = i
    t.unsent_tail = i


cdef inline uint32_t _fill_tail(Tcp* s, Tcb* t, const uint8_t* data, uint32_t n, uint32_t fill) noexcept nogil:
    """Copy into the last unsent packet while it is short; how many bytes went there."""
    cdef Packet* k
    cdef uint32_t take
    if t.unsent_tail == NIL:
        return 0
    k = pkt(s.pool, t.unsent_tail)
    if k.flags & (PKT_INDIRECT | PKT_EXTERNAL) or k.refs != 1 or k.len >= fill:
        return 0
    take = min(n, fill - k.len, k.buf_len - k.off - k.len)
    copy(pkt_data(k) + k.len, data, take)
    k.len += take
    k.total_len += take
    return take


cdef inline bint _fits(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """Whether the last unsent packet takes `n` bytes more."""
    cdef Packet* k = pkt(s.pool, t.unsent_tail)
    return (not k.flags & (PKT_INDIRECT | PKT_EXTERNAL) and k.refs == 1
            and k.len + n <= min(t.mss, s.pool.cell_size - s.pool.headroom) and k.off + k.len + n <= k.buf_len)


cdef void user_starved(Tcp* s, Tcb* t) noexcept nogil:
    """A send came short because the pool has nothing left, so that no acknowledgement need follow: the output phase
    watches the pool and lets `tcp_acked` tell the application."""
    count(s.counters, tx_no_buffer)
    t.flags |= TF_STARVED
    mark_dirty(s, t)


cdef int64_t user_send(Tcp* s, Tcb* t, const uint8_t* data, uint32_t n) noexcept nogil:
    """SEND by copy: next to the room for headers, a segment's worth in each packet. Returns the bytes taken,
    which the send buffer and the pool bound; -1 when sending is over."""
    cdef uint32_t done, take, i, fill
    cdef Packet* k
    if _sending_is_over(t):
        return -1
    if unlikely(n > _room(t) or t.lowat):
        n = _scarce(s, t, n)
    fill = min(t.mss, s.pool.cell_size - s.pool.headroom)
    done = _fill_tail(s, t, data, n, fill)
    while done < n:
        i = NIL if unlikely(pool_low(s.pool)) else pkt_alloc(s.pool)
        if i == NIL:
            user_starved(s, t)
            break
        k = pkt(s.pool, i)
        take = min(n - done, fill)
        copy(pkt_data(k), data + done, take)
        k.len = take
        k.total_len = take
        _append_unsent(s, t, i)
        done += take
    t.unsent += done
    if done:
        mark_dirty(s, t)
    return done


cdef int64_t user_send_owned(Tcp* s, Tcb* t, uint32_t i) noexcept nogil:
    """SEND of a packet that the caller filled, behind its headroom, and gives away. The caller has kept count of the room.
    Little data joins what waits. -1 when sending is over."""
    cdef Packet* k = pkt(s.pool, i)
    cdef uint32_t n = k.len
    if _sending_is_over(t):
        pkt_free(s.pool, i)
        return -1
    if t.unsent_tail != NIL and n <= SMALL and _fits(s, t, n):
        _fill_tail(s, t, pkt_data(k), n, min(t.mss, s.pool.cell_size - s.pool.headroom))
        pkt_free(s.pool, i)
    else:
        _append_unsent(s, t, i)
    t.unsent += n
    mark_dirty(s, t)
    return n


cdef int64_t user_send_packet(Tcp* s, Tcb* t, uint32_t owner, uint32_t off, uint32_t n) noexcept nogil:
    """SEND by reference: a view of `n` bytes from `off` of what `owner` holds. Returns the bytes taken."""
    cdef uint32_t i
    if _sending_is_over(t):
        return -1
    if unlikely(n > _room(t) or t.lowat):
        n = _scarce(s, t, n)
    if n == 0:
        return 0
    i = NIL if unlikely(pool_views_low(s.pool, 1)) else pkt_slice(s.pool, owner, off, n)
    if i == NIL:
        user_starved(s, t)
        return 0
    _append_unsent(s, t, i)
    t.unsent += n
    mark_dirty(s, t)
    return n


# -- receiving ---------------------------------------------------------------------------------------------

cdef void user_consume(Tcp* s, Tcb* t, uint32_t n) noexcept nogil:
    """The application is done with `n` bytes. Tell the peer when the window opens by two segments or by half
    the buffer (RFC 9293 §3.8.6.2.2); smaller steps travel with the next segment."""
    cdef int32_t offered
    cdef uint32_t room
    t.rcv_buffered -= min(n, t.rcv_buffered)
    tuning_consumed(s, t)
    if not ESTABLISHED <= t.state <= FIN_WAIT_2:      # the peer sends nothing any more, or not yet
        return
    offered = seq_diff(t.rcv_adv, t.rcv_nxt)
    if offered >= <int32_t>(t.rcv_buf // 2):
        return
    room = t.rcv_buf - t.rcv_buffered if t.rcv_buffered < t.rcv_buf else 0
    if room >= <uint32_t>max(offered, 0) + min(t.rcv_buf // 2, 2 * t.mss):
        t.flags |= TF_ACK_NOW
        mark_dirty(s, t)


# -- closing -----------------------------------------------------------------------------------------------

cdef void user_shutdown(Tcp* s, Tcb* t) noexcept nogil:
    """Done sending: FIN after what is queued. Receiving goes on."""
    if _sending_is_over(t):
        return
    t.flags |= TF_FIN_WANTED
    mark_dirty(s, t)


cdef bint _linger(Tcp* s, Tcb* t) noexcept nogil:
    """The time that a close may take begins. False: it has none, the connection is aborted."""
    if t.linger == 0:
        user_abort(s, t)
        return False
    t.t_misc = s.now + from_ms(t.linger)
    wheel_update(s, t, t.t_misc)
    return True


cdef void user_close(Tcp* s, Tcb* t) noexcept nogil:
    """CLOSE: FIN after what is queued, and no more payload for the application."""
    if t.state == CLOSED or t.state == TIME_WAIT or t.flags & TF_ORPHAN:
        return
    if unlikely(t.modes & MD_LINGER) and not _linger(s, t):
        return
    t.flags |= TF_ORPHAN
    if t.state == SYN_SENT:
        conn_close(s, t, CLOSE_ABORTED)
        return
    conn_drop_out_of_order(s, t)
    user_shutdown(s, t)
    if t.state == FIN_WAIT_2:     # shut down before: now nobody waits for the peer's FIN for ever
        t.t_idle = s.now + s.conf.fin_wait2
        wheel_update(s, t, t.t_idle)
    mark_dirty(s, t)


cdef void user_abort(Tcp* s, Tcb* t) noexcept nogil:
    """ABORT: RST, and everything queued is dropped (RFC 9293 §3.10.5)."""
    if t.state == CLOSED:
        return
    if t.state != TIME_WAIT and t.state != SYN_SENT:
        t.flags |= TF_SEND_RST
    conn_close(s, t, CLOSE_ABORTED)
