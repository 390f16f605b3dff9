"""TCP Fast Open: see fastopen.pxd.

A server's cookie is a keyed hash of both addresses and an epoch: the server keeps nothing. A client keeps one for
each server in a bounded table, in sets of four of which the least used gives way.
"""
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from iip.memory.pool cimport NIL, REC_PUSH, Packet, pkt, pkt_alloc, pool_low
from iip.net.types cimport Addr
from iip.tcp.conn cimport mark_ready
from iip.tcp.demux cimport mix
from iip.tcp.receive cimport receive_in_order
from iip.tcp.record cimport record_cut, record_frame
from iip.tcp.scoreboard cimport mark_unsent
from iip.tcp.tcb cimport *
from iip.verdict cimport (
    count, tcp_fastopen_acked, tcp_fastopen_bad_cookie, tcp_fastopen_cookies_out, tcp_fastopen_fallback, tcp_fastopen_in,
    tcp_fastopen_limited, tcp_fastopen_out)
from iip.wire.rng cimport siphash_words
from iip.wire.tcp cimport OPT_FASTOPEN, OPT_FASTOPEN_EXP, TCP_HEADER

cdef enum:
    COOKIE = 8                    # bytes of a cookie of ours
    WAYS = 4                      # entries of a set of the cache

cdef int64_t SECOND = 1000000000
cdef int64_t EPOCH = 14400 * SECOND         # a cookie is good for one to two of them
cdef int64_t RESET_MEMORY = 60 * SECOND     # how long an early connection that was reset counts as pending
cdef int64_t FIRST_BLOCK = 60 * SECOND      # no data in SYNs to a server after a second loss; doubled for each further one


# -- server ------------------------------------------------------------------------------------------------

cdef void _cookie(Tcp* s, Tcb* t, int64_t epoch, uint8_t* out) noexcept nogil:
    cdef uint64_t words[5]
    cdef uint64_t mac
    words[0] = t.flow.dst.hi
    words[1] = t.flow.dst.lo
    words[2] = t.flow.src.hi
    words[3] = t.flow.src.lo
    words[4] = <uint64_t>epoch
    mac = siphash_words(words, 5, s.fastopen_key[0], s.fastopen_key[1])
    memcpy(out, &mac, COOKIE)


cdef int _age(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """Epochs since the cookie was made: 0, 1, or -1: it is not valid."""
    cdef uint8_t cookie[8]
    cdef int age
    if seg.n_cookie == COOKIE:
        for age in range(2):
            _cookie(s, t, s.now // EPOCH - age, cookie)
            if memcmp(cookie, seg.cookie, COOKIE) == 0:
                return age
    return -1


cdef bint _too_many(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """RFC 7413 §5.1: a bound on what cookies can make us do before anybody has answered. Those that a RST ended (a
    victim's, whose address was forged) go on counting for a while."""
    if s.n_fastopen_reset and s.now - s.fastopen_reset_at > RESET_MEMORY:
        s.n_fastopen_reset = 0
    return (s.n_fastopen + s.n_fastopen_reset >= s.conf.fastopen_pending or pool_low(s.pool) or seg.len > t.rcv_buf)


cdef bint fastopen_serve(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """A SYN with the option. With a valid cookie its data is the application's as soon as it accepts (RFC 7413
    §4.2.2). True: the packet was taken."""
    cdef int age
    if seg.opts & OPT_FASTOPEN_EXP:
        t.fastopen |= FO_EXP
    age = _age(s, t, seg) if seg.n_cookie else -1
    if age != 0:
        t.fastopen |= FO_OPTION   # asked for, wrong or old: the SYN-ACK brings a fresh one
    if age < 0:
        if seg.n_cookie:
            count(s.counters, tcp_fastopen_bad_cookie)
        return False
    if _too_many(s, t, seg):
        count(s.counters, tcp_fastopen_limited)
        return False
    count(s.counters, tcp_fastopen_in)
    t.fastopen |= FO_OPEN
    s.n_fastopen += 1
    mark_ready(s, t, EV_ACCEPTED)
    if seg.len == 0:
        return False
    receive_in_order(s, t, seg.pkt, seg.len)
    return True


cdef void fastopen_reset(Tcp* s) noexcept nogil:
    """A RST ended a connection that Fast Open had opened before its handshake was over."""
    s.n_fastopen_reset += 1
    s.fastopen_reset_at = s.now


# -- client: the cache -------------------------------------------------------------------------------------

cdef FastOpenEntry* _set(Tcp* s, const Addr* server) noexcept nogil:
    return &s.fastopen_cache[<uint32_t>(mix(server.hi ^ s.hash_key[2], server.lo ^ s.hash_key[0]) >> 16)
                             & s.fastopen_mask & ~<uint32_t>(WAYS - 1)]


cdef FastOpenEntry* _find(Tcp* s, const Addr* server) noexcept nogil:
    cdef FastOpenEntry* e
    cdef int i
    if s.fastopen_cache == NULL:
        return NULL
    e = _set(s, server)
    for i in range(WAYS):
        if e[i].used_at and e[i].hi == server.hi and e[i].lo == server.lo:
            e[i].used_at = s.now
            return &e[i]
    return NULL


cdef FastOpenEntry* _make(Tcp* s, const Addr* server) noexcept nogil:
    """The server's entry, or a new one instead of the least recently used of its set."""
    cdef FastOpenEntry* e = _find(s, server)
    cdef FastOpenEntry* oldest
    cdef int i
    if e != NULL or s.fastopen_cache == NULL:
        return e
    e = oldest = _set(s, server)
    for i in range(1, WAYS):
        if e[i].used_at < oldest.used_at:
            oldest = &e[i]
    memset(oldest, 0, sizeof(FastOpenEntry))
    oldest.hi = server.hi
    oldest.lo = server.lo
    oldest.used_at = max(s.now, <int64_t>1)
    return oldest


# -- client: the handshake ---------------------------------------------------------------------------------

cdef void fastopen_offer(Tcp* s, Tcb* t, SynOptions* o) noexcept nogil:
    """The option of our SYN or SYN-ACK: a server's cookie, the one we have, or a request for one. A SYN that is sent
    again has none (RFC 7413 §4.1.3: something on the way may dislike it)."""
    cdef FastOpenEntry* e
    if t.state == SYN_RCVD:
        if t.fastopen & FO_OPTION:
            count(s.counters, tcp_fastopen_cookies_out)
            o.fastopen = True
            o.fastopen_exp = (t.fastopen & FO_EXP) != 0
            o.n_cookie = COOKIE
            _cookie(s, t, s.now // EPOCH, o.cookie)
        return
    if t.backoff or not t.fastopen & FO_WANTED:
        return
    e = _find(s, &t.flow.dst)
    if e != NULL:
        if s.now < e.blocked_until:
            return
        o.n_cookie = e.n
        memcpy(o.cookie, e.cookie, e.n)
        o.fastopen_exp = e.exp
    o.fastopen = True
    t.fastopen |= FO_OPTION


cdef uint32_t fastopen_data(Tcp* s, Tcb* t, uint32_t options) noexcept nogil:
    """A packet with the data that goes with our SYN: what a segment to that server takes, beside `options` bytes of
    options. It is in flight from now on. NIL when there is no memory."""
    cdef FastOpenEntry* e = _find(s, &t.flow.dst)
    cdef uint32_t rec, p, n = t.flow.mtu - TCP_HEADER - (20 if t.flow.version == 4 else 40)
    cdef Packet* k
    if e != NULL:
        n = min(n, <uint32_t>e.mss)
    n = min(t.unsent, min(n - min(n, options), s.pool.cell_size - s.pool.headroom))
    if n == 0 or t.rtx_head != NIL:
        return pkt_alloc(s.pool)
    rec = record_cut(s, t, n)
    if rec == NIL:
        return NIL
    k = pkt(s.pool, rec)
    t.unsent -= k.total_len
    k.flags = (k.flags & 0xFFFF) | REC_PUSH
    k.seq = t.snd_nxt
    k.n_sent = k.segs = 1
    k.qnext = NIL
    k.sent_at = t.stalled_since = s.now
    t.rtx_head = t.rtx_tail = rec
    t.snd_nxt += k.total_len
    t.fastopen |= FO_DATA
    count(s.counters, tcp_fastopen_out)
    p = record_frame(s, rec)
    return p if p != NIL else pkt_alloc(s.pool)    # then the SYN goes alone, and the data counts as lost


cdef void _fell_back(Tcp* s, Tcb* t) noexcept nogil:
    """The data of our SYN did not arrive: it is sent again once the connection is established."""
    cdef uint32_t i = t.rtx_head
    count(s.counters, tcp_fastopen_fallback)
    t.fastopen &= ~FO_DATA
    if i != NIL:
        mark_unsent(s, t, i, pkt(s.pool, i))
        t.flags |= TF_RTX_NOW


cdef void fastopen_lost(Tcp* s, Tcb* t) noexcept nogil:
    """Our SYN got no answer: the next one is a plain one, and if that happened before, SYNs to that server are for a
    while (RFC 7413 §4.1.3.1)."""
    cdef FastOpenEntry* e
    if not t.fastopen & FO_OPTION:
        return
    t.fastopen &= ~(FO_OPTION | FO_WANTED)
    e = _make(s, &t.flow.dst)
    if e != NULL:
        if e.failures:            # once may be chance
            e.blocked_until = s.now + (FIRST_BLOCK << min(e.failures - 1, 6))
        e.failures = min(e.failures + 1, 255)
    if t.fastopen & FO_DATA:
        _fell_back(s, t)


cdef void fastopen_answered(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """The SYN-ACK, after its acknowledgement was taken in: what it says about our data, and a cookie."""
    cdef FastOpenEntry* e
    if t.fastopen & FO_DATA:
        if t.rtx_head == NIL:
            count(s.counters, tcp_fastopen_acked)
        else:
            _fell_back(s, t)
    if not t.fastopen & FO_OPTION:
        return
    e = _find(s, &t.flow.dst)
    if seg.opts & (OPT_FASTOPEN | OPT_FASTOPEN_EXP) and seg.n_cookie:
        e = _make(s, &t.flow.dst)
        if e != NULL:
            e.n = seg.n_cookie
            e.exp = (seg.opts & OPT_FASTOPEN_EXP) != 0
            memcpy(e.cookie, seg.cookie, seg.n_cookie)
    if e != NULL:
        e.mss = t.peer_mss
        e.failures = 0
