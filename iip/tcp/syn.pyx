"""SYN and RST: see syn.pxd."""
from libc.string cimport memset
from iip.memory.pool cimport NIL, Packet, pkt, pkt_alloc, pkt_data, pkt_push
from iip.net.checksum cimport net_l4_checksum
from iip.net.output cimport net_output
from iip.net.route cimport net_route
from iip.net.state cimport net_tx_room
from iip.tcp.conn cimport conn_route_options
from iip.tcp.fastopen cimport fastopen_data, fastopen_offer
from iip.tcp.limits cimport rate_allows
from iip.net.types cimport PROTO_TCP, Flow
from iip.tcp.ecn cimport ecn_syn_flags, ecn_syn_option, ecn_take_syn
from iip.tcp.rtt cimport rto_backed_off
from iip.tcp.segment cimport hand_down
from iip.tcp.tcb cimport *
from iip.tcp.wheel cimport wheel_update
from iip.verdict cimport count, ok, tcp_out_segments, tcp_rst_limited, tcp_rst_out, tx_no_buffer
from iip.wire.bytes cimport copy, store16, store32, unlikely
from iip.wire.tcp cimport *


# -- options -----------------------------------------------------------------------------------------------

cdef uint32_t offered_mss(Tcp* s, Flow* flow) noexcept nogil:
    cdef uint32_t mss = flow.mtu - TCP_HEADER - (20 if flow.version == 4 else 40)
    return min(mss, s.conf.mss) if s.conf.mss else mss


cdef uint32_t _write_fastopen(uint8_t* p, SynOptions* o) noexcept nogil:
    """RFC 7413 §4.1.1, or §7 with its magic number, and NOPs up to a multiple of four bytes."""
    cdef uint32_t n = o.n_cookie + (4 if o.fastopen_exp else 2)
    p[0] = TCPOPT_EXPERIMENT if o.fastopen_exp else TCPOPT_FASTOPEN
    p[1] = <uint8_t>n
    if o.fastopen_exp:
        store16(p + 2, FASTOPEN_MAGIC)
    copy(p + n - o.n_cookie, o.cookie, o.n_cookie)
    while n % 4:
        p[n] = TCPOPT_NOP
        n += 1
    return n


cdef uint32_t _write_accecn(uint8_t* p) noexcept nogil:
    """RFC 9768 §3.2.1: where the counters begin, and a NOP."""
    store32(p, (<uint32_t>TCPOPT_ACCECN1 << 24) | (11 << 16))
    store32(p + 4, 1 << 24)
    store32(p + 8, (1 << 8) | TCPOPT_NOP)
    return 12


cdef bint _room_for_accecn(SynOptions* o) noexcept nogil:
    cdef uint32_t n = 4 + (12 if o.ts else 4 if o.sack else 0) + (4 if o.scale else 0)
    if o.fastopen:
        n += (o.n_cookie + (4 if o.fastopen_exp else 2) + 3) & ~<uint32_t>3
    return n + 12 <= 40


cdef uint32_t _write_bsd(uint8_t* p, SynOptions* o) noexcept nogil:
    """After the MSS: window scale, SACK permitted, timestamps; zeros at the end."""
    cdef uint32_t n = 4
    if o.scale:
        store32(p + n, (<uint32_t>TCPOPT_NOP << 24) | (<uint32_t>TCPOPT_WSCALE << 16) | (3 << 8) | o.wscale)
        n += 4
    if o.sack:
        store16(p + n, (TCPOPT_SACK_OK << 8) | 2)
        n += 2
    if o.ts:
        if n % 4 == 0:
            store16(p + n, (TCPOPT_NOP << 8) | TCPOPT_NOP)
            n += 2
        store16(p + n, (TCPOPT_TIMESTAMP << 8) | 10)
        store32(p + n + 2, o.ts_val)
        store32(p + n + 6, o.ts_ecr)
        n += 10
    while n % 4:
        p[n] = 0
        n += 1
    return n + (_write_fastopen(p + n, o) if o.fastopen else 0)


cdef uint32_t write_options(uint8_t* p, SynOptions* o) noexcept nogil:
    """MSS, SACK permitted, timestamps, accurate ECN, window scale, Fast Open; bytes written, 40 at most."""
    cdef uint32_t n = 4
    store32(p, (<uint32_t>TCPOPT_MSS << 24) | (<uint32_t>4 << 16) | o.mss)
    if unlikely(o.bsd):
        return _write_bsd(p, o)
    if o.ts:
        store16(p + n, (TCPOPT_SACK_OK << 8) | 2 if o.sack else (TCPOPT_NOP << 8) | TCPOPT_NOP)
        store16(p + n + 2, (TCPOPT_TIMESTAMP << 8) | 10)
        store32(p + n + 4, o.ts_val)
        store32(p + n + 8, o.ts_ecr)
        n += 12
    if unlikely(o.accecn) and _room_for_accecn(o):
        n += _write_accecn(p + n)
    if o.sack and not o.ts:
        store32(p + n, (<uint32_t>TCPOPT_NOP << 24) | (<uint32_t>TCPOPT_NOP << 16) | (TCPOPT_SACK_OK << 8) | 2)
        n += 4
    if o.scale:
        store32(p + n, (<uint32_t>TCPOPT_NOP << 24) | (<uint32_t>TCPOPT_WSCALE << 16) | (3 << 8) | o.wscale)
        n += 4
    if o.fastopen:
        n += _write_fastopen(p + n, o)
    return n


cdef void _own_options(Tcp* s, Tcb* t, SynOptions* o, bint answer) noexcept nogil:
    """What we want and, in an answer, the peer offered."""
    memset(o, 0, sizeof(SynOptions))
    o.mss = offered_mss(s, &t.flow)
    o.bsd = s.conf.bsd_options
    if t.max_seg:
        o.mss = min(o.mss, <uint32_t>t.max_seg)
    o.ts = s.conf.timestamps and (not answer or t.flags & TF_TS)
    o.sack = s.conf.sack and (not answer or t.flags & TF_SACK)
    o.scale = s.conf.window_scale and (not answer or t.flags & TF_WSCALE)
    o.wscale = t.rcv_wscale
    o.ts_val = s.ts_now + t.ts_offset
    o.ts_ecr = t.ts_recent if answer else 0
    o.accecn = answer and t.ecn & ECN_ACCURATE and ecn_syn_option(s, t)
    if unlikely(t.fastopen):
        fastopen_offer(s, t, o)


cdef void _take_options(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """Options of the peer's SYN: an option is in force when both sides offer it."""
    t.peer_mss = seg.mss if seg.opts & OPT_MSS else 0
    if seg.opts & OPT_WSCALE and s.conf.window_scale:
        t.flags |= TF_WSCALE
        t.snd_wscale = seg.wscale
    else:
        t.rcv_wscale = 0
        t.snd_wscale = 0
        t.rcv_buf = min(t.rcv_buf, <uint32_t>65535)   # more cannot be offered
    if seg.opts & OPT_TS and s.conf.timestamps:
        t.flags |= TF_TS
        t.ts_recent = seg.ts_val
        t.ts_recent_at = s.now
    if seg.opts & OPT_SACK_OK and s.conf.sack:
        t.flags |= TF_SACK
    ecn_take_syn(s, t, seg)
    conn_route_options(s, t)


cdef void take_syn(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """The peer's SYN: its sequence numbers, its window, its options."""
    t.irs = seg.seq
    t.rcv_nxt = seg.seq + 1
    t.rcv_adv = t.rcv_nxt
    t.last_ack_sent = t.rcv_nxt
    t.snd_wnd = seg.wnd           # never scaled in a SYN (RFC 7323 §2.2)
    t.max_wnd = seg.wnd
    t.snd_wl1 = seg.seq
    t.snd_wl2 = seg.ack
    _take_options(s, t, seg)


# -- SYN, SYN-ACK and RST of a connection -------------------------------------------------------------------

cdef uint32_t _first_window(Tcb* t, SynOptions* o) noexcept nogil:
    """The window of a SYN, which is never scaled: of a buffer that is larger, whole segments (but in the BSDs)."""
    cdef uint32_t mss = o.mss - (12 if o.ts and t.state == SYN_RCVD else 0)
    if t.rcv_buf > 65535 and not o.bsd:
        return min(t.rcv_buf - t.rcv_buf % mss, <uint32_t>65535)
    return min(t.rcv_buf, <uint32_t>65535)


cdef bint send_syn(Tcp* s, Tcb* t) noexcept nogil:
    """SYN, or SYN and ACK in SYN-RECEIVED. Starts the retransmission timer."""
    cdef bint answer = t.state == SYN_RCVD
    cdef uint32_t p, n, wnd
    cdef uint8_t options[40]
    cdef SynOptions offer
    cdef Packet* k
    if net_tx_room(s.net) == 0:
        return False
    _own_options(s, t, &offer, answer)
    n = write_options(options, &offer)
    if t.snd_nxt == t.iss:
        t.snd_nxt = t.iss + 1
    p = fastopen_data(s, t, n) if unlikely(offer.fastopen and offer.n_cookie and not answer) else pkt_alloc(s.pool)
    if p == NIL:
        count(s.counters, tx_no_buffer)
        return False
    if t.backoff == 0:
        t.syn_sent_at = s.now
    k = pkt(s.pool, p)
    pkt_push(k, TCP_HEADER + n)
    wnd = _first_window(t, &offer)
    tcp_write_header(pkt_data(k), t.lport, t.rport, t.iss, t.rcv_nxt if answer else 0, TCP_HEADER + n,
                     (TH_SYN | TH_ACK if answer else TH_SYN) | ecn_syn_flags(s, t, answer), wnd)
    copy(pkt_data(k) + TCP_HEADER, options, n)
    t.flow.tos &= ~<uint8_t>ECN_FIELD
    t.rcv_adv = t.rcv_nxt + wnd
    t.flags &= ~<uint32_t>TF_SEND_SYN
    t.t_rto = s.now + rto_backed_off(s, t)
    wheel_update(s, t, t.t_rto)
    return hand_down(s, t, p)


cdef bint send_rst(Tcp* s, Tcb* t) noexcept nogil:
    cdef uint32_t p, header = TCP_HEADER
    cdef Packet* k
    if net_tx_room(s.net) == 0:
        return False
    p = pkt_alloc(s.pool)
    if p == NIL:
        return False
    k = pkt(s.pool, p)
    if t.flags & TF_TS:           # RFC 7323 §3.2: also in an RST
        header += 12
    pkt_push(k, header)
    tcp_write_header(pkt_data(k), t.lport, t.rport, t.snd_nxt, t.rcv_nxt, header, TH_RST | TH_ACK, 0)
    if t.flags & TF_TS:
        tcp_write_timestamps(pkt_data(k) + TCP_HEADER, s.ts_now + t.ts_offset, t.ts_recent)
    t.flow.tos &= ~<uint8_t>ECN_FIELD
    t.flags &= ~<uint32_t>TF_SEND_RST
    count(s.counters, tcp_rst_out)
    return hand_down(s, t, p)


# -- answers that belong to no connection -----------------------------------------------------------------------

cdef uint32_t reply_begin(Tcp* s, IpRx* rx, Flow* flow) noexcept nogil:
    """An empty packet for an answer to what `rx` brought, and its way; NIL when there is no room or no route."""
    cdef uint32_t p
    if net_tx_room(s.net) == 0:
        return NIL
    flow.src = rx.dst
    flow.dst = rx.src
    flow.tos = 0
    flow.ttl = 0
    flow.df = 1
    flow.route_gen = 0
    if net_route(s.net, flow) != ok:
        return NIL
    p = pkt_alloc(s.pool)
    if p == NIL:
        count(s.counters, tx_no_buffer)
    return p


cdef void reply_send(Tcp* s, Flow* flow, uint32_t p) noexcept nogil:
    net_l4_checksum(s.net, flow, p, TCP_CSUM_OFF, PROTO_TCP)
    if net_output(s.net, flow, p, PROTO_TCP) == ok:
        count(s.counters, tcp_out_segments)


cdef void tcp_send_rst_for(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil:
    """RST for a segment that belongs to no connection (RFC 9293 §3.10.7.1), as many as `rst_rate` allows."""
    cdef Flow flow
    cdef uint32_t p, space
    cdef Packet* k
    if seg.flags & TH_RST:
        return
    if not rate_allows(&s.rsts, &s.rng, s.now, s.conf.rst_rate):
        count(s.counters, tcp_rst_limited)
        return
    p = reply_begin(s, rx, &flow)
    if p == NIL:
        return
    k = pkt(s.pool, p)
    pkt_push(k, TCP_HEADER)
    if seg.flags & TH_ACK:
        tcp_write_header(pkt_data(k), seg.dport, seg.sport, seg.ack, 0, TCP_HEADER, TH_RST, 0)
    else:
        space = seg.len + (1 if seg.flags & TH_SYN else 0) + (1 if seg.flags & TH_FIN else 0)
        tcp_write_header(pkt_data(k), seg.dport, seg.sport, 0, seg.seq + space, TCP_HEADER, TH_RST | TH_ACK, 0)
    count(s.counters, tcp_rst_out)
    reply_send(s, &flow, p)
