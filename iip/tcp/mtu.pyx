"""The size of a full segment: see mtu.pxd."""
from libc.stdint cimport int32_t
from iip.memory.pool cimport NIL, REC_LOST, Packet, pkt
from iip.net.types cimport CAP_SG
from iip.tcp.tcb cimport *
from iip.verdict cimport count, tcp_mtu_black_holes, tcp_mtu_probe_failures, tcp_mtu_probes_confirmed
from iip.wire.seq cimport seq_diff
from iip.wire.tcp cimport TCP_HEADER

cdef enum:
    MIN_MSS = 64                  # below this a peer only wants to make us work
    TIMESTAMP_OPTION = 12
    ACCECN_OPTION = 12
    SMALLEST6 = 1280 - 40 - TCP_HEADER    # every path of IPv6 carries that (RFC 8200 §5)
    CLOSE_ENOUGH = 8              # bytes: the search is over
    FOLLOWING = 4                 # full segments behind a probe, so that its loss shows
    LEAST_WINDOW = 11             # segments: one probe must not matter much


cdef inline uint32_t _options(Tcp* s, Tcb* t) noexcept nogil:
    """Bytes of options in every segment."""
    cdef uint32_t n = TIMESTAMP_OPTION if t.flags & TF_TS else 0
    return n + ACCECN_OPTION if t.ecn & ECN_OPTION and s.conf.ecn_option == ECN_OPTION_ALWAYS else n


cdef uint32_t _possible(Tcp* s, Tcb* t) noexcept nogil:
    """The effective send MSS of RFC 9293 §3.7.1."""
    cdef uint32_t mss = t.flow.mtu - (20 if t.flow.version == 4 else 40) - TCP_HEADER
    mss = min(mss, t.peer_mss)
    if s.conf.mss:
        mss = min(mss, s.conf.mss)
    if t.max_seg:
        mss = min(mss, t.max_seg)
    mss -= min(mss, _options(s, t))
    if not s.net.caps & CAP_SG:   # a segment is then one piece
        mss = min(mss, s.pool.cell_size - s.pool.headroom)
    return max(mss, <uint32_t>MIN_MSS)


cdef uint32_t mtu_mss(Tcp* s, Tcb* t) noexcept nogil:
    """Payload bytes of a full segment, after whatever bounds them has changed."""
    cdef uint32_t possible = _possible(s, t)
    if not t.modes & MD_MTU_PROBING:
        return possible
    t.mtu_high = <uint16_t>min(<uint32_t>t.mtu_high, possible)
    t.mtu_low = <uint16_t>min(<uint32_t>t.mtu_low, possible)
    return t.mtu_low


cdef uint32_t _base(Tcp* s, Tcb* t) noexcept nogil:
    """Where a search begins: what nearly every path carries."""
    cdef uint32_t base = s.conf.mtu_base
    if t.flow.version == 6:
        base = max(base, SMALLEST6 - _options(s, t))
    return base


cdef void _search(Tcp* s, Tcb* t, uint32_t low) noexcept nogil:
    t.modes |= MD_MTU_PROBING
    t.mtu_high = <uint16_t>_possible(s, t)
    t.mtu_low = <uint16_t>min(low, <uint32_t>t.mtu_high)
    t.mtu_probe = 0
    t.mtu_at = s.ts_now
    t.mss = t.mtu_low


cdef void mtu_begin(Tcp* s, Tcb* t) noexcept nogil:
    """The connection is established."""
    if s.conf.mtu_probing == 2:
        _search(s, t, _base(s, t))


cdef uint32_t mtu_probe_size(Tcp* s, Tcb* t) noexcept nogil:
    """Bytes of a probe to send now; 0: not now. It needs an undisturbed connection, a window in which it is one of
    many, and enough data behind it (RFC 4821 §7.4)."""
    cdef uint32_t size = (<uint32_t>t.mtu_low + t.mtu_high) // 2, needed
    if t.mtu_probe or t.flags & (TF_RECOVERY | TF_LOSS | TF_CORK) or t.sacked or t.lost:
        return 0
    if t.mtu_high - t.mtu_low < CLOSE_ENOUGH:
        if from_ms(s.ts_now - t.mtu_at) >= s.conf.mtu_interval:         # the path may have changed (RFC 8899 §5.3.3)
            _search(s, t, t.mtu_low)
        return 0
    needed = size + FOLLOWING * t.mss
    if t.unsent < needed or t.cwnd < LEAST_WINDOW * t.mss:
        return 0
    if seq_diff(t.snd_una + t.snd_wnd, t.snd_nxt) < <int32_t>needed or tcp_in_flight(t) + size > t.cwnd:
        return 0
    return size


cdef void mtu_probe_arrived(Tcp* s, Tcb* t) noexcept nogil:
    """A larger segment reached the peer: segments are that large from now on."""
    count(s.counters, tcp_mtu_probes_confirmed)
    t.mtu_low = t.mss = t.mtu_probe
    t.mtu_probe = 0


cdef bint mtu_probe_lost(Tcp* s, Tcb* t) noexcept nogil:
    """Whether what is marked lost is the probe and nothing else: then it was too large, which is no sign of
    congestion (RFC 4821 §7.6.2). It is sent again in pieces, without waiting for the window."""
    cdef Packet* k
    if not t.mtu_probe or t.rtx_head == NIL:
        return False
    k = pkt(s.pool, t.rtx_head)
    if k.seq != t.mtu_probe_seq or not k.flags & REC_LOST or t.lost != rec_space(k):
        return False
    count(s.counters, tcp_mtu_probe_failures)
    t.mtu_high = t.mtu_probe - 1
    t.mtu_probe = 0
    t.flags |= TF_RTX_NOW
    return True


cdef bint mtu_black_hole(Tcp* s, Tcb* t) noexcept nogil:
    """Timeouts in a row: it may be that large segments vanish without a word (RFC 2923 §2.1, RFC 8899 §4.3). True if
    they are smaller from now on."""
    cdef uint32_t low = _base(s, t)
    if s.conf.mtu_probing == 0:
        return False
    if t.modes & MD_MTU_PROBING:
        low = max(min(low, <uint32_t>t.mtu_low // 2), <uint32_t>MIN_MSS)
        if t.flow.version == 6:
            low = max(low, SMALLEST6 - _options(s, t))
    if pkt(s.pool, t.rtx_head).total_len <= low:
        return False              # size is not what keeps it from arriving
    count(s.counters, tcp_mtu_black_holes)
    _search(s, t, low)
    return True
