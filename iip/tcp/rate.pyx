"""Delivery-rate estimation: see rate.pxd."""
from libc.stdint cimport int64_t
from iip.memory.pool cimport NIL, REC_APP_LIMITED, Detail, Packet, pkt, pkt_detail
from iip.tcp.tcb cimport CC_RATE, rec_space, tcp_in_flight
from iip.wire.seq cimport seq_diff, seq_gt

cdef enum:
    UNIT_SHIFT = 6                # of Detail.send_interval


cdef void rate_start(Tcp* s, Tcb* t) noexcept nogil:
    """From now on. What is in flight has no stamps."""
    cdef uint32_t i = t.rtx_head
    cdef Packet* k
    if t.cc_mode & CC_RATE:
        return
    t.cc_mode |= CC_RATE
    t.delivered_at = t.flight_at = s.now
    while i != NIL:
        k = pkt(s.pool, i)
        pkt_detail(s.pool, k).delivered_at = 0
        i = k.qnext


cdef void rate_sent(Tcp* s, Tcb* t, Packet* k, uint32_t in_flight) noexcept nogil:
    """SendPacket: what the world was like when this record left; `in_flight` counts it."""
    cdef Detail* d = pkt_detail(s.pool, k)
    if in_flight <= rec_space(k):
        t.flight_at = t.delivered_at = s.now
    d.send_interval = <uint32_t>min((s.now - t.flight_at) >> UNIT_SHIFT, <int64_t>0xFFFFFFFF)
    d.delivered_at = t.delivered_at
    d.delivered = t.delivered
    d.lost = t.lost_total
    d.in_flight = in_flight
    if t.app_limited:
        k.flags |= REC_APP_LIMITED
    else:
        k.flags &= ~<uint32_t>REC_APP_LIMITED


cdef void rate_delivered(Tcp* s, Tcb* t, Packet* k, uint32_t n, AckInfo* info) noexcept nogil:
    """UpdateRateSample: `n` bytes of a record arrived. The sample is that of the record sent last."""
    cdef Detail* d = pkt_detail(s.pool, k)
    t.delivered += n
    t.delivered_at = s.now
    if d.delivered_at == 0:
        return
    if info.prior_at == 0 or k.sent_at > info.newest_at or (
            k.sent_at == info.newest_at and seq_diff(d.delivered, info.prior_delivered) >= 0):
        info.newest_at = k.sent_at
        info.prior_at = d.delivered_at
        info.prior_delivered = d.delivered
        info.app_limited = (k.flags & REC_APP_LIMITED) != 0
        info.send_interval = <int64_t>d.send_interval << UNIT_SHIFT
        info.sample_lost = d.lost
        info.sent_in_flight = d.in_flight
        t.flight_at = k.sent_at
    if k.segs <= 1 or n == rec_space(k):
        d.delivered_at = 0        # it counts once; of a record of many, every segment does


cdef void rate_sample(Tcp* s, Tcb* t, AckInfo* info) noexcept nogil:
    """GenerateRateSample: what arrived since the record's flight, over the longer of sending and acknowledging. An
    interval shorter than any round trip measured nothing."""
    if t.app_limited and seq_gt(t.delivered, t.app_limited):
        t.app_limited = 0
    info.interval = 0
    if info.prior_at == 0:
        return
    info.sampled = t.delivered - info.prior_delivered
    info.sample_lost = t.lost_total - info.sample_lost
    info.interval = max(info.send_interval, t.delivered_at - info.prior_at)
    if info.interval < t.min_rtt or info.interval <= 0:
        info.interval = 0
        return
    if not info.app_limited or t.rate_interval == 0 or (
            <double>info.sampled * t.rate_interval >= <double>t.rate_bytes * info.interval):
        t.rate_bytes = info.sampled
        t.rate_interval = info.interval


cdef void rate_app_limited(Tcb* t) noexcept nogil:
    """There is nothing more to send although the window is open: samples do not show what the path can do."""
    t.app_limited = t.delivered + tcp_in_flight(t)
    if t.app_limited == 0:
        t.app_limited = 1
