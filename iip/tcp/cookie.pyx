"""SYN cookies: see cookie.pxd.

The cookie is our initial sequence number: 28 bits of a keyed hash of the connection, the peer's initial sequence
number and the period in which it was made, one bit of that period, three that say which MSS the peer offered. What
else the peer's SYN said travels in the low bits of our timestamp, which it echoes: without timestamps there is no
window scaling and no SACK.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from iip.memory.pool cimport NIL, Packet, pkt, pkt_data, pkt_push
from iip.net.types cimport Flow
from iip.tcp.conn cimport conn_ts_offset, conn_window_scale
from iip.tcp.syn cimport SynOptions, offered_mss, reply_begin, reply_send, write_options
from iip.tcp.tcb cimport *
from iip.verdict cimport tcp_cookies_sent, tx_queue_full
from iip.wire.bytes cimport copy
from iip.wire.rng cimport siphash_words
from iip.wire.tcp cimport *

cdef int64_t PERIOD = 64000000000           # ns: a cookie is good for one to two of them

cdef enum:
    PERIOD_BIT = 0x8
    MSS_BITS = 0x7
    # low bits of the timestamp
    TS_WSCALE = 0x0F
    TS_NO_WSCALE = 0x0F           # more than the largest shift there is
    TS_SACK = 0x10
    TS_ECN = 0x20
    TS_BITS = 0x3F

# what peers offer: nothing (IPv4, IPv6), tunnels, Ethernet over both, jumbo frames
cdef uint16_t[8] MSS
MSS[:] = [64, 536, 1220, 1360, 1400, 1440, 1460, 8940]


cdef uint32_t _mac(Tcp* s, IpRx* rx, Segment* seg, uint32_t irs, int64_t period, uint32_t low) noexcept nogil:
    cdef uint64_t words[6]
    words[0] = rx.src.hi
    words[1] = rx.src.lo
    words[2] = rx.dst.hi
    words[3] = rx.dst.lo
    words[4] = (<uint64_t>seg.sport << 48) | (<uint64_t>seg.dport << 32) | irs
    words[5] = (<uint64_t>period << 4) | low
    return <uint32_t>siphash_words(words, 6, s.cookie_key[0], s.cookie_key[1]) & ~<uint32_t>0xF


cdef uint32_t _mss_index(Segment* seg, int version) noexcept nogil:
    """The largest entry that the peer takes."""
    cdef uint32_t mss = seg.mss if seg.opts & OPT_MSS else (536 if version == 4 else 1220), i = 7
    while i and MSS[i] > mss:
        i -= 1
    return i


cdef void _stamp(Tcp* s, Segment* seg, Flow* flow, SynOptions* o, bint ecn) noexcept nogil:
    """Our timestamp, as it would be but for the low bits, and never later."""
    cdef uint32_t bits = TS_NO_WSCALE, now = s.ts_now
    if o.scale:
        bits = seg.wscale
    if o.sack:
        bits |= TS_SACK
    if ecn:
        bits |= TS_ECN
    if bits > (now & TS_BITS):
        now -= TS_BITS + 1
    o.ts_val = ((now & ~<uint32_t>TS_BITS) | bits) + conn_ts_offset(s, &flow.src, &flow.dst, seg.dport, seg.sport)
    o.ts_ecr = seg.ts_val


cdef int cookie_answer(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil:
    """SYN-ACK for a SYN of which nothing is kept."""
    cdef Flow flow
    cdef SynOptions o
    cdef uint8_t options[40]
    cdef uint32_t p = reply_begin(s, rx, &flow), n, low
    cdef int64_t period = s.now // PERIOD
    cdef Packet* k
    cdef bint ecn
    if p == NIL:
        return tx_queue_full
    memset(&o, 0, sizeof(SynOptions))
    o.bsd = s.conf.bsd_options
    o.mss = offered_mss(s, &flow)
    o.ts = s.conf.timestamps and seg.opts & OPT_TS
    o.sack = o.ts and s.conf.sack and seg.opts & OPT_SACK_OK
    o.scale = o.ts and s.conf.window_scale and seg.opts & OPT_WSCALE
    ecn = o.ts and s.conf.ecn != ECN_OFF and seg.flags & (TH_ECE | TH_CWR) == (TH_ECE | TH_CWR)
    o.wscale = conn_window_scale(s)
    if o.ts:
        _stamp(s, seg, &flow, &o, ecn)
    n = write_options(options, &o)
    low = (PERIOD_BIT if period & 1 else 0) | _mss_index(seg, rx.version)
    k = pkt(s.pool, p)
    pkt_push(k, TCP_HEADER + n)
    tcp_write_header(pkt_data(k), seg.dport, seg.sport, _mac(s, rx, seg, seg.seq, period, low) | low, seg.seq + 1,
                     TCP_HEADER + n, TH_SYN | TH_ACK | (TH_ECE if ecn else 0), min(s.conf.receive_buffer, <uint32_t>65535))
    copy(pkt_data(k) + TCP_HEADER, options, n)
    reply_send(s, &flow, p)
    s.cookies_until = s.now + 2 * PERIOD
    return tcp_cookies_sent


cdef void _recover_options(Tcp* s, IpRx* rx, Segment* seg, Segment* syn) noexcept nogil:
    """What our echoed timestamp says about the SYN."""
    cdef uint32_t bits = seg.ts_ecr - conn_ts_offset(s, &rx.dst, &rx.src, seg.dport, seg.sport)
    syn.opts |= OPT_TS
    syn.ts_val = seg.ts_val
    if bits & TS_SACK:
        syn.opts |= OPT_SACK_OK
    if bits & TS_WSCALE <= TCP_MAX_WSCALE:
        syn.opts |= OPT_WSCALE
        syn.wscale = bits & TS_WSCALE
    if bits & TS_ECN:
        syn.flags |= TH_ECE | TH_CWR


cdef bint cookie_recover(Tcp* s, IpRx* rx, Segment* seg, Segment* syn) noexcept nogil:
    """Is `seg` the ACK of a cookie of ours? Then `syn` is the SYN that got it, as far as it was kept."""
    cdef uint32_t cookie = seg.ack - 1, irs = seg.seq - 1
    cdef int64_t period = s.now // PERIOD
    if (period & 1) != ((cookie & PERIOD_BIT) != 0):
        period -= 1
    if _mac(s, rx, seg, irs, period, cookie & 0xF) != cookie & ~<uint32_t>0xF:
        return False
    memset(syn, 0, sizeof(Segment))
    syn.seq = irs
    syn.sport = seg.sport
    syn.dport = seg.dport
    syn.flags = TH_SYN
    syn.wnd = seg.wnd
    syn.opts = OPT_MSS
    syn.mss = MSS[cookie & MSS_BITS]
    if s.conf.timestamps and seg.opts & OPT_TS:
        _recover_options(s, rx, seg, syn)
    return True
